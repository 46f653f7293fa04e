"""Load, decide, do, record: one batch of obligations, each with at most one step.

Each step may happen twice: a DELETE stops nothing that runs on, a look only reads, a fetch publishes under a name that
is never overwritten. Whatever dies in between, the lease runs out and the obligation is due again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from worker import lifecycle
from worker.archive import Archive
from worker.errors import CallOver, EndtapeError, Refused, TryAgain, WrongPath
from worker.fold import fold
from worker.ledger import LEASE, Claim, Commit, Ledger, Loaded
from worker.recording import Call, Duty, Event, Kind, Obligation
from worker.settings import Settings
from worker.vobiz import Account, Vobiz

log = structlog.get_logger()
HORIZON = timedelta(milliseconds=120)    # claims come a little early, so that the request leaves on time
HALTED_RETRY = timedelta(seconds=5)
_LONGEST_WAIT_ASKED = timedelta(seconds=15)


@dataclass(slots=True)
class Worker:
    """What a worker process needs; put together by `app`."""

    ledger: Ledger
    vobiz: Vobiz
    archive: Archive
    settings: Settings
    crew: ThreadPoolExecutor

    def alert(self, what: str, **facts: object) -> None:
        """Something a person should see: one line in the log, one count in `/metrics`."""
        log.error("alert", what=what, **facts)
        self.ledger.count({f"alerts_total|{what}": 1})


def stops(worker: Worker, claims: Sequence[Claim]) -> None:
    """Plans each call and sends what is due, side by side, each at its very instant."""
    now, loaded = worker.ledger.load(claims)
    ahead = now.timestamp() - time.time()        # Redis's clock against ours
    mine = [(claim, found) for claim, found in zip(claims, loaded, strict=True) if found is not None]
    halted = worker.ledger.halted(claim.obligation.account for claim, _ in mine)
    commits = list(worker.crew.map(lambda item: _stop(worker, item[0], item[1], now, ahead, halted), mine))
    fresh = worker.ledger.commit([c for c, _ in commits])
    for (commit, call), ids in zip(commits, fresh, strict=True):
        if ids is not None:
            _tell(worker, call, [e for e in commit.events if e.id in ids])


def _stop(worker: Worker, claim: Claim, loaded: Loaded, now: datetime, ahead: float, halted: set[str]) -> tuple[Commit, Call]:
    o, rules = claim.obligation, worker.settings.policy
    account = worker.settings.accounts.get(o.account)
    events = list(loaded.events)
    found: list[Event] = []

    def think(at: datetime, horizon: timedelta) -> tuple[Call, lifecycle.Plan]:
        while True:
            call = fold(o.account, o.call_uuid, events + found)
            plan = lifecycle.plan(call, rules, at, horizon=horizon)
            if not plan.conclusions:
                return call, plan
            found.extend(replace(e, at=at) for e in plan.conclusions)

    call, plan = think(now, HORIZON)
    wait: datetime | None = None
    if plan.sends and account is not None:
        for send in plan.sends:
            granted, until = worker.ledger.take("stop", o.account, 1, worker.settings.stop_rate)
            if not granted:
                # Not ours to send yet; nothing is recorded, so it stays owed.
                wait = now + until
                continue
            outcomes = _send(worker, account, call, send, claim, ahead)
            found.extend(outcomes)
        at = datetime.fromtimestamp(time.time() + ahead, now.tzinfo)
        call, plan = think(max(at, now), timedelta(0))
        if o.account in halted and any(e.kind is Kind.STOP_ACCEPTED for e in found):
            worker.ledger.release(o.account)
    stop_at = min((t for t in (plan.stop_at, wait, *(s.at for s in plan.sends if wait is None)) if t), default=None)
    dues: list[tuple[Obligation, datetime | None]] = [(o, stop_at), (replace(o, duty=Duty.LOOK), plan.look_at)]
    dues += [(Obligation(duty=Duty.FETCH, account=o.account, call_uuid=o.call_uuid, recording_id=r), t)
             for r, t in plan.fetch_at.items()]
    keep = worker.settings.history if all(t is None for _, t in dues) else None
    return Commit(claim=claim, events=found, seen=loaded.size, dues=tuple(dues), keep=keep), call


def _send(worker: Worker, account: Account, call: Call, send: lifecycle.Send, claim: Claim, ahead: float) -> list[Event]:
    early = send.at.timestamp() - (time.time() + ahead)
    if early > 0:
        time.sleep(min(early, HORIZON.total_seconds()))
    requested_at = datetime.fromtimestamp(time.time() + ahead, send.at.tzinfo)
    kind, reason, retry_at, status = Kind.STOP_ACCEPTED, None, None, None
    try:
        worker.vobiz.stop_recordings(account, call.call_uuid, url=send.url)
    except CallOver as error:
        kind, reason = Kind.CALL_FOUND_OVER, str(error)
    except Refused as error:
        kind, reason, retry_at, status = *_refused(worker, account, error, requested_at), error.status
    except TryAgain as error:
        kind, reason, status = Kind.STOP_ERRED, str(error), error.status
        if error.after_s:
            retry_at = requested_at + min(timedelta(seconds=error.after_s), _LONGEST_WAIT_ASKED)
        if status == 429:
            worker.ledger.slow_down("stop", account.auth_id, worker.settings.stop_rate)
    except WrongPath as error:
        kind, reason = Kind.STOP_ERRED, str(error)
        worker.alert("wrong_path", account=account.auth_id, call_uuid=call.call_uuid, error=reason)
    answered_at = datetime.fromtimestamp(time.time() + ahead, send.at.tzinfo)
    rule, _ = worker.settings.policy.choose(call)
    outcomes = []
    for i in send.recording_ids:
        judged = lifecycle.judge(call, call.recordings[i], worker.settings.policy, requested_at)
        outcomes.append(Event(
            id=f"stop.{claim.fence}.{i}", kind=kind, call_uuid=call.call_uuid, at=answered_at, recording_id=i,
            named=bool(send.url), requested_at=requested_at, trigger=judged.trigger, rule=judged.rule or rule,
            due_at=judged.due_at, reason=reason, retry_at=retry_at, status=status))
        if not call.recordings[i].attempts and judged.due_at:
            late = max(0.0, (requested_at - judged.due_at).total_seconds())
            worker.ledger.count({"lateness_sum": late, "lateness_count": 1, **_bucket(late)})
    return outcomes


def _refused(worker: Worker, account: Account, error: Refused, at: datetime) -> tuple[Kind, str, datetime]:
    """What a 401 or 403 means: one duty that we may not have, or an account whose credentials are refused."""
    works = worker.vobiz.credentials_work(account)
    if works:
        worker.alert("set_aside", account=account.auth_id, error=str(error))
        return Kind.STOP_SET_ASIDE, str(error), at
    if worker.ledger.halt(account.auth_id):
        worker.alert("account_halted", account=account.auth_id, error=str(error))
    return Kind.STOP_ERRED, str(error), at + HALTED_RETRY


def _bucket(late_s: float) -> dict[str, float]:
    return {f"lateness_bucket|{top:g}": 1 for top in LATENESS_BUCKETS if late_s <= top}


LATENESS_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.0, 15.0, 60.0)


def look(worker: Worker, claims: Sequence[Claim]) -> None:
    """Asks the provider's list, and the live call unless the call is known to be over."""
    now, loaded = worker.ledger.load(claims)
    mine = [(claim, found) for claim, found in zip(claims, loaded, strict=True) if found is not None]
    halted = worker.ledger.halted(claim.obligation.account for claim, _ in mine)
    for claim, found in mine:
        _look(worker, claim, found, now, halted)


