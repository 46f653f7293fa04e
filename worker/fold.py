"""What the events of one call add up to. Pure, and blind to the order in which they came.

Its law: the same set of events gives the same call, however they were shuffled or repeated. Facts come from the most
trustworthy event that carries them: the provider's own list, then signed callbacks, then the rest; a late or repeated
callback can add a fact or a proof and never takes one away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from worker.recording import TRIGGERS, Call, Event, Kind, Recording

_FROM_PROVIDER = {
    Kind.CALL_SEEN, Kind.RECORDING_STARTED, Kind.RECORDING_FINALIZED, Kind.CALL_TRANSFERRED, Kind.CALL_REDIRECTED,
    Kind.DIAL_ANSWERED, Kind.DIAL_CONNECTED, Kind.DIAL_ENDED, Kind.CONFERENCE_ENTERED, Kind.CONFERENCE_LEFT,
    Kind.MACHINE_DETECTED, Kind.CALL_ENDED,
}
_ABOUT_RECORDING = {Kind.RECORDING_STARTED, Kind.RECORDING_FINALIZED, Kind.RECORDING_LISTED}
_ATTEMPTS = {Kind.STOP_ACCEPTED, Kind.STOP_ERRED, Kind.STOP_SET_ASIDE, Kind.CALL_FOUND_OVER}
_CALL_FACTS = ("from_number", "to_number", "direction")
_RECORDING_FACTS = ("url", "format", "reason", "added_at")
_CLOCKS_DIFFER = timedelta(seconds=2)
_END_FACTS = ("ended_at", "duration_s")


def fold(account: str, call_uuid: str, events: Iterable[Event]) -> Call:
    """The call and its recordings. `events` have their `at`."""
    by_time = sorted(events, key=_time)
    trusted = sorted(by_time, key=lambda e: (_trust(e), e.id))
    reported = any((e.signed and e.kind in _FROM_PROVIDER) or e.kind is Kind.RECORDING_LISTED for e in by_time)
    over_at, claimed_over_at = _call_end(by_time, reported=reported)
    facts: dict[str, Any] = {}
    for event in trusted:
        _take(facts, event, _CALL_FACTS)
    mine: dict[str, list[Event]] = {}
    for event in by_time:
        if event.recording_id:
            mine.setdefault(event.recording_id, []).append(event)
    known = [i for i, found in mine.items() if any(e.kind in _ABOUT_RECORDING for e in found)]
    return Call(
        account=account, call_uuid=call_uuid, reported=reported, over_at=over_at, claimed_over_at=claimed_over_at,
        found_live_at=next((e.at for e in by_time if e.kind is Kind.CALL_FOUND_LIVE), None),
        looks=tuple(e for e in by_time if e.kind is Kind.LOOKED),
        triggers=tuple(e for e in by_time if e.kind in TRIGGERS and (e.kind is not Kind.MACHINE_DETECTED or e.machine)),
        recordings={i: _recording(i, mine[i], over_at) for i in known},
        events=tuple(by_time),
        **facts,
    )


def _recording(recording_id: str, mine: Sequence[Event], call_over_at: datetime | None) -> Recording:
    about = [e for e in mine if e.kind in _ABOUT_RECORDING]
    ends = [e for e in about if is_end(e)]
    proofs = {"callback": [e for e in ends if e.kind is Kind.RECORDING_FINALIZED and e.signed],
              "listed": [e for e in ends if e.kind is Kind.RECORDING_LISTED]}
    evidence = {name: _at(found[0]) for name, found in proofs.items() if found}
    finalized_at = min(evidence.values(), default=None)
    if call_over_at:
        evidence["call_over"] = call_over_at
    facts: dict[str, Any] = {}
    for event in sorted(mine, key=lambda e: (_trust(e), e.id)):
        if event.kind in _ABOUT_RECORDING:
            _take(facts, event, _RECORDING_FACTS)
            if event.started_at and _is_start(event):
                facts["provider_started_at"] = event.started_at
            if is_end(event) and (event.signed or event.kind is Kind.RECORDING_LISTED):
                _take(facts, event, _END_FACTS)
    return Recording(
        recording_id=recording_id, known_at=_at(about[0]), evidence=evidence, finalized_at=finalized_at,
        trunk=any(e.trunk for e in about),
        claimed_at=next((_at(e) for e in ends if not e.signed and e.kind is Kind.RECORDING_FINALIZED), None),
        attempts=tuple(e for e in mine if e.kind in _ATTEMPTS),
        unknown_at=next((_at(e) for e in mine if e.kind is Kind.STOP_UNKNOWN), None),
        failures=tuple(e for e in mine if e.kind is Kind.FETCH_FAILED),
        archived=next((e for e in mine if e.kind is Kind.MEDIA_ARCHIVED), None),
        gave_up=next((e for e in mine if e.kind is Kind.GAVE_UP), None),
        **facts,
    )


def is_end(event: Event) -> bool:
    """Whether an event says that a recording is over. `Event=Record` never does; a list row does with an end or a
    duration above 0.
    """
    if event.kind is Kind.RECORDING_FINALIZED:
        return True
    return event.kind is Kind.RECORDING_LISTED and (event.ended_at is not None or bool(event.duration_s))


def _is_start(event: Event) -> bool:
    # An unsigned callback could move a deadline; and nothing begins after it was reported, whatever a clock says.
    return (event.signed or event.kind is Kind.RECORDING_LISTED) and event.started_at is not None and event.started_at <= _at(event) + _CLOCKS_DIFFER


def _call_end(by_time: Sequence[Event], *, reported: bool) -> tuple[datetime | None, datetime | None]:
    proven = [e for e in by_time if (e.kind is Kind.CALL_ENDED and e.signed) or (e.kind is Kind.CALL_FOUND_OVER and reported)]
    claimed = [e for e in by_time if (e.kind is Kind.CALL_ENDED and not e.signed) or (e.kind is Kind.CALL_FOUND_OVER and not reported)]
    return (_at(proven[0]) if proven else None, _at(claimed[0]) if claimed else None)


def _take(facts: dict[str, Any], event: Event, names: Iterable[str]) -> None:
    for name in names:
        value = getattr(event, name)
        if value is not None:
            facts[name] = value


def _trust(event: Event) -> int:
    return 2 if event.kind in {Kind.RECORDING_LISTED, Kind.CALL_FOUND_LIVE} else int(event.signed)


def _at(event: Event) -> datetime:
    assert event.at is not None, "the ledger sets `at`"
    return event.at


def _time(event: Event) -> tuple[datetime, str]:
    return _at(event), event.id
