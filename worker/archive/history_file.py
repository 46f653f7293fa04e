"""The history of a day as a file: a line of JSON for each deed, chained. Pure.

Each line has the SHA-256 of the line before it (with its end of line) in `prev`; the first line has
that of the last line of the days before, or NO_LINE where there is none. So a line that is removed
or changed breaks the chain, and the day's own file says how long the chain is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

NO_LINE = "0" * 64


class Deed(Protocol):
    """A deed as the ledger has it: its id, when it was done, and what is said of it."""

    @property
    def id(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def said(self) -> Mapping[str, Any]: ...


class Broken(Exception):
    """The chain does not hold. The text names the line."""


def written(deeds: Iterable[Deed], head: str) -> bytes:
    """The file with these deeds, in order. `head`: the digest of the last line before it."""
    lines = []
    for deed in deeds:
        at = deed.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = {**deed.said, "at": at, "id": deed.id, "prev": head}
        line = json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        lines.append(line.encode() + b"\n")
        head = digest_of(lines[-1])
    return b"".join(lines)


def digest_of(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def read(content: bytes, head: str) -> tuple[list[dict[str, Any]], str]:
    """The lines of a file whose chain begins at `head`, and the digest of the last one. Raises
    Broken.
    """
    said = []
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        try:
            one = json.loads(line)
            prev = one["prev"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise Broken(f"line {number} is no line of a history") from None
        if prev != head:
            raise Broken(f"line {number} does not follow the line before it")
        said.append(one)
        head = digest_of(line)
    return said, head
