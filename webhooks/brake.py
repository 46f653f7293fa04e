"""The price of wrong guesses at a token or a key: whoever guesses has to wait."""

from __future__ import annotations

import threading
import time


class Brake:
    """Holds wrong guesses back: after `free` of them, which come back one a second, each waits
    `pause_s`.

    A request with the right token or key is never held, so guessing delays and locks out nobody
    else. At most `at_once` threads wait, and further guesses are answered at once: an unlimited
    number of delayed requests would itself be a denial of service.
    """

    def __init__(self, *, free: float = 20, pause_s: float = 0.1, at_once: int = 32) -> None:
        self._free, self._pause_s = free, pause_s
        self._left, self._at = free, time.monotonic()
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(at_once)

    def wait(self) -> None:
        """Called for each wrong guess, before its answer: spends a free guess, or sleeps."""
        if not self._spend() and self._room.acquire(blocking=False):
            try:
                time.sleep(self._pause_s)
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
