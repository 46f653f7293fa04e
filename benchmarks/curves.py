"""How cost grows with the calls that are tracked and with the workers: `benchmarks/run.py curves`.

It plays what the rows play with 100 to 100,000 tracked calls and with 1, 2 and 4 slots of `stops`,
draws a curve of each cost into docs/performance/, and writes the tables of docs/performance.md.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median

import requests

from benchmarks import job, looking, receiving, redis_view
from benchmarks.burst import Unprepared, drained, fresh
from benchmarks.redis_view import planned
from benchmarks.stage import (
    ACCOUNT,
    CALLBACK_TOKEN,
    TOKEN,
    Stage,
    announce,
    p,
    track,
    until,
)
from benchmarks.usage import processor_s
from emulator.client import Control, started

RATE, LIVES_S, AHEAD_S = 50, 60, 3  # a recording of these runs is as old as its rule allows
HOUR_S = 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    tracked: tuple[int, ...] = (100, 1_000, 10_000, 100_000)
    slots: tuple[int, ...] = (1, 2, 4)
    stops: int = 150  # at RATE
    burst: int = 1_000  # due at one instant
    looks: int = 200
    seconds: float = 2.0  # of callbacks
    recordings: int = 200  # of the whole job


FULL = Size()
SMALL = Size(tracked=(10, 100), slots=(1,), stops=10, burst=20, looks=5, seconds=0.3, recordings=3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stops:
    """What stops cost, with so many slots."""

    late_p50_ms: float
    late_p99_ms: float
    per_s: float  # of a burst
    workers_ms: float  # processor time of a stop: workers and clock
    redis_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Callbacks:
    """What a callback costs that reports a new recording."""

    redis_bytes: float
    redis_commands: float  # those that its script runs included
    web_ms: float
    redis_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """What a recording costs from its first callback to its archived file."""

    processor_ms: float  # of all processes and Redis
    redis_ms: float  # of Redis alone
    redis_bytes: float  # that stay for ENDTAPE_HISTORY
    requests: float  # to the REST API other than stops


@dataclass(slots=True)
class Found:
    """All that was measured."""

    size: Size
    whole: Whole
    look_ms: dict[int, float] = field(default_factory=dict)  # by tracked calls
    callbacks: dict[int, Callbacks] = field(default_factory=dict)
    stops: dict[tuple[int, int], Stops] = field(default_factory=dict)  # and by slots
    load: float = 0.0  # of the machine before it began: processes that wanted a processor
    took_s: float = 0.0

    @property
    def most(self) -> int:
        """The most tracked calls."""
        return self.size.tracked[-1]


def measure(size: Size = FULL) -> Found:
    """Plays everything once; about five minutes in full."""
    begin, load = time.monotonic(), os.getloadavg()[0]
    found = Found(size, _whole(size), load=load)
    for tracked in size.tracked:
        sys.stderr.write(f"{tracked:,} tracked ...\n")
        with Stage() as stage:
            plans = looking.fill(stage.ledger, tracked)
            due = plans[: min(looking.DUE, tracked)]
            found.look_ms[tracked] = median(
                looking.look_ms(stage.ledger, due) for _ in range(size.looks)
            )
            redis_view.make_due(stage.ledger, due, (time.time() + HOUR_S) * 1000)
            for slots in size.slots:
                found.stops[tracked, slots] = _stops(stage, tracked, slots, size)
            found.callbacks[tracked] = _callbacks(stage, size)
    found.took_s = time.monotonic() - begin
    return found


def _stops(stage: Stage, tracked: int, slots: int, size: Size) -> Stops:
    sink = stage.sink()
    _, processes = stage.ours(
        ["stops", "clock"],
        slots=slots,
        rules=f'[defaults]\nmax_duration = "{LIVES_S}s"\nconfirm_within = "60m"\n',
        api_url=f"{sink}/api/v1",
        ENDTAPE_STOP_RATE="100000",
    )
    workers = [process.pid for process in processes.processes.values()]
    drained(sink, *_due_together(stage, sink, tracked, size.burst // 10))  # connects
    late_ms = _paced(stage, sink, size.stops)
    due, calls = _due_together(stage, sink, tracked, size.burst)
    before = processor_s(workers), processor_s([job.redis_pid(stage)])
    per_s, _ = drained(sink, due, calls)
    until(lambda: planned(stage.ledger, tracked), within_s=120)
    after = processor_s(workers), processor_s([job.redis_pid(stage)])
    processes.stop()
    workers_ms, redis_ms = ((after[i] - before[i]) / size.burst * 1000 for i in (0, 1))
    return Stops(
        late_p50_ms=p(late_ms, 50),
        late_p99_ms=p(late_ms, 99),
        per_s=per_s,
        workers_ms=workers_ms,
        redis_ms=redis_ms,
    )


def _due_together(stage: Stage, sink: str, tracked: int, count: int) -> tuple[float, list[str]]:
    """Makes recordings known that are all due at one instant, and returns when they are planned:
    that instant, and the calls. Where the machine is too slow for that, it gets more time. Raises
    Unprepared when sixteen times are not enough.
    """
    for times in (1, 4, 16):
        calls = fresh(count)
        due = stage.ledger.now() + times * timedelta(seconds=AHEAD_S + count / 1000)
        track(stage.ledger, calls, started_at=due - timedelta(seconds=LIVES_S))
        until(lambda: planned(stage.ledger, tracked), within_s=120)
        if stage.ledger.now() < due - timedelta(seconds=0.2):
            return due.timestamp(), calls
        drained(sink, due.timestamp(), calls)
    raise Unprepared(f"{count} stops were not planned before their deadline")


def _paced(stage: Stage, sink: str, count: int) -> list[float]:
    """How late each of these stops came, in ms, when RATE are due a second."""
    first = stage.ledger.now() + timedelta(seconds=AHEAD_S)
    dues = {name: first + timedelta(seconds=i / RATE) for i, name in enumerate(fresh(count))}
    for call_uuid, due in dues.items():
        announce(stage.ledger, call_uuid, due - timedelta(seconds=LIVES_S))
    arrived: dict[str, float] = {}

    def all_there() -> bool:
        for path, at in requests.get(f"{sink}/taken", timeout=10).json():
            arrived.setdefault(path.split("/")[6], at)
        return dues.keys() <= arrived.keys()

    time.sleep(max(0.0, max(dues.values()).timestamp() - time.time()))
    until(all_there, every_s=0.2)
    return [(arrived[call_uuid] - due.timestamp()) * 1000 for call_uuid, due in dues.items()]


def _callbacks(stage: Stage, size: Size) -> Callbacks:
    base, processes = stage.ours(["web"], rules='[defaults]\nmax_duration = "1h"\n')
    url = f"{base}/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"
    receiving.load(url, seconds=0.3)
    web = [process.pid for process in processes.processes.values()]
    before = _so_far(stage, web)
    count = receiving.load(url, seconds=size.seconds)["count"]
    bytes_, commands, web_ms, redis_ms = (
        (now - then) / count for now, then in zip(_so_far(stage, web), before, strict=True)
    )
    processes.stop()
    return Callbacks(redis_bytes=bytes_, redis_commands=commands, web_ms=web_ms, redis_ms=redis_ms)


def _so_far(stage: Stage, pids: list[int]) -> tuple[float, float, float, float]:
    """Bytes in Redis, commands that it ran, and the processor time of `pids` and of Redis in ms."""
    stats = stage.ledger.redis.info("commandstats")
    return (
        stage.ledger.redis.info("memory")["used_memory"],
        sum(stat["calls"] for stat in stats.values()),
        processor_s(pids) * 1000,
        processor_s([job.redis_pid(stage)]) * 1000,
    )


def _whole(size: Size) -> Whole:
    with started(ACCOUNT, TOKEN, "http://127.0.0.1:9/x") as emulator, Stage() as stage:
        side = job.ours(stage, emulator)
        side.one_run(size.recordings // 10 + 1)
        asked, used = _requests(side.control), stage.ledger.redis.info("memory")["used_memory"]
        redis_s = processor_s([job.redis_pid(stage)])
        processor_ms, _ = side.one_run(size.recordings)
        redis_s = processor_s([job.redis_pid(stage)]) - redis_s
        now = stage.ledger.redis.info("memory")["used_memory"]
        return Whole(
            processor_ms=processor_ms,
            redis_ms=redis_s / size.recordings * 1000,
            redis_bytes=(now - used) / size.recordings,
            requests=(_requests(side.control) - asked) / size.recordings,
        )


def _requests(control: Control) -> int:
    """How many requests other than stops the REST API has had."""
    return sum(
        entry["kind"] == "request"
        and entry["method"] != "DELETE"
        and entry["path"].startswith("/api/")
        for entry in control.log()
    )
