"""The duty DAY: close the days of an account, one a step, in order, the empty ones too.

A day is closed once Redis's clock and this machine's have passed its end. Harmless to repeat after
a crash at any point, and beside another worker: each file is created once, what stands there
counts, and the files after it are made from it. Redis forgets what a day holds only when all its
files are signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import structlog

from worker.archive.closed_days import ClosedDays, Closing, Written
from worker.archive.days import Before, next_day
from worker.archive.history_file import Broken
from worker.calls.completeness import GAPS
from worker.calls.obligations import Duty, Obligation
from worker.catalogue.day_ledger import DayLedger, brief
from worker.duties import clocks, notify, trials
from worker.duties.leases import LeaseKeeper
from worker.duties.outcomes import do_or_report
from worker.duties.worker import Worker
from worker.errors import (
    CatalogueAway,
    Conflict,
    EndtapeError,
    LedgerUnavailable,
    StaleLease,
    Unstored,
)
from worker.governing import signing
from worker.ledger.client import Ledger
from worker.ledger.daybook import Closed, end_of
from worker.ledger.obligations import Claim, Commit

log = structlog.get_logger()
DAYS = ".days"  # stands in the place of a call's id, which has no dots
AFTER = timedelta(minutes=2)  # a day is closed so long after its end
# So long after its end it waits for the catalogue: what its ledger lacks, it lacks for ever.
WITHOUT_CATALOGUE = timedelta(minutes=50)
_AGAIN = timedelta(seconds=30)


def keep_due(ledger: Ledger, accounts: Iterable[str]) -> None:
    """Makes due the days of each account that are not owed yet."""
    ledger.ensure_due(obligation(account) for account in accounts)


def obligation(account: str) -> Obligation:
    return Obligation(duty=Duty.DAY, account=account, call_uuid=DAYS)


def closes(worker: Worker, claims: Sequence[Claim]) -> None:
    """Close one day of each claimed account, where one is over. Raises LedgerUnavailable."""
    for claim in claims:
        now, (loaded,) = worker.ledger.load([claim])
        if loaded is not None:
            do_or_report(worker, claim, partial(_step, worker, claim, now), "a day stays open")


def _step(worker: Worker, claim: Claim, now: datetime) -> None:
    account = claim.obligation.account
    with LeaseKeeper(worker.ledger, claim) as check_lease:
        try:
            next_at = _close_one(worker, account, now, check_lease)
        except (LedgerUnavailable, StaleLease):
            raise
        except (OSError, EndtapeError, Broken, ValueError) as error:
            if isinstance(error, (OSError, Unstored)):
                trials.no_room(worker.ledger, worker.settings, error)
            worker.alert("day_open", account=account, error=str(error))
            next_at = now + _AGAIN
        check_lease()
    worker.ledger.commit([Commit(claim=claim, dues=((claim.obligation, next_at),))])


def _close_one(
    worker: Worker, account: str, now: datetime, check_lease: Callable[[], None]
) -> datetime | None:
    """Close the first day that is over and open. Returns when to come back; None for an account
    that left the settings and has nothing left to tell.
    """
    ledger, archive = worker.ledger, worker.archive
    signer = archive.signer
    if signer is None:
        raise Unstored("without a signing key no day is closed")
    fallback = archive.fallback.store if archive.fallback else None
    closed = ClosedDays(archive.store, account, fallback)
    if account not in worker.settings.accounts and not ledger.is_open(account):
        return None
    before = _before(worker, account, closed)
    day = next_day(before.day) if before else ledger.first_day(account, clocks.here().date())
    later = clocks.come_back_at(end_of(day) + AFTER, now)
    if later:
        return later
    signing.ready(worker.ledger, worker.archive)
    waiting = ledger.not_home(account, seen_before=end_of(day))
    closing = Closing(
        day=day,
        closed_at=now,
        filed=ledger.filed(account, until=end_of(day)),
        deeds=ledger.history(account, until=end_of(day)),
        missing=[{"recording_id": i, "why": "waiting"} for i in waiting],
        ledger=_completeness(worker, account, day, now),
        before=before,
    )
    written = closed.close(closing, signer, check_lease)
    if worker.settings.notify:
        # Before the day is noted as closed: a process that dies closes it again, and comes by here.
        ledger.ensure_due([notify.day_closed(account, day)])
    _forget(ledger, account, written)
    _count_gaps(ledger, account, closing.ledger)
    log.info("a day is closed", account=account, day=day.isoformat(), sha256=written.closed.sha256)
    return now  # the next day may be over, too


def _completeness(worker: Worker, account: str, day: date, now: datetime) -> dict[str, Any]:
    """The ledger of the day as it stands now. Raises CatalogueAway while it is worth waiting for
    the catalogue.
    """
    reader = DayLedger(
        ledger=worker.ledger, catalogue=worker.catalogue, rules=worker.settings.rules
    )
    view = reader.view(day, [account])
    if "degraded" in view and now < end_of(day) + WITHOUT_CATALOGUE:
        raise CatalogueAway(view["degraded"])
    return brief(view)


def _count_gaps(ledger: Ledger, account: str, view: Mapping[str, Any]) -> None:
    """What of a closed day somebody has to look into."""
    totals = view["totals"]
    ledger.count({f"ledger_gaps_total|{account}|{name}": totals[name] for name in GAPS})


def _before(worker: Worker, account: str, closed: ClosedDays) -> Before | None:
    """The last closed day, by the ledger; where that was erased, by the archive.

    What the archive holds since its first day and no list names is then noted as filed now.
    """
    known = worker.ledger.closed_day(account)
    if known:
        before = Before(day=known.day, sha256=known.sha256, head=known.head)
        _compare(worker, account, closed, before)
        return before
    last, signer = closed.last(), worker.archive.signer
    if last and signer:
        signing.ready(worker.ledger, worker.archive)
        trusted = {signer.key().public.fingerprint, *signer.known}
        worker.ledger.note_filed(account, list(closed.unlisted(trusted)))
        worker.ledger.set_closed_day(account, _as_known(last))
    return last


def _compare(worker: Worker, account: str, closed: ClosedDays, before: Before) -> None:
    """Alert where the archive has another file for the last day than the one that was written. The
    chain goes on from that one: so `endtape verify` finds out, too.
    """
    try:
        same = closed.read(before.day) == before
    except (FileNotFoundError, Conflict, ValueError):
        same = False
    if not same:
        worker.alert("day_altered", account=account, day=before.day.isoformat())


def _forget(ledger: Ledger, account: str, written: Written) -> None:
    """Forget first: where the process dies before the day is noted as closed, it is closed again,
    and its files stand. The other way round the next day would tell the same again.
    """
    ledger.forget_day(account, written.lines, written.deeds)
    ledger.set_closed_day(account, _as_known(written.closed))


def _as_known(day: Before) -> Closed:
    return Closed(day=day.day, sha256=day.sha256, head=day.head)
