"""A recording that somebody else started, as one of our callers announces it."""

from __future__ import annotations

import re

from webhooks.api import request_bodies
from webhooks.api.keys import caller
from webhooks.api.orders import digest_of
from webhooks.api.problems import Problem
from worker.calls.events import Event, Kind
from worker.calls.views import rfc3339


def announcement(
    call_uuid: str, recording: request_bodies.AnnouncedRecording, number: int | None
) -> Event:
    """The event for one announced recording.

    `number` is its place in the body's list, None where the body names only this one; it serves to
    name the field. Raises Problem 400 where there is no id, and for an impossible instant.
    """
    field = "url" if number is None else f"recordings[{number}]"
    recording_id = recording.recording_id or _id_in(recording.url)
    if recording_id is None:
        raise Problem(
            400, f"{field}: recording_id is needed, or an address that ends with it", field=field
        )
    started_at = request_bodies.instant(recording.started_at, f"{field}.started_at")
    extension = (recording.url or "").rpartition(".")[2]
    return Event(
        id=f"announced.{recording_id}.{digest_of(recording.url, rfc3339(started_at))}",
        kind=Kind.RECORDING_ANNOUNCED,
        call_uuid=call_uuid,
        recording_id=recording_id,
        url=recording.url,
        started_at=started_at,
        format=extension if extension in {"mp3", "wav"} else None,
        by=caller().who,
        claimed=caller().claimed,
    )


def _id_in(url: str | None) -> str | None:
    """The recording's id at the end of an address of the provider's, or None."""
    match = re.search(r"/([A-Za-z0-9_-]{1,128})\.(?:mp3|wav)$", url or "")
    return match[1] if match else None
