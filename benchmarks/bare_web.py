"""What bounds a receiver: servers that do part of its work, on the server that ours runs on.

`python -m benchmarks.bare_web WORK PORT`. `answers` reads a body and answers. `stores` also adds
the body to a stream before it answers; all that wait go as one pipeline, and nothing is verified.
`unstored` is our receiver in Flask, with a thread for each request and its storing taken out.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from typing import Any

from granian import Granian
from granian.constants import Interfaces

from webhooks.app import create_app
from webhooks.server import SERVER
from worker.ledger.client import Ledger
from worker.ledger.store import connect

ENV = os.environ
ANSWER = b"<Response></Response>"
WORKERS, THREADS = 2, 64


class Stream:
    """Adds entries to one stream, as many at once as wait."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._news = asyncio.Event()
        self._writing = asyncio.create_task(self._write())

    async def add(self, body: bytes) -> None:
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((body, stored))
        self._news.set()
        await stored

    async def _write(self) -> None:
        reader, writer = await asyncio.open_unix_connection(ENV["PEER_SOCKET"])
        while True:
            await self._news.wait()
            self._news.clear()
            together = list(self._waiting)
            self._waiting.clear()
            writer.write(b"".join(xadd(body) for body, _ in together))
            for _, stored in together:
                kind = await reader.readline()
                if not kind.startswith(b"$"):
                    raise RuntimeError(f"Redis answered {kind!r}")
                await reader.readline()
                stored.set_result(None)


def xadd(body: bytes) -> bytes:
    """The command that adds a body to the stream, as it stands on the wire."""
    words = [b"XADD", b"callbacks", b"*", b"body", body]
    return b"*5\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class Bare:
    """An ASGI application that reads the body and answers, and stores it in between, if it is
    to.
    """

    def __init__(self, *, stores: bool) -> None:
        self._stores, self._stream = stores, None

    async def __call__(self, _scope: dict[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        if self._stores:
            self._stream: Stream | None = self._stream or Stream()
            await self._stream.add(body)
        length = str(len(ANSWER)).encode()
        headers = [(b"content-type", b"application/xml"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": ANSWER})


class Unstored(Ledger):
    """Records the first callback, and gives every later one the same outcome."""

    _outcome: Any = None

    def record(self, *args: Any, **how: Any) -> Any:
        self._outcome = self._outcome or super().record(*args, **how)
        return self._outcome


def made() -> Any:
    """What each of the server's processes runs."""
    work = ENV["BARE_WORK"]
    if work == "unstored":
        return create_app(ledger=Unstored(connect(ENV["REDIS_URL"], connections=THREADS)))
    return Bare(stores=work == "stores")


if __name__ == "__main__":
    ENV["BARE_WORK"] = sys.argv[1]
    options = dict(SERVER)
    if sys.argv[1] == "unstored":
        options |= {"interface": Interfaces.WSGI, "blocking_threads": THREADS}
    Granian(
        "benchmarks.bare_web:made",
        factory=True,
        address="127.0.0.1",
        port=int(sys.argv[2]),
        workers=WORKERS,
        **options,
    ).serve()
