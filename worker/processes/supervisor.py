"""Runs every process for `endtape run` and `endtape demo`, and restarts those that end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import requests

from worker.errors import EndtapeError

GRACE_S = 15.0  # so long a process may take to finish what it has begun
ROOT = Path(__file__).resolve().parents[2]  # the folder of our packages: source tree or installed
# The Procfile's lines. An installed package has no Procfile; test_house.py holds both equal.
_WORKER = (
    "-m celery -A worker.processes.celery_app worker -Q {queue} --concurrency {slots} "
    "--loglevel WARNING --without-gossip --without-mingle"
)
_ARGUMENTS = {
    "web": "-m webhooks.app",
    "stops": _WORKER.format(queue="stops", slots=4),
    "fetches": _WORKER.format(queue="fetches", slots=6),
    "keep": _WORKER.format(queue="keep", slots=2),
    "clock": "-m worker.processes.clock",
}


def process_commands() -> dict[str, list[str]]:
    """By its name in the Procfile, the command of each process, for this interpreter."""
    return {name: [sys.executable, *arguments.split()] for name, arguments in _ARGUMENTS.items()}


def free_port() -> int:
    """A port of 127.0.0.1 that is not in use and that the system gives to nobody else for the next
    minute.
    """
    # Our server sets SO_REUSEPORT, so two servers that share a port by chance would not notice.
    # Closing a connection from the listening side first leaves the port in TIME_WAIT: the system
    # does not choose it again, and a server may still ask for it by its number.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        with socket.create_connection(probe.getsockname()):
            probe.accept()[0].close()
    return port


class Supervisor:
    """Runs each command as a process in a group of its own, and restarts one that ends, while the
    context is open.
    """

    def __init__(
        self,
        env: dict[str, str],
        log: Path,
        commands: dict[str, list[str]] | None = None,
        *,
        folder: Path = ROOT,
        each_turn: Callable[[], None] | None = None,
        in_a_hurry: Callable[[], bool] = lambda: False,
    ) -> None:
        """`env` is added to the environment of this process. `log`: the file for the processes'
        output. `commands`: by name; those of the Procfile where they are not given. `folder`: the
        working directory of the processes, whose `.env` they read. `each_turn` is called twice a
        second. `in_a_hurry`: whether to kill at the end what has not ended by itself yet.
        """
        self.env, self.folder = {**os.environ, **env}, folder
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch(mode=0o600)  # it holds telephone numbers, so it is for its owner only
        self._log = log.open("ab")
        self.commands = commands or process_commands()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._each_turn, self._in_a_hurry = each_turn, in_a_hurry
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _start(self, name: str) -> None:
        self.processes[name] = subprocess.Popen(
            self.commands[name],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def _watch(self) -> None:
        while not self._stopping.wait(0.5):
            if self._each_turn:
                self._each_turn()
            for name, process in list(self.processes.items()):
                if process.poll() is not None and not self._stopping.is_set():
                    self._start(name)

    def wait_ready(
        self, base_url: str, *, within_s: float = 30, given_up: Callable[[], bool] = lambda: False
    ) -> None:
        """Returns when `/readyz` answers 200, or when `given_up` returns True. Raises EndtapeError
        after `within_s` seconds, with the last answer.
        """
        deadline, last = time.monotonic() + within_s, "no answer"
        with requests.Session() as session:
            session.trust_env = False
            while time.monotonic() < deadline and not given_up():
                try:
                    answer = session.get(f"{base_url}/readyz", timeout=2)
                    last = answer.text.strip()[:100]
                    if answer.status_code == 200:
                        return
                except requests.RequestException:
                    last = "the web process does not answer"
                time.sleep(0.1)
        if given_up():
            return
        raise EndtapeError(f"not ready after {within_s:.0f} s: {last}; see {self._log.name}")

    def kill(self, name: str) -> None:
        """Kills a process and its children at once, as a crash would. It is restarted."""
        _kill_group(self.processes[name])

    def stop(self) -> None:
        """Asks every process to end, and kills those that still run after GRACE_S, or sooner where
        there is a hurry.
        """
        self._stopping.set()
        running = list(self.processes.values())
        for process in running:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + GRACE_S
        while any(process.poll() is None for process in running):
            if self._in_a_hurry() or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        for process in running:
            if process.poll() is None:
                _kill_group(process)
                process.wait()
        if self._thread.ident:
            self._thread.join()  # its `each_turn` may start a server that its owner stops next
        self._log.close()

    def __enter__(self) -> Self:
        for name in self.commands:
            self._start(name)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills a process that leads a group, and its children."""
    with contextlib.suppress(ProcessLookupError):  # the whole group has ended already
        os.killpg(process.pid, signal.SIGKILL)
