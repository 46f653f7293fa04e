"""A request's body comes whole and in time, or not at all.

granian hands over a body that broke off as if it were whole, and reading one that trickles in lasts as long as its
sender likes (seen with 2.8.7). So the bytes are counted against what was announced, and a watch shuts the receiving
side of connections that have kept a reader waiting too long.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from werkzeug.exceptions import ClientDisconnected, RequestTimeout

WITHIN_S = 5.0
_TICK_S = 0.5
Peer = tuple[str, int]
Waiting = tuple[float, str, str]     # since when, for whom, on which port of ours


class Arrival:
    """Around the application: reading its input raises ClientDisconnected (400) or RequestTimeout (408), and then it is no body."""

    def __init__(self, application: Callable[..., Iterable[bytes]], *, within_s: float = WITHIN_S) -> None:
        self.application = application
        self.watch = _Watch(within_s)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        announced = environ.get("CONTENT_LENGTH") or ""
        if announced not in {"", "0"} or "HTTP_TRANSFER_ENCODING" in environ:
            environ["wsgi.input"] = _Body(environ, int(announced) if announced.isdecimal() else None, self.watch)
        return self.application(environ, start_response)


class _Body(io.RawIOBase):
    """The input of one request. Chunks that break off cannot be told from ones that end: the server does not say."""

    def __init__(self, environ: dict[str, Any], announced: int | None, watch: _Watch) -> None:
        super().__init__()
        self._raw, self._announced, self._watch = environ["wsgi.input"], announced, watch
        self._for = str(environ.get("REMOTE_ADDR")), str(environ.get("SERVER_PORT"))
        self._got, self._since = 0, 0.0

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = None if size is None or size < 0 else size
        self._since = self._since or time.monotonic()
        self._watch.waiting[id(self)] = (self._since, *self._for)
        try:
            block: bytes = self._raw.read() if wanted is None else self._raw.read(wanted)
        finally:
            del self._watch.waiting[id(self)]
        if time.monotonic() - self._since > self._watch.within_s:
            raise RequestTimeout
        self._got += len(block)
        if self._announced is not None and self._got < self._announced and (wanted is None or len(block) < wanted):
            raise ClientDisconnected
        return block

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        block = self.read(len(buffer))
        buffer[:len(block)] = block
        return len(block)

    def readable(self) -> bool:
        return True


class _Watch:
    """Who waits for a body, and since when. A thread looks on while somebody does."""

    def __init__(self, within_s: float) -> None:
        self.within_s = within_s
        self.waiting: dict[int, Waiting] = {}     # by reader
        self._known: dict[tuple[int, Peer], float] = {}
        threading.Thread(target=self._run, name="arrival", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(_TICK_S)
            with contextlib.suppress(OSError):       # no descriptor left to look with: some will be in a moment
                self._look(time.monotonic())

    def _look(self, now: float) -> None:
        """Which connection a late request came by is not told, so all go that came from there before it became slow.

        An idle one would have been closed after a while anyway; where an answer is lost that was under way, its sender
        asks again. New connections are let be.
        """
        waiting = list(self.waiting.values())
        slow = {port for since, _, port in waiting if now - since > self.within_s / 3}
        self._known = {connection: self._known.get(connection, now) for connection in _inbound(slow)} if slow else {}
        late = {_plain(who) for since, who, _ in waiting if now - since > self.within_s}
        for (number, peer), seen_at in self._known.items():
            if _plain(peer[0]) in late and now - seen_at > self.within_s / 3:
                _shut(number, peer)


def _inbound(ports: set[str]) -> Iterator[tuple[int, Peer]]:
    """The connections of this process that came in on these ports: descriptor, and address of the other end."""
    for place in list(Path("/dev/fd").iterdir()):
        with contextlib.suppress(OSError), _borrowed(int(place.name)) as connection:
            if str(connection.getsockname()[1]) in ports:
                yield int(place.name), connection.getpeername()[:2]


def _shut(number: int, peer: Peer) -> None:
    with contextlib.suppress(OSError), _borrowed(number) as connection:
        if connection.getpeername()[:2] == peer:      # the number may mean another connection by now
            connection.shutdown(socket.SHUT_RD)


@contextlib.contextmanager
def _borrowed(number: int) -> Iterator[socket.socket]:
    """Raises OSError where the descriptor is no connection over IP."""
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        raise OSError("no socket")
    connection = socket.socket(fileno=number)
    try:
        if connection.family not in {socket.AF_INET, socket.AF_INET6}:
            raise OSError("no connection over IP")
        yield connection
    finally:
        connection.detach()      # it is the server's, and stays open


def _plain(address: str) -> str:
    """An IPv4 address that came to an IPv6 socket is the same sender."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(found.ipv4_mapped or found) if isinstance(found, IPv6Address) else str(found)
