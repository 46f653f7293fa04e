"""Between the server and the application: a request gets a thread only when all of it is here.

A body that is still on its way costs a coroutine, so slow senders delay nobody; after BODY_S the
sender gets 408. A body larger than MAX_BODY is never collected; only a file that is linked to a
recording is read as it comes, by the application, and few at once. A long answer is read piece by
piece, as its reader takes it, on threads of its own, so no reader delays a callback.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from werkzeug.exceptions import ClientDisconnected

from webhooks.body import MAX_BODY, Body
from webhooks.console.streams import PATH as STREAM_PATH
from webhooks.console.streams import Streams
from webhooks.door.asgi import AsgiDoor
from webhooks.door.receiver import Answer
from webhooks.headers import HEADERS

BODY_S = 5.0  # a body must arrive within
READER_S = 60.0  # a reader must take each piece of its answer within
THREADS = 64  # as many as connections to Redis
# For `/v1` and the console: a request there may wait for a proof, or read for long, and must not
# take a thread from a callback.
WAITING_THREADS = 512
STREAMS = 64  # long answers at once; each costs an open file and a piece in memory
UPLOADS = 8  # files that come at once
STREAM_THREADS = 16  # each is busy only while it reads a piece
_ASCII = "".join(map(chr, range(128)))
_COLLECTED = 1024 * 1024  # bytes; a longer answer is sent piece by piece
_PIECE = 64 * 1024  # bytes
_DOOR = b"/vobiz/"
_UPLOAD = re.compile(rb"/v1/recordings/[^/]+/derived/?")
_QUICK = ("vobiz/", "healthz", "readyz", "metrics")

SERVER: dict[str, Any] = {
    # Not granian's own interface (RSGI). RSGI gives the decoded path, and the signature covers the
    # path as it was sent. RSGI also takes a long answer into memory at once, however slow its
    # reader.
    "interface": Interfaces.ASGINL,
    "backlog": 2048,
    "log_access": False,
    "websockets": False,
    # With HTTP/1 alone the time limit for headers also holds for a connection that sends nothing.
    # Otherwise the server would keep that connection for ever.
    "http": HTTPModes.http1,
    "http1_settings": HTTP1Settings(header_read_timeout=5000, max_buffer_size=64 * 1024),
}
"""The arguments of granian, in production and in tests."""

Pairs = list[tuple[str, str]]
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """An answer of the application: `body`, or `pieces` where it is long."""

    status: int
    headers: Pairs
    body: bytes = b""
    pieces: Iterable[bytes] | None = None


class Serving:
    """A WSGI application as the server's ASGI interface serves it. Callbacks go to `door`, and the
    streams of the console to `open_pages`; both answer on the event loop.

    `streams`: how many long answers may be sent at once. `reader_s`: seconds in which a reader must
    take each piece. `body_s`: seconds in which a body must arrive.
    """

    def __init__(
        self,
        application: Application,
        door: AsgiDoor | None = None,
        open_pages: Streams | None = None,
        *,
        streams: int = STREAMS,
        reader_s: float = READER_S,
        body_s: float = BODY_S,
    ) -> None:
        self._application, self._door, self._open_pages = application, door, open_pages
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="request")
        self._waiting = ThreadPoolExecutor(WAITING_THREADS, thread_name_prefix="caller")
        self._reading = ThreadPoolExecutor(STREAM_THREADS, thread_name_prefix="stream")
        self._uploads_left = UPLOADS
        self._streams_left, self._reader_s, self._body_s = streams, reader_s, body_s

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        if scope["method"] == "POST" and _UPLOAD.fullmatch(scope["raw_path"]):
            await self._upload(scope, headers, receive, send)
            return
        try:
            async with asyncio.timeout(self._body_s):
                body = await _body(headers, receive)
        except TimeoutError:
            await _send(send, _SLOW)
            return
        if self._door and scope["raw_path"].startswith(_DOOR):
            told = await self._door.answer(
                scope["method"], scope["raw_path"], _query(scope), headers, body
            )
            if told:
                await _send_told(send, told, scope["method"])
                return
        if self._open_pages and scope["raw_path"] == STREAM_PATH and scope["method"] == "GET":
            await self._open_pages.answer(_query(scope), headers, receive, send)
            return
        environ = _environ(scope, headers, body)
        is_quick = environ["PATH_INFO"].lstrip("/").startswith(_QUICK)  # as the router reads it
        threads = self._threads if is_quick else self._waiting
        answer = await asyncio.get_running_loop().run_in_executor(threads, self._answer, environ)
        if answer.pieces is None:
            await _send(send, answer)
        else:
            await self._stream(answer, answer.pieces, receive, send)

    async def _upload(
        self, scope: dict[str, Any], headers: dict[str, str], receive: Receive, send: Send
    ) -> None:
        """Runs the application for a request whose body is a file, which the application reads
        piece by piece, once it knows the key to be good.
        """
        if self._uploads_left <= 0:
            await _send(send, _BUSY)
            return
        self._uploads_left -= 1
        loop, environ = asyncio.get_running_loop(), _environ(scope, headers, Body())
        environ["wsgi.input"] = io.BufferedReader(_Incoming(receive, loop, self._reader_s), _PIECE)
        if "content-length" not in headers:
            del environ["CONTENT_LENGTH"]
            environ["wsgi.input_terminated"] = "transfer-encoding" in headers
        try:
            answer = await loop.run_in_executor(self._waiting, self._answer, environ)
            await _send(send, answer)
        finally:
            self._uploads_left += 1

    def _answer(self, environ: dict[str, Any]) -> _Answer:
        """Runs the application. A short answer comes whole; one that is long, or of unknown length,
        in pieces.
        """
        heads: list[tuple[int, Pairs]] = []

        def start_response(status: str, headers: Pairs, _: object = None) -> None:
            heads.append((int(status[:3]), headers))

        pieces = self._application(environ, start_response)
        status, headers = heads[-1]
        length = next((value for name, value in headers if name.lower() == "content-length"), None)
        is_long = length is None or int(length) > _COLLECTED
        if is_long and environ["REQUEST_METHOD"] != "HEAD":
            return _Answer(status=status, headers=headers, pieces=pieces)
        try:
            return _Answer(status=status, headers=headers, body=b"".join(pieces))
        finally:
            _close(pieces)

    async def _stream(
        self, answer: _Answer, pieces: Iterable[bytes], receive: Receive, send: Send
    ) -> None:
        """Sends a long answer as its reader takes it. It ends early when the reader goes away, or
        takes no piece for `reader_s`.
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


