"""The states of days, and a month of them as a grid. Pure."""

from __future__ import annotations

from calendar import Calendar, monthrange
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from worker.calls.figure_words import MEANINGS, spelled

# The states of a day, the worst first: a sign and what it says.
STATES = {
    "bad": ("✗", "to be explained"),
    "partial": ("?", "not all is known"),
    "warn": ("!", "restricted, or without consent"),
    "busy": ("…", "under way"),
    "good": ("✓", "all home and verified"),
    "empty": ("–", "no recording"),
    "open": ("○", "not closed yet: open it to see"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """A day of the grid. `state`: one of STATES; None for a day of which nothing can be known.
    `totals`: the counts of its figures.
    """

    day: date
    state: str | None = None
    totals: Mapping[str, Any] | None = None
    is_closed: bool = False

    @property
    def sign(self) -> str:
        return STATES[self.state][0] if self.state else ""

    @property
    def says(self) -> str:
        return STATES[self.state][1] if self.state else ""


def state_of(totals: Mapping[str, Any], *, is_whole: bool = True) -> str:
    """The worst that the totals of a day say. `is_whole`: whether all was known."""
    for state, is_so in (
        ("bad", totals["unexplained"]),
        ("partial", not is_whole),
        ("warn", totals["without_consent"] or totals["restricted"]),
        ("busy", totals["under_way"]),
        ("good", totals["expected"] or totals["archived"] or totals["erased"]),
    ):
        if is_so:
            return state
    return "empty"


def reasons(row: Mapping[str, Any]) -> dict[str, list[str]]:
    """Why each recording and call of a row is unexplained, by its id. Nothing for a row of a closed
    day that names no recordings.
    """
    why = row["unexplained"].get("why", {})
    return {name: [spelled(figure) for figure in figures] for name, figures in why.items()}


def counted_reasons(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many are unexplained for each reason; one may be so for several."""
    return Counter(reason for row in rows for said in reasons(row).values() for reason in said)


def together(all_totals: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The totals of several accounts as those of one."""
    whole = dict.fromkeys(MEANINGS, 0)
    for totals in all_totals:
        for name in whole:
            whole[name] += totals.get(name) or 0
    return whole


def weeks(month: date, days: Mapping[date, Day]) -> list[list[Day | None]]:
    """The weeks of a month, from Monday on; None for a day of another month."""
    return [
        [days.get(day := month.replace(day=n), Day(day=day)) if n else None for n in week]
        for week in Calendar().monthdayscalendar(month.year, month.month)
    ]


def days_of(month: date) -> list[date]:
    return [month.replace(day=n + 1) for n in range(monthrange(month.year, month.month)[1])]
