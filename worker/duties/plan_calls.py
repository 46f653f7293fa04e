"""Plans calls and sends what is due: one batch side by side, each stop at its very instant.

A request that the provider keeps waiting does not hold its batch: it goes on by itself, keeps its
lease and records its own outcome.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from worker import logs
from worker.calls import planner
from worker.calls.call import Call, Handoff, Start
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.calls.rules import Action
from worker.duties.access import HALTED_RETRY, NOBODYS, handle_refusal, not_yet, release
from worker.duties.leases import LeaseKeeper
from worker.duties.outcomes import obligation, tell
from worker.duties.send_once import Order
from worker.duties.worker import Worker
from worker.errors import CallOver, LedgerUnavailable, Refused, TryAgain, WrongPath
from worker.ledger.obligations import Claim, Commit, Loaded
from worker.vobiz.account import Account

log = structlog.get_logger()
HORIZON = timedelta(
    milliseconds=120
)  # claims come a little early, so that the request leaves on time
PATIENCE_S = 0.1  # how long a batch waits for its slowest
SIDE_BY_SIDE = 8  # requests under way; so many more every 50 ms while answers are slow
MOST_ERRORS_TOLD = 20
LATENESS_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.0, 15.0, 60.0)
_LONGEST_WAIT_ASKED_S = 15.0
_CLOCKS_DIFFER = timedelta(milliseconds=20)  # theirs and ours, so that we are not a hair too early


@dataclass(slots=True)
class _Work:
    """One claimed call on its way through a batch."""

    claim: Claim
    loaded: Loaded
    call: Call
    plan: planner.Plan
    found: list[Event] = field(default_factory=list)
    sends: list[planner.Send] = field(default_factory=list)
    once: list[Start | Handoff] = field(default_factory=list)  # what may go out only once
    retry_at: datetime | None = None  # something due could not be sent now
    late_s: list[float] = field(default_factory=list)
    sent: Future[None] = field(default_factory=Future)
    answered: int = 0
    broken: bool = False  # by a fault of ours: nothing is recorded

    @property
    def requests(self) -> list[planner.Send | Start | Handoff]:
        return [*self.sends, *self.once]

    @property
    def first_at(self) -> datetime:
        """Of its requests; what may go out only once goes at once."""
        return self.sends[0].at if self.sends else datetime.min.replace(tzinfo=UTC)


class _Batch:
    def __init__(self, worker: Worker, now: datetime) -> None:
        self.worker = worker
        self.ahead = now.timestamp() - time.time()  # Redis's clock against ours

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self.ahead, UTC)

    def think(
        self, claim: Claim, loaded: Loaded, found: list[Event], at: datetime, horizon: timedelta
    ) -> tuple[Call, planner.Plan]:
        """The call with everything that follows from it by thinking alone; `found` grows by
        that.
        """
        o, rules = claim.obligation, self.worker.settings.rules
        while True:
            call = replay(o.account, o.call_uuid, [*loaded.events, *found])
            plan = planner.plan(
                call, rules, at, horizon=horizon, generation=self.worker.generation or 0
            )
            new = [
                replace(e, at=at)
                for e in plan.conclusions
                if all(e.id != other.id for other in found)
            ]
            if not new:  # none, or one that a clock which went back has made idle
                return call, plan
            found.extend(new)

    def begin(self, claim: Claim, loaded: Loaded, now: datetime) -> _Work | None:
        """None for a call that cannot be thought through: a fault of ours, which must not hold up
        the others.
        """
        found: list[Event] = []
        try:
            call, plan = self.think(claim, loaded, found, now, HORIZON)
        except Exception:
            log.exception("a call cannot be planned", obligation=str(claim.obligation))
            self.worker.alert(
                "poison", account=claim.obligation.account, call_uuid=claim.obligation.call_uuid
            )
            return (
                None  # not finished: the ledger counts that, and brings it back less and less often
            )
        return _Work(claim=claim, loaded=loaded, call=call, plan=plan, found=found)

    def ration(self, works: Sequence[_Work], now: datetime) -> None:
        """Gives out the account's request tokens, the earliest first. What gets none stays owed,
        unrecorded.
        """
        wanted: dict[str, list[tuple[datetime, int, planner.Send]]] = {}
        for i, work in enumerate(works):
            for send in work.plan.sends:
                wanted.setdefault(work.call.account, []).append((send.at, i, send))
        for account, sends in wanted.items():
            sends.sort(key=lambda s: s[:2])
            granted = self._granted(account, len(sends))
            for _, i, send in sends[:granted]:
                works[i].sends.append(send)
            if granted < len(sends):
                self._put_off(account, [works[i] for _, i, _ in sends[granted:]], now)
        for work in works:
            wanted_once: list[Start | Handoff] = [*work.plan.starts, *work.plan.transfers]
            for once in wanted_once:
                later = not_yet(self.worker, work.call.account, now)
                if later:
                    work.retry_at = min(work.retry_at or later, later)
                else:
                    work.once.append(once)

    def _granted(self, account: str, wanted: int) -> int:
        if account in self.worker.settings.accounts:
            return self.worker.ledger.take("stop", account, wanted, self.worker.settings.stop_rate)[
                0
            ]
        self.worker.alert(
            "no_such_account",
            account=account,
            remedy="its calls are not stopped: add it to the rules file",
        )
        return 0

    def _put_off(self, account: str, works: Sequence[_Work], now: datetime) -> None:
        if account not in self.worker.settings.accounts:
            for work in works:
                work.retry_at = now + NOBODYS
            return
        rate, ledger = self.worker.settings.stop_rate, self.worker.ledger
        # What has waited already asks again soon; what is new goes to the end of the queue.
        for group, queue in (
            ([w for w in works if _waited(w, now)], False),
            ([w for w in works if not _waited(w, now)], True),
        ):
            if group:
                first = ledger.take("stop", account, 0, rate, queue=len(group) if queue else 0)[1]
                for n, work in enumerate(group):
                    work.retry_at = now + first + timedelta(seconds=n / rate)

    def send_once(self, account: Account, work: _Work, once: Start | Handoff) -> None:
        order = Order(
            worker=self.worker,
            account=account,
            call=work.call,
            now=self.now(),
            seen=work.loaded.size,
        )
        came = list(
            order.start(once) if isinstance(once, Start) else order.transfer(once, self.now())
        )
        work.found.extend(came)
        if not came:
            work.retry_at = (
                self.now()
            )  # something was reported since, if only by the one sent just before

    def send(self, account: Account, work: _Work, send: planner.Send) -> None:
        early = (send.at - self.now()).total_seconds()
        if early > 0:
            time.sleep(min(early, HORIZON.total_seconds()))
        if (
            send.url is None
            and self.worker.ledger.size(account.auth_id, work.call.call_uuid) != work.loaded.size
        ):
            # Something was reported since: a newer recording, perhaps, that a stop of the whole
            # call would end as well.
            work.retry_at = self.now()
            return
        call, requested_at = work.call, self.now()
        kind, reason, retry_at, status = Kind.STOP_ACCEPTED, send.note, None, None
        try:
            self.worker.vobiz.stop_recordings(account, call.call_uuid, url=send.url)
        except CallOver as error:
            kind, reason = Kind.CALL_FOUND_OVER, str(error)
        except Refused as error:
            kind, reason, status = Kind.STOP_SET_ASIDE, str(error), error.status
            if handle_refusal(self.worker, account, error, call_uuid=call.call_uuid):
                kind, retry_at = Kind.STOP_ERRED, requested_at + HALTED_RETRY
        except TryAgain as error:
            kind, reason, status = Kind.STOP_ERRED, str(error), error.status
            if error.after_s:
                retry_at = (
                    self.now()
                    + timedelta(seconds=min(error.after_s, _LONGEST_WAIT_ASKED_S))
                    + _CLOCKS_DIFFER
                )
            if status == 429:
                self.worker.ledger.slow_down(
                    "stop", account.auth_id, self.worker.settings.stop_rate
                )
        except WrongPath as error:
            kind, reason = Kind.STOP_ERRED, str(error)
            self.worker.alert(
                "wrong_path", account=account.auth_id, call_uuid=call.call_uuid, error=reason
            )
        work.found.extend(
            self._outcomes(
                work,
                send,
                Event(
                    id="",
                    kind=kind,
                    call_uuid=call.call_uuid,
                    at=self.now(),
                    named=bool(send.url),
                    requested_at=requested_at,
                    reason=reason,
                    retry_at=retry_at,
                    status=status,
                ),
            )
        )

    def _outcomes(self, work: _Work, send: planner.Send, outcome: Event) -> Iterator[Event]:
        assert outcome.requested_at is not None
        later = outcome.retry_at or outcome.requested_at + timedelta(seconds=_LONGEST_WAIT_ASKED_S)
        for i in send.recording_ids:
            recording = work.plan.recordings[i]
            if (
                outcome.kind is Kind.STOP_ERRED
                and planner.errors_in_a_row(recording) >= MOST_ERRORS_TOLD
            ):
                # Days of trouble must not fill Redis: the tries go on, and only the first of a row
                # are written down.
                work.retry_at = min(work.retry_at or later, later)
                continue
            judged = planner.judge(
                work.call, recording, self.worker.settings.rules, outcome.requested_at
            )
            if not recording.attempts and judged.due_at:
                work.late_s.append(max(0.0, (outcome.requested_at - judged.due_at).total_seconds()))
            yield replace(
                outcome,
                id=f"stop.{work.claim.fence}.{i}",
                recording_id=i or None,
                trigger=judged.trigger,
                rule=judged.rule,
                due_at=judged.due_at,
                action=judged.action if judged.action != Action.STOP else None,
            )

    def finish(self, works: Sequence[_Work]) -> None:
        """Records what came of them and what is due next."""
        works = [w for w in works if not w.broken]
        commits = [self._commit(work) for work in works]
        fresh = self.worker.ledger.commit(commits)
        recorded, counts = [], dict[str, float]()
        for work, commit, ids in zip(works, commits, fresh, strict=True):
            if ids is not None:
                recorded.append((work.call, [e for e in commit.events if e.id in ids]))
                _count_lateness(counts, work.late_s)
        tell(self.worker, recorded, counts)

    def _commit(self, work: _Work) -> Commit:
        if work.requests:
            work.call, work.plan = self.think(
                work.claim, work.loaded, work.found, self.now(), timedelta(0)
            )
        plan, call = work.plan, work.call
        left = (
            []
            if work.retry_at
            else [
                *(s.at for s in plan.sends),
                *(self.now() for _ in (*plan.starts, *plan.transfers)),
            ]
        )
        stop_at = min((t for t in (plan.stop_at, work.retry_at, *left) if t), default=None)
        dues: list[tuple[Obligation, datetime | None]] = [
            (work.claim.obligation, stop_at),
            (obligation(call, Duty.LOOK), plan.look_at),
        ]
        dues += [(obligation(call, Duty.FETCH, r), t) for r, t in plan.fetch_at.items()]
        keep = self.worker.settings.history if all(t is None for _, t in dues) else None
        return Commit(
            claim=work.claim,
            events=work.found,
            seen=work.loaded.size,
            dues=tuple(dues),
            keep=keep,
            generation=self.worker.generation,
        )

    def finish_late(self, work: _Work, held: LeaseKeeper, _: Future[None]) -> None:
        held.end(work.claim)
        try:
            self.finish([work])
        except LedgerUnavailable as error:
            if logs.seldom("redis", error):
                log.warning(
                    "redis does not answer", error=str(error)
                )  # the lease runs out, and it is due again


def stops(worker: Worker, claims: Sequence[Claim]) -> None:
    """One step for each call: its conclusions, the requests that are due, and when to come back."""
    now, loaded = worker.ledger.load(claims)
    batch = _Batch(worker, now)
    works = [
        work
        for claim, found in zip(claims, loaded, strict=True)
        if found is not None
        for work in [batch.begin(claim, found, now)]
        if work is not None
    ]
    batch.ration(works, now)
    batch.finish([w for w in works if not w.requests])
    sending = sorted((w for w in works if w.requests), key=lambda w: w.first_at)
    halted = worker.ledger.halted({w.call.account for w in sending})
    _send_side_by_side(batch, sending)
    late = [w for w in sending if not w.sent.done()]
    if late:
        held = LeaseKeeper(worker.ledger, *(w.claim for w in late)).start()
        for work in late:
            work.sent.add_done_callback(partial(batch.finish_late, work, held))
    finished = [w for w in sending if not any(w is other for other in late)]
    batch.finish(finished)
    for account in halted:
        if any(w.call.account == account and _was_answered(w) for w in finished):
            release(worker, account)


def _send_side_by_side(batch: _Batch, works: Sequence[_Work]) -> None:
    """Returns when all are sent, or after PATIENCE_S. More at once cost more than they gain, unless
    the answers are slow.
    """
    todo = deque((work, request) for work in works for request in work.requests)
    until, one_at_a_time = time.monotonic() + PATIENCE_S, threading.Lock()

    def run() -> None:
        while todo:
            with contextlib.suppress(IndexError):  # another took the last
                work, request = todo.popleft()
                account = batch.worker.settings.accounts[work.call.account]
                try:
                    if isinstance(request, planner.Send):
                        batch.send(account, work, request)
                    else:
                        batch.send_once(account, work, request)
                except Exception:
                    log.exception(
                        "a request could not be recorded; its lease brings it back",
                        obligation=str(work.claim.obligation),
                    )
                    work.broken = True
                with one_at_a_time:
                    work.answered += 1
                    last = work.answered == len(work.requests)
                if last:
                    work.sent.set_result(None)

    while (left := {w.sent for w in works if not w.sent.done()}) and time.monotonic() < until:
        for _ in range(min(SIDE_BY_SIDE, len(todo))):
            batch.worker.crew.submit(run)
        wait(left, timeout=0.05)


def _waited(work: _Work, now: datetime) -> bool:
    return min(send.at for send in work.plan.sends) < now - timedelta(seconds=1)


def _was_answered(work: _Work) -> bool:
    return any(e.kind in {Kind.STOP_ACCEPTED, Kind.CALL_FOUND_OVER} for e in work.found)


def _count_lateness(counts: dict[str, float], late_s: Sequence[float]) -> None:
    for late in late_s:
        counts["lateness_sum"] = counts.get("lateness_sum", 0) + late
        counts["lateness_count"] = counts.get("lateness_count", 0) + 1
        for top in LATENESS_BUCKETS:
            if late <= top:
                counts[f"lateness_bucket|{top:g}"] = counts.get(f"lateness_bucket|{top:g}", 0) + 1
