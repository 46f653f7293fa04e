"""Removes from a machine's spool what another machine brought home, or what was erased."""

from __future__ import annotations

import random
from collections.abc import Iterable

from worker.archive.spool import Spool
from worker.ledger.client import Ledger
from worker.ledger.whose import find_recording

_OLDER_THAN_S = 60.0
_AT_ONCE = 100  # of many, some each time, whichever they are


def remove(ledger: Ledger, accounts: Iterable[str], spool: Spool) -> int:
    """Remove the files of recordings that are archived or erased. What an attempt holds stays, and
    what Redis does not know. Returns of how many recordings. Raises LedgerUnavailable.
    """
    left, known_to = sorted(spool.left(_OLDER_THAN_S)), list(accounts)
    removed = 0
    for recording_id in random.sample(left, min(len(left), _AT_ONCE)):
        known = find_recording(ledger, known_to, recording_id)
        if known and (known[1].archived or known[1].erasing):
            spool.forget(recording_id)
            removed += 1
    return removed
