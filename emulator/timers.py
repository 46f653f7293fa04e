"""What the provider does later or aside: one thread that watches the time, a crew of threads, a
count of open work.
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
    """Calls things at their time, in one thread however many there are. What it calls must be
    quick.

    What a step raises goes to `trouble`, and the next one follows.
    """

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble
        self._heap: list[tuple[float, int, Act]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._open = True
        threading.Thread(target=self._run, name="emulator-timers", daemon=True).start()

    def after(self, seconds: float, act: Act) -> None:
        """Calls `act` once, `seconds` from now; at once and in this thread if that is now."""
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


class Crew:
    """Daemon threads, started as they are needed, up to a number; unlike an executor it never
    delays the exit.
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
                threading.Thread(target=self._loop, name="emulator-crew", daemon=True).start()
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
    """How much is under way, and a way to wait until nothing is."""

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
        """True as soon as nothing is under way, False if `timeout` seconds pass first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, timeout)


def _run_safely(act: Act, trouble: Trouble) -> None:
    try:
        act()
    except Exception as error:  # one broken step must not end the thread that all others share
        trouble(error)
