"""`endtape top`: what happens now, in a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker import wire
from worker.calls.obligations import Duty
from worker.calls.views import rfc3339
from worker.catalogue import board, last_hour, live
from worker.catalogue.board import Board
from worker.catalogue.database import Catalogue
from worker.catalogue.last_hour import Chart
from worker.catalogue.listing import Listing
from worker.command.terminal import (
    as_json_option,
    counted,
    exit_statuses,
    open_ledger,
    screen,
    table_of,
)
from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger
from worker.ledger.presence import ROLES
from worker.settings import Settings

_EVERY_S = 1.0
_CHARTS_EVERY_S = 15.0
_SHARE = 5  # a look that takes long is repeated after so many times as long
_MOST = 100  # recordings in JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What is shown. `overdue`: by duty, how many are due and not handed out, and for how long the
    oldest has been.
    """

    board: Board
    overdue: dict[Duty, tuple[int, timedelta]]
    charts: Sequence[Chart]


@click.command(epilog="Example: endtape top --once")
@as_json_option
@click.option("--once", is_flag=True, help="Print it once, as where the output is no terminal.")
@exit_statuses
def top(as_json: bool, once: bool) -> None:
    """Show what happens now.

    What records, by deadline; stops in flight and unproven; hand-offs that wait; accounts that are
    halted; processes; what is due and not begun; how late stops were in the last hour. Ctrl-C ends
    it.
    """
    settings, ledger = open_ledger(rules_needed=False)
    look, paper = _Looks(settings, ledger), screen()
    if as_json:
        click.echo(json.dumps(_as_json(look()), indent=2))
    elif once or not paper.is_terminal:
        paper.print(_drawn(look()))
    else:
        _follow(look, paper)


class _Looks:
    """Makes a view each time it is called."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings, self._ledger = settings, ledger
        self._live = live.Live(ledger, lambda: settings.rules)
        self._listing = Listing(ledger, self._live, Catalogue(settings.catalog))
        self._charts: Sequence[Chart] = ()
        self._charts_until = 0.0

    def __call__(self) -> View:
        """Raises LedgerUnavailable."""
        accounts = list(self._settings.accounts)
        now = board.compute(self._ledger, self._live, accounts)
        if time.monotonic() >= self._charts_until:
            self._charts = last_hour.charts(self._listing, accounts, now.at)
            self._charts_until = time.monotonic() + _CHARTS_EVERY_S
        return View(board=now, overdue=self._ledger.overdue(), charts=self._charts)


def _follow(look: Callable[[], View], paper: Console) -> None:
    with Live(console=paper, screen=True, auto_refresh=False) as shown:
        try:
            while True:
                began = time.monotonic()
                try:
                    picture: Group | Text = _drawn(look(), rows=max(1, paper.height - 12))
                except LedgerUnavailable as error:
                    picture = Text(f"Redis does not answer ({error}); waiting.", style="bold red")
                shown.update(picture, refresh=True)
                time.sleep(max(_EVERY_S, _SHARE * (time.monotonic() - began)))
        except KeyboardInterrupt:
            return


def _as_json(view: View) -> dict[str, Any]:
    now = view.board
    return {
        "at": rfc3339(now.at),
        "recording": len(now.running),
        "recordings": now.running[:_MOST],
        "stops_in_flight": now.in_flight,
        "stops_unproven": now.unproven,
        "handoffs_waiting": now.waiting,
        "coming_home": now.coming,
        "not_home": len(now.failing),
        "abandoned": len(now.abandoned),
        "halted": now.halted,
        "processes": {role: now.alive.get(role, 0) for role in ROLES},
        "degraded": now.degraded,
        "due": {
            duty.value: {"count": count, "oldest_s": round(age.total_seconds(), 3)}
            for duty, (count, age) in view.overdue.items()
        },
        "last_hour": {
            chart.name.lower(): {
                "stops": chart.count,
                "median_ms": chart.middle_ms,
                "most_ms": chart.most_ms,
            }
            for chart in view.charts
        },
        "notifications_failing": now.undelivered,
        "more": now.is_cut,
    }


# The picture
# ------------------------------------------------------------------------------------------------


def _drawn(view: View, *, rows: int | None = None) -> Group:
    """Everything as text and a table. `rows`: how many recordings have room; None: all."""
    now = view.board
    parts: list[Text | Table] = [Text(line, style=style) for line, style in _lines(view)]
    if not now.running:
        parts.append(Text("\nNothing records."))
        return Group(*parts)
    shown = now.running[:rows]
    parts.append(Text(""))
    parts.append(_recordings(shown, now.at))
    if len(shown) < len(now.running):
        parts.append(Text(f"{len(now.running) - len(shown)} more; `endtape ls --running`"))
    return Group(*parts)


def _lines(view: View) -> Iterator[tuple[str, str]]:
    """Each line above the table, and its style."""
    now = view.board
    yield f"{now.at:%Y-%m-%d %H:%M:%S} UTC", "bold"
    yield (
        f"recording {len(now.running)}   stops in flight {now.in_flight}   "
        f"unproven {len(now.unproven)}",
        "bold red" if now.unproven else "",
    )
    yield (
        f"coming home {now.coming}   not home {len(now.failing)}, "
        f"of these abandoned {len(now.abandoned)}",
        "red" if now.abandoned else "",
    )
    yield f"hand-offs waiting {len(now.waiting)}", "yellow" if now.waiting else ""
    alive = ", ".join(f"{role} {now.alive.get(role, 0)}" for role in ROLES)
    yield f"processes of each kind: {alive}", "bold red" if now.missing else ""
    late = ", ".join(
        f"{duty.value} {count} (oldest {age.total_seconds():.1f} s)"
        for duty, (count, age) in view.overdue.items()
    )
    yield f"due and not begun: {late or 'nothing'}", ""
    for chart in view.charts:
        yield f"{chart.name.lower()} of the last hour: {_in_words(chart)}", ""
    for account in now.halted:
        yield f"halted: {account}, the provider refuses its credentials", "bold red"
    for what, why in now.degraded.items():
        yield f"degraded: {what}: {why}", "bold red"
    if now.undelivered:
        yield f"notifications that do not arrive: {now.undelivered} (`endtape notify`)", "red"
    if now.is_cut:
        yield f"Only the newest {board.MOST} recordings are counted.", "red"


def _in_words(chart: Chart) -> str:
    if chart.middle_ms is None or chart.most_ms is None:
        return "no stop yet"
    stops = counted(chart.count, "stop")
    return f"{stops}, median {wire.length(chart.middle_ms)}, most {wire.length(chart.most_ms)}"


def _recordings(views: Sequence[dict[str, Any]], at: datetime) -> Table:
    table = table_of("due in", "recording", "rule", "stop", whole=["due in", "recording"])
    for view in views:
        stop = view["stop"]
        is_unproven = board.is_unproven(stop)
        table.add_row(
            _countdown(wire.parse_rfc3339(stop["due_at"]), at),
            Text(view["recording_id"] or "(none is known)"),
            Text(stop["rule"] or "-"),
            stop["state"],
            style="bold red" if is_unproven else "",
        )
    return table


def _countdown(due: datetime | None, at: datetime) -> str:
    """`1:02:03` or `0:12` until then; with `-` in front since then."""
    if due is None:
        return "-"
    seconds = round((due - at).total_seconds())
    minutes, rest = divmod(abs(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return f"-{text}" if seconds < 0 else text
