"""The calls whose recordings were first seen of late, and their logs: what a simulation plays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from worker.calls.events import Event
from worker.ledger.client import Ledger

_AT_ONCE = 200  # recordings, or calls, that are read from Redis together


def first_seen(
    ledger: Ledger, accounts: Iterable[str], *, since: datetime
) -> Iterator[tuple[str, str]]:
    """Account and id of each call with a recording that was first seen since then, newest first.
    Raises LedgerUnavailable.
    """
    told = set[tuple[str, str]]()
    sights = ledger.recent(accounts, since=since)
    while some := list(islice(sights, _AT_ONCE)):
        call_of = dict[tuple[str, str], str]()
        for account in {sight.account for sight in some}:
            ids = [sight.recording_id for sight in some if sight.account == account]
            found = ledger.calls_of(account, ids)
            call_of |= {(account, recording_id): call for recording_id, call in found.items()}
        for sight in some:
            call_uuid = call_of.get((sight.account, sight.recording_id))
            if call_uuid and (sight.account, call_uuid) not in told:
                told.add((sight.account, call_uuid))
                yield sight.account, call_uuid


def logs(
    ledger: Ledger, calls: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, str, list[Event]]]:
    """Account, id and events of each of these calls, in their order. Raises LedgerUnavailable."""
    for at in range(0, len(calls), _AT_ONCE):
        some = calls[at : at + _AT_ONCE]
        found = {
            account: ledger.logs(account, [i for whose, i in some if whose == account])
            for account in {account for account, _ in some}
        }
        for account, call_uuid in some:
            yield account, call_uuid, found[account][call_uuid]
