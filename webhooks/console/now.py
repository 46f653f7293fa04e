"""What happens now, for the first page: computed at most once a second for all tabs of a process,
and more rarely where that takes long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from webhooks.console.services import Overdue
from worker.catalogue import board, last_hour
from worker.catalogue.board import Board
from worker.catalogue.last_hour import Hour
from worker.catalogue.listing import Listing
from worker.catalogue.live import Live
from worker.ledger.client import Ledger
from worker.settings import Settings

SHOWN = 100  # rows on the page
_EVERY_S = 1.0
_HOUR_EVERY_S = 15.0
_MEANWHILE_S = 10.0  # so long the last board is good for others while a new one is made
_SHARE = 10  # a board is good for so many times its processor time: it shares with callbacks


class Breath:
    """Lets callbacks go first. A thread that computes for long calls this every now and then: it
    then computes for `stretch_s` and pauses for `pause_s`, by turns.

    A callback needs Python's lock some ten times until it is answered, and each time a thread that
    computes keeps it for up to a stretch.
    """

    def __init__(self, *, stretch_s: float, pause_s: float) -> None:
        self._stretch_s, self._pause_s, self._until = stretch_s, pause_s, 0.0

    def __call__(self) -> None:
        if time.perf_counter() > self._until:
            time.sleep(self._pause_s)
            self._until = time.perf_counter() + self._stretch_s


def quick() -> Breath:
    """For a page that somebody waits for."""
    return Breath(stretch_s=0.002, pause_s=0.00005)


def patient() -> Breath:
    """For what nobody waits for: in a pause a callback goes all the way."""
    return Breath(stretch_s=0.0002, pause_s=0.004)


class Now:
    """`settings` is called for each board, so that a reload takes effect."""

    def __init__(
        self, ledger: Ledger, settings: Callable[[], Settings], live: Live, listing: Listing
    ) -> None:
        self._ledger, self._settings, self._live, self._listing = ledger, settings, live, listing
        self._lock, self._hour_lock = threading.Lock(), threading.Lock()
        self._board: Board | None = None
        self._overdue: Overdue = {}
        self._hour = Hour()
        self._good_until = self._hour_until = 0.0

    def board(self, breathe: Callable[[], None] | None = None) -> Board:
        """The board of now. While somebody makes it, which may take a second where they breathe
        patiently, all others have the last one. Raises LedgerUnavailable.
        """
        last = self._board
        if last is None or time.monotonic() > self._good_until + _MEANWHILE_S:
            with self._lock:
                return self._made(breathe or quick())
        if not self._lock.acquire(blocking=False):
            return last
        try:
            return self._made(breathe or quick())
        finally:
            self._lock.release()

    def _made(self, breathe: Callable[[], None]) -> Board:
        if self._board is None or time.monotonic() >= self._good_until:
            began = time.thread_time()
            accounts = list(self._settings().accounts)
            self._overdue = self._ledger.overdue()
            self._board = board.compute(self._ledger, self._live, accounts, breathe=breathe)
            took = time.thread_time() - began
            self._good_until = time.monotonic() + max(_EVERY_S, _SHARE * took)
        return self._board

    def overdue(self) -> Overdue:
        """What was due and not handed out when the board was made."""
        return self._overdue

    def due_in(self) -> float:
        """For how many seconds the board stays as it is."""
        return self._good_until - time.monotonic()

    def hour(self) -> Hour:
        """Lateness and tail of the last hour, and what of it is to be explained. Raises
        LedgerUnavailable.
        """
        with self._hour_lock:
            if time.monotonic() >= self._hour_until:
                settings = self._settings()
                self._hour = last_hour.hour(
                    self._listing, settings.accounts, settings.rules, self._ledger.now()
                )
                self._hour_until = time.monotonic() + _HOUR_EVERY_S
            return self._hour
