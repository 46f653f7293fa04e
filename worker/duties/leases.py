"""Keeps the leases of long work."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Self

import structlog

from worker import logs
from worker.errors import EndtapeError, LedgerUnavailable, StaleLease
from worker.ledger.client import Ledger
from worker.ledger.obligations import Claim

log = structlog.get_logger()
# The thread wakes so often by itself. It is woken only for what is due before that, because waking
# it for each piece of work costs more than these.
_TICK_S = 0.5


class LeaseKeeper:
    """Renews the leases of some claims, three times in each lease, in the one thread of this
    process that does so.

    A `with` block gets its `check`. At the end of the block the keeper stops renewing all leases.
    """

    def __init__(self, ledger: Ledger, *claims: Claim) -> None:
        self._ledger, self._claims = ledger, list(claims)
        self._every_s = min(ledger.leases[c.obligation.duty] for c in claims).total_seconds() / 3
        self.due_at = time.monotonic() + self._every_s  # the next renewal, by the monotonic clock
        self._lost: EndtapeError | None = None

    def check(self) -> None:
        """Raises StaleLease once a lease was lost to another worker."""
        if self._lost:
            raise self._lost

    def start(self) -> Self:
        _thread_of_this_process().add(self)
        return self

    def end(self, *claims: Claim) -> None:
        """Stop renewing these claims; all claims when none is given."""
        self._claims = [c for c in self._claims if claims and c not in claims]
        if not self._claims:
            _thread_of_this_process().remove(self)

    def renew(self) -> None:
        """Renew all leases once. Belongs to the thread."""
        self.due_at = time.monotonic() + self._every_s
        for claim in list(self._claims):
            try:
                self._ledger.renew(claim)
            except StaleLease as error:
                self._lost = error
                self.end(claim)
            except LedgerUnavailable as error:
                # Redis may answer again before the lease runs out. If it does not, the commit
                # finds out.
                if logs.seldom("lease", error):
                    log.warning(
                        "a lease could not be renewed",
                        error=str(error),
                        obligation=str(claim.obligation),
                    )

    def __enter__(self) -> Callable[[], None]:
        self.start()
        return self.check

    def __exit__(self, *_: object) -> None:
        self.end()


class _Thread:
    """Renews what the keepers hold. A thread for each of them would cost a short fetch as much as
    two round trips to Redis.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._keepers = set[LeaseKeeper]()
        self._news = threading.Condition()
        self._wakes_at = 0.0
        threading.Thread(target=self._run, name="leases", daemon=True).start()

    def add(self, keeper: LeaseKeeper) -> None:
        with self._news:
            self._keepers.add(keeper)
            if keeper.due_at < self._wakes_at:
                self._news.notify()

    def remove(self, keeper: LeaseKeeper) -> None:
        with self._news:
            self._keepers.discard(keeper)

    def _run(self) -> None:
        while True:
            with self._news:
                now = time.monotonic()
                self._wakes_at = min([now + _TICK_S, *(keeper.due_at for keeper in self._keepers)])
                self._news.wait(max(0.0, self._wakes_at - now))
                due = [keeper for keeper in self._keepers if keeper.due_at <= time.monotonic()]
            for keeper in due:
                try:
                    keeper.renew()
                except (
                    Exception
                ):  # a fault of ours with one of them must not cost the others theirs
                    log.exception("leases could not be renewed")


_thread: _Thread | None = None
_making = threading.Lock()


def _thread_of_this_process() -> _Thread:
    """Made at the first call after a fork."""
    global _thread  # noqa: PLW0603 - one per process
    with _making:
        if _thread is None or _thread.pid != os.getpid():
            _thread = _Thread()
        return _thread
