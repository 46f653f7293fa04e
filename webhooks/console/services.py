"""What the service stands on, in a line each: queues, clocks, disks, archive and catalogue."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from webhooks.console import words
from worker.calls.obligations import Duty
from worker.catalogue.board import Board
from worker.ledger.presence import ROLES
from worker.settings import Settings

# A stop that waits longer is late; other work may wait for a while.
_LATE = {Duty.PLAN: timedelta(seconds=1)}
_LATE_OTHERWISE = timedelta(minutes=10)
_WORDS = {
    Duty.PLAN: "calls to plan and stop",
    Duty.LOOK: "looks at the provider",
    Duty.FETCH: "recordings to fetch",
    Duty.SURVEY: "surveys",
    Duty.INDEX: "entries of the catalogue",
    Duty.ERASE: "erasures",
    Duty.DAY: "days to close",
    Duty.OFFLOAD: "provider's copies to delete",
    Duty.CDRS: "call records to read",
    Duty.NOTIFY: "notifications",
    Duty.FACTS: "calls whose consent the archive is to be told",
    Duty.HAND_ON: "recordings to hand on",
}
_LITTLE = 1_000_000_000  # bytes of free space

Overdue = Mapping[Duty, tuple[int, timedelta]]


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    says: str
    is_well: bool = True


def services(board: Board, overdue: Overdue, settings: Settings) -> list[Service]:
    """`overdue`: by duty, how many are due and not handed out, and for how long the oldest is."""
    return [
        *_queues(overdue),
        _clocks(board),
        *_disks(board, settings),
        *_stores(board, settings),
    ]


def late(overdue: Overdue) -> Iterator[tuple[str, int, timedelta]]:
    """What waits for longer than it should: its words, how many, and for how long the oldest."""
    for duty, (count, oldest) in overdue.items():
        if oldest > _LATE.get(duty, _LATE_OTHERWISE):
            yield _WORDS.get(duty, duty.value), count, oldest


def _queues(overdue: Overdue) -> Iterator[Service]:
    if not overdue:
        yield Service("Queues", "empty: nothing is due and not begun")
    for duty, (count, oldest) in overdue.items():
        yield Service(
            f"Queue of {_WORDS.get(duty, duty.value)}",
            f"{count} due, the oldest for {words.span(oldest / timedelta(milliseconds=1))}",
            oldest <= _LATE.get(duty, _LATE_OTHERWISE),
        )


def _clocks(board: Board) -> Service:
    count = board.alive.get("clock", 0)
    workers = ", ".join(f"{role} {board.alive.get(role, 0)}" for role in ROLES if role != "clock")
    return Service("Clocks", f"{count} run; workers: {workers}", count > 0)


def _disks(board: Board, settings: Settings) -> Iterator[Service]:
    """Of the machine that shows this page. One that is known not to work is left alone: a mount
    that hangs would hold this thread.
    """
    places = {"spool": settings.spool, "archive": settings.archive}
    for name, place in places.items():
        if why := board.degraded.get(f"{name}@{socket.gethostname()}"):
            yield Service(f"Disk of the {name}", why, is_well=False)
        elif isinstance(place, Path):
            try:
                free = shutil.disk_usage(_nearest(place)).free
            except OSError as error:
                yield Service(f"Disk of the {name}", str(error), is_well=False)
                continue
            yield Service(f"Disk of the {name}", f"{words.size(free)} free", free > _LITTLE)


def _nearest(place: Path) -> Path:
    """The folder, or the one above it that is there."""
    return next((p for p in (place, *place.parents) if p.exists()), place)


def _stores(board: Board, settings: Settings) -> Iterator[Service]:
    archive = "directory" if isinstance(settings.archive, Path) else "bucket"
    yield _store(board, "archive", "Archive", archive)
    database = settings.catalog.partition(":")[0].partition("+")[0]
    yield _store(board, "catalog", "Catalogue", database)


def _store(board: Board, what: str, name: str, kind: str) -> Service:
    """`what`: as processes name it that find it does not work, each for its machine."""
    told = [why for line, why in board.degraded.items() if line.partition("@")[0] == what]
    why = "; ".join(dict.fromkeys(told))
    return Service(name, why or f"{kind}: takes what it is given", is_well=not why)
