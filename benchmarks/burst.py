"""Row 2: how fast stops leave when all are due at one instant, beside one Celery task with an eta
for each, other schedulers, and one libcurl loop with a pipelined commit.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta

import requests

from benchmarks import comparing
from benchmarks.redis_view import planned
from benchmarks.stage import Report, Stage, publish, spread, track, until
from benchmarks.timetable import LIBRARIES, MOST_RUNS, Timetable
from worker.processes.supervisor import ROOT


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    stops: int = 5000
    others: dict[str, int] = field(  # stops of each other scheduler: as many as end in seconds
        default_factory=lambda: {"apscheduler": 200, "dramatiq": 200}
    )


FULL = Size()
SMALL = Size(stops=40, others=dict.fromkeys(FULL.others, 5))
LIVES_S = 60  # a recording is as old as its rule allows when its stop is due
LEAST_AHEAD_S = 3  # to record and plan the calls, or to hand out the tasks
TUNED = (
    ("threads", 16),
) * 4  # the fastest of six set-ups tried: prefork 4, 10 and 4+6; threads 64, 2 x 32 and 4 x 16
PLAIN = (("prefork", 2),)  # what `celery worker` starts on two cores
OTHERS_AHEAD_S = 1
METHOD = (
    f"Burst: {FULL.stops:,} stops with one common deadline, known and planned before it "
    "(ours: written into the ledger as the receiver does; peers: one "
    "apply_async(eta=...) each, all held by the workers); from the deadline to the last DELETE at "
    "a stand-in that only answers 204 and notes the instant. Ours: stops, fetches and clock, "
    "ENDTAPE_STOP_RATE lifted. Plain peer: `celery worker` as it starts by itself (prefork, one "
    "process a core) and requests.delete(...). Tuned peer: four Celery workers of 16 threads "
    "with kept-alive connections, the fastest of six set-ups. Each with a Redis of its own with "
    "appendfsync always; runs alternate after a small one to warm up. Other schedulers as in the "
    f"row of lateness, with {FULL.others['apscheduler']} stops for APScheduler and "
    f"{FULL.others['dramatiq']} for dramatiq; RQ's scheduler knows whole seconds only, and sends "
    "before the deadline, so it has no rate. Limit: one process with one libcurl "
    "CurlMulti of 64 connections, and an APPEND and a ZREM for each answer, pipelined."
)


def drained(
    sink: str, due: float, calls: Collection[str], within_s: float = 90
) -> tuple[float, int]:
    """Stops a second of these calls, from the deadline to the last one; and how many DELETEs came
    twice.
    """
    missing, last, again = set(calls), due, 0

    def all_there() -> bool:
        nonlocal last, again
        for path, at in requests.get(f"{sink}/taken", timeout=10).json():
            call_uuid = path.split("/")[6]
            if call_uuid in missing:
                missing.remove(call_uuid)
                last = max(last, at)
            else:
                again += call_uuid in calls
        return not missing

    time.sleep(max(0.0, due - time.time()) + 0.5)
    until(all_there, within_s=within_s, every_s=0.25)
    return len(calls) / (last - due), again


def fresh(count: int) -> list[str]:
    run = uuid.uuid4().hex[:20]
    return [f"{run}-{number:05d}-000000000" for number in range(count)]


@dataclass(frozen=True, slots=True)
class Drain:
    """One burst: stops a second, how many came twice, and how long it took to prepare."""

    per_s: float
    again: int
    prepared_s: float


class Unprepared(Exception):
    """The stops were not planned, or not handed out, before their deadline."""


def ours_run(stage: Stage, sink: str, calls: Collection[str], ahead_s: float) -> Drain:
    start = stage.ledger.now()
    due = start + timedelta(seconds=ahead_s)
    track(stage.ledger, list(calls), started_at=due - timedelta(seconds=LIVES_S))
    until(lambda: planned(stage.ledger, len(calls)), within_s=90, every_s=0.2)
    prepared_s = (stage.ledger.now() - start).total_seconds()
    return _drain(sink, due.timestamp(), calls, ahead_s, prepared_s)


def peer_run(stage: Stage, sink: str, calls: Collection[str], ahead_s: float) -> Drain:
    start = time.time()
    publish(stage, list(calls), start + ahead_s)
    return _drain(sink, start + ahead_s, calls, ahead_s, time.time() - start)


def _drain(
    sink: str, due: float, calls: Collection[str], ahead_s: float, prepared_s: float
) -> Drain:
    """Raises Unprepared when the deadline was too near, after all have left."""
    rate, again = drained(sink, due, calls)
    if prepared_s > ahead_s - 0.5:
        raise Unprepared(f"it took {prepared_s:.1f} s, and the deadline was {ahead_s:.1f} s away")
    return Drain(rate, again, prepared_s)


def played(
    deed: Callable[[Stage, str, Collection[str], float], Drain],
    stage: Stage,
    sink: str,
    count: int,
    ahead_s: float,
) -> Drain:
    """One burst. Where the machine was too slow to prepare it, it is played again, with twice the
    time. Raises Unprepared when four times are not enough.
    """
    for times in (1, 2):
        with contextlib.suppress(Unprepared):
            return deed(stage, sink, set(fresh(count)), times * ahead_s)
    return deed(stage, sink, set(fresh(count)), 4 * ahead_s)


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
    for name, count in size.others.items():
        report.rows.append(
            comparing.rate(
                f"the same, {LIBRARIES[name]}, {count} due",
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
        tables = {name: Timetable(stack.enter_context(Stage()), name) for name in size.others}
        bare = stack.enter_context(Stage())
        sink = bare.sink()
        for run in range(runs):
            for name, table in tables.items() if run < MOST_RUNS else ():
                rates[name].append(others_run(table, size.others[name]))
            rates["bare"].append(bare_run(bare, sink, size.stops))


def _measure_celery(
    rates: dict[str, list[float]], again: dict[str, int], runs: int, size: Size
) -> None:
    """Ours and Celery's, by turns."""
    rules = f'[defaults]\nmax_duration = "{LIVES_S}s"\nconfirm_within = "10m"\n'
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
        ahead_s = {}
        for who, stage in stages.items():
            warm = played(deed[who], stage, sinks[who], size.stops // 10, 2 * LEAST_AHEAD_S)
            ahead_s[who] = max(LEAST_AHEAD_S, 1 + 15 * warm.prepared_s)  # ten times, and a half
        for _ in range(runs):
            for who, stage in stages.items():
                drain = played(deed[who], stage, sinks[who], size.stops, ahead_s[who])
                rates[who].append(drain.per_s)
                again[who] += drain.again
