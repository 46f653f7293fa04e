"""What the events say about our own starts, and which recording each start began. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta

from worker.calls.call import Recording, Start
from worker.calls.call_end import CallEnd
from worker.calls.events import Event, Kind
from worker.calls.trust import (
    ABOUT_RECORDING,
    ATTEMPTS,
    BEGINS_WITHIN,
    CLOCKS_DIFFER,
    is_end,
    received_at,
)

_OF_STARTS = {
    Kind.START_ORDERED,
    Kind.START_SENT,
    Kind.START_ERRED,
    Kind.START_ACCEPTED,
    Kind.START_FAILED,
    Kind.START_UNCLEAR,
    Kind.START_LAPSED,
}
_OUTCOMES = {Kind.START_ACCEPTED, Kind.START_FAILED, Kind.START_UNCLEAR}
# So late after a stop of the whole call a recording may still end because of it.
_ENDS_WITHIN = timedelta(seconds=15)


def wide_stops(by_time: Sequence[Event]) -> tuple[Event, ...]:
    """Each request to stop the whole call, once. (The log has it once for every recording that the
    request was about.)
    """
    by_request = {
        e.requested_at: e
        for e in reversed(by_time)
        if e.kind in ATTEMPTS and e.requested_at and not e.named
    }
    return tuple(reversed(by_request.values()))


def replay_starts(
    by_time: Sequence[Event], recordings: dict[str, Recording], end: CallEnd, wide: Sequence[Event]
) -> dict[str, Start]:
    """Each order to start a recording, with the recording that it led to, as far as that is known.

    `wide`: the stops of the whole call, as `wide_stops` returns them.
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
        if e.kind in ABOUT_RECORDING and e.order and e.recording_id
    }
    starts = {order: _start(events, begun.get(order)) for order, events in by_order.items()}
    return _with_recordings_begun(starts, by_time, recordings, end, wide)


def _start(events: Sequence[Event], recording_id: str | None) -> Start:
    """One start, from the events of its order."""
    sent = [e for e in events if e.kind is Kind.START_SENT]
    errors = tuple(e for e in events if e.kind is Kind.START_ERRED)
    return Start(
        # What was sent counts even where the order itself is not recorded yet.
        ordered=next((e for e in events if e.kind is Kind.START_ORDERED), events[0]),
        sent=sent[-1] if len(sent) > len(errors) else None,
        errors=errors,
        recording_id=recording_id,
        outcome=next((e for e in events if e.kind in _OUTCOMES), None),
        lapsed_at=next((received_at(e) for e in events if e.kind is Kind.START_LAPSED), None),
    )


# Starts without an answer
# ------------------------------------------------------------------------------------------------


def _with_recordings_begun(
    starts: dict[str, Start],
    by_time: Sequence[Event],
    recordings: dict[str, Recording],
    end: CallEnd,
    wide: Sequence[Event],
) -> dict[str, Start]:
    """The starts; those without an answer name the recording that they must have begun.

    If the provider lists a recording that began right after such a start, and no other event
    explains that recording, it is taken for the one that the start began.
    """
    explained = {s.recording_id for s in starts.values()}
    explained |= {i for i, r in recordings.items() if _is_anothers(r, by_time)}
    seen_running = {
        e.recording_id for e in by_time if e.kind is Kind.RECORDING_LISTED and not is_end(e)
    }
    result = dict(starts)
    for order, start in starts.items():
        if start.unclear and start.sent:
            candidates = [r for i, r in recordings.items() if i not in explained]
            recording_id = _begun_by(start, candidates, seen_running, end, wide)
            explained.add(recording_id)
            result[order] = replace(start, recording_id=recording_id)
    return result


def _is_anothers(recording: Recording, by_time: Sequence[Event]) -> bool:
    """Whether anybody but the provider's list named a recording. An application that announces it
    later may have found it in the list.
    """
    return any(
        e.recording_id == recording.recording_id
        and e.kind in ABOUT_RECORDING
        and e.kind is not Kind.RECORDING_LISTED
        and not (e.kind is Kind.RECORDING_ANNOUNCED and received_at(e) > recording.known_at)
        for e in by_time
    )


def _begun_by(
    start: Start,
    candidates: Sequence[Recording],
    seen_running: Collection[str | None],
    end: CallEnd,
    wide: Sequence[Event],
) -> str | None:
    """The recording that a start without an answer began; None where none fits, or more than one.

    `candidates`: only the provider's list names them. Ours began while the request was under way.
    Also, the list showed it running, or we ended it: by a stop of the whole call, or by the limit
    that was sent with the start. A recording that ended by itself is somebody else's. Once the call
    is over nothing depends on the choice, and the first will do.
    """
    assert start.sent is not None
    assert start.outcome is not None
    since = received_at(start.sent) - BEGINS_WITHIN
    until = received_at(start.outcome) + CLOCKS_DIFFER
    is_over = end.over_at is not None
    fitting = [
        r.recording_id
        for r in sorted(candidates, key=lambda r: r.started_at)
        if since <= r.started_at <= until
        and (is_over or r.recording_id in seen_running or _ended_by_us(start, r, wide))
    ]
    return fitting[0] if len(fitting) == 1 or (fitting and is_over) else None


def _ended_by_us(start: Start, candidate: Recording, wide: Sequence[Event]) -> bool:
    """Whether a stop of the whole call, or the limit sent with the start, ended a recording."""
    assert start.sent is not None
    ended_at, duration_s = candidate.ended_at, candidate.duration_s
    stops = [e.requested_at for e in wide if e.requested_at]
    if ended_at and any(at - CLOCKS_DIFFER <= ended_at <= at + _ENDS_WITHIN for at in stops):
        return True
    limit_s = start.sent.max_duration_s
    return bool(limit_s and duration_s and duration_s >= limit_s - 2)


# Recordings that we started
# ------------------------------------------------------------------------------------------------


def with_starts(recordings: dict[str, Recording], starts: dict[str, Start]) -> dict[str, Recording]:
    """The recordings; those that we started have the parameters of their order, and later segments
    name the first segment of their logical recording.
    """
    result = dict(recordings)
    for start in starts.values():
        if start.recording_id in result:
            result[start.recording_id] = _ours(result[start.recording_id], start)
    for recording_id, recording in result.items():
        if recording.segment_of:
            result[recording_id] = replace(recording, segment_of=_first_segment(recording, result))
    return result


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


def _first_segment(recording: Recording, recordings: dict[str, Recording]) -> str | None:
    """The first segment of the logical recording. The recording that a start was to continue may
    prove to be a later segment itself.
    """
    first, seen = recording.segment_of, {recording.recording_id}
    while first in recordings and first not in seen and (before := recordings[first].segment_of):
        seen.add(first)
        first = before
    return first
