"""How far one event is trusted, and whether it says that a recording began or ended. Pure.

Facts come from the most trustworthy event that carries them: the provider's own list, then signed
callbacks, then our callers, then unsigned callbacks.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from worker.calls.events import Event, Kind

CLOCKS_DIFFER = timedelta(seconds=2)  # the provider's and ours
# How far the provider's clock may be off where a start of a recording is all that we know.
BEGINS_WITHIN = timedelta(seconds=5)
FROM_PROVIDER = {
    Kind.CALL_SEEN,
    Kind.RECORDING_STARTED,
    Kind.RECORDING_FINALIZED,
    Kind.CALL_TRANSFERRED,
    Kind.CALL_REDIRECTED,
    Kind.DIAL_ANSWERED,
    Kind.DIAL_CONNECTED,
    Kind.DIAL_ENDED,
    Kind.CONFERENCE_ENTERED,
    Kind.CONFERENCE_LEFT,
    Kind.MACHINE_DETECTED,
    Kind.CALL_ENDED,
}
ABOUT_RECORDING = {
    Kind.RECORDING_STARTED,
    Kind.RECORDING_FINALIZED,
    Kind.RECORDING_LISTED,
    Kind.RECORDING_ANNOUNCED,
    Kind.START_ACCEPTED,
}
ATTEMPTS = {Kind.STOP_ACCEPTED, Kind.STOP_ERRED, Kind.STOP_SET_ASIDE, Kind.CALL_FOUND_OVER}
_FROM_CALLERS = {
    Kind.CALL_ANNOUNCED,
    Kind.RECORDING_ANNOUNCED,
    Kind.START_ORDERED,
    Kind.START_ACCEPTED,
}


def received_at(event: Event) -> datetime:
    """When the event was recorded, by Redis's clock."""
    assert event.at is not None, "the ledger sets `at`"
    return event.at


def by_receipt(event: Event) -> tuple[datetime, str]:
    """The key that sorts events by time of receipt."""
    return received_at(event), event.id


def by_worth(event: Event) -> tuple[int, float, str]:
    """The key that sorts events from the least to the most trustworthy.

    A caller may change its mind, so its last word counts. The order of the provider's events means
    nothing: any fixed one will do.
    """
    trust = _trust(event)
    return trust, received_at(event).timestamp() if trust == 1 else 0.0, event.id


def _trust(event: Event) -> int:
    if event.kind is Kind.RECORDING_LISTED:
        return 3
    if event.signed or event.kind in {Kind.CALL_FOUND_LIVE, Kind.LOOKED}:
        return 2
    return 1 if event.kind in _FROM_CALLERS else 0


def take(facts: dict[str, Any], event: Event, names: Iterable[str]) -> None:
    """Copies the named fields that the event carries into `facts`."""
    for name in names:
        value = getattr(event, name)
        if value is not None:
            facts[name] = value


def is_end(event: Event) -> bool:
    """Whether an event says that a recording is over. `Event=Record` never does; a list row does
    with an end or a duration above 0.
    """
    if event.kind is Kind.RECORDING_FINALIZED:
        return True
    return event.kind is Kind.RECORDING_LISTED and (
        event.ended_at is not None or bool(event.duration_s)
    )


def is_proven_end(event: Event) -> bool:
    """Whether the provider itself vouches for an end: it signed the callback, or lists the
    recording as ended.
    """
    return is_end(event) and (event.signed or event.kind is Kind.RECORDING_LISTED)


def is_start(event: Event) -> bool:
    """Whether an event's `started_at` can be believed.

    An unsigned callback could move a deadline, so it is not trusted. A start that lies after its
    own receipt comes from a wrong clock.
    """
    trusted = event.signed or event.kind in {Kind.RECORDING_LISTED, Kind.RECORDING_ANNOUNCED}
    return (
        trusted
        and event.started_at is not None
        and event.started_at <= received_at(event) + CLOCKS_DIFFER
    )
