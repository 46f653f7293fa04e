"""The whole service on one machine: a Redis, the emulator in a process of its own, two of each
process of the Procfile, and a door before the web processes.

Everything lives in one temporary folder and on loopback. What ends is started again, and when the
stage closes all that it ever started is ended, by its id.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from emulator.client import Control, started
from faults.bucket import S3Server
from faults.proxy import Proxy
from faults.rabbit import Rabbit
from faults.watched import WatchedRedis
from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.processes.embedded_redis import EmbeddedRedis
from worker.processes.supervisor import ROOT, Supervisor, free_port, process_commands

ACCOUNT, TOKEN, CALLBACK_TOKEN, KEY = (
    "MA_FAULTS001",
    "faults-auth-token",
    "faults-callback-token",
    "faults-api-key-00000",
)
EACH = 2
SHORT, KEEPS = "918010000001", "918020000001"  # numbers that the rules below know
SHORT_S, LONGEST_S = 4.0, 30.0
RECONCILE_S = 5
RULES = f"""\
[defaults]
max_duration = "{LONGEST_S:g}s"
on = {{ transfer = "stop" }}

[[rules]]
name = "short"
match = {{ to = "91801*" }}
max_duration = "{SHORT_S:g}s"

[[rules]]
name = "keeps"
match = {{ to = "91802*" }}
on = {{ transfer = "keep" }}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How a stage differs from the plain one."""

    seed: int
    proxied: bool = False  # our processes reach Redis through the proxy
    rules: str = RULES
    env: Mapping[str, str] = field(default_factory=dict)
    odd: Mapping[str, Mapping[str, str]] = field(
        default_factory=dict
    )  # more environment for one process, by its name
    volumes: Mapping[str, int] = field(
        default_factory=dict
    )  # `archive` or `spool` on a disk of so many MiB
    watched: bool = False  # three servers and three Sentinels instead of one Redis
    rabbit: bool = False  # RabbitMQ carries the queues
    bucket: bool = False  # the archive is in a bucket


class Fleet(Supervisor):
    """Remembers every process group that it started, so that it can end what a kill left over."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.groups: set[int] = set()

    def _start(self, name: str) -> None:
        super()._start(name)
        self.groups.add(self.processes[name].pid)

    def alive(self) -> list[str]:
        return sorted(name for name, process in self.processes.items() if process.poll() is None)

    def stop(self) -> None:
        for process in self.processes.values():
            send(process.pid, signal.SIGCONT)
        super().stop()
        for group in self._left_over():
            send(group, signal.SIGKILL)

    def _left_over(self) -> set[int]:
        # Children whose parent was killed alone. The mark tells them from strangers that have got
        # the same numbers since.
        mark, left = self.env["ENDTAPE_ARCHIVE"].encode(), set[int]()
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                group = os.getpgid(int(place.name))
                if group in self.groups and mark in (place / "environ").read_bytes():
                    left.add(group)
        return left


