"""Celery's names for the work. A message only says what to look at; the ledger knows whether it is
still to be done.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Any

import structlog
from celery import shared_task

from worker import logs
from worker.calls.obligations import Duty, Obligation
from worker.duties import fetch, look, plan_calls, survey
from worker.errors import LedgerUnavailable
from worker.ledger import survey_state
from worker.ledger.obligations import Claim
from worker.processes.celery_app import process

log = structlog.get_logger()
DEEDS = {
    Duty.PLAN: plan_calls.stops,
    Duty.LOOK: look.looks,
    Duty.FETCH: fetch.fetches,
    Duty.SURVEY: survey.surveys,
}


@shared_task(name="reconcile")
def reconcile_batch(duty: str, claims: list[list[str]]) -> None:
    """Does one step for each claim of one duty."""
    held = [Claim(obligation=Obligation.parse(text), fence=fence) for text, fence in claims]
    try:
        DEEDS[Duty(duty)](process().current(), held)
    except LedgerUnavailable as error:
        # Nothing is lost: the leases run out and the clock hands the obligations out again.
        if logs.seldom("redis", error):
            log.warning("redis does not answer", error=str(error), claims=len(held))


@shared_task(name="beat")
def beat(queue: str) -> None:
    """Proves by work done that somebody works off this queue; now and then tidies up."""
    try:
        worker = process().current()  # an idle process hears of a reload here
        ledger = worker.ledger
        ledger.seen(queue, f"{socket.gethostname()}:{os.getpid()}")
        if queue == "fetches":
            survey_state.keep_due(ledger, worker.settings.accounts)
        if queue == "fetches" and ledger.once_per("forget", "all", every=timedelta(hours=1)):
            for account in worker.settings.accounts:
                ledger.forget(account, before=ledger.now() - worker.settings.history)
            ledger.tidy()
    except LedgerUnavailable as error:
        if logs.seldom("redis", error):
            log.warning("redis does not answer", error=str(error))


def route(duty: Duty) -> str:
    return "stops" if duty is Duty.PLAN else "fetches"


def message(duty: Duty, claims: list[Claim]) -> list[Any]:
    return [duty.value, [[str(c.obligation), c.fence] for c in claims]]
