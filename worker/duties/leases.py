"""Keeps the leases of long work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

import structlog

from worker import logs
from worker.errors import EndtapeError, LedgerUnavailable, StaleLease
from worker.ledger.client import Ledger
from worker.ledger.obligations import Claim

log = structlog.get_logger()


class LeaseKeeper:
    """Renews the leases of some claims in a thread of its own, three times in each lease.

    A `with` block gets its `check`. At the end of the block the keeper stops renewing all leases.
    """

    def __init__(self, ledger: Ledger, *claims: Claim) -> None:
        self._ledger, self._claims = ledger, list(claims)
        self._every_s = min(ledger.leases[c.obligation.duty] for c in claims).total_seconds() / 3
        self._done = threading.Event()
        self._lost: EndtapeError | None = None
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def check(self) -> None:
        """Raises StaleLease once a lease was lost to another worker."""
        if self._lost:
            raise self._lost

    def start(self) -> Self:
        self._thread.start()
        return self

    def end(self, *claims: Claim) -> None:
        """Stop renewing these claims; all claims when none is given."""
        self._claims = [c for c in self._claims if claims and c not in claims]
        if not self._claims:
            self._done.set()

    def _renew(self) -> None:
        while not self._done.wait(self._every_s):
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
