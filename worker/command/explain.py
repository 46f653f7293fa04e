"""`endtape explain`: which rule applies to a call, and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from worker.calls import terms_file
from worker.calls.call import Call
from worker.calls.explain import explain, imagined
from worker.calls.replay import replay
from worker.calls.terms_file import TRIGGER, TRIGGERS
from worker.command import event_lines
from worker.command.terminal import (
    as_json_option,
    current_settings,
    exit_statuses,
    find_call,
    labels_of,
    options_as,
    print_lines,
    print_table,
    table_of,
)
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class _ImaginedCall:
    """The facts of a call that might be."""

    from_number: str | None
    to_number: str | None
    direction: str | None
    account: str | None
    labels: tuple[str, ...]  # each NAME=VALUE


@click.command(
    "explain", epilog="Example: endtape explain --to 918040000001 --trigger transfer.blind"
)
@as_json_option
@click.option("--call", "call_uuid", help="A call that is known, by its own id or a recording's.")
@click.option("--from", "from_number", help="Instead: the facts of a call that might be.")
@click.option("--to", "to_number", help="The number that is called.")
@click.option(
    "--direction", type=click.Choice(["inbound", "outbound"]), help="Which way the call goes."
)
@click.option("--account", help="Whose call; the first account unless told otherwise.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@click.option("--trigger", help="What would this do? For example transfer.blind.")
@exit_statuses
@options_as(_ImaginedCall)
def explain_command(
    as_json: bool, call_uuid: str | None, options: _ImaginedCall, trigger: str | None
) -> None:
    """Show which rule applies to a call, and why."""
    if trigger and not TRIGGER.fullmatch(trigger):
        raise click.BadParameter(f"unknown trigger; known: {TRIGGERS}", param_hint="--trigger")
    settings = current_settings()
    if call_uuid:
        ledger = Ledger(connect(settings.redis_url))
        call, now = replay(*find_call(settings, ledger, call_uuid)), ledger.now()
    else:
        call, now = _imagined(options, settings), datetime.now(UTC)
    explanation = explain(call, settings.rules, now, trigger=trigger)
    if as_json:
        click.echo(json.dumps(explanation, indent=2))
    else:
        _print_explanation(call, explanation)


def _imagined(options: _ImaginedCall, settings: Settings) -> Call:
    """The call that might be. Raises BadParameter for an account that the settings do not have."""
    if options.account and options.account not in settings.accounts:
        raise click.BadParameter(
            f"no account {options.account!r} in the settings ({', '.join(settings.accounts)})",
            param_hint="--account",
        )
    return imagined(
        account=options.account or next(iter(settings.accounts)),
        from_number=options.from_number,
        to_number=options.to_number,
        direction=options.direction,
        labels=labels_of(options.labels),
    )


def _print_explanation(call: Call, explanation: dict[str, Any]) -> None:
    labels = "".join(f", {key}={value}" for key, value in call.labels.items())
    print_lines(
        f"call {call.call_uuid} of {call.account}\n"
        f"  {call.direction or 'direction unknown'}, "
        f"from {call.from_number or '?'} to {call.to_number or '?'}{labels}\n"
    )
    if told := event_lines.nothing_known(call):
        click.echo(f"{told}\n")
    _print_rows(explanation["tried"], ("rule", "fits", "why"))
    _print_rows(explanation["events"], ("at", "event", "trigger", "action"))
    table = table_of("term", f"by rule {explanation['rule']!r}")
    for term, value in explanation["terms"].items():
        table.add_row(term, _term(value))
    print_table(table)
    click.echo()
    if trigger := explanation["trigger"]:
        click.echo(
            f"{trigger['trigger']}: {trigger['action']}; asked as a hand-off: {trigger['handoff']}"
        )


def _print_rows(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """A table of these columns, and nothing at all where there are no rows."""
    if not rows:
        return
    table = table_of(*columns)
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    print_table(table)
    click.echo()


def _term(value: object) -> str:
    """The value of a term in plain words."""
    if isinstance(value, dict):
        pairs = (f"{trigger} = {action}" for trigger, action in value.items())
        return "\n".join(pairs) or "every trigger keeps"
    if isinstance(value, list):
        return ", ".join(value) or "no time of day"
    length = terms_file.duration(value)
    return terms_file.spelled(length) if length else _text(value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
