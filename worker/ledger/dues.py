"""When what is owed is due: reading and moving due times, and waking the clock.

The sorted sets are described in `obligations.py`, which claims from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from worker.calls.obligations import Duty, Obligation
from worker.ledger.codec import from_ms, to_ms
from worker.ledger.store import Store

_AT_ONCE = 500
_SLICE = 2000  # how much is read at once; Redis serves nobody else meanwhile


class Hint(StrEnum):
    """What a hint says about the calls that are due to be planned."""

    NOW = "now"
    SOON = "soon"  # they may wait a moment for company


class Dues(Store):
    """Due times. They are moved by whoever learns of something, also without a claim."""

    def next_at(self, obligation: Obligation) -> datetime | None:
        """When an obligation is due; None if it is not owed."""
        score = self.command("ZSCORE", self.key("due", obligation.duty), str(obligation))
        return from_ms(float(score)) if score else None

    def all_next_at(self, obligations: Sequence[Obligation]) -> dict[Obligation, datetime | None]:
        """The same of many, in one round trip."""
        with self.pipeline() as pipe:
            for owed in obligations:
                pipe.zscore(self.key("due", owed.duty), str(owed))
            scores = pipe.execute()
        return {
            owed: from_ms(float(score)) if score else None
            for owed, score in zip(obligations, scores, strict=True)
        }

    def ensure_due(self, obligations: Iterable[Obligation]) -> None:
        """Makes due now each of these that is not owed yet."""
        now = to_ms(self.now())
        with self.pipeline() as pipe:
            for owed in obligations:
                pipe.zadd(self.key("due", owed.duty), {str(owed): now}, nx=True)

    def owe(self, obligation: Obligation, at: datetime) -> None:
        """Makes an obligation due at this instant, unless it is due before it."""
        self.command("ZADD", self.key("due", obligation.duty), "LT", to_ms(at), str(obligation))

    def is_worked_on(self, obligation: Obligation) -> bool:
        """Whether a worker holds a lease on it."""
        ends = self.command("ZSCORE", self.key("leases", obligation.duty), str(obligation))
        return bool(ends) and float(ends) > to_ms(self.now())

    def make_due_now(self, obligation: Obligation) -> None:
        """Makes due now what is owed later. If it has a lease, it is due when the lease ends."""
        lease_ends = self.command("ZSCORE", self.key("leases", obligation.duty), str(obligation))
        at = max(to_ms(self.now()), float(lease_ends or 0))
        self.command("ZADD", self.key("due", obligation.duty), "XX", "LT", at, str(obligation))

    def wait_for_archive(self, obligation: Obligation) -> None:
        """Remembers what `release_waiting` makes due."""
        self.command("SADD", self.key("waiting"), str(obligation))

    def release_waiting(self) -> None:
        """Makes due now all that waits for the archive."""
        while members := self.command("SPOP", self.key("waiting"), _AT_ONCE):
            for member in members:
                self.make_due_now(Obligation.parse(member))
            self.wake()

    def make_all_due(self) -> None:
        """Makes every tracked call due for planning, whatever is owed on it: under new rules a stop
        may be due now.
        """
        plans, now = self.key("due", Duty.PLAN), to_ms(self.now())
        for duty in (Duty.PLAN, Duty.LOOK, Duty.FETCH):
            for owed in self._owed(duty):
                planner = Obligation(duty=Duty.PLAN, account=owed.account, call_uuid=owed.call_uuid)
                self.command("ZADD", plans, "LT", now, str(planner))
        self.wake()

    def _owed(self, duty: Duty) -> Iterator[Obligation]:
        with self.answering():
            for member, _ in self.redis.zscan_iter(self.key("due", duty), count=_AT_ONCE):
                yield Obligation.parse(member)

    def outstanding(self) -> int:
        """How many obligations there are on calls and recordings. Those on accounts, surveys and
        days, do not count, nor do erasures, which wait for years where a rule says so.
        """
        elsewhere = {Duty.SURVEY, Duty.DAY, Duty.CDRS, Duty.ERASE, Duty.OFFLOAD}
        duties = (duty for duty in Duty if duty not in elsewhere)
        return sum(int(self.command("ZCARD", self.key("due", duty))) for duty in duties)

    def tracked(self, account: str, duties: Iterable[Duty] = (Duty.PLAN, Duty.LOOK)) -> set[str]:
        """The calls of an account to which one of these is owed. By default those that are to be
        planned or looked at: all whose recordings may run, and some more.

        May miss a call whose due time changes meanwhile.
        """
        calls = set[str]()
        for duty in duties:
            prefix, at = f"{duty}|{account}|", 0
            while members := self.command("ZRANGE", self.key("due", duty), at, at + _SLICE - 1):
                own = (m.removeprefix(prefix) for m in members if m.startswith(prefix))
                calls.update(rest.partition("|")[0] for rest in own)
                at += _SLICE
        return calls

    def overdue(self) -> dict[Duty, tuple[int, timedelta]]:
        """By duty: how many obligations are due and not handed out, and for how long the oldest of
        them has been. A duty of which none is due is left out.
        """
        now = to_ms(self.now())
        with self.pipeline() as pipe:
            for duty in Duty:
                pipe.zcount(self.key("due", duty), "-inf", now)
                pipe.zrange(self.key("due", duty), 0, 0, withscores=True)
            answers = pipe.execute()
        return {
            duty: (count, timedelta(milliseconds=max(0.0, now - float(oldest[0][1]))))
            for duty, count, oldest in zip(Duty, answers[::2], answers[1::2], strict=True)
            if count and oldest
        }

    # Waking the clock
    # ---------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Wakes one clock."""
        self.command("RPUSH", self.key("wake"), 1)

    def wait_for_wake(self, timeout_s: float) -> None:
        """Blocks until somebody wakes the clock, or for `timeout_s`. Below 5 ms it does not
        block.
        """
        if timeout_s > 0.005:
            self._wait("wake", timeout_s)

    def hint(self) -> None:
        """Lets one of those who plan calls look for what is due."""
        self.command("RPUSH", self.key("hints"), Hint.NOW)

    def wait_for_hint(self, timeout_s: float) -> Hint | None:
        """Blocks until calls are due to be planned, or for `timeout_s`. Takes the hint; None where
        there was none.
        """
        hint = self._wait("hints", timeout_s)
        return Hint(hint) if hint else None

    def _wait(self, name: str, timeout_s: float) -> str | None:
        with self.answering():
            taken = self.redis.blpop([self.key(name)], timeout=max(timeout_s, 0.01))
            return str(taken[1]) if taken else None
