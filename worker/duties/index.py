"""The duty INDEX: enter a call's finished recordings into the catalogue.

A row is made from what the archive holds, so the work is harmless to repeat. While catalogue or
archive are away, the obligation waits, and the call's log does not expire.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

import structlog

from worker.calls.call import Call, Phase
from worker.calls.events import Kind
from worker.calls.obligations import Duty
from worker.calls.planner import plan
from worker.calls.replay import replay
from worker.catalogue.rebuild import row_of
from worker.catalogue.rows import Row
from worker.duties import trials
from worker.duties.catalogue_trials import CATALOG
from worker.duties.leases import LeaseKeeper
from worker.duties.outcomes import do_or_report, kept_for, obligation, wait_until
from worker.duties.worker import Worker
from worker.errors import CatalogueAway, Conflict, Unstored
from worker.ledger.calls import SeenAt
from worker.ledger.obligations import Claim, Commit, Loaded

log = structlog.get_logger()
_AT_ONCE = 500
# What leaves the list of live recordings once it has its row.
_INDEXED = {Kind.MEDIA_ARCHIVED, Kind.RECORDING_ERASED}
_AGAIN = timedelta(seconds=15)
_READING_S = 10.0  # after so long of reading receipts the other calls of the batch wait


@dataclass(slots=True)
class _Work:
    """One claimed call. `rows`: of its finished recordings."""

    claim: Claim
    loaded: Loaded
    call: Call
    rows: list[Row] = field(default_factory=list)


def indexes(worker: Worker, claims: Sequence[Claim]) -> None:
    """Index the claimed calls, all in one transaction. Raises LedgerUnavailable."""
    now, loaded = worker.ledger.load(claims)
    held = [
        (c, log_of_call)
        for c, log_of_call in zip(claims, loaded, strict=True)
        if log_of_call is not None
    ]
    if held:
        with LeaseKeeper(worker.ledger, *(claim for claim, _ in held)):
            _index(worker, held, now)


def _index(worker: Worker, held: Sequence[tuple[Claim, Loaded]], now: datetime) -> None:
    works = list[_Work]()
    refuses = trials.on_this_machine("archive") in worker.ledger.degraded()
    until = time.monotonic() + (0.0 if refuses else _READING_S)
    for claim, log_of_call in held:
        if time.monotonic() >= until:  # an archive that hangs must not hold this slot of `keep`
            wait_until(worker, claim, log_of_call, now + _AGAIN)
            continue
        read = partial(_read, worker, works, claim, log_of_call, now)
        do_or_report(worker, claim, read, "a recording cannot be indexed")
    try:
        worker.catalogue.enter(row for work in works for row in work.rows)
    except CatalogueAway as error:
        trials.failed(worker.ledger, trials.on_this_machine(CATALOG), str(error))
        for work in works:
            wait_until(worker, work.claim, work.loaded, now + _AGAIN)
        return
    except ValueError:  # one that the database cannot hold does not keep the others out
        works = [work for work in works if _enters_alone(worker, work)]
    archived: dict[str, list[str]] = {}
    for work in works:
        # What was given up may yet be tried again, so Redis lists it.
        found = (row.id[1] for row in work.rows if row.view["phase"] != Phase.ABANDONED)
        archived.setdefault(work.call.account, []).extend(found)
    for account, ids in archived.items():
        worker.ledger.indexed(account, ids)
    worker.ledger.commit([_done(worker, work, now) for work in works])


def owe_missed(worker: Worker) -> None:
    """Put down what is finished and not in the catalogue, and was not put down: by an older
    release, or by a process that died between two steps. Raises LedgerUnavailable.
    """
    ledger, accounts = worker.ledger, worker.ledger.accounts()
    known = ledger.recent(accounts)
    while some := list(islice(known, _AT_ONCE)):
        ledger.make_live(_lost(worker, some))
    live = ledger.live(accounts)
    while some := list(islice(live, _AT_ONCE)):
        ledger.ensure_due({obligation(call, Duty.INDEX): None for call in _missing(worker, some)})


def _lost(worker: Worker, sights: Sequence[SeenAt]) -> list[SeenAt]:
    """Those of these recordings that are neither live nor in the catalogue."""
    lost = list[SeenAt]()
    for account in {sight.account for sight in sights}:
        ids = [sight.recording_id for sight in sights if sight.account == account]
        # In this order: what becomes finished meanwhile is found in one or the other.
        elsewhere = worker.ledger.are_live(account, ids)
        with contextlib.suppress(CatalogueAway):
            elsewhere |= worker.catalogue.known(account, ids)
            lost += [s for s in sights if s.account == account and s.recording_id not in elsewhere]
    return lost


def _missing(worker: Worker, sights: Sequence[SeenAt]) -> Iterator[Call]:
    """The calls of those of these live recordings that are finished and that the catalogue lacks.

    One that was given up stays live beside its row. It is not entered again every hour: Redis would
    never forget its call.
    """
    ledger = worker.ledger
    for account in {sight.account for sight in sights}:
        ids = [sight.recording_id for sight in sights if sight.account == account]
        try:
            known = worker.catalogue.known(account, ids)
        except CatalogueAway:
            continue
        call_of = ledger.calls_of(account, ids)
        for call_uuid, events in ledger.logs(account, set(call_of.values())).items():
            finished = {e.recording_id for e in events if e.kind in _INDEXED}
            finished |= {e.recording_id for e in events if e.kind is Kind.ABSENCE_FILED} - known
            if any(call_of.get(i or "") == call_uuid for i in finished):
                yield replay(account, call_uuid, events)


def _read(worker: Worker, works: list[_Work], claim: Claim, loaded: Loaded, now: datetime) -> None:
    """Add the call, with the rows of its finished recordings, to `works`. Where the archive does
    not give them now, the claim waits.
    """
    owed = claim.obligation
    call = replay(owed.account, owed.call_uuid, loaded.events)
    work = _Work(claim=claim, loaded=loaded, call=call)
    for recording in call.recordings.values():
        filed = recording.erasing or recording.archived or recording.absence
        if filed is None or not filed.archive_key:
            continue
        governed = recording.was_held or bool(
            recording.erasing or recording.offloaded or recording.derived or recording.facts_filed
        )
        try:
            row = row_of(worker.archive, filed.archive_key, governed=governed)
        except (OSError, Unstored, Conflict) as error:
            log.warning("a receipt cannot be read", key=filed.archive_key, error=str(error))
            wait_until(worker, claim, loaded, now + _AGAIN)
            return
        if row:
            work.rows.append(row)
    works.append(work)


def _enters_alone(worker: Worker, work: _Work) -> bool:
    enter = partial(worker.catalogue.enter, work.rows)
    return do_or_report(worker, work.claim, enter, "the catalogue cannot hold a call")


def _done(worker: Worker, work: _Work, now: datetime) -> Commit:
    """Nothing of the call is owed to the catalogue. Where it is owed nothing else, its log expires
    from now on.
    """
    what = plan(work.call, worker.settings.rules, now, generation=worker.generation or 0)
    is_over = not (what.plan_at or what.look_at or what.facts_at or any(what.fetch_at.values()))
    return Commit(
        claim=work.claim,
        seen=work.loaded.size,
        dues=((work.claim.obligation, None),),
        keep=kept_for(worker, work.call) if is_over else None,
    )
