"""The duty CDRS: read the provider's call records, where a rule wants every answered call recorded.

A step is one request for one page, and takes its request token as a survey does. Harmless to
repeat: a call is noted under its own id. A round begins every hour, and shortly after midnight, so
that a day which is closed knows its calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial

import structlog

from worker.calls.call import Call
from worker.calls.completeness import AnsweredCall
from worker.calls.obligations import Duty, Obligation
from worker.calls.rules import Expect
from worker.duties.access import HALTED_RETRY, handle_refusal, is_halted
from worker.duties.outcomes import do_or_report
from worker.duties.survey import SHARE
from worker.duties.worker import Worker
from worker.errors import EndtapeError, LedgerUnavailable, Refused
from worker.ledger import call_records
from worker.ledger.call_records import Progress
from worker.ledger.daybook import end_of
from worker.ledger.obligations import Claim, Commit
from worker.vobiz.account import Account

log = structlog.get_logger()
CDRS = ".cdrs"  # stands in the place of a call's id, which has no dots
_EVERY = timedelta(hours=1)
# Records were seen 116 ms after a hang-up, and later (provider's engineers).
_LAG = timedelta(seconds=60)
_AFTER_FAILURE = timedelta(minutes=1)
_DAYS_BACK = 7  # after an outage


def keep_due(worker: Worker) -> None:
    """Makes the reading of each account due that is not owed yet, where a rule needs it."""
    if worker.settings.rules.expects_every:
        worker.ledger.ensure_due(obligation(account) for account in worker.settings.accounts)


def obligation(account: str) -> Obligation:
    return Obligation(duty=Duty.CDRS, account=account, call_uuid=CDRS)


def reads(worker: Worker, claims: Sequence[Claim]) -> None:
    """Read one page for each claim. Raises LedgerUnavailable."""
    for claim in claims:
        now, (held,) = worker.ledger.load([claim])
        if held is not None:
            work = partial(_step, worker, claim, now)
            do_or_report(worker, claim, work, "call records cannot be read")


def _step(worker: Worker, claim: Claim, now: datetime) -> None:
    next_at = _next(worker, claim.obligation.account, now)
    worker.ledger.commit([Commit(claim=claim, dues=((claim.obligation, next_at),))])


def _next(worker: Worker, name: str, now: datetime) -> datetime | None:
    """Do one step. Returns when the next is due; None: no more is needed."""
    account, ledger = worker.settings.accounts.get(name), worker.ledger
    if account is None or not worker.settings.rules.expects_every:
        return None
    if is_halted(worker, account):
        return now + HALTED_RETRY
    granted, wait = ledger.take("survey", name, 1, worker.settings.api_rate * SHARE)
    if not granted:
        return now + wait
    ledger.charge("api", name, worker.settings.api_rate)
    current = call_records.progress(ledger, name)
    if current.began_at is None:
        first = next(_unread(worker, name, now))
        current = replace(current, began_at=now, first=first, page=1)
    try:
        current, next_at = _read(worker, account, current, now)
    except LedgerUnavailable:
        raise
    except EndtapeError as error:
        if isinstance(error, Refused):
            handle_refusal(worker, account, error)
        if current.problem is None:
            log.warning("call records could not be read", account=name, error=str(error))
        problem = f"the provider's call records cannot be read: {error}"
        current, next_at = replace(current, problem=problem), now + _AFTER_FAILURE
    call_records.set_progress(ledger, name, current)
    return next_at


def _read(
    worker: Worker, account: Account, current: Progress, now: datetime
) -> tuple[Progress, datetime]:
    """Note the calls of one page. Returns how far the round is then, and when to go on."""
    assert current.began_at is not None
    assert current.first is not None
    ledger, keep = worker.ledger, worker.settings.history
    # The provider may count days by its own clocks, which are ahead of UTC.
    last = current.began_at.date() + timedelta(days=1)
    page = worker.vobiz.call_records(account, first=current.first, last=last, number=current.page)
    by_day = dict[date, list[AnsweredCall]]()
    for answered_at, call in page.answered:
        if _is_wanted(worker, call):
            by_day.setdefault(answered_at.date(), []).append(call)
    for day, calls in by_day.items():
        call_records.note(ledger, day, calls, account.auth_id, keep)
    if not page.last:
        return replace(current, page=current.page + 1, problem=None), now
    for day in _unread(worker, account.auth_id, current.began_at):
        if day >= current.first:
            call_records.note_read(ledger, account.auth_id, day, current.began_at, keep)
    midnight = end_of(current.began_at.date()) + _LAG
    return Progress(), min(current.began_at + _EVERY, midnight)


def _is_wanted(worker: Worker, call: AnsweredCall) -> bool:
    known = Call(
        account=call.account,
        call_uuid=call.call_uuid,
        from_number=call.from_number,
        to_number=call.to_number,
        direction=call.direction,
    )
    return worker.settings.rules.choose(known)[1].expects is Expect.EVERY


def _unread(worker: Worker, account: str, now: datetime) -> Iterator[date]:
    """The days whose records were not all read after their end, at most a week back; today last."""
    today = now.date()
    oldest = max(today - timedelta(days=_DAYS_BACK), worker.first_start.date())
    for n in range((today - oldest).days, 0, -1):
        day = today - timedelta(days=n)
        read_to = call_records.read_to(worker.ledger, account, day)
        if read_to is None or read_to < end_of(day) + _LAG / 2:
            yield day
    yield today
