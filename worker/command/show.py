"""`endtape show`: one call or recording, with its timeline."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import click

from worker import wire
from worker.calls.call import Call, Phase
from worker.calls.first_sight import told_late
from worker.calls.replay import replay
from worker.calls.rules import Mode
from worker.calls.views import call_view
from worker.catalogue import past
from worker.catalogue.database import Catalogue
from worker.catalogue.rows import Row
from worker.command import event_lines
from worker.command.terminal import (
    as_json_option,
    exit_statuses,
    known_call,
    open_ledger,
    print_lines,
    print_table,
    table_of,
)
from worker.errors import CatalogueAway, EndtapeError
from worker.processes.archive_in_use import make_archive
from worker.settings import Settings


@click.command(epilog="Example: endtape show CALL_UUID")
@click.argument("uuid")
@as_json_option
@exit_statuses
def show(uuid: str, as_json: bool) -> None:
    """Show a call with its timeline.

    UUID is its own id, or a recording's.
    """
    settings, ledger = open_ledger(rules_needed=False)
    known = known_call(settings, ledger, uuid)
    if known is None:
        view = _past(settings, uuid)
    else:
        account, call_uuid, events = known
        call = replay(account, call_uuid, events)
        view = _with_past(settings, call, call_view(call, settings.rules, ledger.now()))
    if as_json:
        click.echo(json.dumps(view, indent=2))
        return
    # Where the rules file cannot be read, the running processes go on with rules unknown here.
    rules_known = settings.config is not None or ledger.had_rules(None) is None
    if known and rules_known:
        rule, terms = settings.rules.choose(call)
        if terms.mode is Mode.OBSERVE:
            click.echo(f"rule {rule!r} only observes: what is due here is not stopped\n")
    click.echo(
        f"call {view['call_uuid']} of {view['account']}\n"
        f"  {view['direction'] or 'direction unknown'}, "
        f"from {view['from'] or '?'} to {view['to'] or '?'}\n"
    )
    if known and (told := event_lines.nothing_known(call)):
        click.echo(f"{told}\n")
    numbers = {r["recording_id"]: str(n) for n, r in enumerate(view["recordings"], 1)}
    for recording in view["recordings"]:
        _print_recording(recording, numbers[recording["recording_id"]], view["timeline"])
        if not rules_known and recording["phase"] == Phase.RECORDING:
            click.echo("  by the rules in force, which cannot be read here, it may be due\n")
    _print_timeline(view["timeline"], numbers)


def _past(settings: Settings, uuid: str) -> dict[str, Any]:
    """A call, or that of a recording, which only catalogue and archive know. Raises EndtapeError
    where they do not either, or do not answer.
    """
    catalogue = Catalogue(settings.catalog)
    row = catalogue.find(uuid)
    rows = catalogue.of_call(row.view["call_uuid"], row.id[0]) if row else catalogue.of_call(uuid)
    if not rows:
        raise EndtapeError(f"{uuid}: no such call or recording")
    return past.call_view(rows, _receipts(settings, rows))


def _with_past(settings: Settings, call: Call, view: dict[str, Any]) -> dict[str, Any]:
    """The call with those of its recordings that only the catalogue knows; without them where that
    is away.
    """
    try:
        rows = Catalogue(settings.catalog).of_call(call.call_uuid, call.account)
    except CatalogueAway:
        return view
    older = [row for row in rows if row.id[1] not in call.recordings]
    if not older:
        return view
    return past.joined(past.call_view(older, _receipts(settings, older)), view)


def _receipts(settings: Settings, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The receipts of these recordings that can be read."""
    archive, receipts = make_archive(settings), list[dict[str, Any]]()
    for row in rows:
        with contextlib.suppress(OSError, EndtapeError, ValueError):
            receipts.append(archive.read_receipt(row.key))
    return receipts


def _print_recording(view: dict[str, Any], number: str, timeline: list[dict[str, Any]]) -> None:
    stop = view["stop"]
    lines = [
        f"{number}: recording {view['recording_id']}",
        f"  {view['phase']}; stop {stop['state']}",
    ]
    if stop["due_at"]:
        lines[-1] += f": {stop['trigger']} by rule {stop['rule']!r}"
        lines.append(f"  due {stop['due_at']}")
    else:
        lines.append("  never due")
    lines[-1] += f"; evidence: {', '.join(stop['evidence']) or 'none'}; sent {stop['attempts']}"
    if stop["tail_ms"] is not None:
        lines[-1] += f"; tail {wire.length(stop['tail_ms'])}"
    if since := stop.get("overdue_since"):
        lines.append(f"  was to end at {since}; nobody had told of it then")
    if late := told_late(view, timeline):
        lines.append(f"  {late}")
    if view["segment_of"]:
        lines.append(f"  segment of {view['segment_of']}")
    if erased := view["erased"]:
        lines.append(f"  erased by {erased['who']}: {erased['reason']}")
    else:
        lines.append(f"  file {view['archive_key'] or 'not here yet'}")
    if view["held"]:
        lines.append("  under legal hold: neither copy is deleted")
    if view["problem"]:
        lines.append(f"  problem: {view['problem']}")
    if view["fault"]:
        lines.append(f"  fault: {view['fault']} (docs/operations.md, Abandoned work)")
    print_lines("\n".join(lines) + "\n")


def _print_timeline(timeline: list[dict[str, Any]], numbers: dict[str, str]) -> None:
    """`numbers`: of the recordings, by their id, as they are printed above."""
    table = table_of("at (UTC)", "event", "rec.", "by", "what")
    for event in timeline:
        recording = event["recording_id"] or "-"
        table.add_row(
            event["at"][11:23],
            event["event"],
            numbers.get(recording, recording),
            event["by"] or "us",
            event["what"] or "-",
        )
    print_table(table)
