"""`endtape simulate`: what other rules would have done with the calls that are recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from worker.calls import rules_file, simulation, terms_file
from worker.calls.rules import Rules
from worker.command.terminal import (
    Number,
    Stacked,
    as_json_option,
    exit_statuses,
    open_ledger,
    options_as,
    print_table,
    progress_bar,
    table_of,
)
from worker.errors import SettingsError
from worker.ledger import recent_calls
from worker.ledger.client import Ledger
from worker.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    rules_path: Path
    since: str
    account: str | None
    rate: float | None
    limit: int


@click.command(epilog="Example: endtape simulate --rules new.toml --since 7d --rate 0.10")
@click.option(
    "--rules",
    "rules_path",
    required=True,
    type=click.Path(path_type=Path),
    help="The rules to try, a file like endtape.toml.",
)
@click.option("--since", default="7d", show_default=True, help='How far back, like "7d".')
@click.option("--account", help="Only this account's calls.")
@click.option(
    "--rate",
    type=Number(0, 1e6),
    help="What it bills for a minute; money is in the same currency.",
)
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(0),
    help="So many changed recordings.",
)
@as_json_option
@exit_statuses
@options_as(Options)
def simulate(options: Options, as_json: bool) -> None:
    """Show what other rules would have done.

    Plays the calls that Redis still knows against another rules file: which recordings would have
    been stopped, when, and what that saves.
    """
    settings, ledger = open_ledger(rules_needed=False)
    rules = _rules(options.rules_path)
    span = terms_file.duration(options.since)
    if span is None:
        raise click.BadParameter('must be a duration like "45s", "2h" or "7d"', param_hint="since")
    calls = _play(settings, ledger, rules, span, options.account)
    totals = simulation.totals(calls, options.rate)
    if as_json:
        click.echo(json.dumps({"rules": totals, "calls": calls}, indent=2))
    elif calls:
        _print_totals(totals)
        _print_changed(calls, options.limit)
        _print_handoffs(calls)
    else:
        click.echo(f"No recording was first seen within {options.since}.")


def _rules(path: Path) -> Rules:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: cannot be read ({error})"]) from None
    return rules_file.read(text, str(path)).rules


def _play(
    settings: Settings, ledger: Ledger, rules: Rules, span: timedelta, account: str | None
) -> list[dict[str, Any]]:
    """Each call with its recordings and hand-offs, oldest first."""
    accounts = [account] if account else list(settings.accounts)
    calls = list(recent_calls.first_seen(ledger, accounts, since=ledger.now() - span))[::-1]
    played = []
    with progress_bar("playing ...") as advance:
        for done, (owner, call_uuid, log) in enumerate(recent_calls.logs(ledger, calls), 1):
            played.append(simulation.of_call(owner, call_uuid, log, rules))
            advance(done, len(calls))
    return played


def _print_totals(totals: list[dict[str, Any]]) -> None:
    click.echo("By the rules that would apply; minutes as the provider bills them.\n")
    table = table_of("rule", "recordings", "stopped", "minutes", "money saved", "end unknown")
    for row in totals:
        table.add_row(
            row["rule"],
            str(row["recordings"]),
            f"{row['stopped_was']} -> {row['stopped_would_be']}",
            f"{row['minutes_was']} -> {row['minutes_would_be']}",
            "-" if row["saved_money"] is None else f"{row['saved_money']:.2f}",
            str(row["unknown"]),
        )
    print_table(table)


def _print_changed(calls: list[dict[str, Any]], limit: int) -> None:
    changed = simulation.changed(calls)
    if not changed:
        click.echo("\nNo recording would have ended at another time.")
        return
    click.echo()
    table = table_of("recording, would end by", "ended (UTC)", "would end", "saved s")
    for played in changed[:limit]:
        would_be = played["would_be"]
        by = f"{would_be['rule']}: {would_be['trigger']}" if would_be["trigger"] else "by itself"
        saved = played["saved_s"]
        table.add_row(
            Stacked(played["recording_id"], [by]),  # ids are so long that the rest stands below
            _short(played["was"]["ended_at"]),
            _short(would_be["ended_at"]),
            "-" if saved is None else f"{saved:.0f}",
        )
    print_table(table)
    if len(changed) > limit:
        click.echo(f"There are {len(changed) - limit} more: --limit shows them.")


def _print_handoffs(calls: list[dict[str, Any]]) -> None:
    asked = simulation.all_handoffs(calls)
    if not asked:
        return
    turned, unsought = simulation.turned(asked), simulation.unsought(asked)
    click.echo(
        f"\nHand-offs: {len(asked)} asked"
        + (f"; {unsought} would have depended on a proof that nobody sought" if unsought else "")
        + (". Another verdict:" if turned else ". None would have got another verdict.")
    )
    for one in turned:
        click.echo(f"  {one['handoff_id']} ({one['kind']}): {one['was']} -> {one['would_be']}")


def _short(instant: str | None) -> str:
    return instant[5:19].replace("T", " ") if instant else "-"
