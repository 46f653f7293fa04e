"""A deadline for a whole exchange: when it passes, the connection is shut down under whoever is
reading from it.

A timeout of `requests` or of a socket bounds one wait for bytes; a server that sends a byte now and
then, in the headers or in the body, can hold its reader for ever (seen with requests 2.34: read
timeout 1 s, headers 10 s).
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse


class Deadline:
    """A context manager: `seconds` after its making, every socket given to `watch` is shut down.

    Inside the `with`, requests of a `pool()` made by this thread are watched without being told.
    """

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._guards: list[socket.socket] = []
        self._over = False
        self._outer: Deadline | None = None

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self.at

    def watch(self, sock: socket.socket) -> None:
        """Shut `sock` down at the deadline, at once if it has passed. Works below TLS, also in
        mid-handshake.
        """
        # A duplicate of the descriptor is ours to keep: however the original is wrapped, detached
        # or closed, it names the same connection, and its number cannot come to mean another one.
        guard = socket.socket(fileno=os.dup(sock.fileno()))
        with self._lock:
            if self._over:
                guard.close()
                return
            self._guards.append(guard)
        _watcher.add(self)

    def strike(self) -> None:
        with self._lock:
            for guard in self._guards:
                with contextlib.suppress(OSError):
                    guard.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._outer = getattr(_current, "deadline", None)
        _current.deadline = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _current.deadline = self._outer
        with self._lock:
            self._over = True
            while self._guards:
                self._guards.pop().close()


class _Watcher:
    """One thread per process that sleeps until the earliest deadline."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Deadline]] = []
        self._serial = itertools.count()
        self._running = False

    def add(self, deadline: Deadline) -> None:
        with self._changed:
            heapq.heappush(self._heap, (deadline.at, next(self._serial), deadline))
            if not self._running:
                threading.Thread(target=self._run, name="deadlines", daemon=True).start()
                self._running = True
            elif self._heap[0][2] is deadline:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    self._changed.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                _, _, deadline = heapq.heappop(self._heap)
            deadline.strike()


_watcher = _Watcher()
_current = threading.local()


def _forget_the_parent() -> None:
    global _watcher  # noqa: PLW0603 - threads do not survive a fork, so the child needs a watcher of its own
    _watcher = _Watcher()


os.register_at_fork(after_in_child=_forget_the_parent)


class _Watched(HTTPConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3 overrides it so, too
        _watch_if_asked(self.sock)
        return super().getresponse()


class _WatchedTLS(HTTPSConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3 overrides it so, too
        _watch_if_asked(self.sock)
        return super().getresponse()


def _watch_if_asked(sock: socket.socket | None) -> None:
    deadline: Deadline | None = getattr(_current, "deadline", None)
    if deadline and sock:
        deadline.watch(sock)


# What is closed is forgotten at once. Otherwise the kernel goes on sending what a dead link did not
# take, and a request that was given up arrives when the link is back (seen 10 s later: a transfer
# that had been told to be unclear).
_OPTIONS = [
    *HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
]


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched


class _PoolTLS(HTTPSConnectionPool):
    ConnectionCls = _WatchedTLS


def pool(url: str, connections: int) -> HTTPConnectionPool:
    """Connections to the host of `url`, kept alive, that obey the `Deadline` of the thread that
    uses them.

    Nothing in the environment reaches them: no proxies, `.netrc` or certificate variables. At most
    `connections` idle ones are kept. Certificates are checked against those shipped with requests.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return _PoolTLS(
            host,
            parts.port,
            maxsize=connections,
            retries=False,
            socket_options=_OPTIONS,
            cert_reqs="CERT_REQUIRED",
            ca_certs=DEFAULT_CA_BUNDLE_PATH,
        )
    return _Pool(host, parts.port, maxsize=connections, retries=False, socket_options=_OPTIONS)
