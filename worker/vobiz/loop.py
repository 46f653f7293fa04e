"""The one loop of a process that sends every REST request: libcurl, in a thread of its own.

Any thread hands requests to it and gets a future for each. Connections are kept alive and shared by
all threads of the process. Nothing in the environment reaches them: no proxy, no `.netrc`, no
certificate variables; no redirect is followed, and no request leaves twice.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import pycurl
import structlog
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from worker.errors import TryAgain
from worker.vobiz.answers import Answer
from worker.vobiz.transport import header_line

log = structlog.get_logger()

MAX_ANSWER_BYTES = 8 * 1024 * 1024
MAX_CONNECTIONS = 256  # to one host; a request beyond them waits for a free connection
# Idle ones, of all hosts together. With fewer, each batch of stops would make its connections anew.
KEPT_CONNECTIONS = MAX_CONNECTIONS
_SWEEP_S = 0.1  # how exactly silence is measured
_LONGEST_SLEEP_S = 60.0
# A connection that is closed is forgotten at once. Otherwise the kernel goes on sending what a dead
# link did not take, and a request that was given up arrives when the link is back (seen 10 s later:
# a transfer that was reported as unclear).
_FORGET_AT_ONCE = struct.pack("ii", 1, 0)
_EVENTS = {
    pycurl.POLL_IN: selectors.EVENT_READ,
    pycurl.POLL_OUT: selectors.EVENT_WRITE,
    pycurl.POLL_INOUT: selectors.EVENT_READ | selectors.EVENT_WRITE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeLimits:
    """Seconds that a request may take."""

    connect_s: float  # to resolve the name and connect, with the handshake of TLS
    silence_s: float  # between the request and its answer, or two parts of the answer
    total_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RestRequest:
    """One request. `url` is absolute, and is sent as it is."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    limits: TimeLimits


def send(requests: Sequence[RestRequest], then: Sequence[Then] = ()) -> list[Future[Answer]]:
    """Hand requests to the loop of this process, all at once, and return a future for each.

    A future raises TryAgain for whatever is no whole HTTP answer. `then`: a callback for each
    request. Callbacks run in the loop's thread: they must not block. Those in `then` are there
    before the loop begins. To add them afterwards takes several times as long, because both threads
    want the interpreter then.
    """
    return _current().send(requests, then)


Then = Callable[[Future[Answer]], object]


@dataclass(slots=True, eq=False)
class _Transfer:
    """One request under way, and what came of its answer so far."""

    request: RestRequest
    future: Future[Answer] = field(default_factory=Future)
    lines: list[bytes] = field(default_factory=list)
    blocks: list[bytes] = field(default_factory=list)
    size: int = 0
    has_left: bool = False
    is_stale: bool = False  # the kept connection that it was to leave on had ended
    wants_new: bool = False  # so it goes out on a new connection, or fails
    progress: tuple[bool, int, int] = (False, 0, 0)  # at the last sweep that saw any
    progress_at: float = 0.0

    def on_block(self, block: bytes) -> int | None:
        self.size += len(block)
        if self.size > MAX_ANSWER_BYTES:
            return -1
        self.blocks.append(block)
        return None

    def is_silent(self, now: float) -> bool:
        """Whether nothing happened for too long. Before the request leaves, other limits hold."""
        progress = (self.has_left, len(self.lines), self.size)
        if progress != self.progress or not self.has_left:
            self.progress, self.progress_at = progress, now
        return now - self.progress_at > self.request.limits.silence_s

    def answer(self, status: int) -> Answer:
        return Answer(status=status, headers=_headers(self.lines), body=b"".join(self.blocks))


def _headers(lines: Sequence[bytes]) -> dict[str, str]:
    """The headers of the last head: provisional ones (1xx) come before it, trailers behind it."""
    headers: dict[str, str] = {}
    within = False
    for raw in lines:
        line = raw.decode("latin-1").strip()
        if line.startswith("HTTP/"):
            headers, within = {}, True
        elif not line:
            within = False
        elif within:
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _is_cut(lines: Sequence[bytes]) -> bool:
    """Whether the last head lacks its end. Libcurl takes such an answer for a whole one."""
    cut = True
    for line in lines:
        cut = line.startswith(b"HTTP/") or (cut and bool(line.strip()))
    return cut


