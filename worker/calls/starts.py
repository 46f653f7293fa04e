"""Recordings that we start ourselves: which are owed, when to send them, and what came of them.
Pure.

A start must not be sent twice. So one whose answer is missing is never repeated: it counts as
running until the provider's list, a callback or its own time limit settles it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from math import ceil

from worker.calls import timing
from worker.calls.call import Call, Start
from worker.calls.events import Event, Kind
from worker.calls.rules import Action, Mode, Rules, deadline
from worker.calls.segments import Resumption, interrupted, named_roots, order_of
from worker.calls.triggers import Act

_STOPPED = "it was to be stopped before it was sent"
_LONGEST_CEILING_S = 28800  # of `time_limit` (one vendor source)


# Starts that are owed
# ------------------------------------------------------------------------------------------------


def owed(call: Call, acts: Sequence[Act], now: datetime) -> Iterator[Event]:
    """START_ORDERED for each resumption that was not ordered yet, with the parameters of the first
    segment.
    """
    for resumption in _not_ordered(call, acts, now):
        first, act = call.recordings[resumption.root], resumption.act
        if act.settled_at <= now:
            order = order_of(resumption)
            yield Event(
                id=f"start.{order}",
                kind=Kind.START_ORDERED,
                call_uuid=call.call_uuid,
                at=now,
                order=order,
                segment_of=first.root,
                format=first.format,
                channels=first.channels,
                max_duration_s=first.max_duration_s,
                trigger=act.trigger,
                rule=act.rule,
                due_at=act.at,
                reason=act.event.reason,
            )


def owed_at(call: Call, acts: Sequence[Act], now: datetime) -> Iterator[datetime]:
    """When to order the resumptions whose act is not settled yet."""
    yield from (r.act.settled_at for r in _not_ordered(call, acts, now) if r.act.settled_at > now)


def _not_ordered(call: Call, acts: Sequence[Act], now: datetime) -> Iterator[Resumption]:
    """The resumptions that are owed and were not ordered yet."""
    if call.over_at or not any(a.action is Action.RESUME for a in acts):
        return
    proven_at = _last_proven_go(call)
    for resumption in interrupted(call, acts)[1]:
        if proven_at and resumption.act.at <= proven_at:
            continue
        root = resumption.root
        in_time = now <= resumption.act.at + timing.RESUME_WITHIN
        ordered = order_of(resumption) in call.starts or any(
            s.ordered.segment_of == root and s.began_at >= resumption.since and not s.failed
            for s in call.starts.values()
        )
        if in_time and not ordered and root in call.recordings:
            yield resumption


def _last_proven_go(call: Call) -> datetime | None:
    """When the last hand-off was asked whose answer was a proven `go`.

    Its asker transfers the call. So a recording that was to go on before that question stays ended,
    whatever the rules have said since.
    """
    return max(
        (
            h.asked.at
            for h in call.handoffs.values()
            if h.asked.at and h.decided and h.decided.verdict == "go" and h.decided.proven
        ),
        default=None,
    )


# Sending one
# ------------------------------------------------------------------------------------------------


def start_at(start: Start) -> datetime:
    """When a start may be sent: at once. After a 429 it waits for the back-off, and at least as
    long as the provider asks.
    """
    last = start.errors[-1] if start.errors else start.ordered
    assert last.at is not None
    wait = (
        timing.stop_backoff(len(start.errors), start.ordered.order or "")
        if start.errors
        else timedelta(0)
    )
    return max(last.at + wait, last.retry_at or last.at)


def ceiling_s(call: Call, start: Start, rules: Rules, now: datetime) -> int:
    """The provider's own limit for a recording that begins now: just above our deadline, whole
    seconds.
    """
    _, terms = rules.choose(call)
    ends = []
    if start.ordered.max_duration_s:
        ends.append(now + timedelta(seconds=start.ordered.max_duration_s))
    if terms.mode is Mode.ENFORCE and (end := deadline(terms, now)):
        ends.append(end[0])
    if not ends:
        return round(timing.NO_CEILING.total_seconds())
    return min(ceil((min(ends) - now + timing.CEILING).total_seconds()), _LONGEST_CEILING_S)


# Outcomes that no sender will record
# ------------------------------------------------------------------------------------------------


def lost(call: Call, acts: Sequence[Act], now: datetime) -> Iterator[Event]:
    """The outcomes that no sender will record, of three kinds of start.

    The sender died before it knew the answer (START_UNCLEAR). The start will not be sent any more
    (START_FAILED). The answer is missing, and the time limit sent with the start has run out
    (START_LAPSED).
    """
    for order, start in call.starts.items():
        if start.outcome is None and start.sent is not None:
            yield Event(
                id=f"started.{order}",
                kind=Kind.START_UNCLEAR,
                call_uuid=call.call_uuid,
                order=order,
                reason="the process that sent it ended before it knew the answer",
            )
        elif start.outcome is None and (why := _not_to_be_sent(call, start, acts, now)):
            yield Event(
                id=f"started.{order}",
                kind=Kind.START_FAILED,
                call_uuid=call.call_uuid,
                order=order,
                reason=why,
                status=409 if why == _STOPPED else None,
            )
        elif start.unclear and (lapses := lapses_at(call, start)) and lapses <= now:
            yield Event(
                id=f"lapsed.{order}",
                kind=Kind.START_LAPSED,
                call_uuid=call.call_uuid,
                order=order,
                reason="the time limit that was sent with it has run out",
            )


def _not_to_be_sent(call: Call, start: Start, acts: Sequence[Act], now: datetime) -> str | None:
    """Why a start that was not sent will not be sent; None while it still may be."""
    if any(
        a.ends and a.enforced and a.at >= start.began_at and is_about(call, a, start) for a in acts
    ):
        return _STOPPED
    if call.over_at:
        return "the call is over"
    if len(start.errors) >= timing.START_TRIES:
        return start.errors[-1].reason
    is_resumption = bool(start.ordered.segment_of)
    within = timing.RESUME_WITHIN if is_resumption else timing.START_WITHIN
    return "it could not be sent in time" if now > start.began_at + within else None


def lapses_at(call: Call, start: Start) -> datetime | None:
    """When a start without an answer no longer counts as running. None where none was sent, the
    outcome is not recorded, or the call is over.
    """
    if start.sent is None or start.outcome is None or call.over_at:
        return None
    assert start.outcome.at is not None
    limit = (
        timedelta(seconds=start.sent.max_duration_s)
        if start.sent.max_duration_s
        else timing.NO_CEILING
    )
    return start.outcome.at + limit + timing.LAPSES_AFTER


# Starts that may have begun something
# ------------------------------------------------------------------------------------------------


def unsettled(call: Call, until: datetime | None = None) -> list[Start]:
    """The starts that may have begun a recording, or may still begin one. `until`: only those that
    count as begun by then.
    """
    return [
        s
        for s in call.starts.values()
        if s.unsettled and (until is None or s.began_at <= until) and not _ended_with_call(call, s)
    ]


def unsettled_by(call: Call, act: Act) -> list[Start]:
    """The unsettled starts that an act is about."""
    return [s for s in unsettled(call, act.at) if is_about(call, act, s)]


def _ended_with_call(call: Call, start: Start) -> bool:
    sent = start.sent or start.ordered
    return call.over_at is not None and sent.at is not None and call.over_at >= sent.at


def is_about(call: Call, act: Act, start: Start) -> bool:
    """Whether an act ends the recording that a start may have begun. An act that names a recording
    is also about the later segments of that recording.
    """
    return not act.names_one or start.ordered.segment_of in named_roots(call, act)