def _look(worker: Worker, claim: Claim, loaded: Loaded, now: datetime, halted: set[str]) -> None:
    o = claim.obligation
    account = worker.settings.accounts.get(o.account)
    if account is None:
        return
    if o.account in halted:
        worker.ledger.commit([Commit(claim=claim, seen=loaded.size, dues=((o, now + HALTED_RETRY),))])
        return
    granted, wait = worker.ledger.take("api", o.account, 1, worker.settings.api_rate)
    if not granted:
        worker.ledger.commit([Commit(claim=claim, seen=loaded.size, dues=((o, now + wait),))])
        return
    call = fold(o.account, o.call_uuid, loaded.events)
    found: list[Event] = []
    reason, live = None, None
    try:
        for row in worker.vobiz.find_recordings(account, call_uuid=o.call_uuid):
            event = Event(id="", kind=Kind.RECORDING_LISTED, call_uuid=o.call_uuid, recording_id=row.recording_id, url=row.url,
                          started_at=row.started_at, ended_at=row.ended_at, added_at=row.added_at, duration_s=row.duration_s,
                          format=row.format, from_number=row.from_number, to_number=row.to_number,
                          trunk=True if row.recording_type == "trunk" else None)
            over = "end" if event.ended_at or event.duration_s else "row"
            found.append(replace(event, id=f"listed.{over}.{row.recording_id}"))
        if call.over_at is None and not _all_over(call, found):
            live = worker.vobiz.call_is_live(account, o.call_uuid)
            if not live:
                found.append(Event(id="gone", kind=Kind.CALL_FOUND_OVER, call_uuid=o.call_uuid, reason="the live call is not found"))
    except Refused as error:
        if worker.vobiz.credentials_work(account) is not True and worker.ledger.halt(o.account):
            worker.alert("account_halted", account=o.account, error=str(error))
        reason = str(error)
    except EndtapeError as error:
        reason = str(error)
    found.append(Event(id=f"look.{claim.fence}", kind=Kind.LOOKED, call_uuid=o.call_uuid, live=live, reason=reason))
    commit_and_plan(worker, claim, loaded, found, now, call)


