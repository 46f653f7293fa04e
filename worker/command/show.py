"""`endtape show`: one call or recording, with its timeline."""

from __future__ import annotations

import json
from typing import Any

import click

from worker.calls.replay import replay
from worker.calls.rules import Mode
from worker.calls.views import call_view
from worker.command.terminal import (
    as_json_option,
    exit_statuses,
    find_call,
    open_ledger,
    print_table,
    table_of,
)


@click.command()
@click.argument("uuid")
@as_json_option
@exit_statuses
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
        f"call {call_uuid} of {account}\n"
        f"  {view['direction'] or 'direction unknown'}, "
        f"from {view['from'] or '?'} to {view['to'] or '?'}\n"
    )
    for recording in view["recordings"]:
        _print_recording(recording)
    _print_timeline(view["timeline"])


def _print_recording(view: dict[str, Any]) -> None:
    stop = view["stop"]
    lines = [
        f"recording {view['recording_id']}",
        f"  {view['phase']}; stop {stop['state']}",
    ]
    if stop["due_at"]:
        lines[-1] += f": {stop['trigger']} by rule {stop['rule']!r}"
        lines.append(f"  due {stop['due_at']}")
    else:
        lines.append("  never due")
    lines[-1] += f"; evidence: {', '.join(stop['evidence']) or 'none'}; sent {stop['attempts']}"
    if stop["tail_ms"] is not None:
        lines[-1] += f"; tail {stop['tail_ms']} ms"
    if view["segment_of"]:
        lines.append(f"  segment of {view['segment_of']}")
    lines.append(f"  file {view['archive_key'] or 'not here yet'}")
    if view["problem"]:
        lines.append(f"  problem: {view['problem']}")
    if view["fault"]:
        lines.append(f"  fault: {view['fault']} (docs/operations.md, Abandoned work)")
    click.echo("\n".join(lines) + "\n")


def _print_timeline(timeline: list[dict[str, Any]]) -> None:
    table = table_of("at (UTC)", "event", "recording", "by", "what")
    for event in timeline:
        what = ": ".join(str(fact) for fact in (event["trigger"], event["reason"]) if fact)
        table.add_row(
            event["at"][11:23],
            event["event"],
            (event["recording_id"] or "-")[:8],
            event["by"] or "us",
            what or "-",
        )
    print_table(table)
