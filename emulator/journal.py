"""The journal: every request received and every callback sent. The oldest are dropped."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import Any


class Journal:
    """Entries are numbered from 1 without gaps, in the order of the answers and callbacks."""

    def __init__(self, size: int = 200_000) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=size)
        self._lock = threading.Lock()
        self._seq = 0

    def write(self, kind: str, entry: dict[str, Any]) -> None:
        with self._lock:
            self._seq += 1
            self._entries.append({"seq": self._seq, "kind": kind, **entry})

    def since(self, seq: int = 0) -> list[dict[str, Any]]:
        """The entries with a number above `seq` that are still in memory."""
        with self._lock:
            skipped = len(self._entries) - (self._seq - max(seq, 0))
            return list(itertools.islice(self._entries, max(skipped, 0), None))
