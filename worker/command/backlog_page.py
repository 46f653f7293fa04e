"""What `ls` and `retry` share: the names of faults and obligations, and the bar of a search."""

from __future__ import annotations

from contextlib import AbstractContextManager

from worker.calls.events import Fault
from worker.calls.obligations import Obligation
from worker.command.terminal import Advance, progress_bar

FAULTS = [f.value for f in Fault]


def name_of(owed: Obligation) -> str:
    return owed.recording_id or f"call {owed.call_uuid}"


def search_bar() -> AbstractContextManager[Advance]:
    return progress_bar("recordings ...")
