"""The duty INDEX: enter a call's finished recordings into the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from worker.duties.outcomes import do_or_report, wait_until
from worker.duties.worker import Worker
from worker.ledger.obligations import Claim


def indexes(worker: Worker, claims: Sequence[Claim]) -> None:
    """Index the claimed calls. Raises LedgerUnavailable."""
    for claim in claims:
        _, (loaded,) = worker.ledger.load([claim])
        if loaded is not None:
            work = partial(wait_until, worker, claim, loaded, None)
            do_or_report(worker, claim, work, "a recording cannot be indexed")
