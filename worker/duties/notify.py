"""The duty NOTIFY: tell the operator's applications what happened on a call.

The obligation is put down with the events, in the same commit, and stays until every endpoint took
each of its notices, or three days are over. So a notice is sent at least once. Where a worker dies
between an answer and its note, the notice is sent again, under the same id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import structlog

from worker import wire
from worker.archive import days
from worker.calls import notices
from worker.calls.notices import Endpoint, Notice
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.calls.views import rfc3339
from worker.duties import telling
from worker.duties.leases import LeaseKeeper
from worker.duties.outcomes import do_or_report, wait_until
from worker.duties.telling import Work
from worker.duties.worker import Worker
from worker.errors import CatalogueAway, Unstored
from worker.ledger.client import Ledger
from worker.ledger.codec import from_ms, to_ms
from worker.ledger.obligations import Claim, Loaded
from worker.settings import Settings

log = structlog.get_logger()
_AGAIN = timedelta(seconds=30)
_OWED_FOR = timedelta(days=1)  # shorter than it is known that a notice arrived
# A notice about no call stands under such a name in the place of a call's id, which has no dots.
HALTED = "@account.halted."
ERASED = "@recording.erased."
CLOSED = "@day.closed."


def notifies(worker: Worker, claims: Sequence[Claim]) -> None:
    """Send what is owed for each claim. Raises LedgerUnavailable."""
    for claim in claims:
        # One by one: behind a slow endpoint a lease runs out, and another worker sends it.
        now, (log_of_call,) = worker.ledger.load([claim])
        if log_of_call is not None:
            work = partial(_notify, worker, claim, log_of_call, now)
            do_or_report(worker, claim, work, "an application cannot be notified")


def _notify(worker: Worker, claim: Claim, loaded: Loaded, now: datetime) -> None:
    owed = claim.obligation
    endpoints = worker.settings.notify
    since = worker.ledger.since((endpoint.name for endpoint in endpoints), now)
    try:
        work = _work(worker, owed, loaded, now)
    except (CatalogueAway, OSError, Unstored) as error:
        log.warning("a notice has to wait for archive or catalogue", error=str(error))
        wait_until(worker, claim, loaded, now + _AGAIN)
        return
    state = worker.ledger.notices(owed.account, owed.call_uuid)
    with LeaseKeeper(worker.ledger, claim) as check:
        for endpoint in endpoints:
            waiting = set[str | None]()  # subjects with an earlier notice that did not arrive
            for notice in telling.wanted(work, endpoint, since[endpoint.name], state):
                check()
                # In order for each recording: a later one does not overtake.
                if notice.subject in waiting or not telling.try_notice(
                    work, endpoint, notice, state
                ):
                    waiting.add(notice.subject)
    wait_until(worker, claim, loaded, min(work.waits, default=None))


def _work(worker: Worker, owed: Obligation, loaded: Loaded, now: datetime) -> Work:
    """The notices that it is about. Raises CatalogueAway, and what the archive raises."""
    if owed.call_uuid.startswith(HALTED):
        return _work_of_halt(worker, owed, now)
    if owed.call_uuid.startswith(ERASED):
        return _work_of_erasure(worker, owed, now)
    if owed.call_uuid.startswith(CLOSED):
        return _work_of_day(worker, owed, now)
    call = replay(owed.account, owed.call_uuid, loaded.events)
    data = partial(telling.recording_or_call, call, worker.settings.rules, now)
    return Work(
        worker, owed.account, owed.call_uuid, list(notices.notices_of(call, now)), data, now
    )


def _work_of_halt(worker: Worker, owed: Obligation, now: datetime) -> Work:
    """The notice that an account is halted since the instant that the obligation's name holds."""
    at = from_ms(int(owed.call_uuid.removeprefix(HALTED)))
    halted = Notice(
        id=notices.notice_id(owed.account, owed.call_uuid),
        type=notices.ACCOUNT_HALTED,
        at=at,
        subject=None,
    )
    facts = {"account": owed.account, "halted_at": rfc3339(at)}
    return Work(worker, owed.account, owed.call_uuid, [halted], lambda *_: facts, now)


def _work_of_erasure(worker: Worker, owed: Obligation, now: datetime) -> Work:
    """The notice that a recording is erased. Its call may be forgotten, so the catalogue says what
    is left to tell. Raises CatalogueAway.
    """
    recording_id = owed.call_uuid.removeprefix(ERASED)
    row = worker.catalogue.find(recording_id, owed.account)
    view = row.view if row else {}
    at = wire.parse_rfc3339((view.get("erased") or {}).get("at"))
    told = Notice(
        id=notices.notice_id(owed.account, owed.call_uuid),
        type=notices.RECORDING_ERASED,
        at=at or now,
        subject=recording_id,
    )
    found = [told] if at else []  # without a row it was erased in another catalogue
    return Work(worker, owed.account, owed.call_uuid, found, _fixed(view), now)


def _fixed(view: dict[str, Any]) -> Callable[[Notice, Endpoint], dict[str, Any]]:
    """What every notice says alike."""
    return lambda _, endpoint: view if endpoint.numbers else dict(telling.without_numbers(view))


def _work_of_day(worker: Worker, owed: Obligation, now: datetime) -> Work:
    """The notice that a day is closed: the day as its file shows it, and the digest of that file.
    Raises what the archive raises.
    """
    name = days.day_name(date.fromisoformat(owed.call_uuid.removeprefix(CLOSED)))
    content = worker.archive.store.read(f"{owed.account}/{name}")
    day = days.read(content)
    closed = Notice(
        id=notices.notice_id(owed.account, owed.call_uuid),
        type=notices.DAY_CLOSED,
        at=datetime.fromisoformat(day["closed_at"]),
        subject=None,
    )
    facts = {**day, "head": hashlib.sha256(content).hexdigest()}
    return Work(worker, owed.account, owed.call_uuid, [closed], lambda *_: facts, now)


# What is owed
# ------------------------------------------------------------------------------------------------


def halt(ledger: Ledger, settings: Settings, account: str) -> bool:
    """Halt an account whose credentials are refused, and owe that notice. True if it was not halted
    before. Whoever finds the account halted owes it too, because who halted it may have died.
    """
    is_new = ledger.halt(account)
    since = ledger.halted_since(account) if settings.notify else None
    if since and ledger.now() - since < _OWED_FOR:
        ledger.ensure_due([halted(account, since)])
    return is_new


def halted(account: str, at: datetime) -> Obligation:
    """The notice that an account is halted since `at`."""
    return Obligation(duty=Duty.NOTIFY, account=account, call_uuid=f"{HALTED}{to_ms(at)}")


def erased(account: str, recording_id: str) -> Obligation:
    """The notice that a recording is erased."""
    return Obligation(duty=Duty.NOTIFY, account=account, call_uuid=f"{ERASED}{recording_id}")


def day_closed(account: str, day: date) -> Obligation:
    """The notice that a day of the account is closed."""
    return Obligation(duty=Duty.NOTIFY, account=account, call_uuid=f"{CLOSED}{day.isoformat()}")
