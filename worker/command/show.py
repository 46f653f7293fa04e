"""`endtape show`: one call or recording, with its timeline."""

from __future__ import annotations

import json

import click

from worker.calls.replay import replay
from worker.calls.rules import Mode
from worker.calls.views import call_view
from worker.command.terminal import (
    as_json_option,
    careful,
    find_call,
    open_ledger,
    print_table,
    table_of,
)


@click.command()
@click.argument("uuid")
@as_json_option
@careful
def show(uuid: str, as_json: bool) -> None:
    """Show a call with its timeline.

    UUID is its own id, or a recording's.
    """
    settings, ledger = open_ledger(rules_needed=False)
    account, call_uuid, events = find_call(settings, ledger, uuid)
    call = replay(account, call_uuid, events)
    view = call_view(call, settings.rules, ledger.now())
    if as_json:
        click.echo(json.dumps(view, indent=2))
        return
    rule, terms = settings.rules.choose(call)
    if terms.mode is Mode.OBSERVE:
        click.echo(f"rule {rule!r} only observes: what is due here is not stopped\n")
    click.echo(
        f"call {call_uuid} of {account}\n  {view['direction'] or 'direction unknown'}, from {view['from'] or '?'} to {view['to'] or '?'}\n"
    )
    for recording in view["recordings"]:
        stop = recording["stop"]
        click.echo(
            f"recording {recording['recording_id']}\n  {recording['phase']}; stop {stop['state']}"
            + (
                f": {stop['trigger']} by rule {stop['rule']!r}\n  due {stop['due_at']}"
                if stop["due_at"]
                else "\n  never due"
            )
            + f"; evidence: {', '.join(stop['evidence']) or 'none'}; sent {stop['attempts']}"
            + ("" if stop["tail_ms"] is None else f"; tail {stop['tail_ms']} ms")
            + (f"\n  segment of {recording['segment_of']}" if recording["segment_of"] else "")
        )
        click.echo(
            f"  file {recording['archive_key'] or 'not here yet'}"
            + (f"\n  problem: {recording['problem']}" if recording["problem"] else "")
            + (
                f"\n  fault: {recording['fault']} (docs/operations.md, Abandoned work)"
                if recording["fault"]
                else ""
            )
            + "\n"
        )
    table = table_of("at (UTC)", "event", "recording", "by", "what")
    for event in view["timeline"]:
        what = ": ".join(str(x) for x in (event["trigger"], event["reason"]) if x)
        table.add_row(
            event["at"][11:23],
            event["event"],
            (event["recording_id"] or "-")[:8],
            event["by"] or "us",
            what or "-",
        )
    print_table(table)
