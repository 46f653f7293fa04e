"""Row 2: how fast stops leave when all are due at one instant, beside one Celery task with an eta
for each.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

import requests

from benchmarks.redis_view import planned
from benchmarks.stage import Report, Row, Stage, publish, spread, track, until


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    stops: int = 5000
    ahead_s: int = 10  # time to record and plan the calls, or to hand out the tasks


FULL, SMALL = Size(), Size(stops=40, ahead_s=3)
TUNED = (
    ("threads", 16),
) * 4  # the fastest of six set-ups tried: prefork 4, 10 and 4+6; threads 64, 2 x 32 and 4 x 16
PLAIN = (("prefork", 2),)  # what `celery worker` starts on two cores
METHOD = (
    f"Burst: {FULL.stops:,} stops with one common deadline, known and planned {FULL.ahead_s} s "
    "before it (ours: written into the ledger as the receiver does; peers: one "
    "apply_async(eta=...) each, all held by the workers); from the deadline to the last DELETE "
    "at a stand-in that only answers 204 and notes the instant. Ours: stops, fetches and clock, "
    "ENDTAPE_STOP_RATE lifted. Plain peer: `celery worker` as it starts by itself (prefork, one "
    "process a core) and requests.delete(...). Tuned peer: four Celery workers of 16 threads "
    "with kept-alive connections, the fastest of six set-ups. Each with a Redis of its own with "
    "appendfsync always; runs alternate after a small one to warm up."
)


def drained(sink: str, due: float, wanted: int, within_s: float = 90) -> tuple[float, int]:
    """Stops a second, from the deadline to the last one; and how many DELETEs came twice."""
    seen: dict[str, float] = {}
    again = 0

    def all_there() -> bool:
        nonlocal again
        for path, at in requests.get(f"{sink}/taken", timeout=10).json():
            again += path in seen
            seen.setdefault(path, at)
        return len(seen) >= wanted

    time.sleep(max(0.0, due - time.time()) + 1)
    until(all_there, within_s=within_s, every_s=0.5)
    return wanted / (max(seen.values()) - due), again


def fresh(count: int) -> list[str]:
    run = uuid.uuid4().hex[:20]
    return [f"{run}-{number:05d}-000000000" for number in range(count)]


def ours_run(stage: Stage, sink: str, count: int, ahead_s: int) -> tuple[float, int]:
    start = stage.ledger.now()
    due = start + timedelta(seconds=ahead_s)
    track(stage.ledger, fresh(count), started_at=start)
    until(lambda: planned(stage.ledger, count), every_s=0.2)
    if stage.ledger.now() > due - timedelta(seconds=0.5):
        raise TimeoutError("the calls were not planned before their deadline")
    return drained(sink, due.timestamp(), count)


def peer_run(stage: Stage, sink: str, count: int, ahead_s: int) -> tuple[float, int]:
    due = time.time() + ahead_s
    publish(stage, fresh(count), due)
    if time.time() > due - 0.5:
        raise TimeoutError("the tasks were not handed out before their eta")
    return drained(sink, due, count)


def measure(runs: int, size: Size = FULL) -> Report:
    report = Report(METHOD)
    rules = f'[defaults]\nmax_duration = "{size.ahead_s}s"\nconfirm_within = "10m"\n'
    with Stage() as our_stage, Stage() as plain, Stage() as tuned:
        stages = {"ours": our_stage, "plain peer": plain, "tuned peer": tuned}
        sinks = {who: stage.sink() for who, stage in stages.items()}
        our_stage.ours(
            ["stops", "fetches", "clock"],
            rules=rules,
            api_url=f"{sinks['ours']}/api/v1",
            ENDTAPE_STOP_RATE="100000",
        )
        plain.peer_workers(f"{sinks['plain peer']}/api/v1", PLAIN, PEER_PLAIN="1")
        tuned.peer_workers(f"{sinks['tuned peer']}/api/v1", TUNED)
        deed = {who: ours_run if who == "ours" else peer_run for who in stages}
        for who, stage in stages.items():
            deed[who](stage, sinks[who], size.stops // 10, size.ahead_s)
        rates: dict[str, list[float]] = {who: [] for who in stages}
        again = dict.fromkeys(rates, 0)
        for _ in range(runs):
            for who, stage in stages.items():
                rate, repeated = deed[who](stage, sinks[who], size.stops, size.ahead_s)
                rates[who].append(rate)
                again[who] += repeated
    middle = {who: median(found) for who, found in rates.items()}
    for peer, what, target in (
        ("plain peer", f"{size.stops:,} due at once, stops/s", ">= 8 x"),
        ("tuned peer", "the same, peer tuned", ""),
    ):
        ratio = middle["ours"] / middle[peer]
        report.rows.append(
            Row(
                what=what,
                ours=f"{middle['ours']:,.0f}",
                peer=f"{middle[peer]:,.0f}",
                ratio=f"{ratio:.1f} x",
                target=target,
                met=ratio >= 8 if target else ratio > 1,
            )
        )
    report.notes += [
        f"{who}: stops a second {spread(found, 0)}; sent twice {again[who]}"
        for who, found in rates.items()
    ]
    return report
