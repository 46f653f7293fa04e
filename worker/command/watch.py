"""`endtape watch`: events as they are recorded, a line for each."""

from __future__ import annotations

import threading

import click

from worker.command import event_lines
from worker.command.terminal import as_json_option, exit_statuses, open_ledger
from worker.ledger.event_stream import EventStream


@click.command(epilog="Example: endtape watch --call CALL_UUID --json")
@as_json_option
@click.option("--account", help="Only of this account.")
@click.option("--call", "call_uuid", metavar="UUID", help="Only of this call.")
@exit_statuses
def watch(as_json: bool, account: str | None, call_uuid: str | None) -> None:
    """Print events as they come, a line for each.

    Ctrl-C ends it. It goes on where it was when Redis is away for a while. With --json: one object
    a line.
    """
    settings, ledger = open_ledger(rules_needed=False)
    accounts = list(dict.fromkeys([*settings.accounts, *ledger.accounts()]))
    if account is not None and account not in accounts:
        raise click.UsageError(
            f"--account: no account {account!r} here; there are {', '.join(accounts)}"
        )
    stream = EventStream(
        ledger,
        accounts,
        ended=threading.Event(),
        on_listening=lambda: click.echo("Watching; Ctrl-C ends.", err=True),
        on_lost=lambda error: click.echo(f"Redis does not answer ({error}); waiting.", err=True),
    )
    try:
        for whose, event in stream.events():
            if account not in {None, whose} or call_uuid not in {None, event.call_uuid}:
                continue
            if as_json:
                click.echo(event_lines.as_json(whose, event))
            else:
                event_lines.say(whose, event)
    except KeyboardInterrupt:
        return
