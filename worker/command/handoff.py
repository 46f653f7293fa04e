"""`endtape handoff`: asks the service whether a transfer may go."""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import quote

import click

from worker.command import service
from worker.command.terminal import (
    Number,
    as_json_option,
    exit_statuses,
    open_ledger,
    print_lines,
)

_INTERRUPTED = (
    "Interrupted. The question stands: stops go out as the rule says, a transfer may still be "
    "sent. `endtape show {call_uuid}` tells how it went."
)


@click.command(epilog="Example: endtape handoff CALL_UUID --kind blind --to 918065550101")
@click.argument("call_uuid")
@as_json_option
@click.option(
    "--kind", help="blind, attended, conference, ai_to_human, or any word that the rules use."
)
@click.option("--to", help="To whom; for the record.")
@click.option(
    "--wait",
    "wait_s",
    default=3.0,
    show_default=True,
    type=Number(0, 30),
    help="Seconds to wait for the proof.",
)
@click.option(
    "--transfer",
    "transfer_file",
    type=click.File("r"),
    help="A file with the provider's transfer request, which is sent on go.",
)
@click.option("--key", help="An Idempotency-Key: asking twice with it is asking once.")
@exit_statuses
def handoff(
    call_uuid: str,
    as_json: bool,
    kind: str | None,
    to: str | None,
    wait_s: float,
    transfer_file: Any,
    key: str | None,
) -> None:
    """Ask whether a transfer may go.

    Exit 0 means go, 1 hold.
    """
    settings, _ = open_ledger(rules_needed=False)
    try:
        transfer = json.load(transfer_file) if transfer_file else None
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--transfer") from None
    status, answer = service.ask(
        settings,
        f"/v1/calls/{quote(call_uuid, safe='')}/handoff",
        {"kind": kind, "to": to, "wait_s": wait_s, "transfer": transfer},
        key=key,
        wait_s=wait_s,
        interrupted=_INTERRUPTED.format(call_uuid=call_uuid),
    )
    if "verdict" not in answer:
        raise service.refused(status, answer)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        print_lines(
            f"{answer['verdict'].upper()}: {answer['reason']}\n"
            f"  rule {answer['rule']!r} says {answer['action']} on {answer['kind']};"
            f" evidence: {', '.join(answer['evidence']) or 'none'}"
            + (f"; transfer {answer['transfer']}" if "transfer" in answer else "")
        )
    sys.exit(0 if answer["verdict"] == "go" else 1)
