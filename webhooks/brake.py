"""The price of wrong guesses at a token or a key: whoever guesses has to wait."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator


class Brake:
    """Holds wrong guesses back: after `free` of them, which come back one a second, each waits
    `pause_s`.

    A request with the right token or key is never held, so guessing delays and locks out nobody
    else. At most `at_once` wait, and further guesses are answered at once: an unlimited
    number of delayed requests would itself be a denial of service.
    """

    def __init__(self, *, free: float = 20, pause_s: float = 0.1, at_once: int = 32) -> None:
        self._free, self._pause_s = free, pause_s
        self._left, self._at = free, time.monotonic()
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(at_once)

    def wait(self) -> None:
        """Called for each wrong guess, before its answer: spends a free guess, or sleeps."""
        with self._held() as pause_s:
            time.sleep(pause_s)

    async def hold(self) -> None:
        """As `wait`, on an event loop."""
        with self._held() as pause_s:
            await asyncio.sleep(pause_s)

    @contextlib.contextmanager
    def _held(self) -> Iterator[float]:
        """How long this guess has to wait (s); while it does, it takes one of the places."""
        if self._spend() or not self._room.acquire(blocking=False):
            yield 0
            return
        try:
            yield self._pause_s
        finally:
            self._room.release()

    def _spend(self) -> bool:
        with self._lock:
            now = time.monotonic()
            self._left, self._at = min(self._free, self._left + now - self._at), now
            if self._left < 1:
                return False
            self._left -= 1
            return True
