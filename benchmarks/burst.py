"""Row 2: how fast stops leave when all are due at one instant, beside one Celery task with an eta
for each, other schedulers, and one libcurl loop with a pipelined commit.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from datetime import timedelta

import requests

from benchmarks import comparing
from benchmarks.redis_view import planned
from benchmarks.stage import Report, Stage, publish, spread, track, until
from benchmarks.timetable import LIBRARIES, Timetable
from worker.processes.supervisor import ROOT


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    stops: int = 5000
    ahead_s: int = 8  # time to record and plan the calls, or to hand out the tasks
    others: dict[str, int] = field(  # stops of each other scheduler: as many as end in seconds
        default_factory=lambda: {"rq": 30, "apscheduler": 300, "dramatiq": 300}
    )


FULL = Size()
SMALL = Size(stops=40, ahead_s=3, others=dict.fromkeys(LIBRARIES, 5))
TUNED = (
    ("threads", 16),
) * 4  # the fastest of six set-ups tried: prefork 4, 10 and 4+6; threads 64, 2 x 32 and 4 x 16
PLAIN = (("prefork", 2),)  # what `celery worker` starts on two cores
OTHERS_AHEAD_S = 2
METHOD = (
    f"Burst: {FULL.stops:,} stops with one common deadline, known and planned {FULL.ahead_s} s "
    "before it (ours: written into the ledger as the receiver does; peers: one "
    "apply_async(eta=...) each, all held by the workers); from the deadline to the last DELETE "
    "at a stand-in that only answers 204 and notes the instant. Ours: stops, fetches and clock, "
    "ENDTAPE_STOP_RATE lifted. Plain peer: `celery worker` as it starts by itself (prefork, one "
    "process a core) and requests.delete(...). Tuned peer: four Celery workers of 16 threads "
    "with kept-alive connections, the fastest of six set-ups. Each with a Redis of its own with "
    "appendfsync always; runs alternate after a small one to warm up. Other schedulers as in the "
    f"row of lateness, with {FULL.others['rq']} stops for RQ, {FULL.others['apscheduler']} for "
    f"APScheduler and {FULL.others['dramatiq']} for dramatiq. Limit: one process with one libcurl "
    "CurlMulti of 64 connections, and an APPEND and a ZREM for each answer, pipelined."
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


def others_run(table: Timetable, count: int) -> float:
    """Stops a second of another scheduler."""
    return count / (max(table.late([time.time() + OTHERS_AHEAD_S] * count)) / 1000)


def bare_run(stage: Stage, sink: str, count: int) -> float:
    """Stops a second of the bare loop."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bare_stops", sink, str(stage.redis.socket), str(count)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    requests.get(f"{sink}/taken", timeout=10)  # forgets them
    return float(done.stdout)


def measure(runs: int, size: Size = FULL) -> Report:
    report = Report(METHOD)
    rates: dict[str, list[float]] = {
        who: [] for who in ("ours", "plain peer", "tuned peer", *LIBRARIES, "bare")
    }
    again = dict.fromkeys(("ours", "plain peer", "tuned peer"), 0)
    _measure_celery(rates, again, runs, size)
    _measure_others(rates, runs, size)
    for peer, what, least in (
        ("plain peer", f"{size.stops:,} due at once, stops/s", 8),
        ("tuned peer", "the same, peer tuned", 3),
    ):
        met = comparing.ratio(rates["ours"], rates[peer]) >= least
        sides = rates["ours"], rates[peer], rates["bare"]
        report.rows.append(comparing.rate(what, *sides, target=f">= {least} x", met=met))
    for name, library in LIBRARIES.items():
        report.rows.append(
            comparing.rate(
                f"the same, {library}, {size.others[name]} due",
                rates["ours"],
                rates[name],
                rates["bare"],
            )
        )
    for who, found in rates.items():
        twice = f"; sent twice {again[who]}" if who in again else ""
        report.notes.append(f"{who}: stops a second {spread(found, 0)}{twice}")
    return report


def _measure_others(rates: dict[str, list[float]], runs: int, size: Size) -> None:
    """The other schedulers and the limit, by turns."""
    with contextlib.ExitStack() as stack:
        tables = {name: Timetable(stack.enter_context(Stage()), name) for name in LIBRARIES}
        bare = stack.enter_context(Stage())
        sink = bare.sink()
        for _ in range(runs):
            for name, table in tables.items():
                rates[name].append(others_run(table, size.others[name]))
            rates["bare"].append(bare_run(bare, sink, size.stops))


def _measure_celery(
    rates: dict[str, list[float]], again: dict[str, int], runs: int, size: Size
) -> None:
    """Ours and Celery's, by turns."""
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
        for _ in range(runs):
            for who, stage in stages.items():
                found, repeated = deed[who](stage, sinks[who], size.stops, size.ahead_s)
                rates[who].append(found)
                again[who] += repeated
