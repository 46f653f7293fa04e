"""`endtape ledger`: what should have been recorded on a day, and what became of it."""

from __future__ import annotations

import json
import sys
from datetime import datetime

import click

from worker.calls.completeness import FIGURES
from worker.catalogue import day_ledger
from worker.catalogue.database import Catalogue
from worker.catalogue.day_ledger import DayLedger
from worker.command.terminal import (
    as_json_option,
    exit_statuses,
    open_ledger,
    print_table,
    table_of,
    waiting,
)


@click.command("ledger", epilog="Example: endtape ledger --day 2026-09-14 --csv")
@click.option(
    "--day", required=True, type=click.DateTime(["%Y-%m-%d"]), help="A day (UTC), like 2026-09-14."
)
@click.option("--account", help="Only of this account.")
@as_json_option
@click.option("--csv", "as_csv", is_flag=True, help="One line for each figure of each row.")
@exit_statuses
def ledger(day: datetime, account: str | None, as_json: bool, as_csv: bool) -> None:
    """Show what a day should have recorded, and did.

    Exit 1 when anything is left unexplained.
    """
    settings, opened = open_ledger()
    if account is not None and account not in settings.accounts:
        raise click.UsageError(f"--account: no account {account!r} in the settings")
    accounts = [account] if account else list(settings.accounts)
    reader = DayLedger(ledger=opened, catalogue=Catalogue(settings.catalog), rules=settings.rules)
    with waiting("reading the day ..."):
        view = reader.view(day.date(), accounts)
    if as_json:
        click.echo(json.dumps(view, indent=2))
    elif as_csv:
        click.echo(day_ledger.as_csv(view), nl=False)
    else:
        _print(view)
    sys.exit(0 if day_ledger.is_clean(view) else 1)


def _print(view: dict[str, object]) -> None:
    rows: list[dict[str, object]] = view["rows"]  # type: ignore[assignment]
    for row in rows:
        click.echo(f"{row['account']}, rule {row['rule']!r}")
        table = table_of("figure", "count", "recordings (and calls without one)")
        for name in FIGURES:
            figure: dict[str, object] = row[name]  # type: ignore[assignment]
            ids = [*figure["recordings"], *figure["calls"]]  # type: ignore[misc]
            shown = " ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
            table.add_row(name.replace("_", " "), str(figure["count"]), shown or "-")
        print_table(table)
        rate = row["consent_capture_rate"]
        click.echo(f"consent capture rate: {'-' if rate is None else rate}")
        click.echo(f"saved per month at the provider: {row['saved_per_month']}\n")
    if not rows:
        click.echo(f"no recording began on {view['day']}, and none should have")
    told: dict[str, dict[str, object]] = view["call_records"]  # type: ignore[assignment]
    for account, one in told.items():
        if one["problem"]:
            click.echo(f"{account}: {one['problem']}; only what is known is counted", err=True)
    if "degraded" in view:
        click.echo(f"degraded: {view['degraded']}", err=True)
