"""`endtape explain`: which rule applies to a call, and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from worker import wire
from worker.calls.call import Call
from worker.calls.explain import explain
from worker.calls.replay import replay
from worker.calls.rules_file import TRIGGER, TRIGGERS
from worker.command.terminal import (
    as_json_option,
    careful,
    current_settings,
    find_call,
    print_table,
    table_of,
)
from worker.ledger.client import Ledger
from worker.ledger.store import connect


@click.command("explain")
@as_json_option
@click.option("--call", "call_uuid", help="A call that is known, by its own id or a recording's.")
@click.option("--from", "from_number", help="Instead: the facts of a call that might be.")
@click.option("--to", "to_number")
@click.option("--direction", type=click.Choice(["inbound", "outbound"]))
@click.option("--account")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE")
@click.option("--trigger", help="What would this do? For example transfer.blind.")
@careful
def explain_command(
    as_json: bool,
    call_uuid: str | None,
    from_number: str | None,
    to_number: str | None,
    direction: str | None,
    account: str | None,
    labels: tuple[str, ...],
    trigger: str | None,
) -> None:
    """Show which rule applies to a call, and why."""
    if trigger and not TRIGGER.fullmatch(trigger):
        raise click.BadParameter(f"unknown trigger; known: {TRIGGERS}", param_hint="--trigger")
    if wrong := [label for label in labels if not label.partition("=")[1]]:
        raise click.BadParameter(f"{wrong[0]!r} must be KEY=VALUE", param_hint="--label")
    settings = current_settings()
    if call_uuid:
        ledger = Ledger(connect(settings.redis_url))
        call, now = replay(*find_call(settings, ledger, call_uuid)), ledger.now()
    else:
        told = dict(label.partition("=")[::2] for label in labels)
        call, now = (
            Call(
                account=account or next(iter(settings.accounts)),
                call_uuid="(none)",
                from_number=wire.digits(from_number),
                to_number=wire.digits(to_number),
                direction=direction,
                labels=told,
            ),
            datetime.now(UTC),
        )
    said = explain(call, settings.rules, now, trigger=trigger)
    if as_json:
        click.echo(json.dumps(said, indent=2))
        return
    click.echo(
        f"call {call.call_uuid} of {call.account}\n  {call.direction or 'direction unknown'}, from {call.from_number or '?'} to {call.to_number or '?'}"
        + "".join(f", {k}={v}" for k, v in call.labels.items())
        + "\n"
    )
    for rows, columns in (
        (said["tried"], ("rule", "fits", "why")),
        (said["events"], ("at", "event", "trigger", "action")),
    ):
        table = table_of(*columns)
        for row in rows:
            table.add_row(
                *(
                    "yes" if row[c] is True else "no" if row[c] is False else str(row[c])
                    for c in columns
                )
            )
        if rows:
            print_table(table)
            click.echo()
    table = table_of("term", f"by rule {said['rule']!r}")
    for key, value in said["terms"].items():
        table.add_row(
            key,
            ", ".join(f"{k} = {v}" for k, v in value.items())
            if isinstance(value, dict)
            else str(value),
        )
    print_table(table)
    if trigger:
        click.echo(
            f"{trigger}: {said['trigger']['action']}; asked as a hand-off: {said['trigger']['handoff']}"
        )
