"""A way to Redis that counts round trips, and what Redis says that it was asked."""

import contextlib
import selectors
import socket
import threading
from collections import Counter
from dataclasses import dataclass

# What a client says when it connects, and what asks for these counts.
_NOT_WORK = ("hello", "client", "ping", "info")


class CountedWay:
    """A TCP port in front of a Redis's Unix socket. Use as a context."""

    def __init__(self, path):
        self._path, self.round_trips = str(path), 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self._other, self._asking = {}, {}  # by socket: its other end; whether it asked last
        self._selector, self._ended = selectors.DefaultSelector(), threading.Event()

    def __enter__(self):
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        for end in [self._listener, *self._other]:
            end.close()

    def _run(self):
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.1):
                if key.fileobj is self._listener:
                    self._join(self._listener.accept()[0])
                else:
                    self._pass_on(key.fileobj)

    def _join(self, client):
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._path)
        for one, other in ((client, server), (server, client)):
            self._other[one] = other
            self._selector.register(one, selectors.EVENT_READ)
        self._asking[client] = False

    def _pass_on(self, end):
        """A round trip begins with what a client sends after an answer, however much it sends.
        What it says when it connects is none.
        """
        other = self._other.get(end)
        if other is None:
            return  # it was closed with its other end a moment ago
        content = b""
        with contextlib.suppress(OSError):
            content = end.recv(1 << 20)
        if not content:
            for one in (end, other):
                self._selector.unregister(one)
                del self._other[one]
                one.close()
            return
        if end in self._asking:
            first = content[:40].lower()
            connects = any(f"\r\n{word}\r\n".encode() in first for word in _NOT_WORK)
            self.round_trips += not self._asking[end] and not connects
            self._asking[end] = True
        else:
            self._asking[other] = False
        with contextlib.suppress(OSError):
            other.sendall(content)


@dataclass(frozen=True)
class Asked:
    """What was asked of Redis, from one look to the next."""

    round_trips: int
    scripts: int
    commands: int  # those that scripts run included

    @classmethod
    def so_far(cls, way, redis):
        stats = redis.info("commandstats")
        ours = Counter()
        for name, stat in stats.items():
            ours[name.removeprefix("cmdstat_").partition("|")[0]] += stat["calls"]
        for word in _NOT_WORK:
            ours.pop(word, None)
        scripts = ours["evalsha"] + ours["eval"]
        return cls(way.round_trips, scripts, sum(ours.values()))

    def since(self, before):
        return Asked(
            self.round_trips - before.round_trips,
            self.scripts - before.scripts,
            self.commands - before.commands,
        )
