"""What a list of recordings is asked for: a test of live ones, and SQL for the past."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, or_

from worker import wire
from worker.calls.rules import fits
from worker.catalogue.rows import words
from worker.catalogue.tables import labels, recordings
from worker.ledger.codec import to_ms

_NUMBER = re.compile(r"[0-9+(). -]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The filters of a list; None: any. `stop`: a state of the stop. `number`: digits, with `*` for
    any digits at either end. `label`: name and value. `q`: a part of any id, number or label.
    """

    phase: str | None = None
    stop: str | None = None
    fault: str | None = None
    rule: str | None = None
    number: str | None = None
    label: tuple[str, str] | None = None
    call_uuid: str | None = None
    account: str | None = None
    held: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    q: str | None = None

    @property
    def texts(self) -> set[str]:
        """What `q` looks for, in lower case; of a number also its digits. Any of them will do."""
        if self.q is None:
            return set()
        number = wire.digits(self.q) if _NUMBER.fullmatch(self.q) else None
        return {self.q.strip().lower(), *([number] if number else [])}

    def fits(self, view: Mapping[str, Any]) -> bool:
        """Whether a recording, as `/v1` shows it, is wanted. Not asked: `since`, `until`, and the
        account.
        """
        plain = (
            (self.phase, view["phase"]),
            (self.stop, view["stop"]["state"]),
            (self.fault, view["fault"]),
            (self.rule, view["stop"]["rule"]),
            (self.call_uuid, view["call_uuid"]),
            (self.held, view["held"]),
        )
        return (
            all(asked in {None, found} for asked, found in plain)
            and (self.label is None or view["labels"].get(self.label[0]) == self.label[1])
            and (self.number is None or self._has_number(view))
            and (self.q is None or any(text in words(view) for text in self.texts))
        )

    def _has_number(self, view: Mapping[str, Any]) -> bool:
        numbers = (wire.digits(view["from"]), wire.digits(view["to"]))
        return any(fits(self.number or "", number) for number in numbers if number)

    @property
    def ordered_by(self) -> Table:
        """The table whose index finds the rows, and has them in the order of the list."""
        return labels if self.label else recordings

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        """The same, of the catalogue's rows; `since`, `until` and the account too."""
        column, seen_ms = recordings.c, self.ordered_by.c.first_seen_ms
        plain = {
            "phase": self.phase,
            "stop_state": self.stop,
            "fault": self.fault,
            "rule": self.rule,
            "call_uuid": self.call_uuid,
            "account": self.account,
            "held": self.held,
        }
        yield from (column[name] == value for name, value in plain.items() if value is not None)
        if self.since:
            yield seen_ms >= to_ms(self.since)
        if self.until:
            yield seen_ms <= to_ms(self.until)
        if self.label:
            yield labels.c.name == self.label[0]
            yield labels.c.value == self.label[1]
        if self.number is not None:
            yield or_(*(_is_number(c, self.number) for c in (column.from_digits, column.to_digits)))
        if self.q is not None:
            yield or_(*(column.words.contains(text, autoescape=True) for text in self.texts))


def _is_number(column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    digits = pattern.strip("*")
    if pattern.startswith("*") and pattern.endswith("*"):
        return column.contains(digits)
    if pattern.startswith("*"):
        return column.endswith(digits)
    if pattern.endswith("*"):
        return column.startswith(digits)
    return column == digits
