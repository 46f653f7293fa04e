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
from worker.catalogue.last_hour import Figure
from worker.catalogue.listing import Listing
from worker.catalogue.live import Live
from worker.ledger.client import Ledger
from worker.settings import Settings

SHOWN = 100  # rows on the page
_EVERY_S = 1.0
_FIGURES_EVERY_S = 15.0
_SHARE = 10  # a board is good for so many times its processor time: it shares with callbacks


def breathe() -> None:
    """Lets callbacks go first: a thread that only computes keeps the event loop waiting for 5 ms
    each time.
    """
    time.sleep(0.00005)


class Now:
    """`settings` is called for each board, so that a reload takes effect."""

    def __init__(
        self, ledger: Ledger, settings: Callable[[], Settings], live: Live, listing: Listing
    ) -> None:
        self._ledger, self._settings, self._live, self._listing = ledger, settings, live, listing
        self._lock = threading.Lock()
        self._board: Board | None = None
        self._overdue: Overdue = {}
        self._figures: tuple[Figure, ...] = ()
        self._good_until = self._figures_until = 0.0

    def board(self) -> Board:
        """Raises LedgerUnavailable."""
        with self._lock:
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

    def figures(self) -> tuple[Figure, ...]:
        """Lateness and tail of the last hour. Raises LedgerUnavailable."""
        with self._lock:
            if time.monotonic() >= self._figures_until:
                self._figures = last_hour.figures(
                    self._listing, self._settings().accounts, self._ledger.now()
                )
                self._figures_until = time.monotonic() + _FIGURES_EVERY_S
            return self._figures
