"""Which claims are worked on together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

import structlog

from worker import logs
from worker.ledger.client import Ledger
from worker.ledger.obligations import ALONE_AFTER, Claim

log = structlog.get_logger()
# What is due is claimed so early, to be done on time. A child that plans sleeps for so long before
# a stop, and meanwhile serves nobody.
LEAD = timedelta(milliseconds=75)


def batches(claims: Sequence[Claim], most: int) -> Iterator[list[Claim]]:
    """The claims that are worked on together: at most so many. Claims with unfinished tries get
    smaller batches: each may have killed its worker, and so the work of its whole batch.
    """
    for size, some in (
        (most, [c for c in claims if c.unfinished_tries == 0]),
        (max(1, most // 8), [c for c in claims if c.unfinished_tries == 1]),
        (1, [c for c in claims if c.unfinished_tries > 1]),
    ):
        for i in range(0, len(some), size):
            yield some[i : i + size]


def tell_of_poison(ledger: Ledger, claims: Sequence[Claim]) -> None:
    """Raises an alert for each claim that was begun again and again, and never finished."""
    for claim in claims:
        if claim.unfinished_tries >= ALONE_AFTER:
            if logs.seldom("poison", claim.obligation):
                log.error(
                    "alert",
                    what="poison",
                    obligation=str(claim.obligation),
                    tries=claim.unfinished_tries,
                )
            ledger.count({"alerts_total|poison": 1})
