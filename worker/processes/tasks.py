"""The Celery tasks. A message only names claims; the ledger knows whether their work is still to be
done.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Any

from celery import shared_task

from worker.calls.obligations import Duty, Obligation
from worker.duties import (
    call_records,
    days,
    deprecations,
    erase,
    fetch,
    hand_on,
    index,
    late_facts,
    look,
    notify,
    offload,
    plan_calls,
    survey,
)
from worker.errors import LedgerUnavailable
from worker.ledger import survey_state
from worker.ledger.obligations import Claim
from worker.processes.settings_in_force import following_worker, warn_redis_is_away

DEEDS = {
    Duty.PLAN: plan_calls.plan_calls,
    Duty.LOOK: look.looks,
    Duty.FETCH: fetch.fetches,
    Duty.SURVEY: survey.surveys,
    Duty.INDEX: index.indexes,
    Duty.NOTIFY: notify.notifies,
    Duty.HAND_ON: hand_on.hands_on,
    Duty.ERASE: erase.erases,
    Duty.DAY: days.closes,
    Duty.CDRS: call_records.reads,
    Duty.FACTS: late_facts.files,
    Duty.OFFLOAD: offload.offloads,
}
QUEUE_OF = {  # of the duties that a clock claims; planning.py claims plans
    Duty.LOOK: "fetches",
    Duty.FETCH: "fetches",
    Duty.SURVEY: "fetches",
    Duty.INDEX: "keep",
    Duty.NOTIFY: "keep",
    Duty.HAND_ON: "keep",
    Duty.ERASE: "keep",
    Duty.DAY: "keep",
    Duty.CDRS: "keep",
    Duty.FACTS: "keep",
    Duty.OFFLOAD: "keep",
}


@shared_task(name="reconcile")
def reconcile_batch(duty: str, claims: list[list[str]]) -> None:
    """Does one step for each claim, given as obligation and fence. All are of one duty."""
    held = [Claim(obligation=Obligation.parse(text), fence=fence) for text, fence in claims]
    try:
        DEEDS[Duty(duty)](following_worker().current(), held)
    except LedgerUnavailable as error:
        # Nothing is lost: the leases run out, and a clock claims the obligations again.
        warn_redis_is_away(error, claims=len(held))


@shared_task(name="beat")
def beat(queue: str) -> None:
    """Sends a heartbeat for the queue, which shows that a worker takes its messages. The worker of
    `fetches` also keeps surveys due; that of `keep` keeps days and call records due, and tidies up
    once an hour.
    """
    try:
        worker = following_worker().current()  # follows a reload, also in an idle process
        ledger = worker.ledger
        deprecations.tell(ledger)
        ledger.seen(queue, f"{socket.gethostname()}:{os.getpid()}")
        if queue == "fetches":
            survey_state.keep_due(ledger, worker.settings.accounts)
        if queue == "keep":
            days.keep_due(ledger, worker.settings.accounts)
            call_records.keep_due(worker)
            offload.owe_by_rules(worker)
        if queue == "keep" and ledger.once_per("tidy", "all", every=timedelta(hours=1)):
            index.owe_missed(worker)
            erase.owe_missed(worker)
            for account in {*worker.settings.accounts, *ledger.accounts()}:
                ledger.forget(account)
            ledger.forget_failing()
            ledger.tidy()
    except LedgerUnavailable as error:
        warn_redis_is_away(error)


def message(duty: Duty, claims: list[Claim]) -> list[Any]:
    return [duty.value, [[str(c.obligation), c.fence] for c in claims]]
