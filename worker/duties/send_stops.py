"""Sends the requests of a batch, each stop at its instant, and makes events of the answers.

The stops that are due at one instant go to the process's REST loop in one call, and need no thread
of their own. A request that the provider keeps waiting does not hold its batch: it goes on by
itself, keeps its lease and records its own outcome.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from worker import logs
from worker.calls.call import Handoff, Start
from worker.calls.events import Event, Kind
from worker.calls.rules import Action
from worker.calls.stop_requests import Send, errors_in_a_row
from worker.calls.stop_state import judge
from worker.duties.access import HALTED_RETRY, handle_refusal, release
from worker.duties.batch import HORIZON, Batch, SentStop, Work
from worker.duties.leases import LeaseKeeper
from worker.duties.send_once import Order
from worker.errors import CallOver, LedgerUnavailable, Refused, TryAgain, WrongPath
from worker.vobiz.client import Stop

log = structlog.get_logger()
PATIENCE_S = 0.1  # how long a batch waits for its slowest answer
MOST_ERRORS_TOLD = 20
_LONGEST_WAIT_ASKED_S = 15.0
_CLOCKS_DIFFER = timedelta(milliseconds=20)  # so much later, in case the provider's clock lags


def send_all(batch: Batch, works: Sequence[Work]) -> None:
    """Send every request of these calls, each stop at its instant.

    Waits for the answers, but no longer than PATIENCE_S.
    """
    for work in works:
        for once in work.once:
            work.sent_once.append(batch.worker.threads.submit(_send_once, batch, work, once))
    stops = [(work, send) for work in works for send in work.sends]
    waiting = deque(sorted(stops, key=lambda stop: stop[1].at))
    while waiting:
        _send_together(batch, _due_now(batch, waiting))
    wait({answer for work in works for answer in work.unanswered}, timeout=PATIENCE_S)


def _due_now(batch: Batch, waiting: deque[tuple[Work, Send]]) -> list[tuple[Work, Send]]:
    """Sleep until the instant of the first, and take all whose instant has come."""
    first = waiting.popleft()
    early_s = (first[1].at - batch.now()).total_seconds()
    if early_s > 0:
        time.sleep(min(early_s, HORIZON.total_seconds()))
    together, now = [first], batch.now()
    while waiting and waiting[0][1].at <= now:
        together.append(waiting.popleft())
    return together


def _send_together(batch: Batch, stops: Sequence[tuple[Work, Send]]) -> None:
    accounts = batch.worker.settings.accounts
    try:
        stops = _still_right(batch, stops)
        requested_at = batch.now()
        outcomes = batch.worker.vobiz.send_stops(
            [
                Stop(
                    account=accounts[work.call.account],
                    call_uuid=work.call.call_uuid,
                    url=send.url,
                )
                for work, send in stops
            ]
        )
    except Exception:
        log.exception("stops could not be sent; their leases bring them back", stops=len(stops))
        for work, _ in stops:
            work.broken = True
        return
    for (work, send), outcome in zip(stops, outcomes, strict=True):
        work.sent.append(SentStop(send, requested_at, outcome))


def _still_right(batch: Batch, stops: Sequence[tuple[Work, Send]]) -> list[tuple[Work, Send]]:
    """The stops that may still leave.

    Left out: the stop of a whole call whose log has grown since the plan. The news may be a newer
    recording, which the stop would end as well. Such a call is planned again. While Redis does not
    answer, no stop of a whole call leaves; one that names its recording needs no answer.
    Also notes which accounts are halted.
    """
    whole = [work for work, send in stops if send.url is None]
    calls = [(work.call.account, work.call.call_uuid) for work in whole]
    held = set()
    try:
        accounts = {work.call.account for work, _ in stops}
        sizes, halted = batch.worker.ledger.before_sending(calls, accounts)
        batch.halted |= halted
        for work, size in zip(whole, sizes, strict=True):
            if size != work.loaded.size:
                work.retry_at = batch.now()
                held.add(id(work))
    except LedgerUnavailable as error:
        log.warning("redis does not answer: stops of whole calls wait", error=str(error))
        held = {id(work) for work in whole}
        for work in whole:
            work.broken = True
    return [(work, send) for work, send in stops if send.url or id(work) not in held]


def _send_once(batch: Batch, work: Work, once: Start | Handoff) -> list[Event]:
    """Send a start or a transfer. Returns what was recorded of it."""
    order = Order(
        worker=batch.worker,
        account=batch.worker.settings.accounts[work.call.account],
        call=work.call,
        now=batch.now(),
        seen=work.loaded.size,
    )
    if isinstance(once, Start):
        return list(order.start(once))
    return list(order.transfer(once, batch.now()))


# When answers come
# --------------------------------------------------------------------------------------------------


def finish_answered(batch: Batch, works: Sequence[Work]) -> None:
    """Record the answers to these calls' requests, all of which have come.

    An account that was halted and is accepted now is released.
    """
    for work in works:
        try:
            for stop in work.sent:
                work.found.extend(_events(batch, work, stop))
            for answer in work.sent_once:
                recorded = answer.result()
                work.found.extend(recorded)
                if not recorded:
                    # Not sent: the call's log has grown since the plan, perhaps by the start or
                    # transfer before this one.
                    work.retry_at = batch.now()
        except Exception:
            log.exception(
                "a request could not be recorded; its lease brings it back",
                obligation=str(work.claim.obligation),
            )
            work.broken = True
    batch.finish(works)
    for account in batch.halted & {work.call.account for work in works if work.was_accepted}:
        release(batch.worker, account)


def needs_time(work: Work) -> bool:
    """Whether an answer is missing, or is a refusal that takes another request to understand."""
    return bool(work.unanswered) or _is_refused(work)


def _is_refused(work: Work) -> bool:
    return any(isinstance(stop.outcome.result().error, Refused) for stop in work.sent)


def finish_later(batch: Batch, works: Sequence[Work]) -> None:
    """Record the answers to these calls' requests as they come, in a thread of the pool.

    Their leases are kept until then.
    """
    held = LeaseKeeper(batch.worker.ledger, *(work.claim for work in works)).start()
    batch.worker.threads.submit(_finish_as_they_come, batch, works, held)


def _finish_as_they_come(batch: Batch, works: Sequence[Work], held: LeaseKeeper) -> None:
    left = list(works)
    while left:
        answered = [work for work in left if not work.unanswered]
        left = [work for work in left if work.unanswered]
        _finish_late(batch, [work for work in answered if not _is_refused(work)], held)
        for work in answered:
            if _is_refused(work):
                _finish_aside(batch, work, held)
        wait({answer for work in left for answer in work.unanswered}, return_when=FIRST_COMPLETED)


def _finish_aside(batch: Batch, work: Work, held: LeaseKeeper) -> None:
    """In a thread of its own: to ask whether our credentials still work can take long."""
    try:
        batch.worker.threads.submit(_finish_late, batch, [work], held)
    except RuntimeError:  # the process ends, and only waits for what it has begun
        _finish_late(batch, [work], held)


def _finish_late(batch: Batch, works: Sequence[Work], held: LeaseKeeper) -> None:
    if not works:
        return
    try:
        finish_answered(batch, works)
    except LedgerUnavailable as error:
        if logs.seldom("redis", error):  # the leases run out, and the calls are due again
            log.warning("redis does not answer", error=str(error))
    except Exception:
        log.exception("late answers could not be recorded; the leases bring their calls back")
    finally:
        held.end(*(work.claim for work in works))


# What an answer to a stop means
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What an answer to a stop means."""

    kind: Kind = Kind.STOP_ACCEPTED
    reason: str | None = None
    status: int | None = None
    retry_at: datetime | None = None


