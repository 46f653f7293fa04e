"""When to ask the provider about a call: soon after an end is claimed, ever more rarely after that. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta

from worker import policy
from worker.handoffs import UNSEEN
from worker.policy import Terms
from worker.recording import Call, Event, Kind, Recording

_LOOKS_AFTER_END = tuple(timedelta(seconds=s) for s in (5, 15, 30, 60, 120, 300, 600, 1800, 3600))
_LOOKS_AT_CLAIM = (timedelta(0), timedelta(seconds=1), timedelta(seconds=3), *_LOOKS_AFTER_END)
_FAILED_LOOK = timedelta(seconds=5)
_LATER_LOOKS = timedelta(hours=6)
_LOOK_FOR_HANDOFF = timedelta(seconds=1)     # somebody waits for a proof, and the callback may be lost


def next_look(call: Call, recordings: dict[str, Recording], terms: Terms, stops: dict[str, datetime]) -> datetime | None:
    """When to ask about a call; None when nothing is left to ask. `stops`: when each recording has to be stopped."""
    wanted = [at for i, r in recordings.items() for at in _looks(call, r, terms, stops.get(i))]
    wanted += [_after(call, s.outcome.at, _LOOKS_AT_CLAIM) for s in call.starts.values() if s.unclear and s.outcome and s.outcome.at
               and not (call.over_at and looked_since(call, call.over_at + _LOOKS_AFTER_END[-1]))]
    return min(wanted, default=None)


def _looks(call: Call, recording: Recording, terms: Terms, stop_at: datetime | None) -> Iterator[datetime]:
    """When to ask the provider about one recording."""
    if recording.finalized_at or recording.archived or recording.gave_up:
        return
    if recording.recording_id == UNSEEN and (recording.over_at or (recording.unknown_at and (call.over_at or call.claimed_over_at))):
        return                                 # there is no file to wait for
    if recording.retried_at:
        yield _after(call, recording.retried_at, _LOOKS_AT_CLAIM)
    if recording.over_at:                      # over, but the facts about the file are missing
        yield _after(call, recording.over_at, _LOOKS_AFTER_END)
        return
    claims = [c for c in (recording.claimed_at, call.claimed_over_at) if c]
    if claims:
        yield _after(call, max(claims), _LOOKS_AT_CLAIM)
    if recording.attempts:
        last = recording.attempts[-1]
        assert last.at is not None
        wait = terms.confirm_within if last.kind is not Kind.STOP_SET_ASIDE else policy.UNKNOWN_REPEAT
        if last.kind is Kind.STOP_ERRED:       # errors follow each other quickly; one look a minute is enough
            first = next(a for a in recording.attempts if a.at)
            yield _since_last_look(call, first, policy.UNKNOWN_REPEAT)
        elif not looked_since(call, last.at + wait):
            yield last.at + wait
            if not looked_since(call, last.at) and any(h.decided is None for h in call.handoffs.values()):
                yield last.at + _LOOK_FOR_HANDOFF
        else:
            yield _since_last_look(call, last, policy.UNKNOWN_REPEAT)
        return
    idle_from = max([recording.known_at, *(e.at for e in call.looks[-1:] if e.at)])
    if stop_at is None:
        yield idle_from + policy.IDLE_LOOK


def _since_last_look(call: Call, attempt: Event, wait: timedelta) -> datetime:
    assert attempt.at is not None
    last = max([attempt.at, *(e.at for e in call.looks[-1:] if e.at)])
    return last + wait


def looked_since(call: Call, instant: datetime) -> bool:
    """Whether we asked about the call at or after that instant."""
    return any(e.at and e.at >= instant for e in call.looks)


def _after(call: Call, start: datetime, steps: tuple[timedelta, ...]) -> datetime:
    """The next of a widening series of looks that begins at `start`."""
    since = [(e.at, e.reason) for e in call.looks if e.at and e.at >= start]
    done = [at for at, reason in since if not reason]
    failed = len(list(itertools.takewhile(lambda look: look[1], reversed(since))))
    if failed:                 # a look without an answer uses up nothing, and is repeated soon
        return since[-1][0] + min(_FAILED_LOOK * (1 << min(failed - 1, 5)), policy.UNKNOWN_REPEAT)
    if len(done) < len(steps):
        return max(start + steps[len(done)], done[-1] if done else start)
    return done[-1] + _LATER_LOOKS