def _all_over(call: Call, listed: Sequence[Event]) -> bool:
    ended = {e.recording_id for e in listed if e.ended_at or e.duration_s}
    return all(r.over_at or r.recording_id in ended for r in call.recordings.values())


def commit_and_plan(worker: Worker, claim: Claim, loaded: Loaded, found: Sequence[Event], now: datetime, call: Call) -> bool:
    """Records what was found; the call's own obligation then plans what follows. False when the lease was lost."""
    o = claim.obligation
    planner = Obligation(duty=Duty.STOP, account=o.account, call_uuid=o.call_uuid)
    dues: tuple[tuple[Obligation, datetime | None], ...] = ((o, now + timedelta(seconds=60)),)   # a net; the plan sets it right
    commit = Commit(claim=claim, events=found, seen=loaded.size, dues=(*dues, (planner, "now")))
    ids = worker.ledger.commit([commit])[0]
    if ids is None:
        return False
    _tell(worker, call, [e for e in found if e.id in ids])
    return True


def _tell(worker: Worker, call: Call, events: Sequence[Event]) -> None:
    counts: dict[str, float] = {}
    for event in events:
        log.info(event.kind.value, account=call.account, call_uuid=call.call_uuid, recording_id=event.recording_id,
                 reason=event.reason, trigger=event.trigger, rule=event.rule)
        counts[f"events_total|{event.kind.value}"] = counts.get(f"events_total|{event.kind.value}", 0) + 1
        if event.kind in {Kind.STOP_UNKNOWN, Kind.GAVE_UP} or (event.kind is Kind.MEDIA_ARCHIVED and event.check):
            worker.alert(event.kind.value, account=call.account, call_uuid=call.call_uuid, recording_id=event.recording_id,
                         reason=event.reason)
    worker.ledger.count(counts)


class Held:
    """Keeps a lease while a long piece of work goes on; `alive()` raises StaleLease once it is lost."""

    def __init__(self, ledger: Ledger, claim: Claim) -> None:
        self._ledger, self._claim = ledger, claim
        self._done = threading.Event()
        self._lost: EndtapeError | None = None
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def _renew(self) -> None:
        while not self._done.wait(LEASE.total_seconds() / 3):
            try:
                self._ledger.renew(self._claim)
            except EndtapeError as error:
                self._lost = error
                return

    def alive(self) -> None:
        if self._lost:
            raise self._lost

    def __enter__(self) -> Callable[[], None]:
        self._thread.start()
        return self.alive

    def __exit__(self, *_: object) -> None:
        self._done.set()

