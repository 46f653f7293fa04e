"""Pause and resume: one logical recording as segments with declared gaps. Pure.

A pause or a transfer interrupts the recordings that it ends; what interrupts them is remembered until all of it is
resumed. `transfer.failed` takes back a transfer and nothing else, so a failed transfer in the midst of a card entry
does not start the recording again. A resume in so many words takes back both. A stop is final: nothing resumes it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from worker import policy
from worker.policy import Action
from worker.recording import Call, Event, Kind, Recording, Start
from worker.triggers import Act, ended_before

_STOPPED = "it was to be stopped before it was sent"


class Cause(StrEnum):
    TRANSFER = "transfer"
    PAUSE = "pause"
    STOP = "stop"


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumption:
    """A logical recording that is to go on, by its first segment, and what said so."""

    root: str
    act: Act


def interrupted(call: Call, acts: Iterable[Act]) -> tuple[dict[str, set[Cause]], list[Resumption]]:
    """What interrupts each logical recording of the call now, and every resumption that was owed so far."""
    causes: dict[str, set[Cause]] = {}
    owed: list[Resumption] = []
    since: dict[str, datetime] = {}
    for act in (a for a in acts if a.enforced):
        for root in [r for r in causes if _begun_anew(call, r, since[r], act.at)]:
            del causes[root]
        if act.ends:
            covered = {r.root for r in call.recordings.values() if act.covers(r) and not ended_before(r, act.at)}
            for root in covered | (causes.keys() if not act.event.recording_id else set()):
                if root not in causes:
                    since[root] = act.at
                causes.setdefault(root, set()).add(_cause(act))
        elif act.action is Action.RESUME:
            for root in list(causes):
                left = causes[root] - {Cause.TRANSFER, *(() if act.trigger == "transfer.failed" else (Cause.PAUSE,))}
                if left != causes[root] and not left:
                    owed.append(Resumption(root=root, act=act))
                causes[root] = left
                if not left:
                    del causes[root]
    return causes, owed


def _cause(act: Act) -> Cause:
    if act.is_transfer:
        return Cause.TRANSFER
    return Cause.PAUSE if act.action is Action.PAUSE else Cause.STOP


def _begun_anew(call: Call, root: str, since: datetime, until: datetime) -> bool:
    """Whether somebody started another recording of the call meanwhile: then there is nothing left to go on with."""
    return any(since < (r.ours_at or r.started_at) <= until for r in call.recordings.values() if r.root != root and r.segment_of is None)


def orders(call: Call, acts: Iterable[Act], now: datetime) -> Iterator[Event]:
    """The starts that follow from resumptions and were not ordered yet, with the parameters of the first segment."""
    if call.over_at:
        return
    for resumption in interrupted(call, acts)[1]:
        first = call.recordings.get(resumption.root)
        order = order_of(resumption)
        if first is not None and order not in call.starts:
            act = resumption.act
            yield Event(id=f"start.{order}", kind=Kind.START_ORDERED, call_uuid=call.call_uuid, at=now, order=order,
                        segment_of=first.root, format=first.format, channels=first.channels, max_duration_s=first.max_duration_s,
                        trigger=act.trigger, rule=act.rule, due_at=act.at, reason=act.event.reason)


def order_of(resumption: Resumption) -> str:
    """The same for everybody who thinks about it, so it is ordered once."""
    told = f"{resumption.act.event.id}|{resumption.root}"
    return "r" + hashlib.sha256(told.encode()).hexdigest()[:15]


def start_at(start: Start) -> datetime:
    """When a start may be sent: at once, or after the provider's wish where it refused for the moment."""
    last = start.errors[-1] if start.errors else start.ordered
    assert last.at is not None
    wait = policy.stop_backoff(len(start.errors), start.ordered.order or "") if start.errors else timedelta(0)
    return max(last.at + wait, last.retry_at or last.at)


def lost(call: Call, acts: Iterable[Act], now: datetime) -> Iterator[Event]:
    """What became of starts that will not be sent any more, and of those whose sender died before it knew."""
    ends = [a.at for a in acts if a.ends and a.enforced and not a.event.recording_id and not a.event.url]
    for order, start in call.starts.items():
        if start.outcome is not None:
            continue
        if start.sent is not None:
            yield Event(id=f"started.{order}", kind=Kind.START_UNCLEAR, call_uuid=call.call_uuid, order=order,
                        reason="the process that sent it ended before it knew the answer")
        elif why := _not_to_be_sent(call, start, max(ends, default=None), now):
            yield Event(id=f"started.{order}", kind=Kind.START_FAILED, call_uuid=call.call_uuid, order=order, reason=why,
                        status=409 if why == _STOPPED else None)


def _not_to_be_sent(call: Call, start: Start, ended_at: datetime | None, now: datetime) -> str | None:
    assert start.ordered.at is not None
    if ended_at and ended_at >= start.ordered.at:
        return _STOPPED
    if call.over_at:
        return "the call is over"
    if len(start.errors) >= policy.START_TRIES:
        return start.errors[-1].reason
    late = now > start.ordered.at + (policy.RESUME_WITHIN if start.ordered.segment_of else policy.START_WITHIN)
    return "it could not be sent in time" if late else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """A time in which a logical recording did not record: from the end of one segment to the start of the next, or open."""

    began_at: datetime | None
    ended_at: datetime | None
    trigger: str | None            # what ended the segment before
    reason: str | None
    resumed_by: str | None = None


def gaps(call: Call, root: str, acts: Iterable[Act]) -> list[Gap]:
    """Of one logical recording, by time; the last one open while it is interrupted."""
    acts = list(acts)
    segments = sorted((r for r in call.recordings.values() if r.root == root), key=lambda r: r.started_at)
    causes, _ = interrupted(call, acts)
    by = {s.recording_id: s.ordered.trigger for s in call.starts.values() if s.recording_id}
    found = [_gap(acts, before, after.started_at, by.get(after.recording_id)) for before, after in itertools.pairwise(segments)]
    if segments and Cause.STOP not in causes.get(root, {Cause.STOP}):
        found.append(_gap(acts, segments[-1], None, None))
    return found


def _gap(acts: list[Act], before: Recording, until: datetime | None, resumed_by: str | None) -> Gap:
    end = before.ended_at or before.over_at
    why = next((a for a in acts if a.ends and a.enforced and a.covers(before)), None)
    return Gap(began_at=end, ended_at=until, trigger=why.trigger if why else None, reason=why.event.reason if why else None,
               resumed_by=resumed_by)