class _Incoming(io.RawIOBase):
    """A body, read on a thread as it comes. Raises ClientDisconnected where the sender goes away,
    or sends nothing for `piece_s`.
    """

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop, piece_s: float) -> None:
        self._receive, self._loop, self._piece_s = receive, loop, piece_s
        self._piece, self._is_last = memoryview(b""), False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._piece and not self._is_last:
            coming = asyncio.run_coroutine_threadsafe(self._message(), self._loop)
            try:
                message = coming.result(self._piece_s)
            except TimeoutError:
                coming.cancel()
                raise ClientDisconnected from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            self._piece = memoryview(message.get("body", b""))
            self._is_last = not message.get("more_body")
        taken = self._piece[: len(buffer)]
        buffer[: len(taken)] = taken
        self._piece = self._piece[len(taken) :]
        return len(taken)

    async def _message(self) -> dict[str, Any]:
        return await self._receive()


def _next(pieces: Iterable[bytes]) -> bytes:
    """The next pieces, joined to one of about _PIECE bytes; empty at the end."""
    taken, size = [], 0
    for piece in pieces:
        taken.append(piece)
        size += len(piece)
        if size >= _PIECE:
            break
    return b"".join(taken)


def _close(pieces: Iterable[bytes]) -> None:
    close = getattr(pieces, "close", None)
    if close:
        close()


async def _gone(receive: Receive) -> None:
    """Returns when the reader has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, answer: _Answer) -> None:
    await send(_start(answer))
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


async def _send_told(send: Send, answer: Answer, method: str) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": _told(answer)})
    body = b"" if method == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body, "more_body": False})


@lru_cache(maxsize=64)
def _told(answer: Answer) -> list[tuple[bytes, bytes]]:
    """The headers of a door's answer, of which there are few."""
    return _encoded([*answer.headers(), *HEADERS.items()])


def _start(answer: _Answer) -> dict[str, Any]:
    return {
        "type": "http.response.start",
        "status": answer.status,
        "headers": _encoded(answer.headers),
    }


def _encoded(headers: Pairs) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), v.encode("latin-1")) for name, v in headers]


async def _body(headers: dict[str, str], receive: Receive) -> Body:
    """The whole body. If it exceeds MAX_BODY: the first MAX_BODY + 1 bytes, or nothing where its
    length was declared; that is enough for the application to answer 413.
    """
    if "content-length" not in headers and "transfer-encoding" not in headers:
        return Body()
    if _declared(headers) > MAX_BODY:
        return Body(too_large=True)
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return Body(content=body, cut=True)
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return Body(content=body[: MAX_BODY + 1], too_large=True)
        if not message.get("more_body"):
            return Body(content=body)


def _declared(headers: dict[str, str]) -> int:
    """The declared length of the body; 0 where none, or an impossible one, was declared."""
    length = headers.get("content-length") or "0"
    return int(length) if length.isascii() and length.isdigit() else 0


def _headers(scope: dict[str, Any]) -> dict[str, str]:
    """The headers by name in lower case. The values of one that was sent twice are joined."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _query(scope: dict[str, Any]) -> str:
    """The query in ASCII, whatever was sent."""
    sent: bytes = scope["query_string"]
    return quote(sent, safe=_ASCII) if sent else ""


def _environ(scope: dict[str, Any], headers: dict[str, str], body: Body) -> dict[str, Any]:
    """The request as WSGI has it. `RAW_URI` is the path as it was sent."""
    raw_path = scope["raw_path"]
    is_http_1 = scope["http_version"] == "1"
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "RAW_URI": raw_path.decode("latin-1"),
        "PATH_INFO": unquote_to_bytes(raw_path).decode("latin-1"),
        "QUERY_STRING": _query(scope),
        "SERVER_NAME": scope["server"][0],
        "SERVER_PORT": scope["server"][1],
        "SERVER_PROTOCOL": "HTTP/1.0" if is_http_1 else f"HTTP/{scope['http_version']}",
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
        if "_" not in name:  # in WSGI such a name looks like one with `-`, which we may trust
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    if not environ.get("HTTP_HOST"):
        environ.pop("HTTP_HOST", None)  # the server puts in an empty one where none was sent
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ.pop("HTTP_CONTENT_LENGTH", None)
    environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
    # If the body broke off, state more bytes than we have, even if no length was declared: by that
    # `read_body` finds the break.
    environ["CONTENT_LENGTH"] = str(max(len(body.content) + body.cut, _declared(headers)))
    return environ
