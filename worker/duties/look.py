"""Asks the provider about a call: its list of recordings, and whether the call is live unless it is
known to be over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from worker.calls.call import Call
from worker.calls.events import Event, Kind
from worker.calls.replay import replay
from worker.calls.starts import unsettled
from worker.calls.triggers import acts
from worker.calls.unseen import unseen
from worker.duties.worker import (
    Held,
    Worker,
    commit_and_plan,
    is_ours,
    postponed,
    spend,
    wait_until,
)
from worker.errors import EndtapeError, LedgerUnavailable, Refused
from worker.ledger.calls import Claim, Loaded
from worker.vobiz.account import Account
from worker.vobiz.answers import LiveCall
from worker.vobiz.client import Row

log = structlog.get_logger()


def looks(worker: Worker, claims: Sequence[Claim]) -> None:
    """One look for each call. Harmless to repeat: it only reads, and what it finds is recorded
    once.
    """
    now, loaded = worker.ledger.load(claims)
    for claim, found in zip(claims, loaded, strict=True):
        if found is not None:
            try:
                _look(worker, claim, found, now)
            except LedgerUnavailable:
                raise
            except Exception:  # a fault of ours must not hold up the others
                log.exception("a call cannot be looked at", obligation=str(claim.obligation))
                worker.alert(
                    "poison", account=claim.obligation.account, call_uuid=claim.obligation.call_uuid
                )


def _look(worker: Worker, claim: Claim, loaded: Loaded, now: datetime) -> None:
    later = postponed(worker, claim, now)
    if later:
        wait_until(worker, claim, loaded, later)
        return
    o = claim.obligation
    account = worker.settings.accounts[o.account]
    call = replay(o.account, o.call_uuid, loaded.events)
    found: list[Event] = []
    looked = Event(
        id=f"look.{claim.fence}", kind=Kind.LOOKED, call_uuid=o.call_uuid, requested_at=now
    )
    with Held(worker.ledger, claim):
        try:
            found += _listed(worker, account, call)
            if call.over_at is None and (
                not _all_over(call, found) or _may_be_more(worker, call, now)
            ):
                spend(worker, account)
                looked = _with_facts(looked, worker.vobiz.live_call(account, o.call_uuid))
        except Refused as error:
            looked = replace(looked, reason=str(error))
            is_ours(worker, account, error, call_uuid=o.call_uuid)
        except EndtapeError as error:
            looked = replace(looked, reason=str(error))
    found.append(looked)
    commit_and_plan(worker, claim, loaded, found, now, call)


def _with_facts(looked: Event, live: LiveCall | None) -> Event:
    if live is None:
        return replace(looked, live=False)
    return replace(
        looked,
        live=True,
        from_number=live.from_number,
        to_number=live.to_number,
        direction=live.direction,
    )


def _listed(worker: Worker, account: Account, call: Call) -> list[Event]:
    rows = worker.vobiz.find_recordings(
        account, call_uuid=call.call_uuid, before_page=lambda: spend(worker, account)
    )
    since = adopts_since(worker)
    return [
        listed(call.call_uuid, row)
        for row in rows
        if row.recording_id in call.recordings or is_adopted(row, since)
    ]


def adopts_since(worker: Worker) -> datetime:
    """Recordings that nobody announced are ours if they began at this instant or later: our first
    start, less `adopt`.
    """
    return (worker.ledger.first_start() or worker.first_start) - (
        worker.settings.rules.adopt or timedelta(0)
    )


def is_adopted(row: Row, since: datetime) -> bool:
    began = row.started_at or row.ended_at or row.added_at
    return began is None or began >= since


def listed(call_uuid: str, row: Row) -> Event:
    """The provider's row as an event of that call. The same row always gives the same id."""
    # A row may first show a running recording, and later its end. These are two events.
    over = "end" if row.ended_at or row.duration_s else "row"
    return Event(
        id=f"listed.{over}.{row.recording_id}",
        kind=Kind.RECORDING_LISTED,
        call_uuid=call_uuid,
        recording_id=row.recording_id,
        url=row.url,
        started_at=row.started_at,
        ended_at=row.ended_at,
        added_at=row.added_at,
        duration_s=row.duration_s,
        format=row.format,
        from_number=row.from_number,
        to_number=row.to_number,
        trunk=True if row.recording_type == "trunk" else None,
        room="conference" if row.recording_type == "conference" else None,
    )


def _may_be_more(worker: Worker, call: Call, now: datetime) -> bool:
    """Whether a recording may run that nobody told us of. Then we must know whether the call is
    live.
    """
    rules = worker.settings.rules
    rule, terms = rules.choose(call)
    hidden = unseen(call, acts(call, rules), terms, rule, now)
    return bool(unsettled(call)) or (hidden is not None and hidden.over_at is None)


def _all_over(call: Call, listed: Sequence[Event]) -> bool:
    ended = {e.recording_id for e in listed if e.ended_at or e.duration_s}
    return bool(call.recordings) and all(
        r.over_at or r.recording_id in ended for r in call.recordings.values()
    )
