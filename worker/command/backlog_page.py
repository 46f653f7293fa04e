"""What `ls` and `retry` share: the names of obligations and the bar while they search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from worker.calls.events import Fault
from worker.calls.obligations import Obligation

FAULTS = [f.value for f in Fault]


def name_of(owed: Obligation) -> str:
    return owed.recording_id or f"call {owed.call_uuid}"


@contextmanager
def searching() -> Iterator[Any]:
    screen = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=screen,
        disable=not screen.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task("recordings ...", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
