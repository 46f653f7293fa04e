"""The whole job, from the first callback to the file in the archive: processor time of a recording,
beside a plain service of Flask, Celery and requests.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import comparing
from benchmarks.stage import (
    ACCOUNT,
    CALLBACK_TOKEN,
    TOKEN,
    Report,
    Stage,
    listens,
    spread,
    until,
)
from benchmarks.usage import processor_s
from emulator.client import Addresses, Control, started
from worker.processes.supervisor import free_port

DEADLINE_S, PER_S = 1, 200
ENDPOINT = f"/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    recordings: int = 200
    warm: int = 20


FULL, SMALL = Size(), Size(recordings=10, warm=2)
METHOD = (
    f"Whole job: {FULL.recordings} recordings a run (1,000 in five), {PER_S} begun a second, each "
    f"announced by a callback, stopped after {DEADLINE_S} s, and archived; processor time (user "
    "and system) of all processes of the service and of its Redis, by /proc, for each recording; "
    "the emulator is a process of its own and is not counted. Ours: web, stops, fetches and clock; "
    "the archived file is checked, its receipt signed; the rate limits are lifted. "
    "Peer: benchmarks/plain_service.py, granian with 2 workers, Celery with one process a core. "
    "Limit: one event loop that adds callbacks to a stream, stops, fetches and writes. Each with a "
    f"Redis of its own with appendfsync always; runs alternate after {FULL.warm} to warm up."
)


@dataclass(frozen=True, slots=True)
class Side:
    """A service at work on the stage."""

    pids: Callable[[], list[int]]
    archive: Path
    control: Control
    callback: str

    def one_run(self, count: int) -> tuple[float, float]:
        """The processor time of a recording in ms, and the seconds from the first to the last."""
        before, begin = processor_s(self.pids()), time.monotonic()
        names = set()
        for number in range(count):
            time.sleep(max(0.0, begin + number / PER_S - time.monotonic()))
            call = self.control.call(callback_url=self.callback)
            names.add(self.control.record(call))
        until(lambda: names <= self._archived(), within_s=180, every_s=0.2)
        took = time.monotonic() - begin
        time.sleep(1)  # what is done after the file stands counts too
        return (processor_s(self.pids()) - before) / count * 1000, took

    def _archived(self) -> set[str]:
        return {path.stem for path in self.archive.rglob("[!.]*.mp3")}


def ours(stage: Stage, emulator: Addresses) -> Side:
    base, processes = stage.ours(
        ["web", "stops", "fetches", "clock", "keep"],
        rules=f'[defaults]\nmax_duration = "{DEADLINE_S}s"\n',
        api_url=emulator.api_url,
        media=emulator.media_host,
        ENDTAPE_API_RATE="1000",
        ENDTAPE_STOP_RATE="1000",
    )
    processes.wait_ready(base)
    return Side(
        lambda: [redis_pid(stage), *(p.pid for p in processes.processes.values())],
        stage.folder / "archive",
        Control(emulator.control_url),
        base + ENDPOINT,
    )


def plain(stage: Stage, emulator: Addresses) -> Side:
    port, archive = free_port(), stage.folder / "archive"
    env = stage.peer_env(
        emulator.api_url,
        PEER_PUBLIC_URL=f"http://127.0.0.1:{port}",
        PEER_MEDIA_HOST=emulator.media_host,
        PEER_ARCHIVE=str(archive),
        PEER_DEADLINE_S=str(DEADLINE_S),
    )
    web = stage.start([sys.executable, "-m", "benchmarks.plain_service", str(port)], env)
    celery = str(Path(sys.executable).parent / "celery")
    worker = stage.start(
        [celery, "-A", "benchmarks.plain_service", "worker", "--loglevel", "WARNING"], env
    )
    until((stage.folder / f"ready.{worker.pid}").exists)
    until(lambda: listens(port))
    return Side(
        lambda: [redis_pid(stage), web.pid, worker.pid],
        archive,
        Control(emulator.control_url),
        f"http://127.0.0.1:{port}{ENDPOINT}",
    )


def bare(stage: Stage, emulator: Addresses) -> Side:
    port, archive = free_port(), stage.folder / "archive"
    env = stage.peer_env(
        emulator.api_url,
        PEER_SOCKET=str(stage.redis.socket),
        PEER_ARCHIVE=str(archive),
        PEER_DEADLINE_S=str(DEADLINE_S),
    )
    process = stage.start([sys.executable, "-m", "benchmarks.bare_job", str(port)], env)
    until(lambda: listens(port))
    return Side(
        lambda: [redis_pid(stage), process.pid],
        archive,
        Control(emulator.control_url),
        f"http://127.0.0.1:{port}{ENDPOINT}",
    )


def redis_pid(stage: Stage) -> int:
    return int(stage.ledger.redis.info("server")["process_id"])


def measure(runs: int, size: Size = FULL) -> Report:
    report = Report(METHOD)
    ms: dict[str, list[float]] = {}
    took: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        emulator = stack.enter_context(started(ACCOUNT, TOKEN, "http://127.0.0.1:9/x"))
        sides = {
            who: make(stack.enter_context(Stage()), emulator)
            for who, make in (("ours", ours), ("plain", plain), ("bare", bare))
        }
        for side in sides.values():
            side.one_run(size.warm)
        for _ in range(runs):
            for who, side in sides.items():
                each, seconds = side.one_run(size.recordings)
                ms.setdefault(who, []).append(each)
                took.setdefault(who, []).append(seconds)
    report.rows.append(
        comparing.cost(
            "the whole job, processor ms each",
            *(ms[who] for who in ("ours", "plain", "bare")),
            target="<= peer",
            met=comparing.ratio(ms["plain"], ms["ours"]) >= 1,
        )
    )
    for who, found in ms.items():
        report.notes.append(f"{who}: ms {spread(found)}; seconds in all {spread(took[who])}")
    return report
