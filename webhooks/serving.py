"""Between the server and the application: a request gets a thread only when all of it is here.

A body that is still on its way costs a coroutine, so slow senders delay nobody, and none of them for longer than
BODY_S. What is larger than a callback may be is never collected.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from webhooks.receiver import MAX_BODY

BODY_S = 5.0
THREADS = 64                    # as many as connections to Redis
WAITING_THREADS = 512           # of `/v1`, where a request may wait for a proof; they must not take a callback's
_ASCII = "".join(map(chr, range(128)))
_COLLECTED = 1024 * 1024        # a longer answer is sent piece by piece

Headers = list[tuple[str, str]]
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """`pieces`: what is still to be sent after `body`, None when that is all."""

    status: int
    headers: Headers
    body: bytes = b""
    pieces: Iterable[bytes] | None = None


class Serving:
    """A WSGI application as granian's own interface serves it."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="request")
        self._waiting = ThreadPoolExecutor(WAITING_THREADS, thread_name_prefix="caller")

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        try:
            async with asyncio.timeout(BODY_S):
                body = await _body(scope, proto)
        except TimeoutError:
            proto.response_str(408, [("content-type", "text/plain"), ("connection", "close")], "the body did not arrive in time\n")
            return
        loop, threads = asyncio.get_running_loop(), self._waiting if scope.path.startswith("/v1/") else self._threads
        answer = await loop.run_in_executor(threads, self._answer, _environ(scope, body))
        if answer.pieces is None:
            proto.response_bytes(answer.status, answer.headers, answer.body)
            return
        transport, pieces = proto.response_stream(answer.status, answer.headers), iter(answer.pieces)
        try:
            while (piece := await loop.run_in_executor(self._threads, next, pieces, None)) is not None:
                await transport.send_bytes(piece)
        finally:
            await loop.run_in_executor(self._threads, _close, answer.pieces)

    def _answer(self, environ: dict[str, Any]) -> _Answer:
        said: list[tuple[int, Headers]] = []

        def start_response(status: str, headers: Headers, _: object = None) -> None:
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


def _close(pieces: Iterable[bytes]) -> None:
    close = getattr(pieces, "close", None)
    if close:
        close()


async def _body(scope: Any, proto: Any) -> bytes:
    """All of it, but of one that is too large no more than it takes for the application to see that."""
    body: bytes = b""
    if _declared(scope) > MAX_BODY:
        return body
    async for piece in proto:
        body += piece
        if len(body) > MAX_BODY:
            return body[:MAX_BODY + 1]
    return body


def _declared(scope: Any) -> int:
    length: str = scope.headers.get("content-length") or "0"
    return int(length) if length.isascii() and length.isdigit() else 0


def _environ(scope: Any, body: bytes) -> dict[str, Any]:
    host, _, port = scope.server.rpartition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.method, "SCRIPT_NAME": "", "QUERY_STRING": quote(scope.query_string, safe=_ASCII, errors="replace"),
        "PATH_INFO": scope.path.encode("utf-8", "surrogateescape").decode("latin-1"),       # granian has undone the escapes
        "SERVER_NAME": host, "SERVER_PORT": port, "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": scope.client.rpartition(":")[0], "wsgi.version": (1, 0), "wsgi.url_scheme": scope.scheme,
        "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr, "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False,
    }
    for name, value in scope.headers.items():
        if "_" not in name:     # it could pass for another that we trust
            key = f"HTTP_{name.upper().replace('-', '_')}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ.pop("HTTP_CONTENT_LENGTH", None)
    environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
    environ["CONTENT_LENGTH"] = str(max(len(body), _declared(scope)))
    return environ
