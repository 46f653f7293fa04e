"""`python -m worker.processes.alive`: whether a process of this machine sends heartbeats.

A container's health check, where a container is a machine of its own and has one process. Exit
status 0: it does; 1: it does not, or Redis does not answer.
"""

from __future__ import annotations

import socket
import sys

from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger
from worker.ledger.presence import SEEN_WITHIN
from worker.ledger.store import connect
from worker.settings import Settings


def unwell(ledger: Ledger) -> str | None:
    """Why the processes of this machine are not alive; None where one of them is."""
    try:
        machines = ledger.machines(SEEN_WITHIN)
    except LedgerUnavailable as error:
        return f"Redis does not answer ({error})"
    name = socket.gethostname()
    return None if name in machines else f"no heartbeat of a process on {name}"


if __name__ == "__main__":
    settings = Settings.from_env(without_rules=True)
    sys.exit(unwell(Ledger(connect(settings.redis_url, connections=1))))
