"""One HTTP exchange by libcurl, to vetted addresses only.

The environment has no influence on it: no proxy, no `.netrc`, no certificate variables. It follows
no redirect, decodes no content, and keeps no connection.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Protocol

import pycurl

from worker.vobiz.addresses import Address

CONNECT_S = 10.0  # for all addresses together, with the handshake of TLS
MAX_ADDRESSES = 4
MAX_HEADER_LINES = 100
MAX_HEADER_BYTES = 64 * 1024
BUFFER_BYTES = 512 * 1024
_TICK_S = 0.1
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: .*)?")
_CUT = {pycurl.E_RECV_ERROR, pycurl.E_PARTIAL_FILE, pycurl.E_GOT_NOTHING}
_of_thread = threading.local()


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How slow a host may be. The headers must be complete within `within_s` seconds. Then at least
    `least_bytes` of the body must come in every `within_s`.

    A transfer that brings 10 bytes a second may last for ever.
    """

    within_s: float = 20.0
    least_bytes: int = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request. We dial only `numbers`, the vetted addresses of its host."""

    address: Address
    numbers: Sequence[str]
    headers: Mapping[str, str]
    ca_file: str
    patience: Patience
    method: str = "GET"
    body: bytes | None = None


@dataclass(slots=True)
class Head:
    """A status and its headers. Names are in lower case; values of the same name keep their
    order.
    """

    status: int
    headers: dict[str, list[str]] = field(default_factory=dict)

    def all(self, name: str) -> list[str]:
        return self.headers.get(name, [])

    def get(self, name: str) -> str | None:
        """The last header of this name."""
        return self.all(name)[-1] if self.all(name) else None


class Trouble(Exception):
    """The exchange failed. `cut`: the connection ended early. `encoded`: the body came in a coding
    that we did not ask for. `status`: None if no status line came.
    """

    def __init__(
        self, message: str, *, status: int | None = None, cut: bool = False, encoded: bool = False
    ) -> None:
        super().__init__(message)
        self.status, self.cut, self.encoded = status, cut, encoded


class Silent(Trouble):
    """The host sent too little for too long. The connection itself did not fail."""


class Receiver(Protocol):
    """Takes an answer. If a method raises, the exchange ends and `perform` raises the same."""

    def on_head(self, head: Head) -> None:
        """Once, before any of the body."""

    def on_body(self, block: bytes) -> None:
        """For each part of the body, at most 16 KiB: without the framing of chunks, not decoded."""

    def on_tick(self) -> None:
        """At the beginning, and then ten times a second while blocks come, and about once a second
        while none do.
        """


def perform(request: Request, receiver: Receiver) -> None:
    """Run one exchange to its end, in this thread. Raises Trouble, and what the receiver raises."""
    easy = _handle()
    run = _Run(request, receiver)
    try:
        prepare(easy, request, run)
        easy.perform()
    except pycurl.error as error:
        if run.raised is None:
            raise _trouble(easy, error, run) from None
    finally:
        easy.reset()
    if run.raised is not None:
        raise run.raised
    if not run.head_is_complete:
        raise Trouble("the answer ended within its headers", status=run.status, cut=True)


def _handle() -> pycurl.Curl:
    """The handle of this thread, made after the last fork. We keep it because a new one would read
    the certificates again, which takes 20 ms.
    """
    if getattr(_of_thread, "process", None) != os.getpid():
        _of_thread.process, _of_thread.easy = os.getpid(), pycurl.Curl()
    easy: pycurl.Curl = _of_thread.easy
    return easy


def prepare(easy: pycurl.Curl, request: Request, run: _Run) -> None:
    """Set up a handle that is new, or was reset."""
    address, numbers = request.address, request.numbers[:MAX_ADDRESSES]
    for option, value in {
        pycurl.URL: f"{address.scheme}://{address.netloc}/",
        pycurl.REQUEST_TARGET: address.target,
        pycurl.CUSTOMREQUEST: request.method,
        pycurl.HTTPHEADER: [header_line(name, value) for name, value in request.headers.items()],
        pycurl.PROTOCOLS: pycurl.PROTO_HTTPS if address.scheme == "https" else pycurl.PROTO_HTTP,
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.HTTP_CONTENT_DECODING: 0,
        pycurl.FOLLOWLOCATION: 0,
        # An empty name switches all proxies off, also those of the environment.
        pycurl.PROXY: "",
        pycurl.NOPROXY: "*",
        pycurl.NETRC: pycurl.NETRC_IGNORED,
        pycurl.CAINFO: request.ca_file,
        pycurl.SSL_VERIFYPEER: 1,
        pycurl.SSL_VERIFYHOST: 2,
        pycurl.SSLVERSION: pycurl.SSLVERSION_TLSv1_2,
        # A kept connection leads to an address that was vetted for another request.
        pycurl.FRESH_CONNECT: 1,
        pycurl.FORBID_REUSE: 1,
        pycurl.RESOLVE: [f"{address.host}:{address.port}:{','.join(map(_bracketed, numbers))}"],
        pycurl.OPENSOCKETFUNCTION: run.dial,
        pycurl.CONNECTTIMEOUT_MS: int(CONNECT_S * 1000),
        pycurl.NOSIGNAL: 1,
        pycurl.BUFFERSIZE: BUFFER_BYTES,
        pycurl.HEADERFUNCTION: run.header,
        pycurl.WRITEFUNCTION: run.body,
        pycurl.XFERINFOFUNCTION: run.tick,
        pycurl.NOPROGRESS: 0,
    }.items():
        easy.setopt(option, value)
    if request.body is not None:
        easy.setopt(pycurl.POSTFIELDS, request.body)


def header_line(name: str, value: str) -> bytes:
    """A header as libcurl takes it. Raises ValueError for one that would be sent otherwise."""
    if not value or any(c in value for c in "\r\n\0"):
        raise ValueError(
            f"the header {name} cannot be sent: it is empty, or holds the end of a line"
        )
    return f"{name}: {value}".encode("latin-1")


def _bracketed(number: str) -> str:
    return f"[{number}]" if ":" in number else number


class _Run:
    """libcurl's callbacks for one exchange. None of them raises, for libcurl would lose the
    exception: `raised` keeps it.
    """

    def __init__(self, request: Request, receiver: Receiver) -> None:
        self.raised: BaseException | None = None
        self.status: int | None = None
        self.head_is_complete = False
        self._request, self._receiver = request, receiver
        self._allowed = {ip_address(number) for number in request.numbers}
        self._lines = self._header_bytes = self._bytes = 0
        self._head: Head | None = None
        self._since = time.monotonic()  # when the current span of patience began, and
        self._bytes_then = 0  # the bytes that had come by then
        self._tick_at = 0.0

    def dial(self, _purpose: int, peer: Any) -> Any:
        """Make the socket for a connection. Refuses an address that was not vetted, even if libcurl
        resolved a name to it.
        """
        family, kind, protocol, where = peer
        if ip_address(where[0]) not in self._allowed or where[1] != self._request.address.port:
            self.raised = Trouble(f"{where[0]} was to be dialled, which nobody vetted")
            return pycurl.SOCKET_BAD
        return socket.socket(family, kind, protocol)

    def header(self, line: bytes) -> int | None:
        try:
            if (
                not self.head_is_complete
            ):  # afterwards only trailers can come, behind a body in chunks
                self._header(line)
        except BaseException as error:  # noqa: BLE001
            self.raised = error
            return -1
        return None

    def _header(self, raw: bytes) -> None:
        self._lines += 1
        self._header_bytes += len(raw)
        if self._lines > MAX_HEADER_LINES or self._header_bytes > MAX_HEADER_BYTES:
            raise Trouble(
                f"more than {MAX_HEADER_LINES} lines or {MAX_HEADER_BYTES} bytes of headers"
            )
        line = raw.strip()
        if status_line := _STATUS.fullmatch(line):
            self.status = int(status_line[1])
            self._head = Head(self.status)
        elif self._head is None:
            raise Trouble("the answer does not begin as HTTP does")
        elif line:
            name, _, value = line.decode("latin-1").partition(":")
            self._head.headers.setdefault(name.strip().lower(), []).append(value.strip())
        elif self._head.status >= 200:  # 1xx is provisional: another head follows
            self.head_is_complete, self._since = True, time.monotonic()
            self._receiver.on_head(self._head)

    def body(self, block: bytes) -> int | None:
        # Called ten thousand times for 200 MB, so all that can wait is done in `tick`.
        try:
            begun = time.monotonic()
            self._receiver.on_body(block)
            self._since += time.monotonic() - begun  # a slow disk is not the host's silence
            self._bytes += len(block)
        except BaseException as error:  # noqa: BLE001
            self.raised = error
            return -1
        return None

    def tick(self, *_: int) -> int:
        now = time.monotonic()
        if now < self._tick_at:
            return 0
        self._tick_at = now + _TICK_S
        try:
            self._receiver.on_tick()
            self._patience()
        except BaseException as error:  # noqa: BLE001
            self.raised = self.raised or error
            return 1
        return 0

    def _patience(self) -> None:
        patience, now = self._request.patience, time.monotonic()
        received = self._bytes - self._bytes_then
        if received >= patience.least_bytes:
            self._bytes_then, self._since = self._bytes, now
        elif now - self._since > patience.within_s:
            progress = (
                f"{received} bytes of the body" if self.head_is_complete else "no whole headers"
            )
            raise Silent(f"silent: {progress} in {patience.within_s:g} s", status=self.status)


def _trouble(easy: pycurl.Curl, error: pycurl.error, run: _Run) -> Trouble:
    number, text = error.args[0], error.args[-1]
    errno = easy.getinfo(pycurl.OS_ERRNO)
    why = f"{text} ({os.strerror(errno)})" if errno else str(text)
    return Trouble(
        why[:300],
        status=run.status,
        cut=number in _CUT,
        encoded=number == pycurl.E_BAD_CONTENT_ENCODING,
    )
