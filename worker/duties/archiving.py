"""Puts files into the archive, or into its fallback while the archive refuses."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from worker.archive.filing import Archive
from worker.calls.call import Recording
from worker.calls.events import Fault
from worker.duties import trials
from worker.duties.worker import Worker
from worker.errors import Unstored

T = TypeVar("T")
_SAY_EVERY_S = 1.0  # that the archive works; at once after it refused
_SHORTEST, _LONGEST = timedelta(seconds=1), timedelta(seconds=30)


def put(worker: Worker, do: Callable[[Archive], T]) -> T:
    """Do it with the archive. While that refuses: with its fallback, where there is one. Raises
    what the last of them raised; Unstored at once where the archive refused a moment ago.
    """
    archive = worker.archive
    try:
        archive.may_be_asked()
        done = do(archive)
    except (OSError, Unstored) as error:
        archive.answered(error)
        trials.no_room(worker.ledger, worker.settings, error)
        if archive.fallback is None:
            raise
        return do(archive.fallback)
    archive.answered(None)
    if time.monotonic() - archive.told_at >= _SAY_EVERY_S:
        archive.told_at = time.monotonic()
        trials.stored(worker.ledger)
    return done


def room(worker: Worker) -> None:
    """Raises Unstored where so much waits in the spool that no download may begin."""
    kept, most = worker.archive.spool.kept_bytes(), worker.settings.spool_max
    if kept >= most:
        raise Unstored(
            f"{kept} bytes wait in the spool for the archive, ENDTAPE_SPOOL_MAX is {most}; "
            "`endtape doctor` says why the archive refuses"
        )


def again_at(recording: Recording, now: datetime) -> datetime:
    """When to try again after the archive or the spool refused: soon at first, later after as long
    again as it has refused, at most 30 s.
    """
    since = next(
        (f.at for f in reversed(recording.failures) if f.at and f.fault is Fault.STORAGE), now
    )
    wait = min(max(now - since, _SHORTEST), _LONGEST)
    return now + wait * random.uniform(0.7, 1.0)
