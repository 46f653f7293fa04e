"""Row 3: the memory of a waiting stop, in Redis and in the workers, beside a Celery task that waits
for its eta, and the least that Redis can keep of it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks import comparing, redis_view
from benchmarks.redis_view import planned
from benchmarks.stage import Report, Stage, announcement, publish, spread, track, until
from benchmarks.usage import resident


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    stops: int = 3_000  # of each run
    warm: int = 4_000  # planned before the measurement begins
    peer_stops: int = 800
    peer_warm: int = 200


FULL, SMALL = Size(), Size(stops=100, warm=50, peer_stops=40, peer_warm=10)
METHOD = (
    f"Memory: {FULL.stops:,} recordings a run made known as by signed callbacks, planned by the "
    "real workers and waiting for a deadline in an hour: growth of Redis's used_memory with every "
    "key (nonces too), and of the resident memory of stops, fetches and clock with their children. "
    f"Peer: {FULL.peer_stops:,} apply_async(eta=...) a run held by one worker of 4 processes. The "
    f"runs follow one another in the same processes, which have planned {FULL.warm:,} stops (held "
    f"{FULL.peer_warm} tasks) before the first. Limit: the callback's body in one string, and one "
    "entry of a sorted set."
)


def used(stage: Stage) -> int:
    return int(stage.ledger.redis.info("memory")["used_memory"])


def names(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


Grown = list[tuple[float, float]]  # a run: bytes for each stop, in Redis and in the workers


def _growth(
    stage: Stage, pids: Sequence[int], runs: int, stops: int, add: Callable[[int], None]
) -> Grown:
    """How much each further run of stops adds."""
    grown, before = [], (used(stage), resident(pids))
    for _ in range(runs):
        add(stops)
        now = used(stage), resident(pids)
        grown.append(((now[0] - before[0]) / stops, (now[1] - before[1]) / stops))
        before = now
    return grown


def ours_runs(runs: int, size: Size) -> Grown:
    with Stage() as stage:
        _, processes = stage.ours(
            ["stops", "fetches", "clock"], rules='[defaults]\nmax_duration = "1h"\n'
        )
        known = 0

        def add(count: int) -> None:
            nonlocal known
            known += count
            track(stage.ledger, names(count))
            until(lambda: planned(stage.ledger, known), every_s=0.2)
            time.sleep(0.5)

        add(size.warm)
        pids = [process.pid for process in processes.processes.values()]
        return _growth(stage, pids, runs, size.stops, add)


def peer_runs(runs: int, size: Size) -> Grown:
    with Stage() as stage:
        workers = stage.peer_workers("http://127.0.0.1:9", [("prefork", 4)])

        def add(count: int) -> None:
            publish(stage, names(count), time.time() + 3600)
            time.sleep(1)

        add(size.peer_warm)
        return _growth(stage, [worker.pid for worker in workers], runs, size.peer_stops, add)


def bare_runs(runs: int, size: Size) -> Grown:
    with Stage() as stage:

        def add(count: int) -> None:
            calls = names(count)
            redis_view.store_bare(stage.ledger, calls, announcement(calls[0]), time.time())

        add(size.warm)
        return _growth(stage, [], runs, size.stops, add)


def measure(runs: int, size: Size = FULL) -> Report:
    report = Report(METHOD)
    found = {
        "ours": ours_runs(runs, size),
        "peer": peer_runs(runs, size),
        "bare": bare_runs(runs, size),
    }
    in_redis = {who: [redis for redis, _ in grown] for who, grown in found.items()}
    in_workers = {who: [worker for _, worker in grown] for who, grown in found.items()}
    report.rows = [
        comparing.cost(
            "a waiting stop, bytes in Redis",
            *in_redis.values(),
            target="<= 1,024",
            met=median(in_redis["ours"]) <= 1024,
            digits=0,
        ),
        comparing.cost(
            "a waiting stop, bytes in workers",
            *in_workers.values(),
            target="0",
            met=median(in_workers["ours"]) < 64,
            digits=0,
        ),
    ]
    for who in found:
        report.notes.append(
            f"{who}: bytes in Redis {spread(in_redis[who], 0)}; in workers "
            f"{spread(in_workers[who], 0)}"
        )
    return report