class _Loop:
    """Runs transfers in a thread of its own. All methods but `send` belong to that thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wakes, self._waker = socket.socketpair()
        self._wakes.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._wakes, selectors.EVENT_READ)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, KEPT_CONNECTIONS)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._handed_over: deque[_Transfer] = deque()
        self._is_awake = True  # by the thread's start; False: it sleeps, or is about to
        self.error: BaseException | None = None
        self._running: dict[pycurl.Curl, _Transfer] = {}
        # Handles that did their work well, by whether they sent a body.
        self._spare: dict[bool, list[pycurl.Curl]] = {False: [], True: []}
        self._kept: dict[int, int] = {}  # the sockets of idle connections, by their local ports
        self._timer_at: float | None = None  # when libcurl wants to be called
        self._sweep_at = 0.0
        threading.Thread(target=self._run, name="rest", daemon=True).start()

    def send(self, requests: Sequence[RestRequest], then: Sequence[Then]) -> list[Future[Answer]]:
        transfers = [_Transfer(request) for request in requests]
        for transfer, callback in zip(transfers, then, strict=False):
            transfer.future.add_done_callback(callback)
        with self._lock:
            if self.error:
                raise TryAgain(f"the loop of requests broke: {self.error}")
            self._handed_over.extend(transfers)
            wake, self._is_awake = not self._is_awake, True
        if wake:
            self._waker.send(b"x")
        return [transfer.future for transfer in transfers]

    def _run(self) -> None:
        try:
            while True:
                self._begin_transfers()
                self._wait()
                self._end_transfers()
        except BaseException as error:
            log.exception("the loop of requests broke; the next request makes a new one")
            with self._lock:
                self.error = error
            left = (*self._running.values(), *self._handed_over)
            for transfer in (one for one in left if not one.future.done()):
                transfer.future.set_exception(TryAgain(f"the loop of requests broke: {error}"))

    def _begin_transfers(self) -> None:
        while self._handed_over:
            transfer = self._handed_over.popleft()
            try:
                spare = self._spare[transfer.request.body is not None]
                easy = spare.pop() if spare else _new_handle()
                _prepare(easy, transfer)
                easy.setopt(pycurl.PREREQFUNCTION, partial(self._before_request, transfer))
            except Exception as error:  # noqa: BLE001 - what libcurl cannot send is this one's fault
                transfer.future.set_exception(error)
                continue
            self._running[easy] = transfer
            self._multi.add_handle(easy)

    def _before_request(self, transfer: _Transfer, *connection: Any) -> int:
        """Libcurl calls this when a connection stands, just before the request leaves on it.

        A second call for the same transfer means that a kept connection died, and that libcurl
        would send the request again. Libcurl itself checks a kept connection only when that was
        idle for a second.
        """
        number = self._kept.pop(connection[-1], None)
        if transfer.has_left:
            return int(pycurl.PREREQFUNC_ABORT)
        if number is not None and not transfer.wants_new and _has_ended(number):
            transfer.is_stale = True
            return int(pycurl.PREREQFUNC_ABORT)
        transfer.has_left = True
        return int(pycurl.PREREQFUNC_OK)

    def _wait(self) -> None:
        """Sleep until a socket is ready, a timer is due or a request is handed over."""
        for key, events in self._selector.select(self._sleep_s()):
            if key.fileobj is self._wakes:
                self._wakes.recv(64)
            else:
                mask = pycurl.CSELECT_IN if events & selectors.EVENT_READ else 0
                mask |= pycurl.CSELECT_OUT if events & selectors.EVENT_WRITE else 0
                self._multi.socket_action(key.fd, mask)
        with self._lock:
            self._is_awake = True
        if self._timer_at is not None and time.monotonic() >= self._timer_at:
            self._timer_at = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def _sleep_s(self) -> float:
        with self._lock:
            if self._handed_over:
                return 0.0
            self._is_awake = False
        wake_at = time.monotonic() + (_SWEEP_S if self._running else _LONGEST_SLEEP_S)
        if self._timer_at is not None:
            wake_at = min(wake_at, self._timer_at)
        return max(0.0, wake_at - time.monotonic())

    def _end_transfers(self) -> None:
        left = 1
        while left:
            left, succeeded, failed = self._multi.info_read()
            for easy in succeeded:
                self._end(easy, None)
            for easy, number, text in failed:
                self._end(easy, _reason(easy, number, text))
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_S
            silent = [easy for easy, transfer in self._running.items() if transfer.is_silent(now)]
            for easy in silent:
                limit_s = self._running[easy].request.limits.silence_s
                self._end(easy, f"nothing came for {limit_s:g} s")

    def _end(self, easy: pycurl.Curl, reason: str | None) -> None:
        transfer = self._running[easy]  # and there until nothing can break any more
        status = easy.getinfo(pycurl.RESPONSE_CODE)
        number = easy.getinfo(pycurl.ACTIVESOCKET)
        if number >= 0:  # else the server closed the connection with its answer
            self._kept[easy.getinfo(pycurl.LOCAL_PORT)] = number
        self._multi.remove_handle(easy)
        if reason is None:
            self._spare[transfer.request.body is not None].append(easy)
        if transfer.is_stale:
            transfer.is_stale, transfer.wants_new = False, True
            self._handed_over.append(transfer)
        elif reason is None and not _is_cut(transfer.lines):
            transfer.future.set_result(transfer.answer(status))
        elif transfer.size > MAX_ANSWER_BYTES:
            text = f"the provider's answer is larger than {MAX_ANSWER_BYTES} bytes"
            transfer.future.set_exception(TryAgain(text, status=status))
        else:
            reason = reason or "the answer ended within its headers"
            text = f"{transfer.request.method} failed: {reason}"
            transfer.future.set_exception(TryAgain(text))
        transfer.lines.clear()  # the spare handle still knows them
        transfer.blocks.clear()
        del self._running[easy]

    def _on_socket(self, what: int, number: int, *_: object) -> None:
        if what == pycurl.POLL_REMOVE:
            with contextlib.suppress(KeyError):
                self._selector.unregister(number)
            return
        try:
            self._selector.modify(number, _EVENTS[what])
        except KeyError:
            self._selector.register(number, _EVENTS[what])

    def _on_timer(self, milliseconds: int) -> None:
        self._timer_at = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000


def _new_handle() -> pycurl.Curl:
    """A handle with the options that are the same for every request."""
    easy = pycurl.Curl()
    for option, value in (
        (pycurl.PATH_AS_IS, 1),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
        (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
        (pycurl.FOLLOWLOCATION, 0),
        # An empty name switches all proxies off, also those of the environment.
        (pycurl.PROXY, ""),
        (pycurl.NOPROXY, "*"),
        (pycurl.NETRC, pycurl.NETRC_IGNORED),
        (pycurl.CAINFO, DEFAULT_CA_BUNDLE_PATH),
        (pycurl.SSL_VERIFYPEER, 1),
        (pycurl.SSL_VERIFYHOST, 2),
        (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
        (pycurl.DNS_CACHE_TIMEOUT, 1),  # one look-up for a batch, and no address for long
        (pycurl.NOSIGNAL, 1),
        (pycurl.OPENSOCKETFUNCTION, _open_socket),
    ):
        easy.setopt(option, value)
    return easy


def _prepare(easy: pycurl.Curl, transfer: _Transfer) -> None:
    """Sets every option that differs from request to request: the handle may have sent another."""
    request, limits = transfer.request, transfer.request.limits
    headers = _header_lines(tuple(request.headers.items()))
    if request.body is not None:
        easy.setopt(pycurl.POSTFIELDS, request.body)
        headers = [*headers, b"Expect:"]  # no `100-continue`
    for option, value in (
        (pycurl.URL, request.url),
        (pycurl.CUSTOMREQUEST, request.method),
        (pycurl.HTTPHEADER, headers),
        (pycurl.CONNECTTIMEOUT_MS, int(limits.connect_s * 1000)),
        (pycurl.TIMEOUT_MS, int(limits.total_s * 1000)),
        (pycurl.FRESH_CONNECT, int(transfer.wants_new)),
        (pycurl.HEADERFUNCTION, transfer.lines.append),
        (pycurl.WRITEFUNCTION, transfer.on_block),
    ):
        easy.setopt(option, value)


@lru_cache(maxsize=64)  # the stops of an account all have the same ones
def _header_lines(headers: tuple[tuple[str, str], ...]) -> list[bytes]:
    return [header_line(name, value) for name, value in headers]


def _has_ended(number: int) -> bool:
    """Whether the idle connection of this socket was closed, or received what nobody asked for."""
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


def _open_socket(_purpose: int, peer: Any) -> socket.socket:
    family, kind, protocol, _ = peer
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FORGET_AT_ONCE)
    return made


def _reason(easy: pycurl.Curl, number: int, text: str) -> str:
    errno = easy.getinfo(pycurl.OS_ERRNO)
    if number == pycurl.E_ABORTED_BY_CALLBACK:
        text = "the connection ended without an answer"
    return f"{text} ({os.strerror(errno)})"[:300] if errno else text[:300]


_loop: _Loop | None = None
_making = threading.Lock()
_of_parents: list[_Loop] = []  # never freed: that would say goodbye on the parent's connections


def _current() -> _Loop:
    global _loop  # noqa: PLW0603 - one per process, made on first use after the fork
    with _making:
        if _loop is None or _loop.error:
            _loop = _Loop()
        return _loop


def _leave_the_parents_loop() -> None:
    global _loop, _making
    if _loop is not None:
        _of_parents.append(_loop)
    _loop, _making = None, threading.Lock()


os.register_at_fork(after_in_child=_leave_the_parents_loop)
