"""What an application says of a call's consent, as an event."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from webhooks.api import request_bodies
from webhooks.api.keys import caller
from webhooks.api.orders import digest_of
from webhooks.api.problems import Problem
from worker.calls.call import Call
from worker.calls.events import Event, Kind
from worker.calls.views import consent_view, rfc3339


class _Named(msgspec.Struct):
    event: Any = None


def is_consent(raw: bytes) -> bool:
    """Whether a request's body is JSON that reports consent."""
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        said = msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf"), type=_Named)
        return bool(said.event == "consent")
    return False


def consent_event(
    call: Call, said: request_bodies.ConsentBody, prefix: str = "consent."
) -> Event | None:
    """The event; None where it only repeats what was said last. `prefix`: where its
    fields stood in the request.

    Raises Problem 400 where neither a kind nor a withdrawal is given, or the instant is impossible.
    """
    if not said.withdrawn and not (said.kind or "").strip():
        raise Problem(
            400,
            f'{prefix}kind: is needed, like "verbal" or "dtmf"; or `withdrawn: true`',
            field=f"{prefix}kind",
        )
    at = request_bodies.instant(said.at, f"{prefix}at")
    body = said.names()
    if _repeats(call, said, rfc3339(at)):
        return None
    # The count tells a consent that is given again after a withdrawal from a repeat.
    digest = digest_of(said.withdrawn, rfc3339(at), body, len(call.consents))
    return Event(
        id=f"consent.{digest}",
        kind=Kind.CONSENT_WITHDRAWN if said.withdrawn else Kind.CONSENT_GIVEN,
        call_uuid=call.call_uuid,
        happened_at=at,
        body=body or None,
        by=caller().who,
        claimed=caller().claimed,
    )


def _repeats(call: Call, said: request_bodies.ConsentBody, at: str | None) -> bool:
    """Whether the last that was said of the call says the same. An instant that is left out repeats
    any.
    """
    last = consent_view(call)
    if last is None or bool(last.get("withdrawn")) != said.withdrawn:
        return False
    given = {name: value for name, value in last.items() if name in said.names()}
    same = said.withdrawn or given == said.names()
    return same and at in {None, last["at"]}
