"""One HTTP exchange with the emulator: the request, the shapes of its answers, the journal's entry
about it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from emulator.journal import Journal
from emulator.state import new_id

Route = Callable[["Exchange"], None]
Trouble = Callable[[Exception], None]

MAX_BODY = 1 << 20


class BadRequest(Exception):
    """The request cannot be read; answered with 400."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def shutdown(self) -> None:
        """Ends `serve_forever` at once: a connection wakes it before its next poll."""
        ending = threading.Thread(target=super().shutdown, daemon=True)
        ending.start()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.server_address[1]), timeout=1).close()
        ending.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores errors of a broken connection's end. Exchange has handled all others."""


def handler(route: Route, journal: Journal, trouble: Trouble) -> type[BaseHTTPRequestHandler]:
    """A handler class that passes each request to `route`, which answers it."""

    class Bound(Exchange):
        _route = staticmethod(route)
        _journal = journal
        _trouble = staticmethod(trouble)

    return Bound


class Headers(dict[str, str]):
    """A request's headers by lower-case name; `get` accepts any case."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class Exchange(BaseHTTPRequestHandler):
    _route: Route
    _journal: Journal
    _trouble: Trouble
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: a second waits for a delayed acknowledgement
    disable_nagle_algorithm = True
    body: bytes = b""
    url_path: str = ""
    path: str = ""
    arrived_at: float = 0
    raw_requestline: bytes
    further: dict[str, str] | None = None  # a bad day: headers of the next answer
    loses_answer = False  # a bad day: the request takes effect and gets no answer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Requests are kept in the journal, not on the terminal."""

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError) as gone:
            # A client that disconnects is worth a line, not a traceback.
            self._journal.write(
                "gone", {"path": self.path, "at": time.time(), "error": type(gone).__name__}
            )
        except Exception as error:
            self._trouble(error)

    def handle_one_request(self) -> None:
        super().handle_one_request()
        self.path = ""  # a later failure has nothing to do with the request before

    def parse_request(self) -> bool:
        # The base class reads headers with the e-mail parser, which takes as long as all the rest
        # of a stop.
        words = self.raw_requestline.decode("latin-1").split()
        if len(words) != 3 or words[2] != "HTTP/1.1":
            return super().parse_request()
        self.requestline, (self.command, self.path, self.request_version) = " ".join(words), words
        headers = Headers()
        while (line := self.rfile.readline(65_537)) not in {b"\r\n", b"\n", b""}:
            if len(headers) > 100 or len(line) > 65_536:
                self.close_connection = True
                self.send_error(431)
                return False
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        self.headers = headers  # type: ignore[assignment]
        self.close_connection = headers.get("Connection", "").lower() == "close"
        if headers.get("Expect", "").lower() == "100-continue":
            return self.handle_expect_100()
        return True

    def end_headers(self) -> None:
        for name, value in (self.further or {}).items():
            self.send_header(name, value)
        self.further = None
        super().end_headers()

    def _go(self) -> None:
        self.arrived_at = time.time()
        length = self.headers.get("Content-Length") or "0"
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            self.error(411, "a Content-Length is required")
            return
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True
            self.error(400, "bad Content-Length")
            return
        self.body = self.rfile.read(int(length)) if length != "0" else b""
        parts = urlsplit(self.path)
        self.url_path = parts.path
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True)) if parts.query else {}
        try:
            self._route(self)
        except BadRequest as error:
            self.answer(400, {"error": "invalid request", "details": str(error)})

    do_GET = do_POST = do_PUT = do_DELETE = _go

    def given(self) -> dict[str, Any]:
        """The JSON object of the body; empty without a body. Raises BadRequest."""
        try:
            content = json.loads(self.body) if self.body else {}
        except ValueError:
            raise BadRequest("the body is not JSON") from None
        if not isinstance(content, dict):
            raise BadRequest("the body is not a JSON object")
        return content

    def number(self, name: str, default: int) -> int:
        """A parameter of the query. Raises BadRequest."""
        text = self.query.get(name, str(default))
        if not text.isdecimal():
            raise BadRequest(f"{name} is not a number")
        return int(text)

    def note(self, kind: str, **more: Any) -> None:
        self._journal.write(
            kind,
            {
                "method": self.command,
                "path": self.path,
                "auth_id": self.headers.get("X-Auth-ID"),
                "at": self.arrived_at,
                **more,
            },
        )

    @property
    def _end_of_answer(self) -> bytes:
        """A line's end for whoever types at the control API; the provider's answers have none."""
        return b"\n" if self.url_path.startswith("/_control") else b""

    def answer(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        if self.loses_answer:
            self.drop()
            return
        data = b"" if body is None else json.dumps(body).encode() + self._end_of_answer
        self.note("request", body=self.body.decode("utf-8", "replace")[:2000], status=status)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def error(self, status: int, text: str) -> None:
        """Answers in the flat shape that most errors of the provider have."""
        self.answer(status, {"api_id": new_id(), "error": text})

    def envelope(
        self,
        status: int,
        code: str,
        message: str,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answers in the other shape: that of limits and of the provider's own trouble."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self.arrived_at))
        self.answer(
            status,
            {
                "status": "error",
                "error": {"code": code, "message": message, "details": details or {}},
                "timestamp": at,
                "requestId": f"req_{new_id()[:10]}",
            },
            headers,
        )

    def gateway_404(self) -> None:
        """Answers as the provider's gateway does for an unknown route."""
        self.answer(404, {"message": "Not Found"})

    def refuse(self, status: int = 401) -> None:
        self.answer(status, {"error": "invalid credentials"})

    def limited(self, retry_after: float) -> None:
        self.envelope(
            429,
            "RATE_LIMIT_EXCEEDED",
            "CPS limit exceeded for this trunk",
            {"limitType": "cps", "limit": 1, "current": 4, "retryAfter": retry_after},
            {"Retry-After": f"{retry_after:g}"},
        )

    def upstream(self, status: int) -> None:
        self.envelope(status, "SERVICE_UNAVAILABLE", "upstream trouble")

    def drop(self) -> None:
        """Closes the connection without an answer."""
        self.note("request", body=self.body.decode("utf-8", "replace")[:2000], status=0)
        self.close_connection = True
