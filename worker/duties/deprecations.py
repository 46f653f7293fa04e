"""Tells what the provider says about the end of its API, once a day for each path."""

from __future__ import annotations

from datetime import timedelta

import structlog

from worker.ledger.client import Ledger
from worker.vobiz import deprecations

log = structlog.get_logger()
_EVERY = timedelta(days=1)


def tell(ledger: Ledger) -> None:
    """Raise the alert `provider_deprecates` for what this process's answers said. Harmless to
    repeat: one of all processes tells it. Raises LedgerUnavailable; the next such answer says it
    again.
    """
    for said in deprecations.taken():
        if ledger.once_per("deprecates", f"{said.method} {said.path}", every=_EVERY):
            log.error(
                "alert",
                what="provider_deprecates",
                method=said.method,
                path=said.path,
                deprecated_at=said.deprecated_at,
                sunset_at=said.sunset_at,
            )
            ledger.count({"alerts_total|provider_deprecates": 1})
