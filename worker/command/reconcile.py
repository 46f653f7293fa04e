"""Surveys at once, for `endtape reconcile`: does the steps itself beside whoever else does, and
waits for their end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.archive.directory import Archive
from worker.calls.obligations import Duty
from worker.duties import survey
from worker.duties.worker import Worker
from worker.ledger import survey_state
from worker.ledger.client import Ledger
from worker.ledger.survey_state import Scope, SurveyState
from worker.settings import Settings
from worker.vobiz.client import Vobiz

KINDS = ("rows", "listed", "ended", "restored", "closed", "watched")


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What came of one account's surveys; `problem` None: they came to their end."""

    account: str
    found: dict[str, int]
    problem: str | None


def run(
    settings: Settings, ledger: Ledger, *, wait_s: float, told: Callable[[int, int, int], None]
) -> list[Report]:
    """Surveys every account in both scopes. `told` hears again and again how many surveys have
    ended, of how many, and how many rows were read. Harmless to repeat, and beside a running
    service.
    """
    crew = ThreadPoolExecutor(max_workers=1)
    vobiz = Vobiz(
        api_url=settings.api_url,
        media_hosts=settings.media_hosts,
        redirect_hosts=settings.redirect_hosts,
        max_media_bytes=settings.max_media_bytes,
    )
    worker = Worker(
        ledger=ledger,
        vobiz=vobiz,
        archive=Archive(settings.archive, settings.spool),
        settings=settings,
        crew=crew,
        first_start=ledger.prepare(),
    )
    asked_at, until = ledger.now(), time.monotonic() + wait_s
    surveys = [(account, scope) for account in settings.accounts for scope in Scope]
    tried = False
    while True:
        survey_state.keep_due(ledger, settings.accounts)
        state = {(a, s): survey_state.load(ledger, a, s) or SurveyState() for a, s in surveys}
        left = [which for which in surveys if not _is_done(state[which], asked_at)]
        told(
            len(surveys) - len(left),
            len(surveys),
            sum(_found(r, asked_at).get("rows", 0) for r in state.values()),
        )
        waiting = {account for account, _ in left}
        if not left or time.monotonic() >= until or (tried and waiting <= ledger.halted(waiting)):
            return [_report(ledger, account, state, asked_at) for account in settings.accounts]
        for account, scope in left:
            if state[account, scope].began_at is None:
                ledger.make_due_now(survey_state.obligation(account, scope))
        claimed = ledger.claim(lead=timedelta(0), batch=10, free={Duty.SURVEY: 10})
        survey.surveys(worker, claimed.claims)
        tried = tried or bool(claimed.claims)
        if not claimed.claims:
            time.sleep(0.05)


def _is_done(state: SurveyState, asked_at: datetime) -> bool:
    return state.done_began_at is not None and state.done_began_at >= asked_at


def _found(state: SurveyState, asked_at: datetime) -> dict[str, int]:
    return state.done_found if _is_done(state, asked_at) else state.found


def _report(
    ledger: Ledger, account: str, state: dict[tuple[str, Scope], SurveyState], asked_at: datetime
) -> Report:
    mine = [state[account, scope] for scope in Scope]
    found = {kind: sum(_found(r, asked_at).get(kind, 0) for r in mine) for kind in KINDS}
    if all(_is_done(r, asked_at) for r in mine):
        return Report(account=account, found=found, problem=None)
    halted = (
        "the account is halted: the provider refuses its credentials"
        if ledger.halted([account])
        else None
    )
    return Report(
        account=account,
        found=found,
        problem=halted or next((r.problem for r in mine if r.problem), "it was not done in time"),
    )
