"""Whether the provider may be asked now: request tokens, halted accounts, refused credentials."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import structlog

from worker.duties import notify
from worker.duties.worker import Worker
from worker.errors import Refused, TryAgain
from worker.vobiz.account import Account

log = structlog.get_logger()
HALTED_RETRY = timedelta(seconds=5)  # between two requests for a halted account
UNKNOWN_ACCOUNT_WAIT = timedelta(
    seconds=60
)  # the account is not in the settings: its work waits for its return
_LONGEST_WAIT_S = 20  # for one token within a piece of work


def handle_refusal(worker: Worker, account: Account, error: Refused, **facts: object) -> bool:
    """Find out what a 401 or 403 of the API means, and act on it. True when the account is halted.

    Our credentials still work: the provider refuses this one thing. Raises the alert `set_aside`
    with `facts` and returns False. Our credentials are refused, or that cannot be told now: halts
    the account, raises the alert `account_halted` and returns True.
    """
    if worker.vobiz.credentials_work(account):
        if worker.ledger.halted([account.auth_id]):
            # The account was halted, and its credentials came back between the two requests.
            release(worker, account.auth_id)
            return True
        worker.alert("set_aside", account=account.auth_id, error=str(error), **facts)
        return False
    if notify.halt(worker.ledger, worker.settings, account.auth_id):
        worker.alert("account_halted", account=account.auth_id, error=str(error))
    return True


def not_yet(worker: Worker, auth_id: str, now: datetime) -> datetime | None:
    """When a request other than a stop may be tried; None when it may be sent now.

    None also means that a request token of the account was taken. A request waits while its account
    is unknown or halted, or has used up its rate.
    """
    account = worker.settings.accounts.get(auth_id)
    if account is None:
        return now + UNKNOWN_ACCOUNT_WAIT
    rate = worker.settings.api_rate
    taken = worker.ledger.take_unless_halted("api", auth_id, rate)
    if taken is None:
        if not _works_again(worker, account):
            return now + HALTED_RETRY
        taken = worker.ledger.take("api", auth_id, 1, rate)
    granted, wait = taken
    return None if granted else now + wait


def spend(worker: Worker, account: Account) -> None:
    """Wait for one more request token of the account, and take it. For a further request within a
    piece of work. Raises TryAgain after 20 s.
    """
    until = time.monotonic() + _LONGEST_WAIT_S
    while True:
        granted, wait = worker.ledger.take("api", account.auth_id, 1, worker.settings.api_rate)
        if granted:
            return
        if time.monotonic() + wait.total_seconds() > until:
            raise TryAgain("the account's request rate is used up")
        time.sleep(wait.total_seconds())


def is_halted(worker: Worker, account: Account) -> bool:
    """Whether only stops may be sent for this account."""
    return bool(worker.ledger.halted([account.auth_id])) and not _works_again(worker, account)


def _works_again(worker: Worker, account: Account) -> bool:
    # Where no stop is due, no request would find out that the credentials work again. So one of all
    # processes asks every 5 s.
    if not worker.ledger.once_per("probe", account.auth_id, every=HALTED_RETRY):
        return False
    if not worker.vobiz.credentials_work(account):
        return False
    release(worker, account.auth_id)
    return True


def release(worker: Worker, account: str) -> None:
    """Let the account's work go on: the provider accepts its credentials."""
    if worker.ledger.release(account):
        log.warning("account released", account=account)
