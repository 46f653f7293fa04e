"""When a recording is fetched, when it counts as abandoned, and when it is given up. Pure.

The law: no recording is given up while the provider may keep it (30 days after its end). Abandoned
means that the normal tries are used up: a person should look, and fetches become rare.

The last failure's fault selects the pace. Its normal pace starts at the first failure with that
fault since the last manual retry. Counting per fault keeps two alternating problems from resetting
each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.calls import timing
from worker.calls.call import Call, Recording
from worker.calls.events import Event, Fault, Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How often a fetch is tried. The normal pace is a back-off from 1 s; it lasts for `normal`
    since the first failure, or for so many `tries`. After that a try comes `every` so often.
    """

    every: timedelta
    normal: timedelta | None = None
    tries: int | None = None
    at_reload: bool = False  # tried at once after a reload, which may have mended it


# docs/operations.md shows the same table.
PACES = {
    Fault.PROVIDER: Pace(normal=timedelta(hours=24), every=timedelta(hours=6)),
    Fault.STORAGE: Pace(normal=timedelta(hours=1), every=timedelta(minutes=15)),
    Fault.MEDIA: Pace(normal=timedelta(hours=24), every=timedelta(hours=24)),
    Fault.OURS: Pace(tries=6, every=timedelta(hours=6), at_reload=True),
    Fault.SETTINGS: Pace(normal=timedelta(hours=1), every=timedelta(hours=1), at_reload=True),
}


def next_fetch(recording: Recording, generation: int) -> datetime | None:
    """When to fetch a recording, or to file that it was given up; None while that is impossible or
    needless. `generation`: the number of the last reload.
    """
    if recording.erasing:
        return None
    if recording.gave_up and not recording.archived:
        return None if recording.absence else recording.gave_up.at
    if recording.archived or recording.gave_up or not recording.finalized_at:
        return None
    if not recording.failures:
        return max(recording.finalized_at, recording.retried_at or recording.finalized_at)
    last, same, pace = _last_trouble(recording)
    assert last.at is not None
    if pace.at_reload and (last.generation or 0) < generation:
        return last.at
    wait = pace.every
    if not _is_used_up(same, pace):
        wait = min(timing.fetch_backoff(len(same), recording.recording_id), pace.every)
    due = min(last.at + wait, _judged_at(recording, last) or last.at + wait)
    return max(due, last.retry_at or last.at)


def _judged_at(recording: Recording, last: Event) -> datetime | None:
    """When the bytes that failed last are archived nevertheless, if they come once more; None where
    that instant is past or not known yet. The back-off would come up to ten minutes later.
    """
    if not last.sha256 or last.at is None:
        return None
    same = [f.at for f in recording.failures if f.sha256 == last.sha256 and f.at]
    if len(same) + 1 < timing.STUBBORN_TRIES:
        return None
    # A moment later, because work may begin a little before its instant.
    instant = min(same) + timing.STUBBORN_SPAN + timedelta(seconds=1)
    return instant if instant > last.at else None


def says_nothing_new(recording: Recording, failure: Event) -> bool:
    """Whether a failure need not be recorded: days of trouble must not fill Redis."""
    if len(recording.failures) < timing.MOST_FAILURES_RECORDED:
        return False
    fault = _fault(failure)
    generations = [f.generation or 0 for f in recording.failures if _fault(f) is fault]
    if not generations:
        return False
    is_first_since_reload = (failure.generation or 0) > max(generations)
    return not (PACES[fault].at_reload and is_first_since_reload)


def rarely(failure: Event, now: datetime) -> datetime:
    """When to try again after a failure that was not recorded."""
    return max(now + PACES[_fault(failure)].every, failure.retry_at or now)


def conclusions(call: Call, now: datetime) -> Iterator[Event]:
    """The events to record about recordings that cannot be fetched: GAVE_UP, or ABANDONED once for
    each fault.
    """
    for recording in call.recordings.values():
        if recording.archived or recording.gave_up or recording.erasing:
            continue
        if is_lost(call, recording, now):
            yield _given_up(call, recording)
        elif recording.failures:
            yield from _abandoned(call, recording)
        elif not recording.abandoned:
            yield from _never_listed(call, recording)


