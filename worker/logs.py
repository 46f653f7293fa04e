"""Logs to standard error, as text or JSON, without secrets.

A secret is hidden in three ways: by the name of its field, by its place in a callback's path, and
by its value. The last also covers the lines of other libraries, and tracebacks.

Standard error may block for good: a pipe whose reader hangs, a terminal that somebody stopped. So
whoever logs only adds to a queue, which one thread writes. The queue has a limit: what comes while
it is full is dropped and counted, and a line tells how many once standard error takes lines again.
"""

from __future__ import annotations

import io
import json
import logging
import os
import queue
import re
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from functools import lru_cache
from multiprocessing import util
from typing import Any, TextIO, cast

import structlog

_MOST = 4 * 1024 * 1024  # characters that may wait
# So long the thread waits for more lines: one call of the system writes many of them.
_PAUSE_S = 0.01
_FLUSH_S = 1.0

# Standard error is on a full disk or its reader has gone; is closed; does not exist.
_UNWRITTEN = (OSError, ValueError, AttributeError)

HIDDEN = "(hidden)"
_SHORTEST = 8  # shorter secrets would be found in ordinary words
_SECRET = re.compile(
    r"(auth[-_]?token|api[-_]?key|authorization|signature|secret|password)", re.IGNORECASE
)
_DOOR = "/vobiz/"
_PATH_TOKEN = re.compile(rf"({_DOOR}[^/\s]+/)[^/\s?\"']+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NEEDS_QUOTES = re.compile(r"""[ \t="']""")

_secrets: tuple[str, ...] = ()  # the longest first: it may contain another
_logged_at: dict[tuple[str, ...], float] = {}

Event = MutableMapping[str, Any]


# Secrets
# ------------------------------------------------------------------------------------------------


def hide(secrets: Iterable[str]) -> None:
    """From now on no log line of this process shows these. Secrets of fewer than eight characters
    are not hidden.
    """
    global _secrets  # noqa: PLW0603 - what no line of this process may show
    known = {*_secrets, *(secret for secret in secrets if len(secret) >= _SHORTEST)}
    _secrets = tuple(sorted(known, key=len, reverse=True))


def clean(text: str) -> str:
    """`text` without known secrets and without tokens of callback paths."""
    for secret in _secrets:
        text = text.replace(secret, HIDDEN)
    return _PATH_TOKEN.sub(rf"\1{HIDDEN}", text) if _DOOR in text else text


@lru_cache(1024)
def _is_secret(name: str) -> bool:
    return _SECRET.search(name) is not None


def _shown(value: Any) -> Any:
    """A value as it may be shown: without secrets, and without control characters, so that a text
    cannot begin a line of its own.
    """
    if isinstance(value, str):
        text = clean(value)
        return text if text.isprintable() else _CONTROL.sub("?", text)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, list | tuple | set):
        return [_shown(v) for v in value]
    if isinstance(value, dict):
        return {
            _shown(str(name)): HIDDEN if _is_secret(str(name)) else _shown(v)
            for name, v in value.items()
        }
    return _shown(repr(value))


# Lines
# ------------------------------------------------------------------------------------------------


def _fields(event: Event) -> dict[str, Any]:
    """What a line shows. A traceback keeps its lines."""
    exception = event.pop("exception", None)
    fields = {name: HIDDEN if _is_secret(name) else _shown(value) for name, value in event.items()}
    if exception is not None:
        fields["exception"] = clean(exception)
    return fields


def _as_json(_: Any, __: str, event: Event) -> str:
    return json.dumps(_fields(event)) + "\n"


def _as_text(_: Any, __: str, event: Event) -> str:
    fields = _fields(event)
    when, level, what = (fields.pop(name) for name in ("timestamp", "level", "event"))
    exception = fields.pop("exception", None)
    rest = " ".join([f"{name}={_quoted(fields[name])}" for name in sorted(fields)])
    line = f"{when} [{level:<9}] {what!s:<30} {rest}".rstrip(" ")
    return f"{line}\n" if exception is None else f"{line}\n{exception}\n"


def _quoted(value: Any) -> str:
    if isinstance(value, str) and not _NEEDS_QUOTES.search(value):
        return value
    return repr(value)


def seldom(*about: object, every_s: float = 60.0) -> bool:
    """Whether to log about these facts: False when this process did within `every_s` seconds.

    Errors count as the same fact when their class and their text up to the first colon are equal:
    an address, or the repr of a library's object, may follow the colon.
    """
    # Without a lock, since a child may be forked while another thread holds it. At worst a line
    # comes twice.
    key, now = tuple(_kind(fact) for fact in about), time.monotonic()
    if now - _logged_at.get(key, -every_s) < every_s:
        return False
    if len(_logged_at) > 10_000:
        _logged_at.clear()
    _logged_at[key] = now
    return True


def _kind(fact: object) -> str:
    return (
        f"{type(fact).__name__}: {str(fact).partition(':')[0]}"
        if isinstance(fact, BaseException)
        else str(fact)
    )


