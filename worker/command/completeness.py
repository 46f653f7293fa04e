"""`endtape ledger`: what should have been recorded on a day, and what became of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from worker.calls.completeness import FIGURES
from worker.calls.figure_words import meaning, spelled
from worker.catalogue import day_ledger
from worker.catalogue.database import Catalogue
from worker.catalogue.day_ledger import DayLedger
from worker.command.terminal import (
    as_json_option,
    current_settings,
    exit_statuses,
    open_ledger,
    print_lines,
    print_table,
    print_text,
    table_of,
    waiting,
)
from worker.errors import SettingsError
from worker.ledger.client import Ledger
from worker.settings import Settings

_WAY_OUT = (
    "The ledger counts by rules. Mend the rules file, or ask the running service, which goes on "
    "with those it has: GET /v1/ledger, or the console's page of the day"
)
_SHOWN = 3  # recordings beside a figure


@click.command("ledger", epilog="Example: endtape ledger --day 2026-09-14 --csv")
@click.option(
    "--day",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DAY",
    help="A day (UTC), like 2026-09-14; today if left out.",
)
@click.option("--account", help="Only of this account.")
@as_json_option
@click.option("--csv", "as_csv", is_flag=True, help="One line for each figure of each row.")
@exit_statuses
def ledger(day: datetime | None, account: str | None, as_json: bool, as_csv: bool) -> None:
    """Show what a day should have recorded, and did.

    Exit 1 when anything is left unexplained: each such recording is named, and why.
    """
    settings, opened = _opened()
    if account is not None and account not in settings.accounts:
        raise click.UsageError(f"--account: no account {account!r} in the settings")
    accounts = [account] if account else list(settings.accounts)
    reader = DayLedger(ledger=opened, catalogue=Catalogue(settings.catalog), rules=settings.rules)
    with waiting("reading the day ..."):
        view = reader.view((day or opened.now()).date(), accounts)
    if as_json:
        click.echo(json.dumps(view, indent=2))
    elif as_csv:
        click.echo(day_ledger.as_csv(view), nl=False)
    else:
        _print(view)
    sys.exit(0 if day_ledger.is_clean(view) else 1)


def _opened() -> tuple[Settings, Ledger]:
    try:
        return open_ledger()
    except SettingsError as error:
        current_settings(without_rules=True)  # raises where more than the rules file is wrong
        raise SettingsError([*error.problems, _WAY_OUT]) from None


def _print(view: dict[str, Any]) -> None:
    for row in view["rows"]:
        click.echo(f"{row['account']}, rule {row['rule']!r}, {view['day']} (UTC)\n")
        _print_figures(row)
        _print_unexplained(row["unexplained"])
        rate = row["consent_capture_rate"]
        if rate is not None:
            click.echo(f"Of the recordings that needed consent {100 * rate:.1f} % have it.\n")
        if saved := row["saved_per_month"]:
            click.echo(f"Copies deleted at the provider save {saved} US dollars a month.\n")
    if not view["rows"]:
        click.echo(f"no recording began on {view['day']}, and none should have")
    for account, told in view["call_records"].items():
        if told["problem"]:
            print_lines(f"{account}: {told['problem']}; only what is known is counted", err=True)
    if "degraded" in view:
        print_lines(f"degraded: {view['degraded']}", err=True)


def _print_figures(row: Mapping[str, Any]) -> None:
    table = table_of("figure", "count", "recordings, and calls without one")
    counted = [name for name in FIGURES if row[name]["count"]]
    for name in counted:
        ids = [*row[name]["recordings"], *row[name]["calls"]]
        more = [f"and {len(ids) - _SHOWN} more (--json)"] if len(ids) > _SHOWN else []
        shown = ["each is named below"] if name == "unexplained" else [*ids[:_SHOWN], *more]
        table.add_row(spelled(name), str(row[name]["count"]), "\n".join(shown))
    print_table(table)
    none = ", ".join(spelled(name) for name in FIGURES if name not in counted)
    print_text(f"\nNone: {none}.\n")


def _print_unexplained(figure: Mapping[str, Any]) -> None:
    """Each recording and call that somebody has to look into, whole, and why."""
    if not figure["count"]:
        return
    table = table_of("unexplained", "why", whole=["unexplained"])
    for one, why in figure["why"].items():
        said = "\n".join(f"{spelled(name)}: {meaning(name)}" for name in why)
        table.add_row(f"call {one}" if one in figure["calls"] else one, said)
    print_table(table)
    click.echo()
