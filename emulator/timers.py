"""Work that the emulator does later or in other threads: a timer thread, a thread pool, a count of
open work.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable

Act = Callable[[], object]
Trouble = Callable[[Exception], None]


class Timers:
    """Calls functions at their time, all in one thread. The functions must be quick.

    An exception goes to `trouble`, and the next function follows.
    """

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble
        self._heap: list[tuple[float, int, Act]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._open = True
        threading.Thread(target=self._run, name="emulator-timers", daemon=True).start()

    def after(self, seconds: float, act: Act) -> None:
        """Calls `act` once, `seconds` from now. With 0 it is called at once, in the caller's
        thread.
        """
        if seconds <= 0:
            act()
            return
        with self._changed:
            heapq.heappush(self._heap, (time.monotonic() + seconds, next(self._order), act))
            if self._heap[0][2] is act:
                self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._open = False
            self._heap.clear()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._open and (not self._heap or self._heap[0][0] > time.monotonic()):
                    self._changed.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                if not self._open:
                    return
                act = heapq.heappop(self._heap)[2]
            _run_safely(act, self.trouble)


class ThreadPool:
    """A thread pool of daemon threads, started as they are needed, up to `size`. Unlike an executor
    it never delays the exit of Python.
    """

    def __init__(self, size: int, trouble: Trouble) -> None:
        self._size = size
        self._trouble = trouble
        self._work: queue.SimpleQueue[Act | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._waiting = 0

    def run(self, act: Act) -> None:
        with self._lock:
            self._waiting += 1
            if self._waiting > self._threads and self._threads < self._size:
                self._threads += 1
                threading.Thread(target=self._loop, name="emulator-pool", daemon=True).start()
        self._work.put(act)

    def close(self) -> None:
        for _ in range(self._threads):
            self._work.put(None)

    def _loop(self) -> None:
        while (act := self._work.get()) is not None:
            _run_safely(act, self._trouble)
            with self._lock:
                self._waiting -= 1


class Busy:
    """Counts open work, and waits until there is none."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def begin(self) -> None:
        with self._changed:
            self._count += 1

    def end(self) -> None:
        with self._changed:
            self._count -= 1
            if not self._count:
                self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Waits until there is no open work. False: `timeout` seconds passed first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, timeout)


def _run_safely(act: Act, trouble: Trouble) -> None:
    try:
        act()
    except Exception as error:  # it must not end the thread that all others share
        trouble(error)
