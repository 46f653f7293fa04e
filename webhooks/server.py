"""Between the server and the application: a request gets a thread only when all of it is here.

A body that is still on its way costs a coroutine, so slow senders delay nobody, and none of them
for longer than BODY_S. What is larger than a callback may be is never collected. A long answer is
read piece by piece, as its reader takes it, on threads of its own: no reader costs a callback
anything.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from webhooks.body import MAX_BODY
from webhooks.headers import HEADERS

BODY_S = 5.0
READER_S = 60.0  # in which a reader must take a piece of its answer
THREADS = 64  # as many as connections to Redis
WAITING_THREADS = (
    512  # of `/v1`, where a request may wait for a proof; they must not take a callback's
)
STREAMS = 64  # long answers at once; each costs a file and a piece in memory
STREAM_THREADS = 16  # each is busy only while a piece is read
_ASCII = "".join(map(chr, range(128)))
_COLLECTED = 1024 * 1024  # a longer answer is sent piece by piece
_PIECE = 64 * 1024

SERVER: dict[str, Any] = {
    # granian's own interface (RSGI) hands the path over decoded, though the signature covers it as
    # it was sent, and takes a long answer into memory as fast as it is read, however slow the
    # reader is.
    "interface": Interfaces.ASGINL,
    "backlog": 2048,
    "log_access": False,
    "websockets": False,
    # Only so does the time for headers also hold for a connection that says nothing at all; it
    # would be kept for ever.
    "http": HTTPModes.http1,
    "http1_settings": HTTP1Settings(header_read_timeout=5000, max_buffer_size=64 * 1024),
}
"""What granian is told, in production and in tests."""

Pairs = list[tuple[str, str]]
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """`pieces`: what is to be sent instead of `body`, None when that is all."""

    status: int
    headers: Pairs
    body: bytes = b""
    pieces: Iterable[bytes] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Body:
    """`cut`: the sender went away before the end."""

    content: bytes = b""
    cut: bool = False


class Serving:
    """A WSGI application as the server's ASGI interface serves it."""

    def __init__(
        self, application: Application, *, streams: int = STREAMS, reader_s: float = READER_S
    ) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="request")
        self._waiting = ThreadPoolExecutor(WAITING_THREADS, thread_name_prefix="caller")
        self._reading = ThreadPoolExecutor(STREAM_THREADS, thread_name_prefix="stream")
        self._streams_left, self._reader_s = streams, reader_s

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        try:
            async with asyncio.timeout(BODY_S):
                body = await _body(headers, receive)
        except TimeoutError:
            await _send(send, _SLOW)
            return
        environ = _environ(scope, headers, body)
        callers = environ["PATH_INFO"].lstrip("/").startswith("v1/")  # as the router reads it
        threads = self._waiting if callers else self._threads
        answer = await asyncio.get_running_loop().run_in_executor(threads, self._answer, environ)
        if answer.pieces is None:
            await _send(send, answer)
        else:
            await self._stream(answer, answer.pieces, receive, send)

    def _answer(self, environ: dict[str, Any]) -> _Answer:
        said: list[tuple[int, Pairs]] = []

        def start_response(status: str, headers: Pairs, _: object = None) -> None:
            said.append((int(status[:3]), headers))

        pieces = self._application(environ, start_response)
        status, headers = said[-1]
        length = next((value for name, value in headers if name.lower() == "content-length"), None)
        if environ["REQUEST_METHOD"] != "HEAD" and (length is None or int(length) > _COLLECTED):
            return _Answer(status=status, headers=headers, pieces=pieces)
        try:
            return _Answer(status=status, headers=headers, body=b"".join(pieces))
        finally:
            _close(pieces)

    async def _stream(
        self, answer: _Answer, pieces: Iterable[bytes], receive: Receive, send: Send
    ) -> None:
        """Sends a long answer as its reader takes it; a reader that goes away, or takes nothing for
        long, ends it.
        """
        read = asyncio.get_running_loop().run_in_executor
        if self._streams_left <= 0:
            await read(self._reading, _close, pieces)
            await _send(send, _BUSY)
            return
        self._streams_left -= 1
        gone, rest = asyncio.ensure_future(_gone(receive)), iter(pieces)
        try:
            await send(_start(answer))
            while not gone.done() and (piece := await read(self._reading, _next, rest)):
                async with asyncio.timeout(self._reader_s):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            pass  # the server closes the connection: the answer is shorter than announced
        finally:
            self._streams_left += 1
            gone.cancel()
            await read(self._reading, _close, pieces)


_SLOW = _Answer(
    status=408,
    headers=[("content-type", "text/plain"), ("connection", "close"), *HEADERS.items()],
    body=b"the body did not arrive in time\n",
)
_BUSY = _Answer(
    status=503,
    headers=[("content-type", "application/problem+json"), ("retry-after", "5"), *HEADERS.items()],
    body=json.dumps(
        {
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "as many long answers as may be at once are being read; ask again",
        }
    ).encode(),
)


def _next(pieces: Iterable[bytes]) -> bytes:
    """The next pieces as one of about _PIECE bytes; empty at the end."""
    found, size = [], 0
    for piece in pieces:
        found.append(piece)
        size += len(piece)
        if size >= _PIECE:
            break
    return b"".join(found)


def _close(pieces: Iterable[bytes]) -> None:
    close = getattr(pieces, "close", None)
    if close:
        close()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, answer: _Answer) -> None:
    await send(_start(answer))
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


def _start(answer: _Answer) -> dict[str, Any]:
    return {
        "type": "http.response.start",
        "status": answer.status,
        "headers": [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in answer.headers],
    }


async def _body(headers: dict[str, str], receive: Receive) -> _Body:
    """All of it, but of one that is too large no more than it takes for the application to see
    that.
    """
    if "content-length" not in headers and "transfer-encoding" not in headers:
        return _Body()
    if _declared(headers) > MAX_BODY:
        return _Body()
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return _Body(content=body, cut=True)
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return _Body(content=body[: MAX_BODY + 1])
        if not message.get("more_body"):
            return _Body(content=body)


def _declared(headers: dict[str, str]) -> int:
    length = headers.get("content-length") or "0"
    return int(length) if length.isascii() and length.isdigit() else 0


def _headers(scope: dict[str, Any]) -> dict[str, str]:
    """By name in lower case; one that was sent several times is joined."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _environ(scope: dict[str, Any], headers: dict[str, str], body: _Body) -> dict[str, Any]:
    raw_path = scope["raw_path"]
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "RAW_URI": raw_path.decode("latin-1"),
        "PATH_INFO": unquote_to_bytes(raw_path).decode("latin-1"),
        "QUERY_STRING": quote(scope["query_string"], safe=_ASCII),
        "SERVER_NAME": scope["server"][0],
        "SERVER_PORT": scope["server"][1],
        "SERVER_PROTOCOL": "HTTP/1.0"
        if scope["http_version"] == "1"
        else f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": scope["client"][0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body.content),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in headers.items():
        if "_" not in name:  # it could pass for another that we trust
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    if not environ.get("HTTP_HOST"):
        environ.pop("HTTP_HOST", None)  # none was sent; the server puts in an empty one
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ.pop("HTTP_CONTENT_LENGTH", None)
    environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
    # A body that broke off is shorter than announced, also where nothing was.
    environ["CONTENT_LENGTH"] = str(max(len(body.content) + body.cut, _declared(headers)))
    return environ
