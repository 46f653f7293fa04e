"""A closed day of an account: what its files say, and how they are named. Pure.

`days/{day}.sha256` lists what was filed that day in the form of `sha256sum`, with names relative to
the account's folder. It also lists the files of the day before, so that no list but the first can
be empty. `days/{day}.json` sums the day up, has the digests of that list and of the history, and
the digest of the `.json` of the day before. So one signed day vouches for all before it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from worker.archive.keys import is_derived

SCHEMA = "endtape/day/1"
_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_./-]{1,600})")
_STEP = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_DAY = re.compile(r"(2[0-9]{3}-[0-9]{2}-[0-9]{2})\.json")
_RECORDING = re.compile(r"[0-9]{4}/[0-9]{2}/[0-9]{2}/[^/]+")
_ENDS = (".absent.json", "absent"), (".erased.json", "erased"), (".json", "archived")


@dataclass(frozen=True, kw_only=True, slots=True)
class Before:
    """The day before: its date, the digest of its `.json`, and the history's last line by then."""

    day: date
    sha256: str
    head: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """What the `.json` of a day says. `listed`: the bytes of the `.sha256`; `history`: those of the
    history file, None where nothing was done; `head`: the digest of the history's last line.
    `missing`: what was expected and is not there. `ledger`: the day's completeness. `before`: None
    for the first day.
    """

    account: str
    day: date
    closed_at: datetime
    listed: bytes
    history: bytes | None
    head: str
    missing: Sequence[Mapping[str, Any]]
    ledger: Mapping[str, Any] | None
    before: Before | None

    def written(self) -> dict[str, Any]:
        """The day as JSON data, unsigned."""
        at = self.closed_at.astimezone(UTC).isoformat(timespec="milliseconds")
        lines = read_list(self.listed)
        return {
            "schema": SCHEMA,
            "account": self.account,
            "day": self.day.isoformat(),
            "closed_at": at.replace("+00:00", "Z"),
            "counts": counts_of(lines),
            "files": {"lines": len(lines), "sha256": _digest(self.listed)},
            "history": {
                "entries": self.history.count(b"\n") if self.history else 0,
                "sha256": _digest(self.history) if self.history else None,
                "head": self.head,
            },
            "ledger": dict(self.ledger) if self.ledger else None,
            "missing": [dict(one) for one in self.missing],
            "before": (
                {"day": self.before.day.isoformat(), "sha256": self.before.sha256}
                if self.before
                else None
            ),
            "signature": None,
        }


# Names, relative to the account's folder
# --------------------------------------------------------------------------------------------------


def day_name(day: date) -> str:
    return f"days/{day.isoformat()}.json"


def list_name(day: date) -> str:
    return f"days/{day.isoformat()}.sha256"


def history_name(day: date) -> str:
    return f"history/{day.isoformat()}.jsonl"


def day_of(last: str) -> date | None:
    """The day of a `.json` by the last step of its name; None for any other file."""
    found = _DAY.fullmatch(last)
    try:
        return date.fromisoformat(found[1]) if found else None
    except ValueError:
        return None


def next_day(day: date) -> date:
    return day + timedelta(days=1)


# The list of files
# --------------------------------------------------------------------------------------------------


def line_of(name: str, sha256: str) -> str:
    """The line of a file, without its end. `name`: from the archive's root."""
    return f"{sha256}  {name.partition('/')[2]}"


def write_list(lines: Iterable[str]) -> bytes:
    """The list, in the order of the names."""
    ordered = sorted(set(lines), key=lambda one: one[66:])
    return "".join(f"{one}\n" for one in ordered).encode()


def read_list(content: bytes) -> dict[str, str]:
    """Name → digest. Raises ValueError, which names the line, for what is no such list."""
    found = {}
    for number, text in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        parts = _LINE.fullmatch(text)
        # The name becomes a path where a day is exported.
        if parts is None or not all(_STEP.fullmatch(step) for step in parts[2].split("/")):
            raise ValueError(f"line {number} is none of a day's list")
        found[parts[2]] = parts[1]
    return found


def is_of_recording(name: str) -> bool:
    """Whether a name belongs to a recording's audio, its receipt or what stands in its place."""
    return bool(_RECORDING.fullmatch(name))


def counts_of(names: Iterable[str]) -> dict[str, int]:
    """How many recordings were archived, given up and erased, how many facts were written; and how
    many files were made from recordings, where there are any.
    """
    counts = Counter[str]({"archived": 0, "absent": 0, "erased": 0, "facts": 0, "audio": 0})
    for name in names:
        if name.startswith("facts/"):
            counts["facts"] += 1
        elif is_derived(name):
            counts["derived"] += name.endswith(".json")
        elif _RECORDING.fullmatch(name):
            counts[next((kind for end, kind in _ENDS if name.endswith(end)), "audio")] += 1
    return dict(counts)


def read(content: bytes) -> dict[str, Any]:
    """The day that a `.json` tells of. Raises ValueError where it tells of none."""
    try:
        said = json.loads(content)
        if said["schema"] != SCHEMA:
            raise ValueError(f"its schema is {said['schema']!r:.60}")
        date.fromisoformat(said["day"])
        history = said["history"]
        texts = (said["account"], said["files"]["sha256"], history["head"])
        if not all(isinstance(text, str) for text in texts) or type(history["entries"]) is not int:
            raise ValueError("a part of it is of another kind")
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"it lacks a part: {error!r:.60}") from None
    return dict(said)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
