"""Redis's clock beside our own.

Instants are Redis's. But what cannot be taken back (a day is closed, a copy is deleted because its
time is over) is done only where both clocks say that its time has come. So a server whose clock
jumps ahead closes no day of the future.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from worker.duties import trials
from worker.ledger.client import Ledger
from worker.ledger.fitness import CLOCK_REFUSED_S

_LOOK_AGAIN = timedelta(minutes=5)  # a clock may be set right at any time


def here() -> datetime:
    """The instant by this machine's clock."""
    return datetime.now(UTC)


def come_back_at(instant: datetime, now: datetime) -> datetime | None:
    """When to come back, by Redis's clock, whose instant is `now`: None where the instant has come
    by both clocks.
    """
    if instant > now:
        return instant
    left = instant - here()
    return now + min(left, _LOOK_AGAIN) if left > timedelta(0) else None


def compare(ledger: Ledger) -> bool:
    """Report whether the two clocks agree. Raises LedgerUnavailable."""
    what, before = trials.on_this_machine("clock"), here()
    theirs, after = ledger.now(), here()
    ahead_s = max((theirs - after).total_seconds(), 0.0)
    behind_s = max((before - theirs).total_seconds(), 0.0)
    if max(ahead_s, behind_s) <= CLOCK_REFUSED_S:
        trials.worked(ledger, what)
        return True
    which = f"{ahead_s:.0f} s ahead of" if ahead_s else f"{behind_s:.0f} s behind"
    trials.failed(ledger, what, f"Redis's clock is {which} this machine's; set both by NTP")
    return False
