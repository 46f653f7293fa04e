"""Starts a scheduler of `benchmarks.schedulers` with its workers, and tells how late and how fast
its stops reach a stand-in.
"""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import requests

from benchmarks.stage import Stage, until

LIBRARIES = {"rq": "RQ", "apscheduler": "APScheduler", "dramatiq": "dramatiq"}
MOST_RUNS = 3  # of each: no figure of ours is held against them
WORKERS = 2  # of RQ and dramatiq: one for each core, as dramatiq starts by itself


class Timetable:
    """One scheduler, its workers and the stand-in that gets its stops."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.name, self._sink = name, stage.sink()
        env = stage.peer_env(f"{self._sink}/api/v1", PEER_SOCKET=str(stage.redis.socket))
        if name == "rq":
            for _ in range(WORKERS):
                stage.start([sys.executable, "-m", "benchmarks.schedulers", "rq-worker"], env)
        if name == "dramatiq":
            program = str(Path(sys.executable).parent / "dramatiq")
            stage.start(
                [program, "benchmarks.schedulers", "--processes", str(WORKERS), "--threads", "8"],
                env,
            )
        self._asking = stage.start(
            [sys.executable, "-m", "benchmarks.schedulers", name], env, stdin=subprocess.PIPE
        )
        self.late([time.time() + 0.2])  # the first one waits until everything has started

    def late(self, dues: Sequence[float], *, per_s: float | None = None) -> list[float]:
        """Schedules a stop for each instant, `per_s` a second or all at once. Returns how late
        each came, in ms.
        """
        calls = {str(uuid.uuid4()): due for due in dues}
        stdin, begin = self._asking.stdin, time.monotonic()
        assert stdin is not None
        for number, (call_uuid, due) in enumerate(calls.items()):
            if per_s:
                time.sleep(max(0.0, begin + number / per_s - time.monotonic()))
            stdin.write(f"{call_uuid} {due!r}\n".encode())
            stdin.flush()
        arrived: dict[str, float] = {}

        def all_there() -> bool:
            for path, at in requests.get(f"{self._sink}/taken", timeout=10).json():
                arrived.setdefault(path.split("/")[6], at)
            return calls.keys() <= arrived.keys()

        time.sleep(max(0.0, max(dues) - time.time()))
        until(all_there, within_s=60, every_s=0.1)
        return [(arrived[call_uuid] - due) * 1000 for call_uuid, due in calls.items()]
