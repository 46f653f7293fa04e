"""What a worker process needs for its duties, in one value.

Every duty is a step that may happen twice: load, decide, act, record what happened. A DELETE stops
nothing that began later, a look only reads, and a fetch publishes under a name that is never
overwritten. If a process dies in the middle of a step, its lease runs out and the obligation is due
again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import structlog

from worker import logs
from worker.archive.filing import Archive
from worker.calls.rules import Rules
from worker.catalogue.database import Catalogue
from worker.ledger.client import Ledger
from worker.settings import Settings
from worker.vobiz.client import Vobiz

log = structlog.get_logger()


@dataclass(slots=True)
class Worker:
    """The ledger, the provider's client, archive, catalogue and the settings of one process.

    `threads`: the pool that sends requests. `first_start`: when the first Endtape process began
    to use this ledger. `generation`: how many reloads the settings have seen; None where the
    process does not follow reloads. `ending`: whether the process was asked to end; long work is
    then given back.
    """

    ledger: Ledger
    vobiz: Vobiz
    archive: Archive
    catalogue: Catalogue
    settings: Settings
    threads: ThreadPoolExecutor
    first_start: datetime
    generation: int | None = None
    ending: Callable[[], bool] = lambda: False

    @property
    def rules(self) -> Rules:
        """The rules in force."""
        return self.settings.rules

    def alert(self, what: str, **facts: object) -> None:
        """Raise an alert: something that a person should see.

        Each alert counts in `/metrics`. The log has one line a minute at most for the same alert
        about the same recording, call or account. Raises LedgerUnavailable.
        """
        about = str(facts.get("recording_id") or facts.get("call_uuid") or facts.get("account"))
        if logs.seldom("alert", what, about):
            log.error("alert", what=what, **facts)
        self.ledger.count({f"alerts_total|{what}": 1})
