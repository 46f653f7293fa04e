"""How the `problem` of a recording names the check that its file failed, and reading that back.
Pure.

The ledger of a day judges recordings as `/v1` shows them, and only `problem` names the check there.
"""

from __future__ import annotations

import re

_FAILED = re.compile(r"archived although (\w+) failed: ")


def archived_although(check: str, why: str) -> str:
    """The problem of a recording that was archived although its file failed a check."""
    return f"archived although {check} failed: {why}"


def failed_check(problem: str | None) -> str | None:
    """The check that such a problem names; None for any other problem."""
    match = _FAILED.match(problem or "")
    return match[1] if match else None
