"""The duty OFFLOAD: delete the provider's copy of a recording, once ours is known to be good.

The law: the provider's copy goes only after ours was read back from the archive whole, in this very
step, and its digest was that of the receipt; the time of `keep_at_provider` is over; every check
had passed; and nothing holds the recording. A fact says so before the request leaves, and another
one after the provider was looked at and has it no more. Each step looks anew, so it is harmless to
repeat after a crash at any point.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

import structlog

from worker.archive import fact_files
from worker.archive import facts as fact_rules
from worker.archive.checks import first_failed
from worker.archive.facts import Fact, FactKind
from worker.calls.call import Call, Recording
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty
from worker.calls.replay import replay
from worker.calls.timing import KEPT_BY_PROVIDER, index_at
from worker.calls.views import rfc3339
from worker.duties import clocks, trials
from worker.duties.access import handle_refusal, not_yet, spend
from worker.duties.leases import LeaseKeeper
from worker.duties.outcomes import do_or_report, kept_for, obligation, tell, wait_until
from worker.duties.worker import Worker
from worker.errors import (
    Conflict,
    EndtapeError,
    Gone,
    LedgerUnavailable,
    NotReady,
    Refused,
    StaleLease,
    TryAgain,
    Unstored,
)
from worker.governing import facts
from worker.ledger.codec import from_ms, to_ms
from worker.ledger.obligations import Claim, Commit, Loaded
from worker.vobiz.account import Account
from worker.vobiz.answers import Row

log = structlog.get_logger()
_WHILE_HELD = timedelta(hours=1)
_AGAIN, _AGAIN_LATER = timedelta(seconds=30), timedelta(minutes=5)
_CHUNK = 1 << 20
_RULES, _AT_ONCE = "offload-rules", 500


@dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    """One claimed offload of an archived recording."""

    worker: Worker
    claim: Claim
    call: Call
    recording: Recording
    now: datetime
    check_lease: Callable[[], None]

    @property
    def archived(self) -> Event:
        assert self.recording.archived is not None
        return self.recording.archived

    def facts(self) -> list[Fact]:
        """Every fact of the recording, as the archive has them now."""
        store = self.worker.archive.store
        return fact_files.read_all(store, self.call.account, self.recording.recording_id)

    def fact(self, **particulars: object) -> Fact:
        rule = self.worker.settings.rules.choose(self.call)[0]
        return Fact(
            account=self.call.account,
            recording_id=self.recording.recording_id,
            kind=FactKind.DELETED_AT_PROVIDER,
            at=from_ms(to_ms(self.worker.ledger.now())),  # as exactly as it is written
            who=f"rule:{rule}",
            reason="keep_at_provider",
            particulars=particulars,
        )


def offloads(worker: Worker, claims: Sequence[Claim]) -> None:
    """Offload what is claimed, one recording after the other. Raises LedgerUnavailable."""
    for claim in claims:
        now, (loaded,) = worker.ledger.load([claim])
        if loaded is not None:
            work = partial(_work, worker, claim, loaded, now)
            do_or_report(worker, claim, work, "a recording cannot be offloaded")


def owe_by_rules(worker: Worker) -> None:
    """Where the rules have changed, put down the offloads that the new rules want, and earlier ones
    did not or wanted later: of the recordings that Redis knows, for as long as the provider keeps
    them. Recordings that were found in the archive after Redis was emptied are left alone: a rule
    is chosen by labels and numbers, and theirs are not known. Raises LedgerUnavailable.
    """
    ledger, rules = worker.ledger, worker.settings.rules
    version = hashlib.sha256(repr(rules).encode()).hexdigest()[:16]
    if ledger.taken_up(_RULES) == version:
        return
    if any(terms.keep_at_provider is not None for terms in rules.all_terms):
        now, accounts = ledger.now(), ledger.accounts()
        known = ledger.recent(accounts, since=now - KEPT_BY_PROVIDER)
        while some := list(islice(known, _AT_ONCE)):
            for account in {sight.account for sight in some}:
                ids = [sight.recording_id for sight in some if sight.account == account]
                _owe(worker, account, ids, now)
    ledger.take_up(_RULES, version)


def _owe(worker: Worker, account: str, recording_ids: Sequence[str], now: datetime) -> None:
    """Put down the offloads of those of these recordings whose rule wants one."""
    call_of = worker.ledger.calls_of(account, recording_ids)
    for call_uuid, events in worker.ledger.logs(account, set(call_of.values())).items():
        call = replay(account, call_uuid, events)
        keep = worker.settings.rules.choose(call)[1].keep_at_provider
        for recording_id, recording in call.recordings.items():
            done = recording.archived
            if keep is None or done is None or done.at is None:
                continue
            if done.check or done.first_seen_at:  # a check failed, or it was found in the archive
                continue
            if not (recording.offloaded or recording.erasing):
                owed = obligation(call, Duty.OFFLOAD, recording_id)
                worker.ledger.owe(owed, max(now, done.at + keep))


def _work(worker: Worker, claim: Claim, loaded: Loaded, now: datetime) -> None:
    owed = claim.obligation
    call = replay(owed.account, owed.call_uuid, loaded.events)
    recording = call.recordings.get(owed.recording_id or "")
    if recording is None or recording.archived is None or recording.offloaded or recording.erasing:
        # Erasing deletes the provider's copy itself.
        _end(worker, claim, loaded, call)
        return
    with LeaseKeeper(worker.ledger, claim) as check_lease:
        task = _Task(
            worker=worker,
            claim=claim,
            call=call,
            recording=recording,
            now=now,
            check_lease=check_lease,
        )
        try:
            gone, again_at = None, _not_now(task)
            if again_at is None and _is_wanted(task):
                gone, again_at = _offload(task)
        except (LedgerUnavailable, StaleLease):
            raise
        except Gone:
            gone, again_at = None, None  # it was erased meanwhile, and the provider's copy with it
        except (OSError, EndtapeError, ValueError, KeyError, TypeError) as error:
            gone, again_at = None, now + _complain(task, error)
        check_lease()
    if gone:
        _done(task, loaded, gone)
    elif again_at:
        wait_until(worker, claim, loaded, again_at)
    else:
        _end(worker, claim, loaded, call)


def _end(worker: Worker, claim: Claim, loaded: Loaded, call: Call) -> None:
    """Nothing is left to do; the call's log expires as that of any finished call."""
    keep = kept_for(worker, call)
    dues = ((claim.obligation, None),)
    worker.ledger.commit([Commit(claim=claim, seen=loaded.size, dues=dues, keep=keep)])


