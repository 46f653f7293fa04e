"""Row 4: what it costs to claim what is due when 100,000 calls are tracked, beside the same claim
among 100, and the least that a script can do.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from benchmarks import redis_view
from benchmarks.stage import ACCOUNT, Report, Row, Stage, announcement, spread
from worker.calls.obligations import Duty, Obligation
from worker.ledger.client import Ledger

FEW, DUE = 100, 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    many: int = 100_000
    sweeps: int = 200


FULL, SMALL = Size(), Size(many=1000, sweeps=10)
FREE = {Duty.PLAN: 2000, Duty.LOOK: 12, Duty.FETCH: 5}
METHOD = (
    f"Looking: Ledger.claim with {DUE} stops due among {FEW} tracked calls, and among "
    f"{FULL.many:,}, in one Redis under two prefixes; {FULL.sweeps} pairs of claims a run, taken "
    "in turn with the order swapped each time; the median of each. Every call has its log and "
    "its entry in the set. The disk is left out (appendfsync no), which makes the difference "
    "count for more. Limit: a script of a ZRANGE and a ZADD for each, which gives no fence."
)


def fill(ledger: Ledger, count: int) -> list[Obligation]:
    """Tracks calls that are due in an hour: writes their logs and their obligations."""
    later = round((time.time() + 3600) * 1000)
    plans = [
        Obligation(duty=Duty.PLAN, account=ACCOUNT, call_uuid=str(uuid.uuid4()))
        for _ in range(count)
    ]
    redis_view.track(
        ledger,
        (
            (plan, announcement(plan.call_uuid)[:300], later + number)
            for number, plan in enumerate(plans)
        ),
    )
    return plans


def look_ms(ledger: Ledger, due: Sequence[Obligation]) -> float:
    """Makes these calls due and unleased. Returns the milliseconds that one claim of them takes."""
    now = round(time.time() * 1000)
    redis_view.make_due(ledger, due, now - 1000)
    begin = time.perf_counter()
    claimed = ledger.claim(lead=timedelta(milliseconds=100), batch=200, free=FREE)
    took = (time.perf_counter() - begin) * 1000
    if len(claimed.claims) != len(due):
        raise RuntimeError(f"{len(claimed.claims)} claimed instead of {len(due)}")
    return took


def bare_ms(ledger: Ledger, due: Sequence[Obligation]) -> float:
    """As `look_ms`, with the least that a script can do."""
    now = round(time.time() * 1000)
    redis_view.make_due(ledger, due, now - 1000)
    begin = time.perf_counter()
    redis_view.claim_bare(ledger, now)
    return (time.perf_counter() - begin) * 1000


def measure(runs: int, size: Size = FULL) -> Report:
    report = Report(METHOD)
    slower, few_ms, many_ms, bare = [], [], [], []
    with Stage(fsync="no") as stage:
        few, many = (Ledger(stage.ledger.redis, f"{{{name}}}:") for name in ("few", "many"))
        sides = {"few": (few, fill(few, FEW)[:DUE]), "many": (many, fill(many, size.many)[:DUE])}
        for _ in range(runs):
            took: dict[str, list[float]] = {"few": [], "many": []}
            for number in range(size.sweeps):
                for name in (("few", "many"), ("many", "few"))[number % 2]:
                    took[name].append(look_ms(*sides[name]))
            few_ms.append(median(took["few"]))
            many_ms.append(median(took["many"]))
            bare.append(median(bare_ms(*sides["many"]) for _ in range(size.sweeps)))
            slower.append((many_ms[-1] / few_ms[-1] - 1) * 100)
    middle = median(slower)
    report.rows.append(
        Row(
            what=f"a look, {size.many:,} tracked, ms",
            ours=f"{median(many_ms):.2f}",
            peer=f"{median(few_ms):.2f} ({FEW})",
            ratio=f"{middle:+.1f} %",
            limit=f"{median(bare):.2f}",
            share=f"{median(bare) / median(many_ms) * 100:.0f} %",
            target="< 10 %",
            met=middle < 10,
        )
    )
    report.notes.append(
        f"slower by % {spread(slower)}; ms {spread(many_ms, 2)}; bare {spread(bare, 2)}"
    )
    return report
