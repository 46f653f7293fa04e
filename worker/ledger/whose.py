"""Which account knows an id, and what the id means there. `/v1` and the commands both ask here."""

from __future__ import annotations

from collections.abc import Iterable

from worker import wire
from worker.calls.call import Call, Recording
from worker.calls.replay import replay
from worker.ledger.client import Ledger


def find_call(
    ledger: Ledger, accounts: Iterable[str], call_uuid: str, *, a_leg_first: bool
) -> tuple[str, str] | None:
    """The first of these accounts that knows the call, and the id under which it does; None where
    no account does.

    An id may be that of a call and of another call's leg at once. `a_leg_first` says which of the
    two is meant: the call that the leg belongs to (True), or the call of that id (False).
    """
    if not wire.identifier(call_uuid):
        return None
    for account in accounts:
        a_leg, own_size = ledger.known_as(account, call_uuid)
        sizes = {call_uuid: own_size}
        ids = [a_leg, call_uuid]
        for known_as in ids if a_leg_first else reversed(ids):
            if sizes[known_as] if known_as in sizes else ledger.size(account, known_as):
                return account, known_as
    return None


def find_recording(
    ledger: Ledger, accounts: Iterable[str], recording_id: str
) -> tuple[Call, Recording] | None:
    """The recording of this id and its call, from the first of these accounts that knows it; None
    where no account does.
    """
    if not wire.identifier(recording_id):
        return None
    for account in accounts:
        call_uuid = ledger.call_of(account, recording_id)
        if call_uuid is None:
            continue
        call = replay(account, call_uuid, ledger.events(account, call_uuid))
        if recording_id in call.recordings:
            return call, call.recordings[recording_id]
    return None
