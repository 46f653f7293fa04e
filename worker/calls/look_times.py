"""When to look at a call, that is: to poll the provider's list and live calls about it. Pure.

We look soon after somebody claims an end, then ever more rarely.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta

from worker.calls import timing
from worker.calls.call import Call, Recording
from worker.calls.events import Event, Kind
from worker.calls.rules import Rules, Terms

_LOOKS_AFTER_END = tuple(timedelta(seconds=s) for s in (5, 15, 30, 60, 120, 300, 600, 1800, 3600))
_LOOKS_AT_CLAIM = (timedelta(0), timedelta(seconds=1), timedelta(seconds=3), *_LOOKS_AFTER_END)
_LOOKS_WHILE_UNKNOWN = tuple(
    timedelta(minutes=m) for m in (1, 2, 3, 4, 5, 10, 20, 30, 60, 120, 180)
)
_LOOKS_FOR_FACTS = tuple(timedelta(seconds=s) for s in (0, 2, 10, 60))
_CLAIMED_EARLY = timedelta(milliseconds=150)  # the clock claims an obligation so much too early
_FAILED_LOOK = timedelta(seconds=5)  # after the first failed look; doubles with each further one
_LATER_LOOKS = timedelta(hours=6)  # between looks once a series is used up
_LOOK_FOR_HANDOFF = timedelta(seconds=1)  # somebody waits for a proof, and the callback may be lost


def next_look(
    call: Call, recordings: dict[str, Recording], rules: Rules, stops: dict[str, datetime]
) -> datetime | None:
    """When to look at a call; None when a look can tell nothing more.

    `recordings`: with the unseen one, if there is one. `stops`: when each recording must be
    stopped, by recording id.
    """
    _, terms = rules.choose(call)
    wanted = [at for i, r in recordings.items() for at in _looks(call, r, terms, stops.get(i))]
    wanted += _looks_for_starts(call)
    wanted += _looks_for_facts(call, recordings, rules)
    return min(wanted, default=None)


def _looks_for_starts(call: Call) -> Iterator[datetime]:
    """When to look for the recordings that starts without an answer may have begun."""
    for start in call.starts.values():
        if start.unclear and start.outcome and start.outcome.at:
            ends_at = call.over_at or start.outcome.at + timing.LONGEST_CALL
            if not looked_since(call, ends_at + _LOOKS_AFTER_END[-1]):
                yield _after(call, start.outcome.at, _LOOKS_AT_CLAIM)


def _looks_for_facts(
    call: Call, recordings: dict[str, Recording], rules: Rules
) -> Iterator[datetime]:
    """When to ask for the numbers or the direction without which no rule can be chosen."""
    answered = sum(not e.reason for e in call.looks)
    if (
        rules.lacks_facts(call)
        and _may_record(call, recordings)
        and not any(e.live for e in call.looks)
        and answered < len(_LOOKS_FOR_FACTS)
    ):
        yield _after(call, min(e.at for e in call.events if e.at), _LOOKS_FOR_FACTS)


def _may_record(call: Call, recordings: dict[str, Recording]) -> bool:
    """Whether a recording may run to which the rules apply."""
    if call.over_at is not None:
        return False
    return any(not r.over_at for r in recordings.values()) or any(
        s.unsettled for s in call.starts.values()
    )


def _looks(
    call: Call, recording: Recording, terms: Terms, stop_at: datetime | None
) -> Iterator[datetime]:
    """When to ask the provider about one recording. `stop_at`: when it must be stopped."""
    if recording.finalized_at or recording.archived or recording.gave_up or recording.erased:
        return
    if recording.asked and not _is_looked_for(call, recording):
        return
    if recording.retried_at:
        yield _after(call, recording.retried_at, _LOOKS_AT_CLAIM)
    if recording.over_at:  # over, but the facts about the file are missing
        yield _after(call, recording.over_at, _LOOKS_AFTER_END)
        return
    # The end of a call does not prove that a conference's recording is over.
    call_over_at = call.over_at if recording.room else None
    claims = [at for at in (recording.claimed_at, call.claimed_over_at, call_over_at) if at]
    if claims:
        yield _after(call, max(claims), _LOOKS_AT_CLAIM)
    if recording.attempts:
        yield from _looks_after_stop(call, recording, terms, claimed=bool(claims))
    elif stop_at is None and not claims:
        yield max([recording.known_at, *(e.at for e in call.looks[-1:] if e.at)]) + timing.IDLE_LOOK


def _is_looked_for(call: Call, hidden: Recording) -> bool:
    """Whether a look can still tell anything about the unseen recording. It has no file to wait
    for.
    """
    # After a 404 no further stop is sent either.
    not_found = any(a.kind is Kind.CALL_FOUND_OVER for a in hidden.attempts)
    if hidden.over_at or not hidden.asked or not hidden.asked.proof or not_found:
        return False
    given_up = hidden.unknown_at and (call.over_at or call.claimed_over_at)
    return not given_up and not looked_since(call, hidden.known_at + timing.LONGEST_CALL)


def _looks_after_stop(
    call: Call, recording: Recording, terms: Terms, *, claimed: bool
) -> Iterator[datetime]:
    """When to look after a stop request: once after each; ever more rarely when the tries are used
    up.

    `claimed`: somebody claims that the recording is over. The looks for that claim then take the
    place of the rare ones.
    """
    last, first = recording.attempts[-1], recording.attempts[0]
    assert last.at is not None
    wait = terms.confirm_within if last.kind is not Kind.STOP_SET_ASIDE else timing.UNKNOWN_REPEAT
    if last.kind is Kind.STOP_ERRED:
        # Errors follow each other quickly; one look a minute is enough.
        yield _since_last_look(call, first, timing.UNKNOWN_REPEAT)
    elif recording.unknown_at is None and not looked_since(call, last.at + wait):
        yield last.at + wait
        if not looked_since(call, last.at) and any(
            h.decided is None for h in call.handoffs.values()
        ):
            yield last.at + _LOOK_FOR_HANDOFF
    elif not claimed:
        since = recording.unknown_at or last.at
        yield _after(call, since, _LOOKS_WHILE_UNKNOWN)


def _since_last_look(call: Call, attempt: Event, wait: timedelta) -> datetime:
    assert attempt.at is not None
    last = max([attempt.at, *(e.at for e in call.looks[-1:] if e.at)])
    return last + wait


def looked_since(call: Call, instant: datetime) -> bool:
    """Whether we looked at the call at that instant or later. (Or 150 ms before: an obligation is
    claimed a little early.)
    """
    return any(e.at and e.at >= instant - _CLAIMED_EARLY for e in call.looks)


def _after(call: Call, start: datetime, steps: tuple[timedelta, ...]) -> datetime:
    """The next of a widening series of looks that begins at `start`. `steps`: each from `start`."""
    since = [(e.at, e.reason) for e in call.looks if e.at and e.at >= start]
    done = [at for at, why_it_failed in since if not why_it_failed]
    failed = len(list(itertools.takewhile(lambda look: look[1], reversed(since))))
    if failed:  # a failed look uses up no step, and is repeated soon
        return since[-1][0] + min(_FAILED_LOOK * (1 << min(failed - 1, 5)), timing.UNKNOWN_REPEAT)
    if len(done) < len(steps):
        return max(start + steps[len(done)], done[-1] if done else start)
    return done[-1] + _LATER_LOOKS
