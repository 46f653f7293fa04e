"""How many recordings there are in each phase, for `/metrics`: counted by one process for all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import islice

from worker.calls.call import RUNNING, Phase
from worker.catalogue.board import is_unproven
from worker.catalogue.live import Live
from worker.ledger.client import Ledger
from worker.settings import Settings

EVERY = timedelta(seconds=15)
_SHARE = 20  # a census that took long is taken again after so many times as long
_AT_ONCE = 500
PHASES = tuple(p.value for p in Phase if p not in {Phase.ARCHIVED, Phase.ERASED})


class Census:
    """For one process. It takes its turn with the others, and more rarely where that takes long."""

    def __init__(self, ledger: Ledger, settings: Callable[[], Settings]) -> None:
        """`settings` is called for each census, so that a reload takes effect."""
        self._ledger, self._settings, self._every = ledger, settings, EVERY
        self._live = Live(ledger, lambda: settings().rules)

    def turn(self) -> None:
        """Takes the census, unless a process did lately. Raises LedgerUnavailable."""
        if self._ledger.once_per("census", "all", every=self._every):
            began = time.monotonic()
            self.take()
            took = timedelta(seconds=time.monotonic() - began)
            self._every = max(EVERY, _SHARE * took)

    def take(self) -> None:
        """Counts the recordings that are not home, and those of them that may still run and whose
        stop `is_unproven`, and publishes both as gauges. Raises LedgerUnavailable.
        """
        gauges = dict[str, float]()
        for account in self._settings().accounts:
            counts = Counter[str](dict.fromkeys(PHASES, 0))
            unproven, sights = 0, self._ledger.live([account])
            while some := list(islice(sights, _AT_ONCE)):
                for _, view in self._live.views(some):
                    if view["phase"] in counts:
                        counts[view["phase"]] += 1
                    is_running = view["phase"] in RUNNING
                    unproven += is_running and is_unproven(view["stop"])
            gauges |= {f"recordings|{account}|{phase}": n for phase, n in counts.items()}
            gauges[f"stops_unproven|{account}"] = unproven
        self._ledger.publish_gauges(gauges)
