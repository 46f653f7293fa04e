"""Which dials of a call failed. Pure.

The provider reports a dial as ended in two ways: the whole dial, or one of its legs. Either counts
as failed only where nobody was ever connected.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from worker.calls import timing
from worker.calls.call import Call
from worker.calls.events import Event, Kind

_EVER = datetime.min.replace(tzinfo=UTC)
_REPEATED_FOR = timedelta(seconds=15)  # the provider repeats a callback for so long


def failed_dials(call: Call) -> Iterator[Event]:
    """The events that say that a dial failed: the provider reports the dial, or its leg, as ended
    and never connected.

    Three such events prove nothing. The leg lost the race: it ended while another leg was
    connected. The leg belongs to a dial that completed. A whole dial is reported as failed within
    15 s after a leg was answered: that is an older dial, whose callback the provider repeats.
    """
    failures = [e for e in call.events if e.kind is Kind.DIAL_ENDED and e.connected is False]
    if not failures:
        return
    dials = _dials(call)
    for event in failures:
        assert event.at is not None
        if event.b_leg is not None and event.b_leg in dials.connected:
            continue
        if not event.whole and any(abs(event.at - at) <= timing.SETTLE for at in dials.completed):
            continue
        if not _another_leg_ran(dials, event, event.at):
            yield event


@dataclass(frozen=True, kw_only=True, slots=True)
class _Dials:
    """What became of the dials of one call. A leg that the provider does not name is None."""

    answered: dict[str | None, datetime]  # by leg
    ended: dict[str | None, datetime]  # by leg
    connected: set[str | None]  # legs
    over: list[datetime]  # when a whole dial ended
    completed: list[datetime]  # the same, of those that were connected


def _dials(call: Call) -> _Dials:
    answered: dict[str | None, datetime] = {}
    ended: dict[str | None, datetime] = {}
    for event in call.events:
        assert event.at is not None
        if event.kind in {Kind.DIAL_CONNECTED, Kind.DIAL_ANSWERED}:
            answered.setdefault(event.b_leg, event.at)
        elif event.kind is Kind.DIAL_ENDED and event.b_leg:
            ended.setdefault(event.b_leg, event.at)
    whole = [e for e in call.events if e.kind is Kind.DIAL_ENDED and e.whole]
    return _Dials(
        answered=answered,
        ended=ended,
        connected={e.b_leg for e in call.events if e.kind is Kind.DIAL_CONNECTED},
        over=[e.at for e in whole if e.at],
        completed=[e.at for e in whole if e.connected and e.at],
    )


def _another_leg_ran(dials: _Dials, failure: Event, failed_at: datetime) -> bool:
    """Whether another leg was answered in time to explain a failure, and had not ended by then."""
    if failure.whole:
        since, until = failed_at - _REPEATED_FOR, failed_at
    else:
        since = max((at for at in dials.over if at < failed_at), default=_EVER)
        until = failed_at + timing.SETTLE
    return any(
        since <= at <= until and dials.ended.get(leg, failed_at) >= failed_at
        for leg, at in dials.answered.items()
        if leg is None or leg != failure.b_leg
    )
