"""`endtape retry`: tries again what did not come home."""

from __future__ import annotations

import json
import sys

import click

from worker.calls.events import Fault
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.command.backlog_page import FAULTS, name_of, searching
from worker.command.terminal import as_json_option, careful, open_ledger
from worker.errors import EndtapeError
from worker.ledger import backlog
from worker.ledger.client import Ledger
from worker.settings import Settings


@click.command()
@click.argument("recording_ids", nargs=-1, metavar="[RECORDING_ID]...")
@as_json_option
@click.option(
    "--fault",
    type=click.Choice([*FAULTS, "all"]),
    help="Instead of ids: all that fails or is abandoned by this fault.",
)
@click.option("--reason", default="operator", show_default=True)
@careful
def retry(recording_ids: tuple[str, ...], as_json: bool, fault: str | None, reason: str) -> None:
    """Try once more to bring recordings home.

    Whatever became of them.

    Exit 0 when all were ordered, 1 when some were not or nothing was found. A call's id means its
    look, where that was set aside.
    """
    if bool(recording_ids) == bool(fault):
        raise click.UsageError("name recordings, or else a --fault")
    settings, ledger = open_ledger(rules_needed=False)
    refused: dict[str, str] = {}
    ordered: list[Obligation] = []
    with searching() as told:
        if fault:
            ordered = [
                e.owed
                for e in backlog.find(
                    ledger, None if fault == "all" else Fault(fault), failing=True, told=told
                )
            ]
        for i in dict.fromkeys(recording_ids):
            try:
                ordered.append(_named(settings, ledger, i))
            except EndtapeError as error:
                refused[i] = str(error)
        for n, owed in enumerate(ordered, 1):
            backlog.retry(ledger, owed, reason=reason, by="cli")
            told(n, len(ordered))
    waiting = {
        account: why
        for account in {o.account for o in ordered}
        if (why := _waits(settings, ledger, account))
    }
    if as_json:
        click.echo(
            json.dumps(
                {
                    "ordered": len(ordered),
                    "recordings": [
                        *(
                            {
                                "recording_id": o.recording_id,
                                "call_uuid": o.call_uuid,
                                "retry": "ordered",
                                "problem": waiting.get(o.account),
                            }
                            for o in ordered
                        ),
                        *(
                            {
                                "recording_id": i,
                                "call_uuid": None,
                                "retry": "refused",
                                "problem": why,
                            }
                            for i, why in refused.items()
                        ),
                    ],
                },
                indent=2,
            )
        )
    else:
        _tell(ordered, fault)
        for line in [*waiting.values(), *refused.values()]:
            click.echo(line, err=True)
    sys.exit(0 if ordered and not refused else 1)


def _tell(ordered: list[Obligation], fault: str | None) -> None:
    if fault:
        what = "fails" if fault == "all" else f"fails by the fault of {fault}"
        click.echo(f"{len(ordered)} will be tried again now." if ordered else f"Nothing {what}.")
    for owed in [] if fault else ordered:
        click.echo(f"{name_of(owed)}: will be tried again now.")


def _waits(settings: Settings, ledger: Ledger, account: str) -> str | None:
    """Why what was ordered for this account cannot begin at once."""
    if account not in settings.accounts:
        return f"{account}: left the settings; what was ordered fails until it is added again"
    if ledger.halted([account]):
        return f"{account}: is halted, the provider refuses its credentials; what was ordered begins when they are accepted"
    return None


def _named(settings: Settings, ledger: Ledger, name: str) -> Obligation:
    """What a recording's id means, or that of a call whose look was set aside. Raises EndtapeError
    with the reason where there is nothing to try.
    """
    for accounts in (list(settings.accounts), ledger.accounts()):
        for account in accounts:
            call_uuid = ledger.call_of(account, name)
            call = (
                replay(account, call_uuid, ledger.events(account, call_uuid)) if call_uuid else None
            )
            recording = call.recordings.get(name) if call else None
            if call and recording and recording.archived:
                raise EndtapeError(
                    f"{name}: is archived already, as {recording.archived.archive_key}"
                )
            if call and recording:
                return Obligation(
                    duty=Duty.FETCH, account=account, call_uuid=call.call_uuid, recording_id=name
                )
    for o in ledger.set_aside():
        if o.duty is Duty.LOOK and o.call_uuid == name:
            return o
    if any(ledger.events(account, name) for account in ledger.accounts()):
        raise EndtapeError(
            f"{name}: is a call, and its look was not set aside; name one of its recordings (`endtape show {name}`)"
        )
    raise EndtapeError(f"{name}: no such recording")
