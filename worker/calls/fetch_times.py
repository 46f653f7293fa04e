"""When a recording is fetched, when a person is told that it does not come, and when it is given
up. Pure.

The law: nothing is given up while the provider may keep it (30 days after its end). Abandoned means
that the usual tries are used up: a person should look, and it is tried rarely. Whose fault it was
decides how often; the rule is that of the last failure, and its usual pace begins with the first
failure of the same fault since a person's last retry, so that two kinds of trouble in turn do not
hide one another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.calls import timing
from worker.calls.call import Call, Recording
from worker.calls.events import Event, Fault, Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """The usual pace lasts for `usual` since the first failure, or for so many `tries`; then a try
    comes `every` so often.
    """

    every: timedelta
    usual: timedelta | None = None
    tries: int | None = None
    at_reload: bool = False  # a reload may have mended it: tried at once


# docs/operations.md shows the same table.
RULES = {
    Fault.PROVIDER: Rule(usual=timedelta(hours=24), every=timedelta(hours=6)),
    Fault.STORAGE: Rule(usual=timedelta(hours=1), every=timedelta(minutes=15)),
    Fault.MEDIA: Rule(usual=timedelta(hours=24), every=timedelta(hours=24)),
    Fault.OURS: Rule(tries=6, every=timedelta(hours=6), at_reload=True),
    Fault.SETTINGS: Rule(usual=timedelta(hours=1), every=timedelta(hours=1), at_reload=True),
}


def next_fetch(recording: Recording, generation: int) -> datetime | None:
    """When to fetch it; None while that is impossible or needless. `generation`: of the settings in
    force.
    """
    if recording.archived or recording.gave_up or not recording.finalized_at:
        return None
    if not recording.failures:
        return max(recording.finalized_at, recording.retried_at or recording.finalized_at)
    last, mine, rule = _run(recording)
    assert last.at is not None
    if rule.at_reload and (last.generation or 0) < generation:
        return last.at
    at = last.at + (
        rule.every
        if _used_up(mine, rule)
        else min(timing.fetch_backoff(len(mine), recording.recording_id), rule.every)
    )
    return max(at, last.retry_at or last.at)


def says_nothing_new(recording: Recording, failure: Event) -> bool:
    """Whether a failure need not be written down: days of trouble must not fill Redis."""
    if not _are_many(recording):
        return False
    known = [f.generation or 0 for f in recording.failures if _fault(f) is _fault(failure)]
    return bool(known) and not (
        RULES[_fault(failure)].at_reload and (failure.generation or 0) > max(known)
    )


def rarely(failure: Event, now: datetime) -> datetime:
    """When to try again after a failure that was not written down."""
    return max(now + RULES[_fault(failure)].every, failure.retry_at or now)


def _are_many(recording: Recording) -> bool:
    return len(recording.failures) >= timing.MOST_FAILURES_RECORDED


def verdicts(call: Call, now: datetime) -> Iterator[Event]:
    """What is to be written down about recordings that do not come, once for each fault of a run of
    failures.
    """
    for recording in call.recordings.values():
        if recording.archived or recording.gave_up:
            continue
        if is_lost(call, recording, now):
            yield _given_up(call, recording)
        elif recording.failures:
            yield from _abandoned(call, recording)
        elif not recording.abandoned:
            yield from _never_listed(call, recording)


def is_lost(call: Call, recording: Recording, now: datetime) -> bool:
    """The provider keeps it no longer, and it was tried; after a person's retry with the whole
    usual pace.
    """
    # The end of its call is no proof that a conference's recording ended, but no call lasts that
    # long.
    ended = (
        recording.ended_at
        or recording.over_at
        or recording.claimed_at
        or call.claimed_over_at
        or call.over_at
    )
    if ended is None or now < ended + timing.KEPT_BY_PROVIDER:
        return False
    return (
        bool(recording.abandoned)
        if recording.retried_at
        else bool(recording.failures) or not recording.finalized_at
    )


def _run(recording: Recording) -> tuple[Event, list[Event], Rule]:
    """The last failure, all of the same fault up to it, and the rule that holds."""
    last = recording.failures[-1]
    fault = _fault(last)
    return last, [f for f in recording.failures if _fault(f) is fault], RULES[fault]


def _fault(failure: Event) -> Fault:
    return failure.fault or Fault.PROVIDER  # the release before this did not say


def _used_up(mine: list[Event], rule: Rule) -> bool:
    first, last = mine[0].at, mine[-1].at
    assert first is not None
    assert last is not None
    return (rule.usual is not None and last - first >= rule.usual) or (
        rule.tries is not None and len(mine) >= rule.tries
    )


def _abandoned(call: Call, recording: Recording) -> Iterator[Event]:
    last, mine, rule = _run(recording)
    fault, since = _fault(last), mine[0].at
    assert since is not None
    if _used_up(mine, rule) and all(e.fault is not fault for e in recording.abandoned):
        yield _told(
            call,
            recording,
            fault,
            since,
            f"tried {len(mine)} times since {since:%Y-%m-%d %H:%M} UTC; last: {last.reason}",
        )


def _never_listed(call: Call, recording: Recording) -> Iterator[Event]:
    # Where only somebody claims that it ended it may still run: that is no file to wait for, unless
    # a person says so.
    claimed = (recording.claimed_at or call.claimed_over_at) if recording.retried_at else None
    ended, rule = recording.over_at or claimed, RULES[Fault.PROVIDER]
    if recording.finalized_at or ended is None:
        return
    assert rule.usual is not None
    since = max(ended, recording.retried_at or ended)
    if any(look.at and look.at >= since + rule.usual and not look.reason for look in call.looks):
        yield _told(call, recording, Fault.PROVIDER, since, "the provider never listed it")


def _told(call: Call, recording: Recording, fault: Fault, since: datetime, reason: str) -> Event:
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
    # The provider deleted it, but whose fault it was that it was not fetched before is what a
    # person wants to know.
    return Event(
        id=f"gave-up:{recording.recording_id}{again}",
        kind=Kind.GAVE_UP,
        call_uuid=call.call_uuid,
        recording_id=recording.recording_id,
        fault=recording.fault or Fault.PROVIDER,
        reason=f"not fetched in the 30 days that the provider keeps recordings; last: {why}"[:300],
    )
