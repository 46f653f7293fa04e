"""The duty LOOK: poll the provider about a call. A look lists the call's recordings. If they leave
it open whether anything records, the look also asks whether the call is live.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from worker.calls.call import Call
from worker.calls.events import Event, Kind
from worker.calls.replay import replay
from worker.calls.starts import unsettled
from worker.calls.triggers import acts
from worker.calls.unseen import unseen
from worker.duties import leaving
from worker.duties.access import handle_refusal, not_yet, spend
from worker.duties.leases import LeaseKeeper
from worker.duties.outcomes import commit_and_plan, do_or_report, wait_until
from worker.duties.worker import Worker
from worker.errors import EndtapeError, Refused
from worker.ledger.obligations import Claim, Commit, Loaded
from worker.vobiz.account import Account
from worker.vobiz.answers import LiveCall, Row


def looks(worker: Worker, claims: Sequence[Claim]) -> None:
    """Look at each claimed call once. Raises LedgerUnavailable.

    Harmless to repeat: a look only reads, and its findings have ids that are recorded once.
    """
    now, loaded = worker.ledger.load(claims)
    for claim, log_of_call in zip(claims, loaded, strict=True):
        if log_of_call is not None:
            work = partial(_look, worker, claim, log_of_call, now)
            do_or_report(worker, claim, work, "a call cannot be looked at")


def _look(worker: Worker, claim: Claim, loaded: Loaded, now: datetime) -> None:
    o = claim.obligation
    later = not_yet(worker, o.account, now)
    if later:
        wait_until(worker, claim, loaded, later)
        return
    account = worker.settings.accounts[o.account]
    call = replay(o.account, o.call_uuid, loaded.events)
    for recording in call.recordings.values():
        leaving.warn(worker, call, recording, now)
    rows: list[Event] = []
    looked = Event(
        id=f"look.{claim.fence}", kind=Kind.LOOKED, call_uuid=o.call_uuid, requested_at=now
    )
    with LeaseKeeper(worker.ledger, claim):
        try:
            rows += _listed(worker, account, call)
            if _must_know_whether_live(worker, call, rows, now):
                spend(worker, account)
                looked = _with_facts(looked, worker.vobiz.live_call(account, o.call_uuid))
        except Refused as error:
            looked = replace(looked, reason=str(error))
            handle_refusal(worker, account, error, call_uuid=o.call_uuid)
        except EndtapeError as error:
            looked = replace(looked, reason=str(error))
    found = Commit(claim=claim, events=[*rows, looked], seen=loaded.size)
    commit_and_plan(worker, found, call, now=now)


def _must_know_whether_live(
    worker: Worker, call: Call, listed: Sequence[Event], now: datetime
) -> bool:
    """Whether to ask for the live call too: the list leaves it open whether anything records."""
    if call.over_at is not None:
        return False
    return not _all_over(call, listed) or _may_be_more(worker, call, now)


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
    """A recording that nobody announced is adopted if it began at this instant or later: the first
    start of Endtape, less the setting `adopt`.
    """
    return (worker.ledger.first_start() or worker.first_start) - (
        worker.settings.rules.adopt or timedelta(0)
    )


def is_adopted(row: Row, since: datetime) -> bool:
    """Whether a row that the ledger does not know is taken up. `since`: see `adopts_since`."""
    began = row.started_at or row.ended_at or row.added_at
    return began is None or began >= since


def listed(call_uuid: str, row: Row) -> Event:
    """The provider's row as an event of the call. The same row always gives the same id.

    A row may first show a running recording, and later its end. These are two events.
    """
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
    """Whether a recording may run that nobody reported: one of our starts that got no answer, or
    one that an order to stop the whole call is about.
    """
    rules = worker.settings.rules
    rule, terms = rules.choose(call)
    hidden = unseen(call, acts(call, rules), terms, rule, now)
    return bool(unsettled(call)) or (hidden is not None and hidden.over_at is None)


def _all_over(call: Call, listed: Sequence[Event]) -> bool:
    """Whether the call has recordings, and each one is proven over or listed with an end."""
    ended = {e.recording_id for e in listed if e.ended_at or e.duration_s}
    return bool(call.recordings) and all(
        r.over_at or r.recording_id in ended for r in call.recordings.values()
    )
