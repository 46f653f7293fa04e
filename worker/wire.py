"""How the provider spells numbers, times and telephone numbers; pure, and tolerant by design.

The provider sends every value as a string, durations as `"60040.00000"`, unknown ones as `-1` or an empty string,
and instants in four spellings: epoch milliseconds, ISO 8601 with `T` and `Z`, `YYYY-MM-DD HH:MM:SS.fffff+05:30`, and
without any zone (UTC for `SessionStart`, India's for the `StartTime`, `AnswerTime` and `EndTime` of a hang-up).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation

INDIA = timezone(timedelta(hours=5, minutes=30))
_SANE_YEARS = range(2000, 2200)
_LONGEST_S = 30 * 86400        # a call ends after a day at the latest; nothing lasts longer than it is kept
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def number(value: object) -> float | None:
    """A finite number above 0, or None: the provider's -1, 0, empty, `nan` and words all mean "not known"."""
    if value is None or isinstance(value, bool):
        return None
    try:
        found = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return float(found) if found.is_finite() and 0 < found < Decimal(10) ** 18 else None


def seconds(milliseconds: float | None) -> float | None:
    """A duration in seconds, or None where it is not known or longer than any call can be."""
    found = None if milliseconds is None else milliseconds / 1000
    return found if found is not None and found <= _LONGEST_S else None


def instant(value: object, *, naive: timezone = UTC) -> datetime | None:
    """Any of the four spellings as aware UTC, or None. `naive` is the zone of a time that names none."""
    text = str(value or "").strip()
    milliseconds = number(text)
    try:
        if milliseconds is not None:
            found = datetime.fromtimestamp(milliseconds / 1000, UTC)
        else:
            found = datetime.fromisoformat(_six_digits(text))
            found = found.replace(tzinfo=naive) if found.tzinfo is None else found
    except (ValueError, OverflowError, OSError):
        return None
    return found.astimezone(UTC) if found.year in _SANE_YEARS else None


def digits(value: object) -> str | None:
    """A telephone number as digits, without `+` or a leading `00`; None where there is none."""
    text = "".join(c for c in str(value or "") if c in "0123456789")
    return text.removeprefix("00") or None


def identifier(value: object) -> str | None:
    """An opaque id of at most 128 safe characters, or None. Ids become keys and file names, so nothing else passes."""
    text = str(value or "").strip()
    return text if _ID.fullmatch(text) else None


def _six_digits(text: str) -> str:
    # Five-digit fractions occur (`12:05:27.79276+05:30`); Python 3.11 reads three or six.
    return re.sub(r"\.(\d+)", lambda m: "." + m.group(1)[:6].ljust(6, "0"), text)
