"""The queue of log lines to standard error, and the thread that writes it.

Standard error may block for good: a pipe whose reader hangs, a terminal that somebody stopped. So
whoever logs only adds to a queue. It has a limit: what comes while it is full is dropped and
counted, and a line tells how many once standard error takes lines again.
"""

from __future__ import annotations

import io
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import util

MOST = 4 * 1024 * 1024  # characters that may wait
# After a first line the thread waits so long for more: lines written together cost a tenth.
PAUSE_S = 0.01
FLUSH_S = 1.0

# Standard error is on a full disk or its reader has gone; is closed; does not exist.
_UNWRITTEN = (OSError, ValueError, AttributeError)


class LogWriter:
    """One per process. Each process has its own thread and lock, made at its first line: a child
    that is forked inherits neither, and nothing that waits, which its parent writes.
    """

    def __init__(self, told: Callable[[int], str], *, most: int = MOST) -> None:
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

    def flush(self, within_s: float = FLUSH_S) -> None:
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
            time.sleep(PAUSE_S)

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
