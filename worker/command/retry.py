"""`endtape retry`: orders another try for recordings that did not come home."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from worker.calls.call import Call
from worker.calls.events import Fault
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.catalogue.database import Catalogue
from worker.command import event_lines
from worker.command.terminal import (
    FAULTS,
    as_json_option,
    exit_statuses,
    open_ledger,
    owed_name,
    print_lines,
    progress_bar,
    reason_option,
    user,
)
from worker.errors import EndtapeError
from worker.governing import retries
from worker.ledger import backlog
from worker.ledger.client import Ledger
from worker.settings import Settings


@click.command(epilog="Example: endtape retry --fault storage --reason 'disk replaced'")
@click.argument("recording_ids", nargs=-1, metavar="[RECORDING_ID]...")
@as_json_option
@click.option(
    "--fault",
    type=click.Choice([*FAULTS, "all"]),
    help="Instead of ids: all that fails or is abandoned by this fault.",
)
@reason_option
@exit_statuses
def retry(recording_ids: tuple[str, ...], as_json: bool, fault: str | None, reason: str) -> None:
    """Try once more to bring recordings home.

    Whatever became of them.

    Exit 0 when all were ordered, 1 when some were not or nothing was found. A call's id means its
    look, where that was set aside.
    """
    if bool(recording_ids) == bool(fault):
        raise click.UsageError("name recordings, or else a --fault")
    settings, ledger = open_ledger(rules_needed=False)
    ordered, refused = _order(settings, ledger, recording_ids, fault, reason=reason)
    waiting = {
        account: why
        for account in {o.account for o in ordered}
        if (why := _waits(settings, ledger, account))
    }
    if as_json:
        click.echo(json.dumps(_view(ordered, waiting, refused), indent=2))
    else:
        _print_ordered(ordered, fault)
        for line in [*waiting.values(), *refused.values()]:
            print_lines(line, err=True)
    sys.exit(0 if ordered and not refused else 1)


def _order(
    settings: Settings,
    ledger: Ledger,
    recording_ids: tuple[str, ...],
    fault: str | None,
    *,
    reason: str,
) -> tuple[list[Obligation], dict[str, str]]:
    """Orders another try of all that is named. Returns what was ordered, and why each of the other
    ids was not.
    """
    ordered: list[Obligation] = []
    refused: dict[str, str] = {}
    catalogue = Catalogue(settings.catalog)
    with progress_bar("recordings ...") as advance:
        if fault:
            only = None if fault == "all" else Fault(fault)
            entries = backlog.find(ledger, only, failing=True, told=advance)
            ordered = [entry.owed for entry in entries]
        for recording_id in dict.fromkeys(recording_ids):
            try:
                ordered.append(_named(settings, ledger, catalogue, recording_id))
            except EndtapeError as error:
                refused[recording_id] = str(error)
        for count, owed in enumerate(ordered, 1):
            backlog.retry(ledger, owed, reason=reason, by=user())
            advance(count, len(ordered))
    return ordered, refused


def _view(
    ordered: list[Obligation], waiting: dict[str, str], refused: dict[str, str]
) -> dict[str, Any]:
    """The answer as JSON. `waiting`: by account, why its tries cannot begin at once. `refused`: by
    id, why nothing was ordered.
    """
    done = [
        {
            "recording_id": owed.recording_id,
            "call_uuid": owed.call_uuid,
            "retry": "ordered",
            "problem": waiting.get(owed.account),
        }
        for owed in ordered
    ]
    not_done = [
        {"recording_id": name, "call_uuid": None, "retry": "refused", "problem": why}
        for name, why in refused.items()
    ]
    return {"ordered": len(ordered), "recordings": [*done, *not_done]}


def _print_ordered(ordered: list[Obligation], fault: str | None) -> None:
    if fault:
        what = "fails" if fault == "all" else f"fails by the fault of {fault}"
        click.echo(f"{len(ordered)} will be tried again now." if ordered else f"Nothing {what}.")
        return
    for owed in ordered:
        click.echo(f"{owed_name(owed)}: will be tried again now.")


def _waits(settings: Settings, ledger: Ledger, account: str) -> str | None:
    """Why the tries that were ordered for this account cannot begin at once; None when they can."""
    if account not in settings.accounts:
        return f"{account}: left the settings; what was ordered fails until it is added again"
    if ledger.halted([account]):
        return (
            f"{account}: is halted, the provider refuses its credentials; "
            "what was ordered begins when they are accepted"
        )
    return None


def _is_a_call(call: Call) -> str:
    if told := event_lines.nothing_known(call):
        return f"{call.call_uuid}: {told}"
    if not call.recordings:
        return f"{call.call_uuid}: is a call of which no recording is known"
    return (
        f"{call.call_uuid}: is a call, and a retry is about a recording; "
        f"name one of these: {', '.join(call.recordings)}"
    )


def _named(settings: Settings, ledger: Ledger, catalogue: Catalogue, name: str) -> Obligation:
    """The fetch of the recording of this id, or the look of the call of this id where that was set
    aside. Raises EndtapeError with the reason where there is nothing to try.
    """
    for owed in ledger.set_aside():
        if owed.duty is Duty.LOOK and owed.call_uuid == name:
            return owed
    accounts = dict.fromkeys([*settings.accounts, *ledger.accounts()])
    for account in accounts:
        if events := ledger.events(account, name):
            raise EndtapeError(_is_a_call(replay(account, name, events)))
    try:
        found = retries.find(ledger, catalogue, accounts, name)
        if found is None:
            raise EndtapeError("no such recording")
        retries.restore(ledger, catalogue, found)
    except EndtapeError as error:
        raise EndtapeError(f"{name}: {error}") from None
    return found.owed
