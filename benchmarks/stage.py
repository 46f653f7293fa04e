"""What every row needs: a private Redis, our processes or the peer's, calls to track, and how
numbers are told.

Everything lives in one temporary folder and on loopback, and is ended by its id when the stage
closes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, urlencode

from celery import Celery

from emulator.signing import new_nonce
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.processes.embedded_redis import EmbeddedRedis
from worker.processes.supervisor import ROOT, Supervisor, free_port, process_commands
from worker.vobiz import callbacks

ACCOUNT, TOKEN, CALLBACK_TOKEN, KEY = (
    "MA_BENCH0001",
    "bench-auth-token",
    "bench-callback-token",
    "bench-api-key-0000000",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of the table. `limit`: the bare minimum of the same work, `share`: how much of it is
    reached.
    """

    what: str
    ours: str
    peer: str
    ratio: str
    target: str
    met: bool
    limit: str = ""
    share: str = ""


@dataclass(slots=True)
class Report:
    """The result of one script: rows of the table, the method, and each run's figures."""

    method: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Stage:
    """A folder, a Redis, and the processes that a measurement starts."""

    def __init__(self, *, fsync: str = "always") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="et", dir=_place()))
        self._fsync, self._stack = fsync, contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.redis = self._stack.enter_context(
            EmbeddedRedis(self.folder / "redis", fsync=self._fsync)
        )
        self.ledger = Ledger(connect(self.redis.url, timeout_s=10, connections=64))
        self._stack.callback(self.ledger.redis.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def env(
        self,
        *,
        rules: str,
        api_url: str = "http://127.0.0.1:9",
        media: str = "127.0.0.1:9",
        **more: str,
    ) -> dict[str, str]:
        """The environment of our processes. It has a free port to listen on."""
        config, port = self.folder / "endtape.toml", str(free_port())
        config.write_text(rules)
        return {
            "VOBIZ_AUTH_ID": ACCOUNT,
            "VOBIZ_AUTH_TOKEN": TOKEN,
            "VOBIZ_API_URL": api_url,
            "VOBIZ_MEDIA_HOSTS": media,
            "REDIS_URL": self.redis.url,
            "CELERY_BROKER_URL": "",
            "PORT": port,
            "HOST": "127.0.0.1",
            "ENDTAPE_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "ENDTAPE_CALLBACK_TOKEN": CALLBACK_TOKEN,
            "ENDTAPE_API_KEY": KEY,
            "ENDTAPE_ARCHIVE": str(self.folder / "archive"),
            "ENDTAPE_SPOOL": str(self.folder / "spool"),
            "ENDTAPE_SIGNING_KEY": str(self.folder / "signing_key"),
            "ENDTAPE_CONFIG": str(config),
            "PYTHONPATH": str(ROOT),
            **more,
        }

    def ours(
        self, names: Sequence[str], *, slots: int | None = None, **settings: str
    ) -> tuple[str, Supervisor]:
        """Starts the Procfile's processes of these names, `stops` with so many `slots` where they
        are given. Returns the base URL when they are ready.
        """
        env = self.env(**settings)
        wanted = {name: command for name, command in process_commands().items() if name in names}
        if slots is not None:
            command = wanted["stops"]
            command[command.index("--concurrency") + 1] = str(slots)
        processes = self._stack.enter_context(Supervisor(env, self.folder / "ours.log", wanted))
        roles = set(wanted) - {"web"}
        until(lambda: roles <= set(self.ledger.alive(timedelta(seconds=15))))
        if "web" in wanted:
            until(lambda: listens(int(env["PORT"])))
        return env["ENDTAPE_PUBLIC_URL"], processes

    def start(
        self, command: list[str], env: Mapping[str, str], *, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """Starts a process in its own process group. It ends with the stage."""
        with (self.folder / "peer.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **env},
                stdin=stdin,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._stack.callback(end, process)
        return process

    def sink(self) -> str:
        """Starts the cheap stand-in for the provider. Returns its root URL."""
        port = free_port()
        self.start([sys.executable, "-m", "benchmarks.sink", str(port)], {})
        until(lambda: listens(port))
        return f"http://127.0.0.1:{port}"

    def peer_env(self, api_url: str = "http://127.0.0.1:9", **more: str) -> dict[str, str]:
        return {
            "PEER_BROKER": f"redis+socket://{self.redis.socket}",
            "PEER_API_URL": api_url,
            "PEER_FOLDER": str(self.folder),
            "PEER_ACCOUNT": ACCOUNT,
            "PEER_TOKEN": TOKEN,
            "PEER_CALLBACK_TOKEN": CALLBACK_TOKEN,
            **more,
        }

    def peer_workers(
        self, api_url: str, pools: Iterable[tuple[str, int]], **more: str
    ) -> list[subprocess.Popen[bytes]]:
        """Starts a plain Celery worker for each (kind of pool, size). Returns when all
        are ready.
        """
        celery, started = str(Path(sys.executable).parent / "celery"), []
        for number, (pool, size) in enumerate(pools):
            started.append(
                self.start(
                    [
                        celery,
                        "-A",
                        "benchmarks.peers",
                        "worker",
                        "-P",
                        pool,
                        "--concurrency",
                        str(size),
                        "--loglevel",
                        "WARNING",
                        "--without-gossip",
                        "--without-mingle",
                        "-n",
                        f"peer{number}@%h",
                    ],
                    self.peer_env(api_url, **more),
                )
            )
        until(lambda: all((self.folder / f"ready.{p.pid}").exists() for p in started))
        return started

    def peer_web(self, api_url: str = "http://127.0.0.1:9", **more: str) -> str:
        """Starts the plain Flask routes on granian, configured as ours. Returns the base URL."""
        port = free_port()
        base = f"http://127.0.0.1:{port}"
        self.start(
            [sys.executable, "-m", "benchmarks.peers", str(port)],
            self.peer_env(api_url, PEER_PUBLIC_URL=base, **more),
        )
        until(lambda: listens(port))
        return base

    def bare_web(self, work: str) -> str:
        """Starts a server of `benchmarks.bare_web`. Returns the base URL."""
        env = self.env(rules='[defaults]\nmax_duration = "1h"\n')
        self.start(
            [sys.executable, "-m", "benchmarks.bare_web", work, env["PORT"]],
            {**env, "PEER_SOCKET": str(self.redis.socket)},
        )
        until(lambda: listens(int(env["PORT"])))
        return env["ENDTAPE_PUBLIC_URL"]


def _place() -> Path | None:
    """Where stages have their folders: on a disk, which /tmp often is not. Where it is, its part of
    the disk is where whole folders of files were just deleted, and ext4 without a journal then
    looks at each of them before it makes a file: 0.6 ms instead of 0.02, measured.
    """
    place = Path("/var/tmp")
    return place if "TMPDIR" not in os.environ and os.access(place, os.W_OK) else None


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it started."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(8)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(condition: Callable[[], bool], within_s: float = 30, every_s: float = 0.05) -> None:
    """Waits until a condition holds. Raises TimeoutError when it does not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {within_s:g} s")
        time.sleep(every_s)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True


def announcement(call_uuid: str) -> str:
    """The body of a callback that reports the beginning of a recording, as the provider
    spells it.
    """
    url = f"https://media.vobiz.ai/v1/Account/{ACCOUNT}/Recording/rec-{call_uuid}.mp3"
    return urlencode(
        {
            "CallUUID": call_uuid,
            "From": "919820055512",
            "To": "918065550101",
            "Direction": "inbound",
            "CallStatus": "in-progress",
            "Event": "Record",
            "RecordingID": f"rec-{call_uuid}",
            "RecordUrl": url,
            "RecordFile": url,
            "RecordingDuration": "-1",
            "RecordingDurationMs": "-1",
            "RecordingStartMs": "-1",
            "RecordingEndMs": "-1",
        }
    )


def track(ledger: Ledger, call_uuids: Sequence[str], *, started_at: datetime | None = None) -> None:
    """Makes recordings known as the receiver does; all begin at one instant, if given."""
    with ThreadPoolExecutor(32) as crew:
        list(crew.map(lambda call_uuid: announce(ledger, call_uuid, started_at), call_uuids))


def announce(ledger: Ledger, call_uuid: str, started_at: datetime | None = None) -> None:
    """Makes one recording known as the receiver does."""
    body = announcement(call_uuid).encode()
    event = callbacks.parse({name.lower(): value for name, value in parse_qsl(body.decode())})
    assert event is not None
    ledger.record(
        ACCOUNT,
        replace(event, signed=True, started_at=started_at),
        nonces=(new_nonce(),),
        body=body,
    )


def publish(stage: Stage, call_uuids: Sequence[str], due: float) -> None:
    """Sends the peer's tasks, one for each call; returns when the workers hold them all."""
    with (
        Celery("peer", broker=stage.peer_env()["PEER_BROKER"]) as client,
        ThreadPoolExecutor(8) as crew,
    ):
        client.conf.broker_pool_limit = 8
        eta = datetime.fromtimestamp(due, UTC)
        list(
            crew.map(
                lambda call_uuid: client.send_task("stop", (call_uuid, due), eta=eta), call_uuids
            )
        )
    until(lambda: stage.ledger.command("LLEN", "celery") == 0, every_s=0.2)


def p(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The figures of all runs behind a median, for the page."""
    return " ".join(f"{v:,.{digits}f}" for v in values)
