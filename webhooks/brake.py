"""What a wrong guess at a token or a key costs whoever guesses."""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import timedelta

import structlog

from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger
from worker.ledger.counters import REMEDIES

log = structlog.get_logger()
_SAY_AGAIN = timedelta(minutes=1)


class Brake:
    """Holds wrong guesses back: after `free` of them, which come back one a second, each waits
    `pause_s`.

    Who has the right token or key never comes here, so no guessing delays or locks out anybody
    else. At most `at_once` threads wait; what comes beyond is answered at once, because a waiting
    room without end would be a way to stop us.
    """

    def __init__(self, *, free: float = 20, pause_s: float = 0.1, at_once: int = 32) -> None:
        self._free, self._pause_s = free, pause_s
        self._left, self._at = free, time.monotonic()
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(at_once)

    def press(self) -> None:
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


def _tell(ledger: Ledger) -> None:
    with contextlib.suppress(LedgerUnavailable):  # neither a count nor a line is worth an answer
        ledger.count_refusal("key")
        if ledger.once_per("refusal", "key", every=_SAY_AGAIN):
            log.warning("request refused", reason="key", remedy=REMEDIES["key"])