def _is_wanted(task: _Task) -> bool:
    """Whether the rules that hold now want the provider's copy deleted."""
    return task.worker.settings.rules.choose(task.call)[1].keep_at_provider is not None


def _not_now(task: _Task) -> datetime | None:
    """When to come back, where the time of `keep_at_provider` is not over."""
    keep, since = task.worker.settings.rules.choose(task.call)[1].keep_at_provider, task.archived.at
    due_at = since + keep if keep is not None and since else None
    return clocks.come_back_at(due_at, task.now) if due_at else None


def _complain(task: _Task, error: Exception) -> timedelta:
    """Alert. Returns after how long to try again."""
    worker, owed = task.worker, task.claim.obligation
    if isinstance(error, Refused):
        account = worker.settings.accounts[owed.account]
        handle_refusal(worker, account, error, recording_id=owed.recording_id)
        return _AGAIN_LATER
    if isinstance(error, (OSError, Unstored)) and not isinstance(error, FileNotFoundError):
        trials.no_room(worker.ledger, worker.settings, error)
    worker.alert(
        "offload_waits", account=owed.account, recording_id=owed.recording_id, error=str(error)
    )
    return _AGAIN if isinstance(error, (OSError, TryAgain)) else _AGAIN_LATER


# One step
# --------------------------------------------------------------------------------------------------