def is_lost(call: Call, recording: Recording, now: datetime) -> bool:
    """Whether the provider no longer keeps a recording that was tried.

    After a person's retry it must be abandoned again first: the normal pace is used up.
    """
    until = kept_until(call, recording)
    if until is None or now < until:
        return False
    if recording.retried_at:
        return bool(recording.abandoned)
    return bool(recording.failures) or not recording.finalized_at


def kept_until(call: Call, recording: Recording) -> datetime | None:
    """When the provider deletes its copy, by its own word on the whole; None while no end of the
    recording is known.
    """
    # The end of its call is no proof that a conference's recording ended, but no recording runs on
    # for 30 days.
    ended = (
        recording.ended_at
        or recording.over_at
        or recording.claimed_at
        or call.claimed_over_at
        or call.over_at
    )
    return ended + timing.KEPT_BY_PROVIDER if ended else None


def _last_trouble(recording: Recording) -> tuple[Event, list[Event], Pace]:
    """The last failure, all failures with the same fault, and the pace of that fault."""
    last = recording.failures[-1]
    fault = _fault(last)
    return last, [f for f in recording.failures if _fault(f) is fault], PACES[fault]


def _fault(failure: Event) -> Fault:
    return failure.fault or Fault.PROVIDER  # the first release recorded none


def _is_used_up(same: list[Event], pace: Pace) -> bool:
    """Whether the failures with one fault have used up its normal pace."""
    first, last = same[0].at, same[-1].at
    assert first is not None
    assert last is not None
    return (pace.normal is not None and last - first >= pace.normal) or (
        pace.tries is not None and len(same) >= pace.tries
    )


def _abandoned(call: Call, recording: Recording) -> Iterator[Event]:
    """ABANDONED, if the last failure's fault has used up its normal pace and has none yet."""
    last, same, pace = _last_trouble(recording)
    fault, since = _fault(last), same[0].at
    assert since is not None
    if _is_used_up(same, pace) and all(e.fault is not fault for e in recording.abandoned):
        reason = f"tried {len(same)} times since {since:%Y-%m-%d %H:%M} UTC; last: {last.reason}"
        yield _abandonment(call, recording, fault, since, reason)


def _never_listed(call: Call, recording: Recording) -> Iterator[Event]:
    """ABANDONED, if a look after the provider's normal pace still finds no row."""
    # A recording that only a claim calls over may still run, so there is no file to wait for,
    # unless a person's retry says that there is.
    claimed = (recording.claimed_at or call.claimed_over_at) if recording.retried_at else None
    ended, pace = recording.over_at or claimed, PACES[Fault.PROVIDER]
    if recording.finalized_at or ended is None:
        return
    assert pace.normal is not None
    since = max(ended, recording.retried_at or ended)
    if any(look.at and look.at >= since + pace.normal and not look.reason for look in call.looks):
        yield _abandonment(call, recording, Fault.PROVIDER, since, "the provider never listed it")


def _abandonment(
    call: Call, recording: Recording, fault: Fault, since: datetime, reason: str
) -> Event:
    return Event(
        id=f"abandoned:{recording.recording_id}.{fault}.{since.timestamp():.3f}",
        kind=Kind.ABANDONED,
        call_uuid=call.call_uuid,
        recording_id=recording.recording_id,
        fault=fault,
        reason=reason[:300],
    )


def _given_up(call: Call, recording: Recording) -> Event:
    why = recording.failures[-1].reason if recording.failures else "the provider never listed it"
    again = f".{recording.retried_at.timestamp():.3f}" if recording.retried_at else ""
    return Event(
        id=f"gave-up:{recording.recording_id}{again}",
        kind=Kind.GAVE_UP,
        call_uuid=call.call_uuid,
        recording_id=recording.recording_id,
        # The provider deleted it. What a person wants to know is why it was not fetched before.
        fault=recording.fault or Fault.PROVIDER,
        reason=f"not fetched in the 30 days that the provider keeps recordings; last: {why}"[:300],
    )
