"""What `stops`, `looks` and `fetch` have in common: load, decide, do, record what happened.

Each step may happen twice: a DELETE stops nothing that runs on, a look only reads, a fetch
publishes under a name that is never overwritten. Whatever dies in between, the lease runs out and
the obligation is due again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

import structlog

from worker import logs
from worker.archive.directory import Archive
from worker.calls.call import Call
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty, Obligation
from worker.errors import EndtapeError, LedgerUnavailable, Refused, StaleLease, TryAgain
from worker.ledger.client import Ledger
from worker.ledger.obligations import Claim, Commit, Loaded
from worker.settings import Settings
from worker.vobiz.account import Account
from worker.vobiz.client import Vobiz

log = structlog.get_logger()
HALTED_RETRY = timedelta(seconds=5)
NOBODYS = timedelta(seconds=60)  # an account that left the settings: its calls wait for its return
_NET = timedelta(seconds=60)


@dataclass(slots=True)
class Worker:
    """What a worker process needs; put together by `app`."""

    ledger: Ledger
    vobiz: Vobiz
    archive: Archive
    settings: Settings
    crew: ThreadPoolExecutor
    first_start: datetime  # of the first Endtape process that ever used this ledger
    generation: int | None = (
        None  # how many reloads its settings have seen; None: it does not follow them
    )
    ending: Callable[[], bool] = lambda: (
        False
    )  # this process was told to end, and long work should be given back

    def alert(self, what: str, **facts: object) -> None:
        """Something a person should see: a count in `/metrics` each time, a line in the log at most
        once a minute for the same thing.
        """
        about = str(facts.get("recording_id") or facts.get("call_uuid") or facts.get("account"))
        if logs.seldom("alert", what, about):
            log.error("alert", what=what, **facts)
        self.ledger.count({f"alerts_total|{what}": 1})


def is_ours(worker: Worker, account: Account, error: Refused, **facts: object) -> bool:
    """What a 401 or 403 of the API means. False: this one thing is refused, and set aside with an
    alert. True: our credentials are refused, so the account is halted.
    """
    if worker.vobiz.credentials_work(account):
        if worker.ledger.halted([account.auth_id]):
            release(worker, account.auth_id)  # they came back between the two requests
            return True
        worker.alert("set_aside", account=account.auth_id, error=str(error), **facts)
        return False
    if worker.ledger.halt(account.auth_id):
        worker.alert("account_halted", account=account.auth_id, error=str(error))
    return True


def postponed(worker: Worker, claim: Claim, now: datetime) -> datetime | None:
    """When a listing or fetch may be tried, if not now: its account is unknown or halted, or the
    rate is used up.
    """
    return not_yet(worker, claim.obligation.account, now)


def not_yet(worker: Worker, auth_id: str, now: datetime) -> datetime | None:
    """The same for any request of an account but stops; takes its token where it may go now."""
    account = worker.settings.accounts.get(auth_id)
    if account is None:
        return now + NOBODYS
    if is_halted(worker, account):
        return now + HALTED_RETRY
    granted, wait = worker.ledger.take("api", auth_id, 1, worker.settings.api_rate)
    return None if granted else now + wait


def spend(worker: Worker, account: Account) -> None:
    """Waits for another request token of the account, within a piece of work that has one. Raises
    TryAgain after 20 s.
    """
    until = time.monotonic() + 20
    while True:
        granted, wait = worker.ledger.take("api", account.auth_id, 1, worker.settings.api_rate)
        if granted:
            return
        if time.monotonic() + wait.total_seconds() > until:
            raise TryAgain("the account's request rate is used up")
        time.sleep(wait.total_seconds())


def is_halted(worker: Worker, account: Account) -> bool:
    """Whether nothing but stops may be asked of the provider for this account."""
    return bool(worker.ledger.halted([account.auth_id])) and not _works_again(worker, account)


def _works_again(worker: Worker, account: Account) -> bool:
    # With no stop due nobody else would ever find out; one of all processes asks, every 5 s.
    if not worker.ledger.once_per(
        "probe", account.auth_id, every=HALTED_RETRY
    ) or not worker.vobiz.credentials_work(account):
        return False
    release(worker, account.auth_id)
    return True


def release(worker: Worker, account: str) -> None:
    """The account's credentials are accepted: what waited goes on."""
    if worker.ledger.release(account):
        log.warning("account released", account=account)


