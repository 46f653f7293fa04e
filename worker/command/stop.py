"""`endtape stop`: ends what a call records, and waits for the proof."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich.table import Table

from worker import wire
from worker.calls.call import Call, Recording
from worker.calls.events import Event, Kind
from worker.calls.handoffs import concerning
from worker.calls.history import Deed, Entry
from worker.calls.replay import replay
from worker.calls.triggers import acts
from worker.calls.unseen import UNSEEN
from worker.calls.views import recording_view
from worker.command.terminal import (
    account_option,
    as_json_option,
    exit_statuses,
    find_call,
    open_ledger,
    print_lines,
    print_table,
    reason_option,
    table_of,
    user,
    wait_option,
    waiting,
)
from worker.errors import EndtapeError
from worker.ledger.client import Ledger
from worker.ledger.presence import SEEN_WITHIN
from worker.settings import Settings


@click.command(epilog='Example: endtape stop CALL_UUID --reason "asked by the caller"')
@click.argument("call_uuid")
@as_json_option
@click.option("--recording", "recording_id", help="Only this recording.")
@account_option
@reason_option
@wait_option(600, "Seconds to wait for the proof.")
@exit_statuses
def stop(
    call_uuid: str,
    as_json: bool,
    recording_id: str | None,
    account: str | None,
    reason: str,
    wait_s: float,
) -> None:
    """Stop a call's recordings, or one, and wait for the proof.

    CALL_UUID stops all of them, also of a call that nobody told us of; a recording's id that one.
    Exit 0 only when each is proven over.
    """
    settings, ledger = open_ledger(rules_needed=False)
    account, a_leg = _whose(settings, ledger, call_uuid, account)
    known = replay(account, a_leg, ledger.events(account, a_leg)).recordings
    if recording_id is None and call_uuid != a_leg and call_uuid in known:
        recording_id = call_uuid  # named by a recording's id: that one is meant
    if recording_id is not None and recording_id not in known:
        raise EndtapeError(f"{recording_id}: no such recording on call {a_leg}")
    order = Event(
        id=f"order:{secrets.token_hex(6)}",
        kind=Kind.STOP_ORDERED,
        call_uuid=a_leg,
        recording_id=recording_id,
        reason=reason,
        by=user(),
        segment_of=known[recording_id].segment_of if recording_id else None,
    )
    _give(ledger, account, order)
    try:
        call, concerned, proven = _waited(settings, ledger, account, order, wait_s)
    except KeyboardInterrupt:
        raise EndtapeError(
            "Interrupted. The order stands: the stop is sent, and its proof looked for. "
            f"`endtape show {a_leg}` tells how it went."
        ) from None
    views = [recording_view(call, r, settings.rules, ledger.now()) for r in concerned]
    _print_stops(views, as_json=as_json)
    if not proven:
        for line in _why_not(settings, ledger, call, concerned, wait_s):
            print_lines(line, err=True)
    sys.exit(0 if proven else 1)


def _waited(
    settings: Settings, ledger: Ledger, account: str, order: Event, wait_s: float
) -> tuple[Call, list[Recording], bool]:
    """The call, the recordings that the order is about, and whether each is proven over: then, or
    where nobody knows the call, or when the time is up.
    """
    deadline = time.monotonic() + wait_s
    with waiting("waiting for the proof ..."):
        while True:
            call = replay(account, order.call_uuid, ledger.events(account, order.call_uuid))
            concerned = concerning(
                call, next(a for a in acts(call, settings.rules) if a.event.id == order.id)
            )
            proven = bool(concerned) and all(r.over_at for r in concerned)
            if proven or _nobody_knows(call, concerned) or time.monotonic() >= deadline:
                return call, concerned, proven
            time.sleep(0.1)


def _give(ledger: Ledger, account: str, order: Event) -> None:
    """Enters the order in the history, and records it."""
    deed = Entry(
        what=Deed.STOP,
        who=user(),
        call_uuid=order.call_uuid,
        recording_id=order.recording_id,
        reason=order.reason,
    )
    ledger.enter(account, deed, order=order.id)
    ledger.record(account, order)


def _whose(settings: Settings, ledger: Ledger, uuid: str, named: str | None) -> tuple[str, str]:
    """The account and the A-leg that an id means. For an unknown call: the account that is `named`,
    or the only one, and the id itself. Raises UsageError where the account is not clear.
    """
    if not wire.identifier(uuid) or wire.identifier(uuid) != uuid:
        raise click.BadParameter(
            "must be an id of at most 128 letters, digits, `_` and `-`", param_hint="CALL_UUID"
        )
    try:
        found = find_call(settings, ledger, uuid, named)
    except EndtapeError:
        accounts = list(dict.fromkeys([*settings.accounts, *ledger.accounts()]))
        if named is not None and named not in accounts:
            raise click.BadParameter(
                f"no such account here; there are {', '.join(accounts)}", param_hint="--account"
            ) from None
        if named is None and len(accounts) > 1:
            raise click.UsageError(
                f"nobody told us of {uuid}, so say whose it is: --account {' or '.join(accounts)}"
            ) from None
        return named or accounts[0], uuid
    return found[:2]


def _nobody_knows(call: Call, concerned: Sequence[Recording]) -> bool:
    """Whether neither we nor the provider know the call, so that the order has no effect."""
    unseen = [r for r in concerned if r.recording_id == UNSEEN]
    return (
        len(unseen) == len(concerned) > 0
        and not call.recordings
        and any(a.kind is Kind.CALL_FOUND_OVER for r in unseen for a in r.attempts)
    )


def _why_not(
    settings: Settings, ledger: Ledger, call: Call, concerned: Sequence[Recording], wait_s: float
) -> Iterator[str]:
    """A line for each recording without proof, with the reason as far as it is known."""
    if _nobody_knows(call, concerned):
        why = (
            "so it rings, or is over; what is reported within 5 s of the order is stopped"
            if call.known
            else "and nobody told us of one, so there was nothing to stop, "
            "or the id is another leg's"
        )
        yield f"{call.call_uuid}: the provider has no live call of this id (404), {why}"
        return
    for recording in concerned:
        name, sent = recording.recording_id or f"call {call.call_uuid}", len(recording.attempts)
        if recording.over_at:
            continue
        if recording.trunk:
            yield f"{name}: a trunk recording cannot be stopped; only the end of its call ends it"
        elif not sent:
            yield (
                f"{name}: no stop request has left within {wait_s:g} s; "
                f"{_held_up(settings, ledger, call)}"
            )
        elif recording.recording_id == UNSEEN:
            yield (
                f"{name}: the stop for all of it was sent, and no recording of it is known, "
                "so nothing can prove that it ended"
            )
        else:
            yield (
                f"{name}: no proof within {wait_s:g} s; it is looked for, and the stop sent again, "
                f"until there is one (`endtape show {call.call_uuid}`)"
            )


def _held_up(settings: Settings, ledger: Ledger, call: Call) -> str:
    """Why no stop request has left."""
    alive = ledger.alive(SEEN_WITHIN)
    missing = [role for role in ("stops", "clock") if role not in alive]
    if missing:
        return f"no process for {' and '.join(missing)} is running, see `endtape doctor`"
    if call.account not in settings.accounts:
        return f"the account {call.account} is not in the settings"
    return (
        "it goes out as soon as the provider's rate and its credentials allow, see `endtape doctor`"
    )


def _print_stops(views: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps(
                [
                    {
                        "recording_id": v["recording_id"] or None,
                        "stop": v["stop"],
                        "problem": v["problem"],
                    }
                    for v in views
                ],
                indent=2,
            )
        )
    elif views:
        print_table(stops_table(views))
        for v in views:
            if v["problem"]:
                print_lines(f"{v['recording_id'] or 'the call'}: {v['problem']}", err=True)


def stops_table(views: Sequence[dict[str, Any]]) -> Table:
    """A row for each recording's stop, as `/v1` shows them."""
    table = table_of("recording", "stop", "evidence", "tries", "tail", whole=["recording"])
    for view in views:
        stop = view["stop"]
        table.add_row(
            view["recording_id"] or "(none is known)",
            stop["state"],
            ", ".join(stop["evidence"]) or "-",
            str(stop["attempts"]),
            "-" if stop["tail_ms"] is None else wire.length(stop["tail_ms"]),
        )
    return table