def _events(batch: Batch, work: Work, stop: SentStop) -> Iterator[Event]:
    """The events that the answer to a stop makes, one for each recording that it was to end."""
    answered = stop.outcome.result()
    answered_at = batch.at(answered.at)
    if answered.error is None:
        means = _Meaning(reason=stop.send.note)
    else:
        means = _meaning(batch, work, stop, answered.error, answered_at)
    for i in stop.send.recording_ids:
        recording = work.plan.recordings[i]
        is_error = means.kind is Kind.STOP_ERRED
        if is_error and errors_in_a_row(recording) >= MOST_ERRORS_TOLD:
            # Days of errors must not fill Redis. The tries go on, and the errors beyond the first
            # MOST_ERRORS_TOLD in a row are not recorded.
            longest = timedelta(seconds=_LONGEST_WAIT_ASKED_S)
            work.retry_by(means.retry_at or stop.requested_at + longest)
            continue
        rules = batch.worker.settings.rules
        judged = judge(work.call, recording, rules, stop.requested_at, work.plan.acts)
        if not recording.attempts and judged.due_at:
            work.late_s.append(_seconds_between(judged.due_at, stop.requested_at))
        yield Event(
            id=f"stop.{work.claim.fence}.{i}",
            kind=means.kind,
            call_uuid=work.call.call_uuid,
            at=answered_at,
            recording_id=i or None,
            named=bool(stop.send.url),
            requested_at=stop.requested_at,
            reason=means.reason,
            status=means.status,
            retry_at=means.retry_at,
            trigger=judged.trigger,
            rule=judged.rule,
            due_at=judged.due_at,
            action=judged.action if judged.action != Action.STOP else None,
        )


def _meaning(
    batch: Batch, work: Work, stop: SentStop, error: Exception, answered_at: datetime
) -> _Meaning:
    """What an error means for a stop, with its consequences for the account: an alert, a lower
    rate, or a halt.
    """
    worker, call_uuid = batch.worker, work.call.call_uuid
    account = worker.settings.accounts[work.call.account]
    reason = str(error)
    match error:
        case CallOver():
            return _Meaning(Kind.CALL_FOUND_OVER, reason)
        case Refused():
            if not handle_refusal(worker, account, error, call_uuid=call_uuid):
                return _Meaning(Kind.STOP_SET_ASIDE, reason, error.status)
            halted_until = stop.requested_at + HALTED_RETRY
            return _Meaning(Kind.STOP_ERRED, reason, error.status, halted_until)
        case TryAgain():
            if error.status == 429:
                worker.ledger.slow_down("stop", account.auth_id, worker.settings.stop_rate)
            wait_until = _asked_to_wait_until(error, answered_at)
            return _Meaning(Kind.STOP_ERRED, reason, error.status, wait_until)
        case WrongPath():
            worker.alert(
                "wrong_path", account=account.auth_id, call_uuid=call_uuid, error=str(error)
            )
            return _Meaning(Kind.STOP_ERRED, reason)
        case _:
            raise error


def _asked_to_wait_until(error: TryAgain, answered_at: datetime) -> datetime | None:
    """When the provider lets us come back; None where it does not say."""
    if not error.after_s:
        return None
    wait_s = min(error.after_s, _LONGEST_WAIT_ASKED_S)
    return answered_at + timedelta(seconds=wait_s) + _CLOCKS_DIFFER


def _seconds_between(earlier: datetime, later: datetime) -> float:
    return max(0.0, (later - earlier).total_seconds())
