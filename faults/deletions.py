"""Deletions at the provider, as its emulator saw them: each only of what was in the archive."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

_DELETED = re.compile(r".*/Recording/([^/]+)/")


def deletions(log: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """By recording: when it was to be deleted at the provider, the first time first."""
    found: dict[str, list[float]] = {}
    for entry in log:
        if entry["kind"] == "request" and entry["method"] == "DELETE":
            match = _DELETED.fullmatch(entry["path"])
            if match:
                found.setdefault(match[1], []).append(entry["at"])
    return found


def was_home(receipts: Sequence[Mapping[str, Any]], at: float) -> bool:
    """Whether one of these receipts of a recording was written before this instant."""
    fetched = [receipt.get("fetch", {}).get("fetched_at") for receipt in receipts]
    return any(text and datetime.fromisoformat(text).timestamp() <= at for text in fetched)