def commit_and_plan(
    worker: Worker, claim: Claim, loaded: Loaded, found: Sequence[Event], now: datetime, call: Call
) -> bool:
    """Records what was found; the call's own obligation then plans what follows. False when the
    lease was lost.
    """
    o = claim.obligation
    planner = replace(o, duty=Duty.PLAN, recording_id=None)
    # A net, should the plan die with its worker: the plan itself sets this right.
    commit = Commit(
        claim=claim, events=found, seen=loaded.size, dues=((o, now + _NET), (planner, "now"))
    )
    ids = worker.ledger.commit([commit])[0]
    if ids is None:
        return False
    tell(worker, [(call, [e for e in found if e.id in ids])])
    return True


def wait_until(worker: Worker, claim: Claim, loaded: Loaded, instant: datetime | None) -> None:
    """Ends a claim without having done anything; None: nothing is owed any more."""
    worker.ledger.commit(
        [Commit(claim=claim, seen=loaded.size, dues=((claim.obligation, instant),))]
    )


def tell(
    worker: Worker,
    recorded: Sequence[tuple[Call, Collection[Event]]],
    more: dict[str, float] | None = None,
) -> None:
    """One line in the log for each event that is new, its alert if it is one, and the counts."""
    counts = dict(more or {})
    for call, events in recorded:
        for event in events:
            log.info(
                event.kind.value,
                account=call.account,
                call_uuid=call.call_uuid,
                recording_id=event.recording_id,
                reason=event.reason,
                trigger=event.trigger,
                rule=event.rule,
            )
            counts[f"events_total|{event.kind.value}"] = (
                counts.get(f"events_total|{event.kind.value}", 0) + 1
            )
            if event.kind is Kind.ABANDONED:
                counts[f"abandoned_total|{event.fault}"] = (
                    counts.get(f"abandoned_total|{event.fault}", 0) + 1
                )
            if event.kind in {Kind.STOP_UNKNOWN, Kind.ABANDONED, Kind.GAVE_UP} or (
                event.kind is Kind.MEDIA_ARCHIVED and event.check
            ):
                worker.alert(
                    event.kind.value,
                    account=call.account,
                    call_uuid=call.call_uuid,
                    recording_id=event.recording_id,
                    reason=event.reason,
                    **({"fault": event.fault.value} if event.fault else {}),
                )
    worker.ledger.count(counts)


class Held:
    """Keeps leases while a long piece of work goes on; `alive()` raises StaleLease once one is
    lost.
    """

    def __init__(self, ledger: Ledger, *claims: Claim) -> None:
        self._ledger, self._claims = ledger, list(claims)
        self._every_s = min(ledger.leases[c.obligation.duty] for c in claims).total_seconds() / 3
        self._done = threading.Event()
        self._lost: EndtapeError | None = None
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def _renew(self) -> None:
        while not self._done.wait(self._every_s):
            for claim in list(self._claims):
                try:
                    self._ledger.renew(claim)
                except StaleLease as error:
                    self._lost = error
                    self.end(claim)
                except LedgerUnavailable as error:
                    # It may come back before the lease runs out; whoever commits finds out.
                    log.warning(
                        "a lease could not be renewed",
                        error=str(error),
                        obligation=str(claim.obligation),
                    )

    def alive(self) -> None:
        if self._lost:
            raise self._lost

    def start(self) -> Self:
        self._thread.start()
        return self

    def end(self, *claims: Claim) -> None:
        """Lets go of these, of all when none is named."""
        self._claims = [c for c in self._claims if claims and c not in claims]
        if not self._claims:
            self._done.set()

    def __enter__(self) -> Callable[[], None]:
        self.start()
        return self.alive

    def __exit__(self, *_: object) -> None:
        self.end()


def obligation(call: Call, duty: Duty, recording_id: str | None = None) -> Obligation:
    return Obligation(
        duty=duty, account=call.account, call_uuid=call.call_uuid, recording_id=recording_id
    )
