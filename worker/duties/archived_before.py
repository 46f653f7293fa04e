"""What the archive knows of a recording that the ledger does not know: a receipt, or the statement
that it was given up. Either means that nothing is left to do.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from worker import wire
from worker.archive.filing import Archive
from worker.archive.keys import key_of
from worker.calls.events import Event, Fault, Kind
from worker.errors import EndtapeError


def archived_before(archive: Archive, account: str, row: Event) -> list[Event]:
    """The events that say how a recording was finished, which the provider lists as in `row`. None
    where the archive says nothing that can be read, or a signature is missing: then fetching the
    recording decides.
    """
    try:
        # Neither name has a part of the extension, so any extension will do.
        place = key_of(
            account,
            row.recording_id or "",
            started_at=row.started_at,
            ended_at=row.ended_at,
            duration_s=row.duration_s,
            added_at=row.added_at,
            extension="absent",
        )
        try:
            return [_archived(archive, place, row)]
        except FileNotFoundError:
            return _given_up(archive, place, row)
    except (EndtapeError, OSError, ValueError, TypeError, KeyError):
        return []


def _archived(archive: Archive, place: str, row: Event) -> Event:
    receipt = archive.read_receipt(place)
    if receipt.get("signature"):  # a crash may have left the signature out: then fetch it again
        archive.signature(place)
    media: dict[str, Any] = receipt["media"]
    container = str(media["codec"] if media["container"] == "mp3" else media["container"])
    extension = container.replace("unknown", "bin")
    key = archive.audio_of(f"{place.rpartition('.')[0]}.{extension}", str(media["sha256"]))
    return Event(
        id=f"archived.{row.recording_id}",
        kind=Kind.MEDIA_ARCHIVED,
        call_uuid=row.call_uuid,
        recording_id=row.recording_id,
        first_seen_at=wire.rfc3339(receipt.get("first_seen_at") or ""),
        archive_key=key,
        sha256=str(media["sha256"]),
        bytes=int(media["bytes"]),
        format=extension,
        restricted_by=tuple((receipt.get("restriction") or {}).get("restricted_by") or ()),
    )


def _given_up(archive: Archive, place: str, row: Event) -> list[Event]:
    absence = json.loads(archive.absence(place))
    gave_up = Event(
        id=f"gave-up:{row.recording_id}",
        kind=Kind.GAVE_UP,
        call_uuid=row.call_uuid,
        recording_id=row.recording_id,
        first_seen_at=wire.rfc3339(absence.get("first_seen_at") or ""),
        reason=absence["reason"],
        fault=Fault(absence["fault"]),
    )
    filed = replace(
        gave_up,
        id=f"absence.{row.recording_id}",
        kind=Kind.ABSENCE_FILED,
        reason=None,
        fault=None,
        archive_key=place,
    )
    return [gave_up, filed]