class Stage:
    """The stage. It is ready when its context is entered."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.chance = plan, random.Random(plan.seed)
        self.folder = Path(tempfile.mkdtemp(prefix="ef"))
        self.archive, self.spool = self.folder / "archive", self.folder / "spool"
        self.down: list[tuple[float, float]] = []  # when Redis was away: begin and end
        self.killed: Counter[str] = Counter()
        self._ending: set[int] = set()  # pids that got SIGTERM or SIGKILL
        self.log = self.folder / "ours.log"
        self._stack = contextlib.ExitStack()
        self._redis_changes = threading.Lock()

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _open(self) -> None:
        for name, mebibytes in self.plan.volumes.items():
            self._mount(self.folder / name, mebibytes)
        self._start_redis()
        broker = self._start_rabbit() if self.plan.rabbit else {}
        self.bucket = self._stack.enter_context(S3Server()) if self.plan.bucket else None
        self.wire = self._stack.enter_context(
            Proxy([str(self.redis.socket)], seed=self.plan.seed, reads_commands=True)
        )
        self.ledger = Ledger(connect(self.redis.url, timeout_s=1))
        self._stack.callback(self.ledger.redis.close)
        self.door = self._stack.enter_context(Proxy(self._webs()))
        base = f"http://127.0.0.1:{self.door.port}"
        self.emulator = self._stack.enter_context(
            started(
                ACCOUNT,
                TOKEN,
                f"{base}/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}",
                seed=self.plan.seed,
                log=self.folder / "emulator.log",
            )
        )
        self.control = Control(self.emulator.control_url)
        bucket = self.bucket.env if self.bucket else {}
        self._start({**_without_settings(), **self._env(base), **broker, **bucket, **self.plan.env})

    def gather(self) -> None:
        """Brings what is new in a bucket into the folder that the checker reads."""
        if self.bucket:
            self.bucket.mirror(self.archive)

    def _start_redis(self) -> None:
        # Each server's end is registered before its start: a Ctrl-C may come in between.
        self.redis: EmbeddedRedis | WatchedRedis = (
            WatchedRedis(self.folder / "redis")
            if self.plan.watched
            else EmbeddedRedis(self.folder / "redis")
        )
        self._stack.callback(self.redis.stop)
        self.redis.start()

    def _start_rabbit(self) -> dict[str, str]:
        """Returns the settings that make it the broker."""
        self.rabbit = Rabbit(self.folder / "rabbit")
        self._stack.callback(self.rabbit.stop)
        self.rabbit.start()
        return {"CELERY_BROKER_URL": self.rabbit.url}

    def _env(self, base: str) -> dict[str, str]:
        """The settings of our processes."""
        config = self.folder / "endtape.toml"
        config.write_text(self.plan.rules)
        proxied = f"redis://127.0.0.1:{self.wire.port}/0"
        return {
            "VOBIZ_AUTH_ID": ACCOUNT,
            "VOBIZ_AUTH_TOKEN": TOKEN,
            "VOBIZ_API_URL": self.emulator.api_url,
            "VOBIZ_MEDIA_HOSTS": self.emulator.media_host,
            "REDIS_URL": proxied if self.plan.proxied else self.redis.url,
            "HOST": "127.0.0.1",
            "ENDTAPE_PUBLIC_URL": base,
            "ENDTAPE_CALLBACK_TOKEN": CALLBACK_TOKEN,
            "ENDTAPE_API_KEY": KEY,
            "ENDTAPE_CONFIG": str(config),
            "ENDTAPE_ARCHIVE": str(self.archive),
            "ENDTAPE_SPOOL": str(self.spool),
            "ENDTAPE_SIGNING_KEY": str(self.folder / "signing_key"),
            "ENDTAPE_API_RATE": "100",
            "ENDTAPE_RECONCILE_S": str(RECONCILE_S),
            "PYTHONPATH": str(ROOT),
        }

    def _webs(self) -> list[tuple[str, int]]:
        """The addresses on which the web processes will listen."""
        self.ports = {f"web.{i + 1}": free_port() for i in range(EACH)}
        return [("127.0.0.1", port) for port in self.ports.values()]

    def _start(self, env: dict[str, str]) -> None:
        """Starts our processes. Returns when they are ready."""
        self.fleet = Fleet(env, self.log, self._commands(), folder=self.folder)
        self._stack.callback(self.fleet.stop)
        self.fleet.__enter__()
        self.fleet.wait_ready(env["ENDTAPE_PUBLIC_URL"], within_s=60)

    def _commands(self) -> dict[str, list[str]]:
        commands = {}
        for i in range(EACH):
            for kind, command in process_commands().items():
                name = f"{kind}.{i + 1}"
                odd = {"PORT": str(self.ports.get(name, 8000)), **self.plan.odd.get(name, {})}
                commands[name] = [
                    "env",
                    *(f"{key}={value}" for key, value in odd.items()),
                    *command,
                ]
        return commands

    def _mount(self, place: Path, mebibytes: int) -> None:
        place.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=700", "faults", str(place)],
            check=True,
            capture_output=True,
        )
        self._stack.callback(
            subprocess.run, ["umount", "-l", str(place)], check=False, capture_output=True
        )

    # What a harm can take away
    # --------------------------------------------------------------------------------------------

    def kill(self, *, spare_last: bool = False) -> None:
        """Kills one process at random, as a crash would: with its children, one child of it, or the
        parent alone.

        `spare_last`: only one whose twin is at work; waits until there is one.
        """
        names = self.fleet.alive()
        limit = time.monotonic() + 10
        while spare_last and not (names := self.with_a_twin()) and time.monotonic() < limit:
            time.sleep(0.1)
        if not names:
            return
        name = self.chance.choice(names)
        leader = self.fleet.processes[name].pid
        below = _children(leader)
        manner = self.chance.choice(["whole", "whole", "child", "parent"]) if below else "whole"
        if manner != "child":
            self._ending.add(leader)
        if manner == "whole":
            send(leader, signal.SIGKILL)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.chance.choice(below) if manner == "child" else leader, signal.SIGKILL)
        self.killed[f"{name.partition('.')[0]} {manner}"] += 1

    def end(self, name: str) -> None:
        """Sends SIGTERM: the process finishes its work and ends."""
        process = self.fleet.processes[name]
        self._ending.add(process.pid)
        process.terminate()

    def with_a_twin(self) -> list[str]:
        """The processes whose twin is working."""
        try:
            # A worker or clock that is ready has an entry under its pid.
            ready = {
                field.rpartition(":")[2]
                for field in self.ledger.command("HKEYS", self.ledger.key("seen"))
            }
        except LedgerUnavailable:
            return []
        alive = self.fleet.alive()
        pids = {name: self.fleet.processes[name].pid for name in alive}
        at_work = {
            name
            for name, pid in pids.items()
            if pid not in self._ending and (str(pid) in ready or _listens(self.ports.get(name)))
        }
        return [name for name in alive if at_work & _twins(name)]

    def kill_redis(self, away_s: float = 0.0, *, erase: bool = False) -> None:
        """Kills Redis and starts it again `away_s` later, with its data or without."""
        assert isinstance(self.redis, EmbeddedRedis)
        with self._redis_changes:
            began = time.time()
            self.redis.kill()
            if erase:
                shutil.rmtree(self.redis.folder / "appendonlydir", ignore_errors=True)
            time.sleep(away_s)
            self.redis.start()
            self.down.append((began, time.time()))
        self.killed["redis"] += 1

    @contextlib.contextmanager
    def still(self, *names: str) -> Iterator[None]:
        """Stops these processes and their children with SIGSTOP for a while."""
        groups = [self.fleet.processes[name].pid for name in names]
        for group in groups:
            send(group, signal.SIGSTOP)
        try:
            yield
        finally:
            for group in groups:
                send(group, signal.SIGCONT)

    @contextlib.contextmanager
    def still_redis(self) -> Iterator[None]:
        assert isinstance(self.redis, EmbeddedRedis)
        assert self.redis.process is not None
        began, pid = time.time(), self.redis.process.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
            self.down.append((began, time.time()))

    @contextlib.contextmanager
    def fail_over(self, what: str) -> Iterator[int]:
        """Yields the primary's port, for the caller to take it away. Returns when another server
        accepts writes, and notes the time between as downtime.
        """
        assert isinstance(self.redis, WatchedRedis)
        old, began = self.redis.whole(), time.time()
        yield old
        while self.redis.primary() in {None, old} or not self._takes_writes():
            if time.time() > began + 60:
                raise TimeoutError("no replica became the primary")
            time.sleep(0.02)
        self.down.append((began, time.time()))
        self.killed[what] += 1

    def _takes_writes(self) -> bool:
        try:
            self.ledger.check_write()
        except LedgerUnavailable:
            return False
        return True


def _without_settings() -> dict[str, str]:
    """Takes back every setting of the surrounding shell: an empty one counts as unset."""
    return {
        name: ""
        for name in os.environ
        if name.startswith(("ENDTAPE_", "VOBIZ_", "CELERY_")) or name == "REDIS_URL"
    }


def send(group: int, number: int) -> None:
    """Sends a signal to a process group, which may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _twins(name: str) -> set[str]:
    kind = name.partition(".")[0]
    return {f"{kind}.{i + 1}" for i in range(EACH)} - {name}


def _listens(port: int | None) -> bool:
    if port is None:
        return False
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False
