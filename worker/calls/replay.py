"""What the events of one call add up to. Pure, and blind to the order in which they came.

Its law: the same set of events gives the same call, however they were shuffled or repeated. Facts
come from the most trustworthy event that carries them: the provider's own list, then signed
callbacks, then the rest. A late or repeated callback can add a fact or a proof. It takes none away,
with one exception: a sign that the call lives, which reaches us after a 404, makes that 404 a mere
claim.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from worker.calls.call import Call, Handoff, Recording, Start
from worker.calls.events import TRIGGERS, Event, Kind

_FROM_PROVIDER = {
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
_ABOUT_RECORDING = {
    Kind.RECORDING_STARTED,
    Kind.RECORDING_FINALIZED,
    Kind.RECORDING_LISTED,
    Kind.RECORDING_ANNOUNCED,
    Kind.START_ACCEPTED,
}
_TOLD_BY_CALLERS = {
    Kind.CALL_ANNOUNCED,
    Kind.RECORDING_ANNOUNCED,
    Kind.START_ORDERED,
    Kind.START_ACCEPTED,
}
_SIGNS_OF_LIFE = {
    Kind.CALL_SEEN,
    Kind.RECORDING_STARTED,
    Kind.CALL_TRANSFERRED,
    Kind.CALL_REDIRECTED,
    Kind.DIAL_ANSWERED,
    Kind.DIAL_CONNECTED,
    Kind.CONFERENCE_ENTERED,
    Kind.MACHINE_DETECTED,
}
_SPEAKS_OF_CALL = {
    *_FROM_PROVIDER,
    *_ABOUT_RECORDING,
    Kind.CALL_ANNOUNCED,
    Kind.CUSTOM_REPORTED,
    Kind.NOTHING_DECLARED,
    Kind.CONFERENCE_JOINED,
    Kind.CALL_FOUND_LIVE,
}
_OF_STARTS = {
    Kind.START_ORDERED,
    Kind.START_SENT,
    Kind.START_ERRED,
    Kind.START_ACCEPTED,
    Kind.START_FAILED,
    Kind.START_UNCLEAR,
    Kind.START_LAPSED,
}
_ACTS = {*TRIGGERS, Kind.HANDOFF_ASKED, Kind.CUSTOM_REPORTED}
_TRANSFERS = {Kind.TRANSFER_SENT, Kind.TRANSFER_FAILED, Kind.TRANSFER_UNCLEAR}
_ATTEMPTS = {Kind.STOP_ACCEPTED, Kind.STOP_ERRED, Kind.STOP_SET_ASIDE, Kind.CALL_FOUND_OVER}
_CALL_FACTS = ("from_number", "to_number", "direction")
_RECORDING_FACTS = ("url", "format", "reason", "added_at")
_CLOCKS_DIFFER = timedelta(seconds=2)  # the provider's and ours
_BEGINS_WITHIN = timedelta(
    seconds=5
)  # so far the provider's clock may be off where a start of a recording is all that we know
_LIVE_WITHIN = timedelta(
    seconds=2
)  # so late after its first callbacks a call may still be missing from the live calls
_ENDS_WITHIN = timedelta(
    seconds=15
)  # so late after a stop of the whole call a recording may end by it
_END_FACTS = ("ended_at", "duration_s")


def replay(account: str, call_uuid: str, events: Iterable[Event]) -> Call:
    """The call and its recordings. Each event must have its `at`."""
    by_time = sorted(events, key=_time)
    facts: dict[str, Any] = {"labels": {}}
    for event in sorted(by_time, key=_worth):
        _take(facts, event, _CALL_FACTS)
        facts["labels"] |= event.labels or {}
    by_recording: dict[str, list[Event]] = {}
    for event in by_time:
        if event.recording_id:
            by_recording.setdefault(event.recording_id, []).append(event)
    known = [
        i
        for i, its_events in by_recording.items()
        if any(e.kind in _ABOUT_RECORDING for e in its_events)
    ]
    end = _call_end(by_time, {e.recording_id for e in by_time if is_end(e)})
    wide = _wide_stops(by_time)
    declared = [_at(e) for e in by_time if e.kind is Kind.NOTHING_DECLARED]
    recordings = {i: _recording(i, by_recording[i], end, declared, wide) for i in known}
    starts = _starts(by_time, recordings, end, wide)
    for start in starts.values():
        if start.recording_id in recordings:
            recordings[start.recording_id] = _ours(recordings[start.recording_id], start)
    for recording_id, recording in [(i, r) for i, r in recordings.items() if r.segment_of]:
        recordings[recording_id] = replace(
            recording, segment_of=_first_segment(recording, recordings)
        )
    return Call(
        account=account,
        call_uuid=call_uuid,
        reported=end.reported,
        over_at=end.over_at,
        claimed_over_at=end.claimed_at,
        hung_up_at=end.hung_up_at,
        known=any(e.kind in _SPEAKS_OF_CALL or (e.kind is Kind.LOOKED and e.live) for e in by_time),
        found_live_at=next((e.at for e in by_time if e.kind is Kind.CALL_FOUND_LIVE), None),
        started_at=next(
            (
                e.started_at
                for e in reversed(by_time)
                if e.kind is Kind.CALL_ANNOUNCED and e.started_at
            ),
            None,
        ),
        trunk=any(e.trunk for e in by_time),
        looks=tuple(e for e in by_time if e.kind is Kind.LOOKED),
        triggers=tuple(
            e
            for e in by_time
            if e.kind in _ACTS and (e.kind is not Kind.MACHINE_DETECTED or e.machine)
        ),
        recordings=recordings,
        starts=starts,
        handoffs=_handoffs(by_time),
        attempts=wide,
        unknowns=tuple(
            e for e in by_time if e.kind is Kind.STOP_UNKNOWN and e.recording_id is None
        ),
        declared_at=declared[-1] if declared else None,
        events=tuple(by_time),
        **facts,
    )


# The end of the call
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _CallEnd:
    """What is known of the end of the call. `gone`: each 404 that proves it, as (when we asked,
    when we were answered).
    """

    reported: bool
    hung_up_at: datetime | None
    gone: tuple[tuple[datetime, datetime], ...]
    claimed_at: datetime | None

    @property
    def over_at(self) -> datetime | None:
        ends = [answered_at for _, answered_at in self.gone]
        if self.hung_up_at:
            ends.append(self.hung_up_at)
        return min(ends, default=None)

    def proves(self, known_at: datetime, began_at: datetime | None) -> datetime | None:
        """When the call's end proved that a recording is over. None where it proves nothing: the
        recording began later.
        """
        proofs = [
            answered_at
            for asked_at, answered_at in self.gone
            if known_at <= asked_at or (began_at and began_at <= asked_at - _BEGINS_WITHIN)
        ]
        if self.hung_up_at and not (began_at and began_at > self.hung_up_at + _CLOCKS_DIFFER):
            proofs.append(self.hung_up_at)
        return min(proofs, default=None)


def _call_end(by_time: Sequence[Event], ended: Collection[str | None]) -> _CallEnd:
    reported = any(e.signed and e.kind in _FROM_PROVIDER for e in by_time)
    hung_up_at = next((_at(e) for e in by_time if e.kind is Kind.CALL_ENDED and e.signed), None)
    alive_at = max((at for e in by_time for at in _signs_of_life(e, ended)), default=None)
    not_found = [e for e in by_time if _is_not_found(e)]
    proofs = [
        e
        for e in not_found
        if reported and (alive_at is None or _asked_at(e) > alive_at + _blind_for(e))
    ]
    seen_live_at = max((_at(e) for e in by_time if e.kind is Kind.LOOKED and e.live), default=None)
    claims = [_at(e) for e in by_time if e.kind is Kind.CALL_ENDED and not e.signed]
    proving = {e.id for e in proofs}
    claims += [_at(e) for e in not_found if e.id not in proving]
    claims = [at for at in claims if seen_live_at is None or at > seen_live_at]
    gone = tuple((_asked_at(e), _at(e)) for e in proofs)
    return _CallEnd(
        reported=reported, hung_up_at=hung_up_at, gone=gone, claimed_at=min(claims, default=None)
    )


def _asked_at(event: Event) -> datetime:
    return event.requested_at or _at(event)


def _blind_for(event: Event) -> timedelta:
    """How long after a sign of life a 404 of this kind proves nothing: the live calls show a call
    only a moment after it began.
    """
    return _LIVE_WITHIN if event.kind is Kind.LOOKED else timedelta(0)


def _is_not_found(event: Event) -> bool:
    """Whether it is a 404 for the call. A 404 to a stop that names a recording is about that
    recording at most.
    """
    if event.kind is Kind.LOOKED:
        return event.live is False and event.reason is None
    return event.kind is Kind.CALL_FOUND_OVER and not event.named


def _signs_of_life(event: Event, ended: Collection[str | None]) -> Iterator[datetime]:
    """When the call was live, as far as an event says so: then a 404 before it was too early, or
    wrong.
    """
    if _shows_life(event, ended):
        yield _at(event)
    if (
        (is_end(event) or event.kind is Kind.RECORDING_LISTED)
        and _is_start(event)
        and event.started_at
    ):
        yield event.started_at - _CLOCKS_DIFFER  # a recording of it began then


def _shows_life(event: Event, ended: Collection[str | None]) -> bool:
    """Whether it says that the call is live."""
    if event.kind is Kind.RECORDING_STARTED and event.recording_id in ended:
        return False  # it came late: the recording is over by now
    if event.kind is Kind.LOOKED:
        return bool(event.live)
    return event.kind in {Kind.CALL_FOUND_LIVE, Kind.START_ACCEPTED} or (
        event.signed and event.kind in _SIGNS_OF_LIFE
    )


# Starts and stops
# -----------------------------------------------------------------------------------------------------


def _wide_stops(by_time: Sequence[Event]) -> tuple[Event, ...]:
    """Each request to stop the whole call, once: it is recorded for every recording that it was
    about.
    """
    by_request = {
        e.requested_at: e
        for e in reversed(by_time)
        if e.kind in _ATTEMPTS and e.requested_at and not e.named
    }
    return tuple(reversed(by_request.values()))


def _starts(
    by_time: Sequence[Event], recordings: dict[str, Recording], end: _CallEnd, wide: Sequence[Event]
) -> dict[str, Start]:
    """Each order to start a recording, with the recording that it led to, as far as that is
    known.
    """
    by_order: dict[str, list[Event]] = {}
    for event in by_time:
        if event.order and event.kind in _OF_STARTS:
            by_order.setdefault(event.order, []).append(event)
    if not by_order:
        return {}
    begun = {
        e.order: e.recording_id
        for e in by_time
        if e.kind in _ABOUT_RECORDING and e.order and e.recording_id
    }
    starts = {order: _start(its_events, begun.get(order)) for order, its_events in by_order.items()}
    # A recording that anybody but the list speaks of needs no start of ours as its explanation.
    taken = {s.recording_id for s in starts.values()}
    taken |= {i for i, found in recordings.items() if _is_anothers(i, by_time, found.known_at)}
    seen_running = {
        e.recording_id for e in by_time if e.kind is Kind.RECORDING_LISTED and not is_end(e)
    }
    for order, start in starts.items():
        if start.unclear and start.sent:
            recording_id = _begun_by(
                start, [r for i, r in recordings.items() if i not in taken], seen_running, end, wide
            )
            taken.add(recording_id)
            starts[order] = replace(start, recording_id=recording_id)
    return starts


def _is_anothers(recording_id: str, by_time: Sequence[Event], known_at: datetime) -> bool:
    """Whether anybody but the provider's list spoke of a recording. An application may well
    announce what it found there.
    """
    return any(
        e.recording_id == recording_id
        and e.kind in _ABOUT_RECORDING
        and e.kind is not Kind.RECORDING_LISTED
        and not (e.kind is Kind.RECORDING_ANNOUNCED and _at(e) > known_at)
        for e in by_time
    )


def _start(mine: Sequence[Event], recording_id: str | None) -> Start:
    sent = [e for e in mine if e.kind is Kind.START_SENT]
    errors = tuple(e for e in mine if e.kind is Kind.START_ERRED)
    # What was sent counts even where the order itself is not written down yet.
    ordered = next((e for e in mine if e.kind is Kind.START_ORDERED), mine[0])
    return Start(
        ordered=ordered,
        sent=sent[-1] if len(sent) > len(errors) else None,
        errors=errors,
        recording_id=recording_id,
        outcome=next(
            (
                e
                for e in mine
                if e.kind in {Kind.START_ACCEPTED, Kind.START_FAILED, Kind.START_UNCLEAR}
            ),
            None,
        ),
        lapsed_at=next((_at(e) for e in mine if e.kind is Kind.START_LAPSED), None),
    )


def _begun_by(
    start: Start,
    candidates: Sequence[Recording],
    seen_running: Collection[str | None],
    end: _CallEnd,
    wide: Sequence[Event],
) -> str | None:
    """The recording that a start without an answer began; None where none fits, or more than one.

    `candidates` are those that only the provider's list speaks of. Ours began when the request was
    under way. The list showed it running, or it ended by a stop of the whole call or at the limit
    that was sent with the start: one that ended by itself is somebody else's. Once the call is over
    nothing depends on the choice, and the first will do.
    """
    assert start.sent is not None
    assert start.outcome is not None
    since, until = _at(start.sent) - _BEGINS_WITHIN, _at(start.outcome) + _CLOCKS_DIFFER
    over = end.over_at is not None
    stops = [e.requested_at for e in wide if e.requested_at]
    limit_s = start.sent.max_duration_s

    def may_be_ours(candidate: Recording) -> bool:
        if candidate.recording_id in seen_running or over:
            return True
        ended_at, duration_s = candidate.ended_at, candidate.duration_s
        if ended_at and any(at - _CLOCKS_DIFFER <= ended_at <= at + _ENDS_WITHIN for at in stops):
            return True
        return bool(limit_s and duration_s and duration_s >= limit_s - 2)

    by_time = sorted(candidates, key=lambda r: r.started_at)
    fit = [r.recording_id for r in by_time if since <= r.started_at <= until and may_be_ours(r)]
    return fit[0] if len(fit) == 1 or (fit and over) else None


def _first_segment(recording: Recording, recordings: dict[str, Recording]) -> str | None:
    """The first segment of its logical recording. What a segment was ordered for may prove to be a
    later segment itself.
    """
    first, seen = recording.segment_of, {recording.recording_id}
    while first in recordings and first not in seen and (before := recordings[first].segment_of):
        seen.add(first)
        first = before
    return first


def _ours(recording: Recording, start: Start) -> Recording:
    ordered = start.ordered
    return replace(
        recording,
        ours_at=start.began_at,
        segment_of=ordered.segment_of,
        channels=ordered.channels,
        max_duration_s=ordered.max_duration_s,
        format=recording.format or ordered.format,
    )


def _handoffs(by_time: Sequence[Event]) -> dict[str, Handoff]:
    handoffs = {
        e.order: Handoff(asked=e) for e in by_time if e.kind is Kind.HANDOFF_ASKED and e.order
    }
    for event in by_time:
        if event.order in handoffs and event.kind is Kind.HANDOFF_DECIDED:
            handoffs[event.order] = replace(handoffs[event.order], decided=event)
        elif event.order in handoffs and event.kind in _TRANSFERS:
            handoffs[event.order] = replace(handoffs[event.order], transfer=event)
    return handoffs


def _recording(
    recording_id: str,
    mine: Sequence[Event],
    end: _CallEnd,
    declared: Sequence[datetime],
    wide: Sequence[Event],
) -> Recording:
    about = [e for e in mine if e.kind in _ABOUT_RECORDING]
    ends = [e for e in about if is_end(e)]
    proofs = {
        "callback": [e for e in ends if e.kind is Kind.RECORDING_FINALIZED and e.signed],
        "listed": [e for e in ends if e.kind is Kind.RECORDING_LISTED],
    }
    evidence = {name: _at(events[0]) for name, events in proofs.items() if events}
    finalized_at = min(evidence.values(), default=None)
    known_at = _at(about[0])
    if declared_later := [
        at for at in declared if at > known_at
    ]:  # what comes at the same instant may have come after it
        evidence["declared"] = declared_later[0]
    retried_at = max((_at(e) for e in mine if e.kind is Kind.RETRY_ORDERED), default=None)
    last_chance = [e for e in mine if retried_at is None or _at(e) > retried_at]
    facts: dict[str, Any] = {}
    for event in sorted(mine, key=_worth):
        if event.kind in _ABOUT_RECORDING:
            _take(facts, event, _RECORDING_FACTS)
            if event.started_at and _is_start(event):
                facts["provider_started_at"] = event.started_at
            if is_proven_end(event):
                _take(facts, event, _END_FACTS)
    room = any(e.room for e in about)
    began_at = _began_at(facts)
    if not room and (call_over_at := end.proves(known_at, began_at)):
        evidence["call_over"] = call_over_at
    attempts = tuple(e for e in mine if e.kind in _ATTEMPTS)
    if evidence and began_at:
        attempts = (
            *_stopped_before_it_was_known(
                recording_id, known_at, began_at, facts.get("ended_at"), wide
            ),
            *attempts,
        )
    return Recording(
        recording_id=recording_id,
        known_at=known_at,
        evidence=evidence,
        finalized_at=finalized_at,
        trunk=any(e.trunk for e in about),
        room=room,
        claimed_at=min((_at(e) for e in mine if _claims_an_end(e)), default=None),
        attempts=attempts,
        unknown_at=next((_at(e) for e in mine if e.kind is Kind.STOP_UNKNOWN), None),
        failures=tuple(e for e in last_chance if e.kind is Kind.FETCH_FAILED),
        # An ABANDONED from before the recording was finalized meant "never listed". It is listed
        # now.
        abandoned=tuple(
            e
            for e in last_chance
            if e.kind is Kind.ABANDONED and (finalized_at is None or _at(e) >= finalized_at)
        ),
        retried_at=retried_at,
        archived=next((e for e in mine if e.kind is Kind.MEDIA_ARCHIVED), None),
        gave_up=next((e for e in last_chance if e.kind is Kind.GAVE_UP), None),
        **facts,
    )


def _began_at(facts: dict[str, Any]) -> datetime | None:
    if "provider_started_at" in facts:
        return facts["provider_started_at"]  # type: ignore[no-any-return]
    if facts.get("ended_at") and facts.get("duration_s"):
        return facts["ended_at"] - timedelta(seconds=facts["duration_s"])  # type: ignore[no-any-return]
    return None


def _claims_an_end(event: Event) -> bool:
    """Whether it makes us look: an unsigned end, or a 404 to the stop that named this recording."""
    return (event.kind is Kind.RECORDING_FINALIZED and not event.signed) or (
        event.kind is Kind.CALL_FOUND_OVER and bool(event.named)
    )


def _stopped_before_it_was_known(
    recording_id: str,
    known_at: datetime,
    began_at: datetime,
    ended_at: datetime | None,
    wide: Sequence[Event],
) -> list[Event]:
    """The stops of the whole call that we sent while this recording ran unknown to us. They were
    its stops, too.
    """
    if not ended_at:
        return []
    return [
        replace(e, recording_id=recording_id)
        for e in wide
        if e.requested_at
        and e.recording_id != recording_id
        and began_at <= e.requested_at < known_at
        and e.requested_at - _CLOCKS_DIFFER <= ended_at
    ]


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
    """An end that the provider itself vouches for: it signed the callback, or lists the recording
    as ended.
    """
    return is_end(event) and (event.signed or event.kind is Kind.RECORDING_LISTED)


def _is_start(event: Event) -> bool:
    # An unsigned callback could move a deadline, so it is not trusted. A start after its own report
    # is a wrong clock's.
    trusted = event.signed or event.kind in {Kind.RECORDING_LISTED, Kind.RECORDING_ANNOUNCED}
    return (
        trusted and event.started_at is not None and event.started_at <= _at(event) + _CLOCKS_DIFFER
    )


def _take(facts: dict[str, Any], event: Event, names: Iterable[str]) -> None:
    for name in names:
        value = getattr(event, name)
        if value is not None:
            facts[name] = value


def _trust(event: Event) -> int:
    if event.kind is Kind.RECORDING_LISTED:
        return 3
    if event.signed or event.kind in {Kind.CALL_FOUND_LIVE, Kind.LOOKED}:
        return 2
    return 1 if event.kind in _TOLD_BY_CALLERS else 0


def _worth(event: Event) -> tuple[int, float, str]:
    # A caller may change its mind, so its last word counts. The order of the provider's events
    # means nothing: any fixed one will do.
    trust = _trust(event)
    return trust, _at(event).timestamp() if trust == 1 else 0.0, event.id


def _at(event: Event) -> datetime:
    assert event.at is not None, "the ledger sets `at`"
    return event.at


def _time(event: Event) -> tuple[datetime, str]:
    return _at(event), event.id
