"""`endtape handoff`: asks the service whether a transfer may go."""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import quote

import click
import requests

from worker.command.terminal import as_json_option, exit_statuses, open_ledger
from worker.errors import EndtapeError
from worker.settings import Settings


def _ask(
    settings: Settings,
    path: str,
    body: dict[str, Any],
    *,
    key: str | None = None,
    wait_s: float = 30,
) -> tuple[int, dict[str, Any]]:
    """Sends a request to the API of the running service. Returns the status and the JSON of the
    answer. Raises EndtapeError where the service does not answer.
    """
    base = f"http://{settings.host}:{settings.port}"
    headers = {
        "Authorization": f"Bearer {settings.api_keys[0].secret}",
        **({"Idempotency-Key": key} if key else {}),
    }
    with requests.Session() as http:
        http.trust_env = False
        try:
            response = http.post(
                base + path,
                json={k: v for k, v in body.items() if v is not None},
                headers=headers,
                timeout=wait_s + 10,
            )
            answer: dict[str, Any] = response.json()
        except (requests.RequestException, ValueError) as error:
            raise EndtapeError(
                f"{base} does not answer ({type(error).__name__}): "
                "is the service running, and PORT right?"
            ) from None
    return response.status_code, answer


@click.command()
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
    type=click.FloatRange(0, 30),
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
    """Ask before a transfer. Exit 0 means go, 1 hold."""
    settings, _ = open_ledger(rules_needed=False)
    try:
        transfer = json.load(transfer_file) if transfer_file else None
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--transfer") from None
    status, answer = _ask(
        settings,
        f"/v1/calls/{quote(call_uuid, safe='')}/handoff",
        {"kind": kind, "to": to, "wait_s": wait_s, "transfer": transfer},
        key=key,
        wait_s=wait_s,
    )
    if "verdict" not in answer:
        raise EndtapeError(f"{status}: {answer.get('detail')}")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(
            f"{answer['verdict'].upper()}: {answer['reason']}\n"
            f"  rule {answer['rule']!r} says {answer['action']} on {answer['kind']};"
            f" evidence: {', '.join(answer['evidence']) or 'none'}"
            + (f"; transfer {answer['transfer']}" if "transfer" in answer else "")
        )
    sys.exit(0 if answer["verdict"] == "go" else 1)
