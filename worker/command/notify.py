"""`endtape notify`: notifications that do not arrive, a test of each endpoint, new tries."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict

import click

from worker.calls.notices import TEST, Endpoint
from worker.calls.obligations import Duty, Obligation
from worker.calls.views import rfc3339
from worker.command.terminal import (
    Stacked,
    as_json_option,
    exit_statuses,
    open_ledger,
    print_table,
    table_of,
    waiting,
)
from worker.errors import EndtapeError
from worker.ledger.client import Ledger
from worker.ledger.notices import Failing
from worker.settings import Settings
from worker.vobiz import webhook


@click.command(epilog="Example: endtape notify --test")
@as_json_option
@click.option(
    "--test", is_flag=True, help="Send one signed webhook of type `test` to each endpoint."
)
@click.option("--retry", "retried", metavar="ID", help="Try one that failed again; `all`: each.")
@exit_statuses
def notify(as_json: bool, test: bool, retried: str | None) -> None:
    """List the notifications that do not arrive.

    Also the recordings that nobody took who should be handed them (`after_archive`). With --test:
    whether each endpoint takes one; exit 1 where one does not. With --retry: try again what failed,
    also after it was given up.
    """
    settings, ledger = open_ledger()
    if test and retried:
        raise click.UsageError("--test and --retry are different things; name one")
    if test:
        _test(settings, ledger, as_json=as_json)
    elif retried:
        _retry(ledger, retried, as_json=as_json)
    else:
        _list(settings, ledger.failing(), as_json=as_json)


def _test(settings: Settings, ledger: Ledger, *, as_json: bool) -> None:
    # A command would have nothing to work on.
    told = [*settings.notify, *(e for e in settings.hand_ons.values() if not e.command)]
    with waiting("sending ..."):
        outcomes = [(endpoint, _send_test(endpoint, ledger)) for endpoint in told]
    if as_json:
        rows = [{"url": e.url, "arrived": o.arrived, "why": o.why} for e, o in outcomes]
        click.echo(json.dumps(rows, indent=2))
    elif outcomes:
        table = table_of("endpoint", "outcome")
        for endpoint, outcome in outcomes:
            table.add_row(endpoint.url, outcome.why or f"took it ({outcome.status})")
        print_table(table)
    else:
        click.echo("No [[notify]] and no after_archive stands in the rules file, or only commands.")
    sys.exit(0 if all(outcome.arrived for _, outcome in outcomes) else 1)


def _send_test(endpoint: Endpoint, ledger: Ledger) -> webhook.Outcome:
    now = ledger.now()
    body = {"type": TEST, "timestamp": rfc3339(now), "data": {"events": sorted(endpoint.events)}}
    return webhook.send(endpoint, f"msg_test_{secrets.token_hex(8)}", json.dumps(body), now)


def _retry(ledger: Ledger, retried: str, *, as_json: bool) -> None:
    chosen = [f for f in ledger.failing() if retried in {"all", f.notice}]
    if not chosen and retried != "all":
        raise EndtapeError(f"{retried}: no notification with this id fails")
    for failing in chosen:
        ledger.try_again(failing)
        owed = Obligation(
            duty=Duty.HAND_ON if failing.hands_on else Duty.NOTIFY,
            account=failing.account,
            call_uuid=failing.call_uuid,
            recording_id=failing.hands_on,
        )
        ledger.ensure_due([owed])
        ledger.make_due_now(owed)
    ledger.wake()
    if as_json:
        click.echo(json.dumps([f.notice for f in chosen], indent=2))
    else:
        click.echo(f"{len(chosen)} will be tried again now." if chosen else "Nothing fails.")


def _list(settings: Settings, failing: Sequence[Failing], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(f) for f in failing], indent=2))
        return
    if not settings.notify and not settings.hand_ons:
        click.echo("No [[notify]] stands in the rules file, so nobody is notified.")
    elif not failing:
        click.echo("Every notification arrived, or is on its way for the first time.")
    if not failing:
        return
    table = table_of("notification, endpoint, why", "type", "tries", "given up")
    for one in failing:
        table.add_row(
            Stacked(one.notice, [one.url, one.why]),
            one.type,
            str(one.tries),
            "yes" if one.given_up else "no",
        )
    print_table(table)
