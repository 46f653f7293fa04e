"""How late stops were in the last hour, and how long their tails: two small charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from worker import wire
from worker.calls import completeness
from worker.calls.call import RUNNING, StopState
from worker.calls.rules import Rules
from worker.catalogue.listing import Listing
from worker.catalogue.wanted import Wanted

_SPAN = timedelta(hours=1)
MOST = 1000  # recordings that a chart is made of, the newest first
# The upper ends of the bars in ms; the last bar has none.
_LATENESS = (5, 20, 100, 1000)
_TAIL = (500, 1000, 2000, 5000)
_WITHOUT_PROOF = {StopState.UNKNOWN, StopState.FAILED}


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A chart. `bars`: for each, its name, the count, and its height from 0 to 1."""

    name: str
    meaning: str
    bars: list[tuple[str, int, float]]
    count: int
    middle_ms: float | None
    most_ms: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Hour:
    """The charts, and the recordings that no longer run and that somebody has to explain: with a
    tail that is too long, or without proof of the end.
    """

    charts: tuple[Chart, ...] = ()
    to_explain: tuple[dict[str, Any], ...] = ()


def charts(listing: Listing, accounts: Iterable[str], now: datetime) -> tuple[Chart, ...]:
    """Of the recordings that were first seen within the last hour. Raises LedgerUnavailable."""
    return _charts(_views(listing, accounts, now))


def hour(listing: Listing, accounts: Iterable[str], rules: Rules, now: datetime) -> Hour:
    """The same, and what of these recordings is to be explained. Raises LedgerUnavailable."""
    views = _views(listing, accounts, now)
    return Hour(
        charts=_charts(views),
        to_explain=tuple(view for view in views if _is_to_explain(view, rules, now)),
    )


def _is_to_explain(view: Mapping[str, Any], rules: Rules, now: datetime) -> bool:
    """Whether the ledger of the day calls it unexplained for its tail or for want of a proof."""
    stop = view["stop"]
    if view["phase"] in RUNNING:
        return False
    if stop["state"] in _WITHOUT_PROOF:
        return True
    terms = rules.terms_of(stop["rule"])
    is_over_long = completeness.is_over_long(view, terms, now)
    return is_over_long and not completeness.is_only_observed(view, terms)


def _views(listing: Listing, accounts: Iterable[str], now: datetime) -> list[dict[str, Any]]:
    return listing.page(Wanted(since=now - _SPAN), accounts, limit=MOST).views


def _charts(views: Iterable[Mapping[str, Any]]) -> tuple[Chart, ...]:
    stops = [view["stop"] for view in views if view["stop"]["requested_at"]]
    late = [ms for stop in stops if (ms := _lateness(stop)) is not None]
    tails = [float(stop["tail_ms"]) for stop in stops if stop["tail_ms"] is not None]
    return (
        chart("Lateness", "from the instant a stop was due to our request", late, _LATENESS),
        chart("Tail", "sound after the instant a stop was due", tails, _TAIL),
    )


def chart(name: str, meaning: str, values: Sequence[float], tops: Sequence[int]) -> Chart:
    """The chart of these values (ms)."""
    counts = [0] * (len(tops) + 1)
    for value in values:
        counts[next((i for i, top in enumerate(tops) if value <= top), len(tops))] += 1
    names = [*(f"≤ {_spelled(top)}" for top in tops), f"> {_spelled(tops[-1])}"]
    most = max(counts)
    ordered = sorted(values)
    return Chart(
        name=name,
        meaning=meaning,
        bars=[(n, c, c / most if most else 0.0) for n, c in zip(names, counts, strict=True)],
        count=len(values),
        middle_ms=ordered[len(ordered) // 2] if ordered else None,
        most_ms=ordered[-1] if ordered else None,
    )


def _spelled(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:g} s"


def _lateness(stop: Mapping[str, Any]) -> float | None:
    due, sent = wire.parse_rfc3339(stop["due_at"]), wire.parse_rfc3339(stop["requested_at"])
    return (sent - due) / timedelta(milliseconds=1) if due and sent else None
