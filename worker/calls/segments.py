"""Pause and resume: one logical recording as segments with declared gaps. Pure.

A pause or a transfer interrupts the recordings that it ends. Each is a cause that lasts until an
act takes it back; the recording goes on when no cause is left. `transfer.failed` takes back a
transfer only, so a failed transfer during a card entry does not start the recording again. An
explicit resume takes back both. A stop is final.

Why a recording ended is fixed when we send its first stop: the log holds that stop's trigger and
action. Later rules or facts, or the provider's figure for the end, change nothing.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from worker.calls import timing
from worker.calls.call import Call, Recording
from worker.calls.events import Event
from worker.calls.rules import Action
from worker.calls.triggers import Act, ended_before, is_transfer


class Cause(StrEnum):
    TRANSFER = "transfer"
    PAUSE = "pause"
    STOP = "stop"


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumption:
    """A logical recording that is to go on."""

    root: str  # its first segment
    act: Act  # what resumes it
    since: datetime  # when it was interrupted


@dataclass(slots=True)
class _Interruption:
    """Why a logical recording does not run, and since when."""

    since: datetime
    causes: set[Cause]


def interrupted(call: Call, acts: Iterable[Act]) -> tuple[dict[str, set[Cause]], list[Resumption]]:
    """What interrupts each logical recording of the call now, and the resumptions that are owed.

    A recording has one resumption at most, by the last act that resumed it. It lapses if a later
    act or stop interrupts the recording again.
    """
    acts = list(acts)
    now: dict[str, _Interruption] = {}
    owed: dict[str, Resumption] = {}
    for at, step in _steps(call, acts):
        for root in [
            r
            for r, interruption in now.items()
            if _begun_anew(call, r, interruption.since, at, now)
        ]:
            del now[root]
        if isinstance(step, Act) and step.action is Action.RESUME:
            _resume(step, now, owed)
            continue
        for root, cause in _interrupts(call, step, acts, now, owed):
            owed.pop(root, None)
            now.setdefault(root, _Interruption(at, set())).causes.add(cause)
    return {root: interruption.causes for root, interruption in now.items()}, list(owed.values())


def is_paused(call: Call, acts: Iterable[Act]) -> bool:
    """Whether a resume would start a recording."""
    return any(
        causes and Cause.STOP not in causes for causes in interrupted(call, acts)[0].values()
    )


def _steps(call: Call, acts: Iterable[Act]) -> list[tuple[datetime, Act | Recording]]:
    """What interrupts and resumes, in time order: each act, and each recording that we sent a stop
    for.

    A recording's place in that order is the instant its first stop was due, whatever the rules say
    by now.
    """
    steps: list[tuple[datetime, Act | Recording]] = [
        (a.at, a) for a in acts if a.enforced and (a.ends or a.action is Action.RESUME)
    ]
    for recording in call.recordings.values():
        first = _first_stop(recording)
        if first and first.due_at:
            steps.append((first.due_at, recording))
    return sorted(steps, key=lambda step: step[0])


def _first_stop(recording: Recording) -> Event | None:
    """The stop that fixed why a recording ended."""
    return next((a for a in recording.attempts if a.due_at and a.trigger), None)


def _resume(act: Act, now: dict[str, _Interruption], owed: dict[str, Resumption]) -> None:
    takes_back = (
        {Cause.TRANSFER} if act.trigger == "transfer.failed" else {Cause.TRANSFER, Cause.PAUSE}
    )
    for root, interruption in list(now.items()):
        left = interruption.causes - takes_back
        if left != interruption.causes and not left:
            owed[root] = Resumption(root=root, act=act, since=interruption.since)
        interruption.causes = left
        if not left:
            del now[root]


def _interrupts(
    call: Call,
    step: Act | Recording,
    acts: Sequence[Act],
    now: dict[str, _Interruption],
    owed: dict[str, Resumption],
) -> list[tuple[str, Cause]]:
    """The logical recordings that a step interrupts, and why."""
    if isinstance(step, Recording):
        first = _first_stop(step)
        assert first is not None
        return [(step.root, _cause_of_stop(first, acts))]
    roots = {r.root for r in call.recordings.values() if step.covers(r) and _ran_at(r, step)}
    # The step also interrupts a logical recording that is paused or about to go on, although no
    # segment of it runs.
    waiting = now.keys() | {
        root for root, resumption in owed.items() if not _goes_on(call, resumption)
    }
    if step.names_one:  # a stop by id is final for its own logical recording only
        waiting &= named_roots(call, step)
    return [(root, _cause(step)) for root in sorted(roots | waiting)]


def _ran_at(recording: Recording, act: Act) -> bool:
    """Whether a recording ran at an act: we had no proof yet that it was over, or our stop for that
    very act ended it.
    """
    if recording.over_at is None or (
        recording.over_at > act.at and not ended_before(recording, act.at)
    ):
        return True
    return any(a.due_at == act.at and a.trigger == act.trigger for a in recording.attempts)


def _cause(act: Act) -> Cause:
    if act.is_transfer:
        return Cause.TRANSFER
    return Cause.PAUSE if act.action is Action.PAUSE else Cause.STOP


def _cause_of_stop(stop: Event, acts: Sequence[Act]) -> Cause:
    if is_transfer(stop.trigger or ""):
        return Cause.TRANSFER
    # The first release recorded no action with a stop: look up the act that it was sent for.
    paused = any(
        a.action is Action.PAUSE for a in acts if a.at == stop.due_at and a.trigger == stop.trigger
    )
    return Cause.PAUSE if paused or stop.action == Action.PAUSE else Cause.STOP


def _goes_on(call: Call, resumption: Resumption) -> bool:
    """Whether the recording that a resumption started is known."""
    start = call.starts.get(order_of(resumption))
    return start is not None and start.recording_id is not None


def _begun_anew(
    call: Call, root: str, since: datetime, until: datetime, now: Collection[str]
) -> bool:
    """Whether another logical recording began between `since` and `until`. Then the interrupted
    one does not go on.
    """
    return any(
        since < (r.ours_at or r.started_at) <= until
        for r in call.recordings.values()
        if r.root != root and r.root not in now and r.segment_of is None
    )


def is_to_go_on(call: Call, acts: Iterable[Act], at: datetime) -> bool:
    """Whether a resumption was owed at that instant that has no START_ORDERED yet."""
    return not call.over_at and any(
        r.act.at <= at <= r.act.at + timing.RESUME_WITHIN and order_of(r) not in call.starts
        for r in interrupted(call, acts)[1]
    )


def order_of(resumption: Resumption) -> str:
    """The order id of a resumption's start. All processes compute the same id, so the start is
    ordered once.
    """
    name = f"{resumption.act.event.id}|{resumption.root}"
    return "r" + hashlib.sha256(name.encode()).hexdigest()[:15]


def named_roots(call: Call, act: Act) -> set[str | None]:
    """The logical recordings that an act names, by the id or URL of any segment. Each is given by
    its first segment.
    """
    event = act.event
    return {
        r.root
        for r in call.recordings.values()
        if r.recording_id == event.recording_id or (event.url and r.url == event.url)
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """A time in which a logical recording did not record: from the end of one segment to the start
    of the next. `ended_at` is None while it lasts.
    """

    began_at: datetime | None
    ended_at: datetime | None
    trigger: str | None  # what ended the segment before
    reason: str | None
    resumed_by: str | None = None


def gaps(call: Call, root: str, acts: Iterable[Act]) -> list[Gap]:
    """The gaps of one logical recording, in time order. `root`: its first segment."""
    acts = list(acts)
    segments = sorted(
        (r for r in call.recordings.values() if r.root == root), key=lambda r: r.started_at
    )
    causes, _ = interrupted(call, acts)
    resumed_by = {s.recording_id: s.ordered.trigger for s in call.starts.values() if s.recording_id}
    result = [
        _gap(acts, before, after.started_at, resumed_by.get(after.recording_id))
        for before, after in itertools.pairwise(segments)
    ]
    if segments and Cause.STOP not in causes.get(root, {Cause.STOP}):
        result.append(_gap(acts, segments[-1], None, None))
    return result


def _gap(acts: list[Act], before: Recording, until: datetime | None, resumed_by: str | None) -> Gap:
    end = before.ended_at or before.over_at
    why = next((a for a in acts if a.ends and a.enforced and a.covers(before)), None)
    return Gap(
        began_at=end,
        ended_at=until,
        trigger=why.trigger if why else None,
        reason=why.event.reason if why else None,
        resumed_by=resumed_by,
    )
