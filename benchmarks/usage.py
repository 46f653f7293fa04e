"""What processes use: memory and processor time, with all that they have started (Linux)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def family(pids: Iterable[int]) -> list[int]:
    """These processes and all that they have started and that still run."""
    found, waiting = list[int](), list(pids)
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
            found.append(pid)
    return found


def resident(pids: Iterable[int]) -> int:
    """Bytes of resident memory. Pages that a child shares with its parent count twice."""
    return sum(
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE for pid in family(pids)
    )


def threads(pids: Iterable[int]) -> int:
    """How many threads there are, the first one of each process included."""
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in family(pids))


def ran_ms(pids: Iterable[int]) -> float:
    """Milliseconds of processor time of these processes alone, to the nanosecond."""
    texts = (
        path.read_text() for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )
    return sum(int(text.split()[0]) for text in texts) / 1e6


def processor_s(pids: Iterable[int]) -> float:
    """Seconds of processor time since they began, of their children that have ended too."""
    ticks = 0
    for pid in family(pids):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])  # own and awaited children's
    return ticks / _TICKS_A_SECOND