# The queue
# ------------------------------------------------------------------------------------------------


class _Queue:
    """One per process. Each process has its own thread and lock, made at its first line: a child
    that is forked inherits neither, and nothing that waits, which its parent writes.
    """

    def __init__(self, told: Callable[[int], str], *, most: int = _MOST) -> None:
        """`told` makes the line that says how many were dropped. `most`: how many characters may
        wait.
        """
        self._told, self._most = told, most
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        # Reentrant: a signal's handler may log in the midst of a line of the same thread.
        self._lock = threading.RLock()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._lines: list[str] = []
        self._size = self._dropped = 0
        self._is_running = False

    def put(self, text: str) -> None:
        """Queues `text`, which ends its line itself, or drops it. Never waits for standard error,
        and never raises.
        """
        with self._lock:
            if self._size + len(text) > self._most:
                self._dropped += 1
                return
            is_first = not self._lines
            self._size += len(text)
            self._lines.append(text)
            if not self._is_running:
                self._start()
            if is_first:
                self._wake.put(None)

    def flush(self, within_s: float = _FLUSH_S) -> None:
        """Returns when all that was queued is written, or after `within_s` seconds."""
        end = time.monotonic() + within_s
        while self._size and time.monotonic() < end:
            time.sleep(0.001)

    def _start(self) -> None:
        self._is_running = True
        try:
            threading.Thread(target=self._run, name="log", daemon=True).start()
        except RuntimeError:  # no thread can be had just now; the next line tries again
            self._is_running = False
            return
        # Unlike `atexit` it also runs in the children of `multiprocessing`; late, for what others
        # log at their end.
        util.Finalize(None, self.flush, exitpriority=-1)

    def _run(self) -> None:
        while True:
            self._wake.get()
            self._write_all()
            time.sleep(_PAUSE_S)

    def _write_all(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
            dropped, self._dropped = self._dropped, 0  # while these lines waited
        lost = sum(count for data, count in _pieces(lines) if not _is_written(data))
        if dropped and not lost and _is_written(self._told(dropped).encode()):
            dropped = 0
        with self._lock:
            self._size -= sum(map(len, lines))
            self._dropped += lost + dropped


def _pieces(lines: Sequence[str]) -> Iterator[tuple[bytes, int]]:
    """The lines joined to pieces, each with the number of its lines. A pipe that several processes
    share takes a piece of PIPE_BUF bytes whole, so lines do not mix.
    """
    piece, count = b"", 0
    for line in lines:
        data = line.encode("utf-8", "backslashreplace")
        if count and len(piece) + len(data) > select.PIPE_BUF:
            yield piece, count
            piece, count = b"", 0
        piece, count = piece + data, count + 1
    if count:
        yield piece, count


def _is_written(data: bytes) -> bool:
    """Whether all of it went to whatever standard error is by now."""
    try:
        # Not through its buffer, whose lock would stop whoever else prints there, and the end of
        # the process.
        _write(sys.stderr.fileno(), data)
    except io.UnsupportedOperation:  # something that only looks like a file
        return _is_printed(data.decode())
    except _UNWRITTEN:
        return False
    return True


def _is_printed(text: str) -> bool:
    try:
        sys.stderr.write(text)
    except _UNWRITTEN:
        return False
    return True


def _write(number: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(number, left) :]
        except BlockingIOError:  # somebody who shares it made it non-blocking
            select.select((), (number,), ())


# This process
# ------------------------------------------------------------------------------------------------

_processors: list[Any] = []  # of structlog: from what was logged to its line


def _told(dropped: int) -> str:
    """The line that says how many lines were dropped, in the form of the others."""
    line: Any = {"event": "log lines were dropped: standard error took none", "lines": dropped}
    for process in _processors:
        line = process(None, "warning", line)
    return str(line)


_writer = _Queue(_told)


class _Lines:
    """What structlog gives finished lines to, whatever their level."""

    def msg(self, line: str) -> None:
        _writer.put(line)

    debug = info = warning = error = critical = msg


class _StandardError:
    """The same queue as a file, for the standard library's handler."""

    def write(self, text: str) -> None:
        _writer.put(text)

    def flush(self) -> None:
        pass


class _Clean(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record))


def set_up(form: str, secrets: Iterable[str] = (), *, least: int = logging.INFO) -> None:
    """Sets up the logs of this process, and the warnings of other libraries. `form`: text or json.
    `secrets` are hidden. `least`: the level below which nothing is logged.
    """
    hide(secrets)
    _processors[:] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        # A traceback shows no variables: those of a request hold its headers and environment.
        structlog.processors.format_exc_info,
        _as_json if form == "json" else _as_text,
    ]
    structlog.configure(
        processors=[*_processors],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    console = logging.StreamHandler(cast("TextIO", _StandardError()))
    console.setFormatter(_Clean("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[console])


def flush() -> None:
    """Returns when the lines so far are written, or after a second.

    A process does this by itself when it ends, unless by `os._exit`.
    """
    _writer.flush()
