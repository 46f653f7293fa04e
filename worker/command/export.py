"""`endtape export`: a closed day as a bag, for whoever keeps archives."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from worker.archive import bag, filing, signers
from worker.command.keys import of_service
from worker.command.terminal import (
    as_json_option,
    counted,
    exit_statuses,
    open_ledger,
    progress_bar,
)
from worker.settings import Settings


@click.command(epilog="Example: endtape export --bag 2026-09-14 --to bags/2026-09-14")
@click.option(
    "--bag",
    "day",
    required=True,
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DAY",
    help="The closed day (UTC), like 2026-09-14.",
)
@click.option(
    "--to",
    "place",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder to make.",
)
@click.option("--account", help="Whose day; needed where there are several accounts.")
@as_json_option
@exit_statuses
def export(day: datetime, place: Path, account: str | None, as_json: bool) -> None:
    """Write what was filed on a day as a bag (BagIt, RFC 8493).

    Each file is checked against the day's list on its way. What was erased since is left out.
    """
    settings, ledger = open_ledger(rules_needed=False)
    root = settings.archive
    if isinstance(root, Path) and place.resolve().is_relative_to(root.resolve()):
        raise click.BadParameter(f"{place} lies in the archive; name another", param_hint="--to")
    wanted = bag.Wanted(
        account=_account(settings, account),
        day=day.date(),
        signers=signers.written(of_service(ledger)).encode(),
        agent=f"Endtape {version('endtape')}",
        on=datetime.now(UTC).date(),
    )
    with progress_bar("files ...") as advance:
        bagged = bag.write(filing.reading(settings.archive), wanted, place.absolute(), advance)
    if as_json:
        view = {"bag": str(place), "files": bagged.files, "bytes": bagged.bytes}
        click.echo(json.dumps({**view, "gone": bagged.gone}, indent=2))
        return
    click.echo(f"{place}: {counted(bagged.files, 'file')}, {bagged.bytes / 1e6:.1f} MB.")
    for name in bagged.gone:
        click.echo(f"{name}: is no longer in the archive (`endtape verify` says why)", err=True)


def _account(settings: Settings, named: str | None) -> str:
    accounts = list(settings.accounts)
    if named is None and len(accounts) == 1:
        return accounts[0]
    if named not in accounts:
        raise click.BadParameter(f"name one of {', '.join(accounts)}", param_hint="--account")
    return named
