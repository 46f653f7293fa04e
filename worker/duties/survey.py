"""The duty SURVEY: compare the provider's own lists with the ledger, and heal the difference:
recordings and calls that were never reported, and ends that never reached us.

A survey is a chain of steps of one request each, so it never holds a slot for long, and it takes no
more than SHARE of the account's requests. Harmless to repeat: a row always becomes an event with
the same id. A call that is missing from the list of live calls only gets a look, because a list
proves nothing about a call that is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

import structlog

from worker.calls.call import Call
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.calls.unseen import found_live
from worker.duties.access import HALTED_RETRY, UNKNOWN_ACCOUNT_WAIT, handle_refusal, is_halted
from worker.duties.leases import LeaseKeeper
from worker.duties.look import adopts_since
from worker.duties.outcomes import do_or_report
from worker.duties.survey_rows import healed, is_news, read_page
from worker.duties.worker import Worker
from worker.errors import EndtapeError, LedgerUnavailable, Refused, TryAgain
from worker.ledger import survey_state
from worker.ledger.obligations import Claim, Commit
from worker.ledger.survey_state import Scope, Stage, SurveyState
from worker.vobiz.account import Account

log = structlog.get_logger()
SHARE = 1 / 3  # of ENDTAPE_API_RATE; the rest is for looks and fetches
SWEEP_EVERY = timedelta(hours=1)
_AFTER_FAILURE = timedelta(seconds=5)
_LONGEST_PAUSE_S = 300.0
_Dues = list[tuple[Obligation, Literal["now"]]]


def surveys(worker: Worker, claims: Sequence[Claim]) -> None:
    """Do one step of each claimed survey. Raises LedgerUnavailable."""
    for claim in claims:
        now, (held,) = worker.ledger.load([claim])
        if held is not None:
            work = partial(_step, worker, claim, now)
            if not do_or_report(worker, claim, work, "an account cannot be surveyed"):
                _end(worker, claim, now + UNKNOWN_ACCOUNT_WAIT)


def _step(worker: Worker, claim: Claim, now: datetime) -> None:
    name, scope = claim.obligation.account, Scope(claim.obligation.call_uuid)
    account = worker.settings.accounts.get(name)
    if account is None:  # when it is in the settings again, `keep_due` makes its surveys due
        _end(worker, claim, None)
        return
    later = now + HALTED_RETRY if is_halted(worker, account) else _no_token(worker, name, now)
    if later:
        _end(worker, claim, later)
        return
    before = survey_state.load(worker.ledger, name, scope)
    if before and worker.ledger.first_start() is None:
        before = None  # a step that was under way when Redis was erased has saved it since
    current = before if before and before.began_at else _begin(worker, name, scope, before, now)
    with LeaseKeeper(worker.ledger, claim) as check_lease:
        try:
            current, dues = _do(worker, account, scope, current, now)
            next_at = _next_at(worker, scope, current, now)
        except LedgerUnavailable:
            raise
        except EndtapeError as error:
            if current.problem is None:
                log.warning("a survey could not ask", account=name, scope=scope, error=str(error))
            current, dues = replace(current, problem=str(error)), []
            next_at = now + _pause(worker, account, error)
        check_lease()
        survey_state.save(worker.ledger, name, scope, current)
        _end(worker, claim, next_at, dues)


def _no_token(worker: Worker, account: str, now: datetime) -> datetime | None:
    """When to ask for a request token again; None: the survey has one.

    Surveys get their token even when fetches have used up the account's rate. The token is charged
    to the bucket that all share, so fetches wait longer and the total rate is kept.
    """
    granted, wait = worker.ledger.take("survey", account, 1, worker.settings.api_rate * SHARE)
    if granted:
        worker.ledger.charge("api", account, worker.settings.api_rate)
    return None if granted else now + wait


def _end(worker: Worker, claim: Claim, next_at: datetime | None, dues: _Dues | None = None) -> None:
    worker.ledger.commit([Commit(claim=claim, dues=((claim.obligation, next_at), *(dues or ())))])


def _next_at(worker: Worker, scope: Scope, current: SurveyState, now: datetime) -> datetime:
    if current.began_at or current.done_began_at is None:
        return now  # the next step, which waits for its request token
    every = timedelta(seconds=worker.settings.reconcile_s)
    return current.done_began_at + (every if scope is Scope.NEW else max(every, SWEEP_EVERY))


def _pause(worker: Worker, account: Account, error: EndtapeError) -> timedelta:
    if isinstance(error, Refused):
        handle_refusal(worker, account, error)
    asked_s = min(error.after_s or 0, _LONGEST_PAUSE_S) if isinstance(error, TryAgain) else 0
    return max(
        min(_AFTER_FAILURE, timedelta(seconds=worker.settings.reconcile_s)),
        timedelta(seconds=asked_s),
    )


def _begin(
    worker: Worker, account: str, scope: Scope, before: SurveyState | None, now: datetime
) -> SurveyState:
    watch_all = before is None and _erased(worker, account) and scope is Scope.NEW
    stage = Stage.CALLS if scope is Scope.NEW else Stage.ROWS
    return replace(before or SurveyState(), began_at=now, stage=stage, watch_all=watch_all)


def _erased(worker: Worker, account: str) -> bool:
    """Whether the ledger lost what it knew of an account that it never surveyed.

    The answer is yes if the archive or a process remembers an earlier first start than the ledger
    does. The earliest of these instants then becomes the ledger's first start.
    """
    ledger = worker.ledger
    known, day = ledger.first_start(), worker.archive.first_day(account)
    first = min(known or ledger.now(), worker.first_start)
    # The archive knows days only, so on the day of the first start it says nothing.
    if day and day.date() < first.date():
        first = day
    if known is None or first < known:
        if survey_state.note_erased(ledger):
            worker.alert("ledger_erased", account=account, first_start=str(first))
        # The first start is set last: a process that dies before finds the loss out again.
        ledger.set_first_start(first)
    return survey_state.was_erased(ledger)


# Steps
# ------------------------------------------------------------------------------------------------


def _do(
    worker: Worker, account: Account, scope: Scope, current: SurveyState, now: datetime
) -> tuple[SurveyState, _Dues]:
    dues: _Dues = []
    if current.stage is Stage.CALLS:
        current, dues = _live_calls(worker, account, current, now)
    elif current.stage is Stage.CALL:
        current = _live_call(worker, account, current)
    else:
        current, last = read_page(worker, account, scope, current, now)
        if last:
            return _finish(worker, account.auth_id, scope, current), []
    stage = Stage.CALL if current.pending else Stage.ROWS
    return replace(current, stage=stage, problem=None), dues


def _finish(worker: Worker, account: str, scope: Scope, current: SurveyState) -> SurveyState:
    if current.found.keys() - {"rows"}:
        log.info("survey", account=account, scope=scope, **current.found)
    return replace(
        current.ended(), seen_from=adopts_since(worker) if scope is Scope.SWEEP else None
    )


def _live_calls(
    worker: Worker, account: Account, current: SurveyState, now: datetime
) -> tuple[SurveyState, _Dues]:
    """Compare the list of live calls with the calls that have open recordings.

    The second value: a look for each call that has an open recording and is not live. `pending` of
    the first value: the live calls that nobody announced, where a rule watches such calls.
    """
    live = worker.vobiz.live_calls(account)
    gone = _calls(worker, account.auth_id, worker.ledger.tracked(account.auth_id) - set(live))
    # Only calls that are known for a whole interval: the list may lag behind a call that has just
    # begun.
    settled = now - timedelta(seconds=worker.settings.reconcile_s)
    closed = [
        call
        for call in gone.values()
        if _is_open(call) and any(e.at and e.at <= settled for e in call.events[:1])
    ]
    dues: _Dues = [
        (Obligation(duty=Duty.LOOK, account=account.auth_id, call_uuid=call.call_uuid), "now")
        for call in closed
    ]
    if current.watch_all or worker.settings.rules.watches:
        current = _strangers(worker, account.auth_id, current, live)
    return healed(worker, current, closed=len(closed)), dues


def _strangers(
    worker: Worker, account: str, current: SurveyState, live: Sequence[str]
) -> SurveyState:
    """Find the live calls to ask about: the ones that nobody announced; after the ledger was
    erased, all without a recording.
    """
    generation = worker.ledger.generation()
    unwatched = set(current.unwatched) & set(live) if generation == current.rules else set()
    calls = _calls(worker, account, set(live) - unwatched)
    pending = [i for i in live if i not in calls and i not in unwatched]
    if current.watch_all:
        pending += [
            i for i, call in calls.items() if not call.recordings and not call.found_live_at
        ]
    pending = [i for i in pending if worker.ledger.a_leg(account, i) == i]
    return replace(
        current, pending=tuple(pending), unwatched=tuple(sorted(unwatched)), rules=generation
    )


def _calls(worker: Worker, account: str, call_uuids: set[str]) -> dict[str, Call]:
    """The known ones among these calls, by id."""
    return {
        i: replay(account, i, events)
        for i, events in worker.ledger.logs(account, call_uuids).items()
        if events
    }


def _is_open(call: Call) -> bool:
    """Whether a recording of the call runs as far as we know, or may run.

    Left out: calls whose end is claimed, which have looks of their own; and trunk recordings, which
    end with their call. Nobody knows whether the list of live calls has the calls of trunks.
    """
    if found_live(call):
        return True
    return call.claimed_over_at is None and any(
        not (r.over_at or r.archived or r.gave_up or r.trunk) for r in call.recordings.values()
    )


def _live_call(worker: Worker, account: Account, current: SurveyState) -> SurveyState:
    """Ask about one live call that nobody announced, and take it up if a rule watches it."""
    call_uuid, *rest = current.pending
    live = worker.vobiz.live_call(account, call_uuid)
    current = replace(current, pending=tuple(rest))
    if live is None:
        return current
    call = Call(
        account=account.auth_id,
        call_uuid=call_uuid,
        from_number=live.from_number,
        to_number=live.to_number,
        direction=live.direction,
    )
    _, terms = worker.settings.rules.choose(call)
    if not (terms.watch or current.watch_all):
        return replace(current, unwatched=(*current.unwatched, call_uuid))
    if not current.watch_all and worker.ledger.size(account.auth_id, call_uuid):
        return current  # announced meanwhile
    event = Event(
        id="found-live",
        kind=Kind.CALL_FOUND_LIVE,
        call_uuid=call_uuid,
        from_number=live.from_number,
        to_number=live.to_number,
        direction=live.direction,
        reason="the ledger was erased" if current.watch_all else None,
    )
    return healed(worker, current, watched=int(is_news(worker, account.auth_id, event)))
