"""`endtape start`, `pause` and `resume`: recordings that begin, and their gaps."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import click

from worker.calls.stop_state import NO_LIVE_CALL
from worker.command import service
from worker.command.stop import stops_table
from worker.command.terminal import (
    Stacked,
    account_option,
    as_json_option,
    exit_statuses,
    labels_of,
    open_ledger,
    options_as,
    or_dash,
    print_table,
    reason_option,
    table_of,
    wait_option,
)

_PROVEN = {"confirmed", "already_over"}


@dataclass(frozen=True, kw_only=True, slots=True)
class StartOptions:
    max_duration: str | None
    format: str | None
    channels: int | None
    labels: Sequence[str]
    account: str | None
    key: str | None


@click.command(epilog="Example: endtape start CALL_UUID --max-duration 15m --label team=billing")
@click.argument("call_uuid")
@as_json_option
@click.option("--max-duration", help='Stop it after, like "15m"; otherwise the rule says.')
@click.option("--format", type=click.Choice(["mp3", "wav"]), help="Of the file.")
@click.option("--channels", type=click.IntRange(1, 2), help="2: each party on its own.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@account_option
@click.option("--key", help="An Idempotency-Key: starting twice with it is starting once.")
@exit_statuses
@options_as(StartOptions)
def start(call_uuid: str, as_json: bool, options: StartOptions) -> None:
    """Start a recording on a live call.

    Exit 0 only when the provider says that it records. An unclear answer is never repeated.
    """
    settings, _ = open_ledger(rules_needed=False)
    body = {
        "max_duration": options.max_duration,
        "format": options.format,
        "channels": options.channels,
        "labels": labels_of(options.labels) or None,
        "account": options.account,
    }
    status, answer = service.ask(settings, _path(call_uuid, "recordings"), body, key=options.key)
    if status != 201:
        raise service.refused(status, answer)
    _print_recordings([answer], answer, as_json=as_json)


@click.command(epilog='Example: endtape pause CALL_UUID --reason "card number"')
@click.argument("call_uuid")
@as_json_option
@click.option("--recording", "recording_id", help="Only this recording.")
@account_option
@reason_option
@wait_option(30, "Seconds to wait for the proof.")
@exit_statuses
def pause(
    call_uuid: str,
    as_json: bool,
    recording_id: str | None,
    account: str | None,
    reason: str,
    wait_s: float,
) -> None:
    """Pause a call's recordings, and wait for the proof.

    `endtape resume` goes on with a further segment. Exit 0 only when each is proven over.
    """
    settings, _ = open_ledger(rules_needed=False)
    status, answer = service.ask(
        settings,
        _path(call_uuid, "pause"),
        {"recording_id": recording_id, "account": account, "reason": reason, "wait_s": wait_s},
        wait_s=wait_s,
    )
    if status not in {200, 202}:
        raise service.refused(status, answer)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        nameless = {"recording_id": None, "stop": answer["stop"]}
        print_table(stops_table(answer["recordings"] or [nameless]))
    if answer.get("problem") == NO_LIVE_CALL:
        click.echo(
            f"{call_uuid}: the provider has no live call of this id (404), and nobody told us of "
            "one, so there was nothing to pause",
            err=True,
        )
    elif not answer["recordings"]:
        click.echo(
            f"{call_uuid}: no recording of it is known, so nothing can prove that it ended",
            err=True,
        )
    stops = [view["stop"]["state"] for view in answer["recordings"]]
    sys.exit(0 if stops and set(stops) <= _PROVEN else 1)


@click.command(epilog="Example: endtape resume CALL_UUID")
@click.argument("call_uuid")
@as_json_option
@account_option
@reason_option
@wait_option(30, "Seconds to wait for the provider's answer.")
@exit_statuses
def resume(call_uuid: str, as_json: bool, account: str | None, reason: str, wait_s: float) -> None:
    """Go on with what was paused, as a further segment."""
    settings, _ = open_ledger(rules_needed=False)
    status, answer = service.ask(
        settings,
        _path(call_uuid, "resume"),
        {"account": account, "reason": reason, "wait_s": wait_s},
        wait_s=wait_s,
    )
    if status != 201:
        raise service.refused(status, answer)
    _print_recordings(answer["recordings"], answer, as_json=as_json)


def _path(call_uuid: str, what: str) -> str:
    return f"/v1/calls/{quote(call_uuid, safe='')}/{what}"


def _print_recordings(
    views: Sequence[dict[str, Any]], answer: dict[str, Any], *, as_json: bool
) -> None:
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    table = table_of("recording, segment of", "phase", "ends by", whole=["recording, segment of"])
    for view in views:
        table.add_row(
            Stacked(view["recording_id"], [view["segment_of"]] if view["segment_of"] else []),
            view["phase"],
            or_dash(view["stop"]["due_at"]),
        )
    print_table(table)
