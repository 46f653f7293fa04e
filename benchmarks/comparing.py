"""A row of the table from the figures of all runs: ours beside the peer's and the limit's."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmarks.stage import Row

Figures = Sequence[float]


def rate(
    what: str,
    ours: Figures,
    peer: Figures = (),
    limit: Figures = (),
    *,
    target: str = "",
    met: bool = True,
    digits: int = 0,
) -> Row:
    """More is better: the ratio is ours by the peer's, the share ours by the limit."""
    return _row(what, ours, peer, limit, target, met, digits, more_is_better=True)


def cost(
    what: str,
    ours: Figures,
    peer: Figures = (),
    limit: Figures = (),
    *,
    target: str = "",
    met: bool = True,
    digits: int = 1,
) -> Row:
    """Less is better: the ratio is the peer's by ours, the share the limit by ours."""
    return _row(what, ours, peer, limit, target, met, digits, more_is_better=False)


def ratio(ours: Figures, other: Figures) -> float:
    """The median of one side by the median of the other."""
    return median(ours) / median(other)


def _row(  # noqa: PLR0913
    what: str,
    ours: Figures,
    peer: Figures,
    limit: Figures,
    target: str,
    met: bool,
    digits: int,
    *,
    more_is_better: bool,
) -> Row:
    def told(figures: Figures) -> str:
        return f"{median(figures):,.{digits}f}" if figures else "-"

    def better(other: Figures) -> float | None:
        """How many times better ours is. None where there is nothing to divide by, and beside one
        that was early: below zero is no time.
        """
        above, below = (ours, other) if more_is_better else (other, ours)
        is_told = bool(other) and median(below) > 0 and median(above) >= 0
        return ratio(above, below) if is_told else None

    times, share = better(peer), better(limit)
    return Row(
        what=what,
        ours=told(ours),
        peer=told(peer),
        ratio="-" if times is None else f"{times:,.1f} x" if times >= 1.95 else f"{times:.2f} x",
        limit=told(limit),
        share="-" if share is None else f"{share * 100:.0f} %",
        target=target,
        met=met,
    )
