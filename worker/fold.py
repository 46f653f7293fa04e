"""What the events of one call add up to. Pure, and blind to the order in which they came.

Its law: the same set of events gives the same call, however they were shuffled or repeated. Facts come from the most
trustworthy event that carries them: the provider's own list, then signed callbacks, then the rest; a late or repeated
callback can add a fact or a proof and never takes one away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from worker.recording import TRIGGERS, Call, Event, Handoff, Kind, Recording, Start

_FROM_PROVIDER = {
    Kind.CALL_SEEN, Kind.RECORDING_STARTED, Kind.RECORDING_FINALIZED, Kind.CALL_TRANSFERRED, Kind.CALL_REDIRECTED,
    Kind.DIAL_ANSWERED, Kind.DIAL_CONNECTED, Kind.DIAL_ENDED, Kind.CONFERENCE_ENTERED, Kind.CONFERENCE_LEFT,
    Kind.MACHINE_DETECTED, Kind.CALL_ENDED,
}
_ABOUT_RECORDING = {Kind.RECORDING_STARTED, Kind.RECORDING_FINALIZED, Kind.RECORDING_LISTED, Kind.RECORDING_ANNOUNCED,
                    Kind.START_ACCEPTED}
_TOLD_BY_CALLERS = {Kind.CALL_ANNOUNCED, Kind.RECORDING_ANNOUNCED, Kind.START_ORDERED, Kind.START_ACCEPTED}
_ACTS = {*TRIGGERS, Kind.HANDOFF_ASKED, Kind.CUSTOM_REPORTED}
_TRANSFERS = {Kind.TRANSFER_SENT, Kind.TRANSFER_FAILED, Kind.TRANSFER_UNCLEAR}
_ATTEMPTS = {Kind.STOP_ACCEPTED, Kind.STOP_ERRED, Kind.STOP_SET_ASIDE, Kind.CALL_FOUND_OVER}
_CALL_FACTS = ("from_number", "to_number", "direction")
_RECORDING_FACTS = ("url", "format", "reason", "added_at")
_CLOCKS_DIFFER = timedelta(seconds=2)
_STARTED_WITHIN = timedelta(seconds=30)      # of our request, where nobody answered it
_END_FACTS = ("ended_at", "duration_s")


def fold(account: str, call_uuid: str, events: Iterable[Event]) -> Call:
    """The call and its recordings. `events` have their `at`."""
    by_time = sorted(events, key=_time)
    trusted = sorted(by_time, key=_worth)
    reported = any((e.signed and e.kind in _FROM_PROVIDER) or e.kind is Kind.RECORDING_LISTED for e in by_time)
    over_at, claimed_over_at = _call_end(by_time, reported=reported)
    facts: dict[str, Any] = {"labels": {}}
    for event in trusted:
        _take(facts, event, _CALL_FACTS)
        facts["labels"] |= event.labels or {}
    mine: dict[str, list[Event]] = {}
    for event in by_time:
        if event.recording_id:
            mine.setdefault(event.recording_id, []).append(event)
    known = [i for i, found in mine.items() if any(e.kind in _ABOUT_RECORDING for e in found)]
    declared = [_at(e) for e in by_time if e.kind is Kind.NOTHING_DECLARED]
    recordings = {i: _recording(i, mine[i], over_at, declared) for i in known}
    starts = _starts(by_time, recordings)
    for start in starts.values():
        if start.recording_id in recordings:
            recordings[start.recording_id] = _ours(recordings[start.recording_id], start)
    return Call(
        account=account, call_uuid=call_uuid, reported=reported, over_at=over_at, claimed_over_at=claimed_over_at,
        found_live_at=next((e.at for e in by_time if e.kind is Kind.CALL_FOUND_LIVE), None),
        started_at=next((e.started_at for e in reversed(by_time) if e.kind is Kind.CALL_ANNOUNCED and e.started_at), None),
        trunk=any(e.trunk for e in by_time), hung_up_at=next((_at(e) for e in by_time if e.kind is Kind.CALL_ENDED and e.signed), None),
        looks=tuple(e for e in by_time if e.kind is Kind.LOOKED),
        triggers=tuple(e for e in by_time if e.kind in _ACTS and (e.kind is not Kind.MACHINE_DETECTED or e.machine)),
        recordings=recordings, starts=starts, handoffs=_handoffs(by_time),
        attempts=tuple(e for e in by_time if e.kind in _ATTEMPTS and e.recording_id is None and e.requested_at),
        unknowns=tuple(e for e in by_time if e.kind is Kind.STOP_UNKNOWN and e.recording_id is None),
        declared_at=declared[-1] if declared else None,
        events=tuple(by_time),
        **facts,
    )


def _starts(by_time: Sequence[Event], recordings: dict[str, Recording]) -> dict[str, Start]:
    """Each order to start a recording, with the recording that it led to, as far as anybody told."""
    starts = {e.order: Start(ordered=e) for e in by_time if e.kind is Kind.START_ORDERED and e.order}
    begun = {e.order: e.recording_id for e in by_time if e.kind in _ABOUT_RECORDING and e.order and e.recording_id}
    for order, start in starts.items():
        mine = [e for e in by_time if e.order == order]
        sent, errors = [e for e in mine if e.kind is Kind.START_SENT], tuple(e for e in mine if e.kind is Kind.START_ERRED)
        starts[order] = replace(
            start, sent=sent[-1] if len(sent) > len(errors) else None, errors=errors, recording_id=begun.get(order),
            outcome=next((e for e in mine if e.kind in {Kind.START_ACCEPTED, Kind.START_FAILED, Kind.START_UNCLEAR}), None))
    taken = {s.recording_id for s in starts.values()} | {e.recording_id for e in by_time if e.kind in {Kind.RECORDING_STARTED, Kind.RECORDING_ANNOUNCED}}
    for order, start in starts.items():
        if start.unclear and start.sent:
            found = _nameless(start.sent, [r for i, r in recordings.items() if i not in taken])
            taken.add(found)
            starts[order] = replace(start, recording_id=found)
    return starts


def _nameless(sent: Event, candidates: Sequence[Recording]) -> str | None:
    # Our request was not answered, and the list shows a recording that began just then and that nobody else speaks of.
    assert sent.at is not None
    fit = [r for r in candidates if sent.at - _CLOCKS_DIFFER <= r.started_at <= sent.at + _STARTED_WITHIN]
    return min(fit, key=lambda r: r.started_at).recording_id if fit else None


def _ours(recording: Recording, start: Start) -> Recording:
    o = start.ordered
    return replace(recording, ours_at=o.at, segment_of=o.segment_of, channels=o.channels, max_duration_s=o.max_duration_s,
                   format=recording.format or o.format)


def _handoffs(by_time: Sequence[Event]) -> dict[str, Handoff]:
    found = {e.order: Handoff(asked=e) for e in by_time if e.kind is Kind.HANDOFF_ASKED and e.order}
    for event in by_time:
        if event.order in found and event.kind is Kind.HANDOFF_DECIDED:
            found[event.order] = replace(found[event.order], decided=event)
        elif event.order in found and event.kind in _TRANSFERS:
            found[event.order] = replace(found[event.order], transfer=event)
    return found


def _recording(recording_id: str, mine: Sequence[Event], call_over_at: datetime | None, declared: Sequence[datetime]) -> Recording:
    about = [e for e in mine if e.kind in _ABOUT_RECORDING]
    ends = [e for e in about if is_end(e)]
    proofs = {"callback": [e for e in ends if e.kind is Kind.RECORDING_FINALIZED and e.signed],
              "listed": [e for e in ends if e.kind is Kind.RECORDING_LISTED]}
    evidence = {name: _at(found[0]) for name, found in proofs.items() if found}
    finalized_at = min(evidence.values(), default=None)
    if call_over_at:
        evidence["call_over"] = call_over_at
    known_at = _at(about[0])
    if said := [at for at in declared if at >= known_at]:
        evidence["declared"] = said[0]
    retried_at = max((_at(e) for e in mine if e.kind is Kind.RETRY_ORDERED), default=None)
    last_chance = [e for e in mine if retried_at is None or _at(e) > retried_at]
    facts: dict[str, Any] = {}
    for event in sorted(mine, key=_worth):
        if event.kind in _ABOUT_RECORDING:
            _take(facts, event, _RECORDING_FACTS)
            if event.started_at and _is_start(event):
                facts["provider_started_at"] = event.started_at
            if is_end(event) and (event.signed or event.kind is Kind.RECORDING_LISTED):
                _take(facts, event, _END_FACTS)
    return Recording(
        recording_id=recording_id, known_at=known_at, evidence=evidence, finalized_at=finalized_at,
        trunk=any(e.trunk for e in about),
        claimed_at=next((_at(e) for e in ends if not e.signed and e.kind is Kind.RECORDING_FINALIZED), None),
        attempts=tuple(e for e in mine if e.kind in _ATTEMPTS),
        unknown_at=next((_at(e) for e in mine if e.kind is Kind.STOP_UNKNOWN), None),
        failures=tuple(e for e in last_chance if e.kind is Kind.FETCH_FAILED),
        # One from before its end was listed said that it was not: that is over.
        abandoned=tuple(e for e in last_chance if e.kind is Kind.ABANDONED and (finalized_at is None or _at(e) >= finalized_at)),
        retried_at=retried_at,
        archived=next((e for e in mine if e.kind is Kind.MEDIA_ARCHIVED), None),
        gave_up=next((e for e in last_chance if e.kind is Kind.GAVE_UP), None),
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
    trusted = event.signed or event.kind in {Kind.RECORDING_LISTED, Kind.RECORDING_ANNOUNCED}
    return trusted and event.started_at is not None and event.started_at <= _at(event) + _CLOCKS_DIFFER


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
    if event.kind is Kind.RECORDING_LISTED:
        return 3
    if event.signed or event.kind is Kind.CALL_FOUND_LIVE:
        return 2
    return 1 if event.kind in _TOLD_BY_CALLERS else 0


def _worth(event: Event) -> tuple[int, float, str]:
    # A caller may change its mind: there the last word counts. Of the provider's, whose order means nothing, any fixed order will do.
    trust = _trust(event)
    return trust, _at(event).timestamp() if trust == 1 else 0.0, event.id


def _at(event: Event) -> datetime:
    assert event.at is not None, "the ledger sets `at`"
    return event.at


def _time(event: Event) -> tuple[datetime, str]:
    return _at(event), event.id
