"""Plans calls and sends what is due, a batch at a time: one step for each call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from worker.calls.call import Handoff, Start
from worker.calls.stop_requests import Send
from worker.duties import send_stops
from worker.duties.access import UNKNOWN_ACCOUNT_WAIT, not_yet
from worker.duties.batch import Batch, Work
from worker.duties.worker import Worker
from worker.ledger.obligations import Claim, Loaded


def plan_calls(worker: Worker, claims: Sequence[Claim]) -> None:
    """One step for each call: its conclusions, the requests that are due, and when to come back."""
    now, loaded = worker.ledger.load(claims)
    plan_loaded(worker, claims, loaded, now)


def plan_loaded(
    worker: Worker, claims: Sequence[Claim], loaded: Sequence[Loaded | None], now: datetime
) -> None:
    """As `plan_calls`, of calls whose logs were read at `now`; None where the lease was lost."""
    # 1. Think: what follows from each log without asking anybody.
    batch = Batch(worker, now)
    works = _begin(batch, claims, loaded, now)
    # 2. Give out the accounts' request tokens, so that we know what may leave now.
    _ration(batch, works, now)
    # 3. Commit the calls for which nothing is to be sent; they need not wait for the others.
    batch.finish([work for work in works if not work.requests])
    sending = sorted((work for work in works if work.requests), key=_first_at)
    # 4. Send, each stop at its instant, and wait a moment for the answers.
    send_stops.send_all(batch, sending)
    # 5. The calls that still lack an answer, or were refused, go on in a thread of the pool.
    late = [work for work in sending if send_stops.needs_time(work)]
    answered = [work for work in sending if not any(work is other for other in late)]
    if late:
        send_stops.finish_later(batch, late)
    # 6. Commit the others.
    send_stops.finish_answered(batch, answered)


def _begin(
    batch: Batch, claims: Sequence[Claim], loaded: Sequence[Loaded | None], now: datetime
) -> list[Work]:
    works = [
        batch.begin(claim, log, now)
        for claim, log in zip(claims, loaded, strict=True)
        if log is not None  # the lease was lost
    ]
    return [work for work in works if work is not None]


def _first_at(work: Work) -> datetime:
    """When the first request of a call leaves. A start or a transfer leaves at once."""
    return work.sends[0].at if work.sends else datetime.min.replace(tzinfo=UTC)


def _ration(batch: Batch, works: Sequence[Work], now: datetime) -> None:
    """Give out the accounts' request tokens, the earliest stops first.

    A stop without a token stays owed, and nothing is recorded about it.
    """
    wanted: dict[str, list[tuple[datetime, int, Send]]] = {}
    for i, work in enumerate(works):
        for send in work.plan.sends:
            wanted.setdefault(work.call.account, []).append((send.at, i, send))
    for account, sends in wanted.items():
        sends.sort(key=lambda entry: entry[:2])
        granted = _granted(batch.worker, account, len(sends))
        for _, i, send in sends[:granted]:
            works[i].sends.append(send)
        if granted < len(sends):
            _put_off(batch.worker, account, [works[i] for _, i, _ in sends[granted:]], now)
    for work in works:
        wanted_once: list[Start | Handoff] = [*work.plan.starts, *work.plan.transfers]
        for once in wanted_once:
            later = not_yet(batch.worker, work.call.account, now)
            if later:
                work.retry_by(later)
            else:
                work.once.append(once)


def _granted(worker: Worker, account: str, wanted: int) -> int:
    """How many of the wanted stops of an account may leave now."""
    if account in worker.settings.accounts:
        return worker.ledger.take("stop", account, wanted, worker.settings.stop_rate)[0]
    worker.alert(
        "no_such_account",
        account=account,
        remedy="its calls are not stopped: add it to the rules file",
    )
    return 0


def _put_off(worker: Worker, account: str, works: Sequence[Work], now: datetime) -> None:
    """Set when to plan the calls again that got no token."""
    if account not in worker.settings.accounts:
        for work in works:
            work.retry_at = now + UNKNOWN_ACCOUNT_WAIT
        return
    rate, ledger = worker.settings.stop_rate, worker.ledger
    # A call that has waited already asks again soon; a new one goes to the end of the queue.
    for group, queue in (
        ([work for work in works if _has_waited(work, now)], False),
        ([work for work in works if not _has_waited(work, now)], True),
    ):
        if group:
            first = ledger.take("stop", account, 0, rate, queue=len(group) if queue else 0)[1]
            for n, work in enumerate(group):
                work.retry_at = now + first + timedelta(seconds=n / rate)


def _has_waited(work: Work, now: datetime) -> bool:
    return min(send.at for send in work.plan.sends) < now - timedelta(seconds=1)
