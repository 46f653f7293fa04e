"""The duty NOTIFY: tell the operator's applications what happened on a call.

The obligation is put down with the events, in the same commit, and stays until every endpoint took
each of its notices, or three days are over. So a notice is sent at least once. Where a worker dies
between an answer and its note, the notice is sent again, under the same id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import structlog

from worker.archive import days
from worker.calls import notices
from worker.calls.call import Call
from worker.calls.notices import Endpoint, Notice
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.calls.rules import Rules
from worker.calls.views import call_view, recording_view, rfc3339
from worker.duties.leases import LeaseKeeper
from worker.duties.outcomes import do_or_report, wait_until
from worker.duties.worker import Worker
from worker.errors import Unstored
from worker.ledger.client import Ledger
from worker.ledger.codec import from_ms, to_ms
from worker.ledger.notices import Failing, Tries
from worker.ledger.obligations import Claim, Loaded
from worker.settings import Settings
from worker.vobiz import webhook

log = structlog.get_logger()
_DOWN = timedelta(seconds=5)  # so long an endpoint is left alone after its first failure
_DOWN_MOST = timedelta(seconds=60)
_AGAIN = timedelta(seconds=30)
_OWED_FOR = timedelta(days=1)  # shorter than it is known that a notice arrived
_NUMBERS = {"from", "to"}


@dataclass(slots=True)
class _Work:
    """The notices of one call, and when to come back. `data`: what a notice says."""

    worker: Worker
    account: str
    call_uuid: str
    notices: list[Notice]
    data: Callable[[Notice, Endpoint], dict[str, Any]]
    now: datetime
    waits: list[datetime] = field(default_factory=list)


def notifies(worker: Worker, claims: Sequence[Claim]) -> None:
    """Send what is owed for each claim. Raises LedgerUnavailable."""
    now, loaded = worker.ledger.load(claims)
    for claim, log_of_call in zip(claims, loaded, strict=True):
        if log_of_call is not None:
            work = partial(_notify, worker, claim, log_of_call, now)
            do_or_report(worker, claim, work, "an application cannot be notified")


def _notify(worker: Worker, claim: Claim, loaded: Loaded, now: datetime) -> None:
    owed = claim.obligation
    endpoints = worker.settings.notify
    since = worker.ledger.since((endpoint.name for endpoint in endpoints), now)
    try:
        work = _work(worker, owed, loaded, now)
    except (OSError, Unstored) as error:
        log.warning("a notice has to wait for the archive", error=str(error))
        wait_until(worker, claim, loaded, now + _AGAIN)
        return
    state = worker.ledger.notices(owed.account, owed.call_uuid)
    with LeaseKeeper(worker.ledger, claim) as check:
        for endpoint in endpoints:
            waiting = set[str | None]()  # subjects with an earlier notice that did not arrive
            for notice in _wanted(work, endpoint, since[endpoint.name], state):
                check()
                # In order for each recording: a later one does not overtake.
                if notice.subject in waiting or not _try(work, endpoint, notice, state):
                    waiting.add(notice.subject)
    wait_until(worker, claim, loaded, min(work.waits, default=None))


def _work(worker: Worker, owed: Obligation, loaded: Loaded, now: datetime) -> _Work:
    if owed.call_uuid.startswith(HALTED):
        at = _halted_at(owed.call_uuid)
        halted = Notice(
            id=notices.notice_id(owed.account, owed.call_uuid),
            type=notices.ACCOUNT_HALTED,
            at=at,
            subject=None,
        )
        facts = {"account": owed.account, "halted_at": rfc3339(at)}
        return _Work(worker, owed.account, owed.call_uuid, [halted], lambda *_: facts, now)
    if owed.call_uuid.startswith(CLOSED):
        return _work_of_day(worker, owed, now)
    call = replay(owed.account, owed.call_uuid, loaded.events)
    data = partial(_data, call, worker.settings.rules, now)
    return _Work(
        worker, owed.account, owed.call_uuid, list(notices.notices_of(call, now)), data, now
    )


def _work_of_day(worker: Worker, owed: Obligation, now: datetime) -> _Work:
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
    return _Work(worker, owed.account, owed.call_uuid, [closed], lambda *_: facts, now)


def _wanted(
    work: _Work, endpoint: Endpoint, since: datetime, state: dict[str, Tries | None]
) -> Iterator[Notice]:
    """The notices that an endpoint asked for, and that neither arrived nor were given up."""
    for notice in work.notices:
        if notice.type in endpoint.events and notice.at >= since:
            name = f"{endpoint.name} {notice.id}"
            tries = state.get(name)
            is_over = name in state and (tries is None or tries.given_up)
            if not is_over:
                yield notice


def _try(work: _Work, endpoint: Endpoint, notice: Notice, state: dict[str, Tries | None]) -> bool:
    """Send one notice if it is due. True if nothing is left to do for it."""
    ledger, now = work.worker.ledger, work.now
    name = f"{endpoint.name} {notice.id}"
    before = state.get(name) or Tries(count=0, first_at=now, why="")
    due_at = notices.next_try(before.count, before.first_at)
    if due_at and due_at > now:
        work.waits.append(due_at)
        return False
    if down := ledger.down_until(endpoint.name):
        work.waits.append(now + down)
        return False
    body = json.dumps(
        {"type": notice.type, "timestamp": rfc3339(notice.at), "data": work.data(notice, endpoint)},
        ensure_ascii=False,
    )
    outcome = webhook.send(endpoint, notice.id, body, ledger.now())
    if outcome.arrived:
        ledger.note(work.account, work.call_uuid, {name: None})
        ledger.note_arrived(work.account, work.call_uuid, [name])
        ledger.count({f"notifications_total|{notice.type}": 1})
        log.info("notified", type=notice.type, call_uuid=work.call_uuid, id=notice.id)
        return True
    return _failed(work, endpoint, notice, before, outcome)


def _failed(
    work: _Work, endpoint: Endpoint, notice: Notice, before: Tries, outcome: webhook.Outcome
) -> bool:
    ledger = work.worker.ledger
    tries = replace(before, count=before.count + 1, why=outcome.why or "")
    next_at = notices.next_try(tries.count, tries.first_at)
    if outcome.is_refused_for_good or next_at is None:
        tries = replace(tries, given_up=True)
    else:
        work.waits.append(next_at)
    ledger.note(work.account, work.call_uuid, {f"{endpoint.name} {notice.id}": tries})
    ledger.note_failing(
        Failing(
            account=work.account,
            call_uuid=work.call_uuid,
            endpoint=endpoint.name,
            notice=notice.id,
            type=notice.type,
            url=endpoint.url,
            tries=tries.count,
            why=tries.why,
            given_up=tries.given_up,
        )
    )
    ledger.count({f"notifications_failed_total|{notice.type}": 1})
    if outcome.is_down:
        ledger.set_down(endpoint.name, min(_DOWN * 2 ** min(before.count, 10), _DOWN_MOST))
    if tries.given_up:
        work.worker.alert("notification_lost", call_uuid=work.call_uuid, why=tries.why)
    return tries.given_up


# What a notice says
# ------------------------------------------------------------------------------------------------


def _data(
    call: Call, rules: Rules, now: datetime, notice: Notice, endpoint: Endpoint
) -> dict[str, Any]:
    """The recording or the call as `/v1` shows it, with numbers only where the endpoint gets
    them.
    """
    recording = call.recordings.get(notice.subject or "")
    view = recording_view(call, recording, rules, now) if recording else call_view(call, rules, now)
    facts = {"from": call.from_number, "to": call.to_number, "direction": call.direction}
    whole = {**facts, **view}
    return whole if endpoint.numbers else _without_numbers(whole)


def _without_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {n: _without_numbers(v) for n, v in value.items() if n not in _NUMBERS}
    if isinstance(value, list):
        return [_without_numbers(v) for v in value]
    return value


# What is owed
# ------------------------------------------------------------------------------------------------

HALTED = "@account.halted."


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


CLOSED = "@day.closed."


def day_closed(account: str, day: date) -> Obligation:
    """The notice that a day of the account is closed."""
    return Obligation(duty=Duty.NOTIFY, account=account, call_uuid=f"{CLOSED}{day.isoformat()}")


def _halted_at(name: str) -> datetime:
    """The instant that the name of such an obligation holds."""
    return from_ms(int(name.removeprefix(HALTED)))