def _offload(task: _Task) -> tuple[Fact | None, datetime | None]:
    """Go as far as possible. Returns the fact that the copy is gone, else when to come back."""
    known = task.facts()
    if stands := fact_rules.offload_of(known):
        return stands, None  # whoever wrote it died before it was recorded
    if any(fact.kind is FactKind.ERASE for fact in known):
        return None, None  # the erasing has begun, and deletes the provider's copy itself
    if fact_rules.is_held(known):
        return None, task.now + _WHILE_HELD
    read_back(task.worker, task.archived.archive_key or "", task.archived.sha256)
    later = not_yet(task.worker, task.call.account, task.now)
    if later:
        return None, later
    account = task.worker.settings.accounts[task.call.account]
    row = _row(task, account)
    if row:
        saved = row.storage_per_month
        announced = task.fact(gone=False, saved_per_month=saved)
        facts.write(task.worker, announced, key=task.archived.archive_key)
        # A hold that another wrote before this fact is seen now. One after it is answered only when
        # this step is over.
        if fact_rules.is_held(task.facts()):
            return None, task.now + _WHILE_HELD
        task.check_lease()
        spend(task.worker, account)
        task.worker.vobiz.delete_recording(account, task.recording.recording_id)
        spend(task.worker, account)
        if _row(task, account):
            raise TryAgain("the provider still lists the recording after its deletion")
    else:
        begun = fact_rules.last_of(known, FactKind.DELETED_AT_PROVIDER)
        if begun is None:
            log.info("the provider's copy was gone", recording_id=task.recording.recording_id)
            return None, None  # nothing of ours deleted it
        saved = begun.particulars.get("saved_per_month")
    gone = task.fact(gone=True, saved_per_month=saved)
    return facts.write(task.worker, gone, key=task.archived.archive_key), None


def read_back(worker: Worker, key: str, sha256: str | None) -> None:
    """Read the audio under a key whole from the archive, and compare. Raises Conflict where its
    digest is neither that of the receipt there nor `sha256`, or where a check had failed; and what
    the archive raises.
    """
    store = worker.archive.store
    receipt = worker.archive.read_receipt(key)
    failed = first_failed(receipt.get("checks") or {})
    if failed:
        raise Conflict(f"{key} failed the check {failed!r}: the provider's copy stays")
    digest = hashlib.sha256()
    with store.open(key) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    found = digest.hexdigest()
    if not found == receipt["media"]["sha256"] == sha256:
        raise Conflict(f"{key} is not what its receipt says: the provider's copy stays")


def _row(task: _Task, account: Account) -> Row | None:
    """What the provider says of the recording; None where it has none."""
    try:
        return task.worker.vobiz.get_recording(account, task.recording.recording_id)
    except NotReady:
        return None


def _done(task: _Task, loaded: Loaded, gone: Fact) -> None:
    saved = gone.particulars.get("saved_per_month")
    event = Event(
        id=f"offloaded.{task.recording.recording_id}",
        kind=Kind.PROVIDER_COPY_DELETED,
        call_uuid=task.call.call_uuid,
        recording_id=task.recording.recording_id,
        by=gone.who,
        happened_at=gone.at,
        saved_per_month=saved if isinstance(saved, float | int) else None,
    )
    index = (obligation(task.call, Duty.INDEX), index_at(task.now))
    commit = Commit(
        claim=task.claim,
        events=[event],
        seen=loaded.size,
        dues=((task.claim.obligation, None), index),
    )
    ids = task.worker.ledger.commit([commit])[0]
    if ids is not None:
        log.info("offloaded", recording_id=event.recording_id, at=rfc3339(gone.at), saved=saved)
        tell(task.worker, [(task.call, [event] if event.id in ids else [])])
