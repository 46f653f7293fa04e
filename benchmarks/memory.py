"""Row 3: the memory of a waiting stop, in Redis and in the workers, beside a Celery task that waits
for its eta.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.redis_view import planned
from benchmarks.stage import Report, Row, Stage, publish, spread, track, until


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    stops: int = 10_000
    warm: int = 5_000  # planned before the measurement begins
    peer_stops: int = 2_000
    peer_warm: int = 200


FULL, SMALL = Size(), Size(stops=100, warm=50, peer_stops=40, peer_warm=10)
METHOD = (
    f"Memory: {FULL.stops:,} recordings made known as by signed callbacks, planned by the real "
    "workers and waiting for a deadline in an hour: growth of Redis's used_memory with every key "
    "(nonces too), and of the resident memory of stops, fetches and clock with their children. "
    f"Peer: {FULL.peer_stops:,} apply_async(eta=...) held by one worker of 4 processes. Processes "
    f"are fresh in each run and have planned {FULL.warm:,} stops (held {FULL.peer_warm} tasks) "
    "before the first figure."
)


def used(stage: Stage) -> int:
    return int(stage.ledger.redis.info("memory")["used_memory"])


def resident(pids: list[int]) -> int:
    """Resident memory, in bytes, of processes and all that they started. Pages that a child shares
    with its parent count twice.
    """
    found, waiting = 0, list(pids)
    while waiting:
        folder = Path(f"/proc/{waiting.pop()}")
        found += int((folder / "statm").read_text().split()[1]) * 4096
        for task in (folder / "task").iterdir():
            waiting += [int(child) for child in (task / "children").read_text().split()]
    return found


def names(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


def ours_run(size: Size) -> tuple[float, float]:
    """The bytes that a waiting stop takes in Redis and in the workers."""
    with Stage() as stage:
        _, processes = stage.ours(
            ["stops", "fetches", "clock"], rules='[defaults]\nmax_duration = "1h"\n'
        )
        track(stage.ledger, names(size.warm))
        until(lambda: planned(stage.ledger, size.warm), every_s=0.2)
        pids = [process.pid for process in processes.processes.values()]
        before = used(stage), resident(pids)
        track(stage.ledger, names(size.stops))
        until(lambda: planned(stage.ledger, size.stops + size.warm), every_s=0.2)
        time.sleep(0.5)
        return (used(stage) - before[0]) / size.stops, (resident(pids) - before[1]) / size.stops


def peer_run(size: Size) -> tuple[float, float]:
    with Stage() as stage:
        pids = [
            process.pid for process in stage.peer_workers("http://127.0.0.1:9", [("prefork", 4)])
        ]
        publish(stage, names(size.peer_warm), time.time() + 3600)
        time.sleep(1)
        before = used(stage), resident(pids)
        publish(stage, names(size.peer_stops), time.time() + 3600)
        time.sleep(1)
        return (used(stage) - before[0]) / size.peer_stops, (
            resident(pids) - before[1]
        ) / size.peer_stops


def measure(runs: int, size: Size = FULL) -> Report:
    report = Report(METHOD)
    ours, peer = [], []
    for _ in range(runs):
        ours.append(ours_run(size))
        peer.append(peer_run(size))
    redis, worker = median(r for r, _ in ours), median(w for _, w in ours)
    their_redis, their_worker = median(r for r, _ in peer), median(w for _, w in peer)
    report.rows = [
        Row(
            what="a waiting stop, bytes in Redis",
            ours=f"{redis:,.0f}",
            peer=f"{their_redis:,.0f}",
            ratio=f"{their_redis / redis:.1f} x",
            target="<= 1,024",
            met=redis <= 1024,
        ),
        Row(
            what="a waiting stop, bytes in workers",
            ours=f"{worker:,.0f}",
            peer=f"{their_worker:,.0f}",
            ratio="-" if worker < 1 else f"{their_worker / worker:,.0f} x",
            target="0",
            met=worker < 64,
        ),
    ]
    for who, found in (("ours", ours), ("peer", peer)):
        report.notes.append(
            f"{who}: bytes in Redis {spread([r for r, _ in found], 0)}; in workers "
            f"{spread([w for _, w in found], 0)}"
        )
    return report
