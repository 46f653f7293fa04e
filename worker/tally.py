"""What this process has counted for `/metrics` and Redis does not know yet.

To count costs a microsecond and waits for nobody, so it may stand where the provider's answers come
in. The process hands its counts to the ledger every two seconds and when it ends; one that is
killed loses the last of them.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left

# Upper ends in seconds of the slots of every duration that is counted here; the last has none.
TOPS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SLOTS = (*(f"{top:g}" for top in TOPS), "+Inf")
_counts: dict[str, float] = {}
_lock = threading.Lock()


def add(name: str, amount: float = 1) -> None:
    """Adds to a counter. `name`: as `Counters.count` has it, `name|label|label`."""
    with _lock:
        _counts[name] = _counts.get(name, 0) + amount


def duration(name: str, seconds: float, counter: str | None = None) -> None:
    """Counts one duration: its slot as `NAME|TOP`, its length as `NAME|sum`. `counter`: grows by
    one as well.
    """
    slot, total = f"{name}|{SLOTS[bisect_left(TOPS, seconds)]}", f"{name}|sum"
    with _lock:
        _counts[slot] = _counts.get(slot, 0) + 1
        _counts[total] = _counts.get(total, 0) + seconds
        if counter:
            _counts[counter] = _counts.get(counter, 0) + 1


def taken() -> dict[str, float]:
    """All that was counted; it is kept no longer."""
    with _lock:
        found = dict(_counts)
        _counts.clear()
    return found


def put_back(counts: dict[str, float]) -> None:
    """Counts that were taken and reached nobody."""
    for name, amount in counts.items():
        add(name, amount)


def _forget_the_parents() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _counts.clear()


os.register_at_fork(after_in_child=_forget_the_parents)
