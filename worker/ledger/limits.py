"""How often the provider may be asked, which accounts are halted, and what one process does for all
at most once in a while.

{endtape}:rate:BUCKET:ACCOUNT  hash    a token bucket
{endtape}:halted:ACCOUNT       string  since when (ms) the provider refuses our credentials
{endtape}:turn:DEED:WHAT       string  somebody did this already; expires when it may be done again
{endtape}:taken-up:WHAT        string  the version of something that was acted on last
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from worker import tally
from worker.ledger.codec import from_ms, to_ms
from worker.ledger.store import Store, span_ms

_ANSWERED = 2  # numbers of `take_tokens.lua`; with a third one, the account is halted
RECOVERY = timedelta(seconds=20)  # from the provider's 429 to the full rate


class Limits(Store):
    """Rate limits and halted accounts, shared by all processes."""

    def take(
        self, bucket: str, account: str, wanted: int, rate: float, *, queue: int = 0
    ) -> tuple[int, timedelta]:
        """Takes up to `wanted` request tokens. Returns how many were granted, and how long it is
        until the next one.

        `rate`: tokens a second. `queue`: how many callers will come back. With it the time returned
        is that of the first of them, and the others follow `1 / rate` seconds apart.
        """
        return _granted(bucket, wanted, self._bucket(bucket, account, wanted, rate, queue))

    def take_unless_halted(
        self, bucket: str, account: str, rate: float
    ) -> tuple[int, timedelta] | None:
        """Takes one token, as `take` does. None, and nothing taken, while the account is halted."""
        answer = self._bucket(bucket, account, 1, rate, 0, self.key("halted", account))
        return _granted(bucket, 1, answer) if len(answer) == _ANSWERED else None

    def charge(self, bucket: str, account: str, rate: float) -> None:
        """Takes one token even if none is left: later callers wait the longer.

        For a request that another bucket allowed already.
        """
        self._bucket(bucket, account, 1, rate, "owe")

    def slow_down(self, bucket: str, account: str, rate: float) -> None:
        """Halves the rate after a 429 of the provider. It recovers within `RECOVERY`."""
        self._bucket(bucket, account, 0, rate, "cut")

    def _bucket(
        self, bucket: str, account: str, wanted: int, rate: float, mode: str | int, *unless: str
    ) -> list[int]:
        burst = max(1.0, rate / 4)
        answer = self.run(
            "take_tokens",
            [self.key("rate", bucket, account), *unless],
            [wanted, rate, burst, span_ms(RECOVERY), mode],
        )
        return [int(number) for number in answer]

    def halt(self, account: str) -> bool:
        """The provider refuses our credentials: the account's listings and fetches wait. True if it
        was not halted before.
        """
        return bool(self.command("SET", self.key("halted", account), to_ms(self.now()), "NX"))

    def halted_since(self, account: str) -> datetime | None:
        """Since when the account is halted; None where it is not."""
        since = self.command("GET", self.key("halted", account))
        return from_ms(int(since)) if since else None

    def release(self, account: str) -> bool:
        """The account works again. True if it was halted before."""
        return bool(self.command("DEL", self.key("halted", account)))

    def halted(self, accounts: Iterable[str]) -> set[str]:
        """Those of these accounts that are halted."""
        names = sorted(set(accounts))
        halted_since = (
            self.command("MGET", *(self.key("halted", account) for account in names))
            if names
            else []
        )
        return {account for account, since in zip(names, halted_since, strict=True) if since}

    def once_per(self, deed: str, what: str, *, every: timedelta) -> bool:
        """True for the first caller of all processes within each `every`."""
        key = self.key("turn", deed, what)
        return bool(self.command("SET", key, 1, "NX", "PX", span_ms(every)))

    def taken_up(self, what: str) -> str | None:
        """The version of something that was acted on last, by any process; None: none was."""
        version: str | None = self.command("GET", self.key("taken-up", what))
        return version

    def take_up(self, what: str, version: str) -> None:
        """Remember that all is done that a version asks for."""
        self.command("SET", self.key("taken-up", what), version)


def _granted(bucket: str, wanted: int, answer: list[int]) -> tuple[int, timedelta]:
    granted, wait_ms = answer
    if granted < wanted:
        tally.add(f"rate_limit_waits_total|{bucket}", wanted - granted)
        tally.add(f"rate_limit_wait_seconds_total|{bucket}", wait_ms / 1000)
    return granted, timedelta(milliseconds=wait_ms)
