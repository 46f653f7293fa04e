"""Refused callbacks: counted and logged aside, so that no answer waits for Redis."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import timedelta

import structlog

from webhooks.door.callback import Refusal
from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger
from worker.ledger.counters import REMEDIES

log = structlog.get_logger()
_LOG_EVERY = timedelta(minutes=1)


@dataclass(slots=True)
class _Noted:
    """The refusals for one reason that are not counted yet. The first is the one to be logged.
    `where`: the last one.
    """

    first: Refusal
    account: str
    where: str | None
    times: int = 1


class Refusals:
    """Counts each refusal under its reason, and logs each reason once a minute, all processes
    together. Its thread begins with the first refusal, so never before a fork.

    What waits is a number for each reason, so no flood makes it grow.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._noted: dict[str, _Noted] = {}
        self._some = threading.Condition()
        self._thread: threading.Thread | None = None
        self._logged_at: dict[str, float] = {}  # by reason: when this process logged it last

    def note(self, refusal: Refusal, account: str, where: str | None = None) -> None:
        """Takes note of a refusal; it is counted soon. `account` is empty where it is unknown.
        `where`: method and path without the token, where they are known.
        """
        with self._some:
            noted = self._noted.get(refusal.reason)
            if noted:
                noted.times += 1
                noted.where = where
            else:
                self._noted[refusal.reason] = _Noted(refusal, account, where)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)
                self._thread.start()
            self._some.notify()

    def _run(self) -> None:
        while True:
            with self._some:
                self._some.wait_for(lambda: self._noted)
                noted, self._noted = self._noted, {}
            for reason, some in noted.items():
                self._count(reason, some)

    def _count(self, reason: str, noted: _Noted) -> None:
        try:
            self._ledger.count_refusal(reason, noted.times, where=noted.where)
            is_due = self._ledger.once_per("refusal", reason, every=_LOG_EVERY)
        except LedgerUnavailable:  # without Redis this process looks at its own clock
            since_s = time.monotonic() - self._logged_at.get(reason, -60)
            is_due = since_s >= _LOG_EVERY.total_seconds()
        if is_due:
            self._logged_at[reason] = time.monotonic()
            error = noted.first.error
            log.warning(
                "callback refused",
                reason=reason,
                remedy=REMEDIES[reason],
                account=noted.account,
                where=noted.where,
                **({} if error is None else {"error": error}),
            )
