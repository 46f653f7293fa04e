"""A TCP proxy between our processes and Redis, or before the web processes. It can cut, drop,
freeze and trickle what passes.

Each connection has two threads. Random decisions follow the seed; the order in which connections
ask does not.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

Address = tuple[str, int] | str  # host and port, or the path of a Unix socket
_NOTHING = (b"*-1\r\n", b"$-1\r\n", b"_\r\n")  # how Redis says that a blocking pop found nothing
_BLOCK = 1 << 16


class Act(StrEnum):
    CUT_BEFORE = "cut before"  # the command never reaches the server
    CUT_REPLY = "cut reply"  # the server executes it; the connection ends instead of an answer
    DROP_REPLY = "drop reply"  # the same, but the connection stays open and silent


@dataclass(frozen=True, kw_only=True, slots=True)
class Strike:
    """What happens to a command of Redis, by its name in capitals. A reply that a blocking pop
    found nothing is never touched.
    """

    command: str
    act: Act
    probability: float = 1.0


class Proxy:
    """Listens until it is closed. Several upstreams take turns; an unreachable one is skipped."""

    def __init__(
        self,
        upstreams: Sequence[Address],
        *,
        seed: int = 0,
        reads_commands: bool = False,
        at: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        """`reads_commands`: the traffic is Redis's protocol, so rules apply. `at`: the address to
        listen on; port 0 is a free one.
        """
        self.upstreams, self.reads_commands = list(upstreams), reads_commands
        self.strikes: tuple[Strike, ...] = ()
        self.done: Counter[str] = Counter()  # how often each act and sweep happened
        self.slice, self.pause_s = 0, 0.0  # trickling: bytes at a time, and the pause between
        self.cut_after = 0  # answer bytes after which a connection is cut; 0: never
        self.flowing, self.closing = threading.Event(), threading.Event()
        self.flowing.set()
        self._chance, self.lock, self._turn = random.Random(seed), threading.Lock(), 0
        self._links: set[Link] = set()
        self._listener = socket.create_server(at, backlog=512)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.flowing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.sweep()

    # What can be done to the traffic
    # ------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Holds all traffic back. Connections stay open, and new ones are accepted."""
        self.flowing.clear()

    def thaw(self) -> None:
        self.flowing.set()

    def trickle(self, slice_bytes: int, pause_s: float) -> None:
        """Sends answers in slices of so many bytes, with a pause between; 0 ends it."""
        self.slice, self.pause_s = slice_bytes, pause_s

    def sweep(self) -> None:
        """Cuts every open connection."""
        with self.lock:
            links = list(self._links)
        for link in links:
            link.close()
        self.done["sweep"] += 1

    def calm(self) -> None:
        """Ends all interference. Connections that were cut stay cut."""
        self.strikes, self.slice, self.cut_after = (), 0, 0
        self.thaw()

    def struck(self, command: str) -> Act | None:
        """What happens to this command now."""
        for strike in self.strikes:
            if strike.command == command:
                with self.lock:
                    return strike.act if self._chance.random() < strike.probability else None
        return None

    def did(self, what: str) -> None:
        with self.lock:
            self.done[what] += 1

    # Connections
    # --------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        with self.lock:
            self._turn += 1
            first = self._turn
        for i in range(len(self.upstreams)):
            with contextlib.suppress(OSError):
                server = _connect(self.upstreams[(first + i) % len(self.upstreams)])
                link = Link(self, client, server)
                with self.lock:
                    self._links.add(link)
                link.start()
                return
        client.close()

    def forget(self, link: Link) -> None:
        with self.lock:
            self._links.discard(link)


class Link:
    """One direction of a connection, and its other direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self._pending: Act | None = None  # what befalls the next answer
        self._carried, self._moving = 0, 2
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        for move in (self._requests, self._answers):
            threading.Thread(target=self._run, args=(move,), daemon=True).start()

    def close(self) -> None:
        """Ends both halves. Their numbers stay taken until both threads have left them."""
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.proxy.forget(self)

    def _run(self, move: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):  # somebody hung up, or was cut
            move()
        self.close()
        with self.proxy.lock:
            self._moving -= 1
            last = not self._moving
        if last:
            self.client.close()
            self.server.close()

    def _requests(self) -> None:
        waiting = bytearray()
        while block := self.client.recv(_BLOCK):
            self.proxy.flowing.wait()
            if not self.proxy.reads_commands:
                self.server.sendall(block)
                continue
            waiting += block
            for name, raw in commands(waiting):
                act = self.proxy.struck(name)
                if act is Act.CUT_BEFORE:
                    self.proxy.did(act)
                    return
                if act:
                    self._pending = act  # before it leaves, so that the answer cannot be quicker
                self.server.sendall(raw)

    def _answers(self) -> None:
        while block := self.server.recv(_BLOCK):
            self.proxy.flowing.wait()
            act, self._pending = self._pending, None
            if act and block not in _NOTHING:
                self.proxy.did(act)
                if act is Act.CUT_REPLY:
                    return
                continue
            for piece in self._pieces(block):
                self.client.sendall(piece)
            self._carried += len(block)
            if 0 < self.proxy.cut_after <= self._carried:
                self.proxy.did("cut after bytes")
                return

    def _pieces(self, block: bytes) -> Iterator[bytes]:
        for start in range(0, len(block), self.proxy.slice or len(block)):
            if start and self.proxy.closing.wait(self.proxy.pause_s):
                return
            yield block[start : start + (self.proxy.slice or len(block))]


def commands(waiting: bytearray) -> Iterator[tuple[str, bytes]]:
    """Takes whole commands off the front: name in capitals, and its bytes. What is not whole yet
    stays.
    """
    while (found := _first(waiting)) is not None:
        name, size = found
        raw = bytes(waiting[:size])
        del waiting[:size]
        yield name, raw


def _first(waiting: bytearray) -> tuple[str, int] | None:
    end = waiting.find(b"\r\n")
    if end < 0:
        return None
    if waiting[:1] != b"*":  # a command as a person types it
        words = bytes(waiting[:end]).split()
        return (words[0].decode("latin-1").upper() if words else "", end + 2)
    name, at = "", end + 2
    for i in range(int(waiting[1:end])):
        line = waiting.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(waiting[at + 1 : line])
        at = line + 2 + size + 2
        if len(waiting) < at:
            return None
        if i == 0:
            name = bytes(waiting[line + 2 : line + 2 + size]).decode("latin-1").upper()
    return name, at


def _connect(address: Address) -> socket.socket:
    if isinstance(address, str):
        server = socket.socket(socket.AF_UNIX)
        server.settimeout(2)
        try:
            server.connect(address)
        except OSError:
            server.close()
            raise
        server.settimeout(None)
        return server
    server = socket.create_connection(address, timeout=2)
    server.settimeout(None)
    return server
