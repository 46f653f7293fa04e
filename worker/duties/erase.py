"""The duty ERASE: remove every copy of a recording, and look whether they are gone.

The obligation waits for the end of `retain`, or is put down by an order. It stays until neither the
archive nor the provider has anything left but the tombstone, and neither Redis nor the catalogue
knows numbers. Each step looks at what there is and goes on from there, so it is harmless to repeat
after a crash at any point. While the recording is held it only waits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

import structlog

from worker import wire
from worker.archive import erasing
from worker.calls import erasure
from worker.calls.call import Call, Recording
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.catalogue.rebuild import row_of
from worker.duties import clocks, notify, trials
from worker.duties.access import handle_refusal, not_yet, spend
from worker.duties.leases import LeaseKeeper
from worker.duties.outcomes import commit_and_plan, do_or_report, wait_until
from worker.duties.worker import Worker
from worker.errors import (
    CatalogueAway,
    EndtapeError,
    Held,
    LedgerUnavailable,
    NotReady,
    Refused,
    StaleLease,
    TryAgain,
    Unstored,
)
from worker.governing import erasures, subject
from worker.governing.subject import By, Subject
from worker.ledger.obligations import Claim, Commit, Loaded
from worker.vobiz.account import Account

log = structlog.get_logger()
_WHILE_HELD = timedelta(hours=1)  # the end of a hold makes it due at once
_WHILE_OTHERS_WORK = timedelta(seconds=2)
_SOON, _MOST_MISSED = timedelta(hours=2), 10_000  # every hour
_AGAIN, _AGAIN_LATER = timedelta(seconds=30), timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    """One claimed erasure. `call` and `recording`: None where Redis does not know it."""

    worker: Worker
    claim: Claim
    loaded: Loaded
    subject: Subject
    call: Call | None
    recording: Recording | None
    now: datetime


def erases(worker: Worker, claims: Sequence[Claim]) -> None:
    """Erase what is claimed, one recording after the other. Raises LedgerUnavailable."""
    for claim in claims:
        now, (loaded,) = worker.ledger.load([claim])
        if loaded is not None:
            work = partial(_work, worker, claim, loaded, now)
            do_or_report(worker, claim, work, "a recording cannot be erased")


def owe_missed(worker: Worker) -> None:
    """Put down the erasures that were begun, and those whose time comes within the next hours, by
    the catalogue: a Redis that was emptied has forgotten them. Raises LedgerUnavailable.
    """
    with contextlib.suppress(CatalogueAway):
        soon = worker.ledger.now() + _SOON
        for row in worker.catalogue.retained_until(soon, _MOST_MISSED):
            known = subject.of_row(row)
            if known.retain_until:
                worker.ledger.owe(known.erasing, known.retain_until)


def _work(worker: Worker, claim: Claim, loaded: Loaded, now: datetime) -> None:
    if trials.on_this_machine("archive") in worker.ledger.degraded():
        worker.ledger.wait_for_archive(claim.obligation)  # an archive that hangs holds no slot
        wait_until(worker, claim, loaded, now + _AGAIN)
        return
    with LeaseKeeper(worker.ledger, claim) as check_lease:
        try:
            task = _task(worker, claim, loaded, now)
            again_at = _step(task, check_lease) if task else None
        except (LedgerUnavailable, StaleLease):
            raise
        except Held as error:
            log.info("an erasure waits", obligation=str(claim.obligation), reason=str(error))
            again_at = now + _WHILE_HELD
        except (OSError, EndtapeError) as error:
            again_at = now + _complain(worker, claim, error)
        check_lease()
    if again_at != "committed":
        wait_until(worker, claim, loaded, again_at)


def _task(worker: Worker, claim: Claim, loaded: Loaded, now: datetime) -> _Task | None:
    """None where nobody knows the recording."""
    owed = claim.obligation
    recording_id = owed.recording_id or ""
    call = replay(owed.account, owed.call_uuid, loaded.events)
    recording = call.recordings.get(recording_id)
    if recording:
        known = subject.of_recording(call, recording, worker.rules, now)
    else:
        row = worker.catalogue.find(recording_id, owed.account)
        if row is None:
            worker.alert("erase_unknown", account=owed.account, recording_id=recording_id)
            return None
        known = subject.of_row(row)
    return _Task(
        worker=worker,
        claim=claim,
        loaded=loaded,
        subject=known,
        call=call if recording else None,
        recording=recording,
        now=now,
    )


def _complain(worker: Worker, claim: Claim, error: Exception) -> timedelta:
    """Alert. Returns after how long to try again."""
    owed = claim.obligation
    if isinstance(error, (OSError, Unstored)):
        trials.no_room(worker.ledger, worker.settings, error)
        worker.ledger.wait_for_archive(owed)
    worker.alert(
        "erase_waits", account=owed.account, recording_id=owed.recording_id, error=str(error)
    )
    soon = isinstance(error, (OSError, TryAgain, CatalogueAway))
    return _AGAIN if soon else _AGAIN_LATER


# One step
# ------------------------------------------------------------------------------------------------


def _step(task: _Task, check_lease: Callable[[], None]) -> datetime | Literal["committed"] | None:
    """Go as far as possible. Returns when to come back, None: never."""
    recording = task.recording
    if recording and recording.erased and not _may_be_back(task, recording):
        return _forget_numbers(task)
    later = not_yet(task.worker, task.subject.account, task.now)
    if later and _only_waits_its_turn(task):
        return later  # before the archive is asked anything
    if not erasures.is_begun(task.worker, task.subject):
        until, rule = _retain(task)
        waits_until = clocks.come_back_at(until, task.now) if until else None
        if until is None or waits_until:
            return waits_until  # nobody ordered it, or the time has not come
        _begin_by_rule(task, rule)
    # The tombstone, where whoever ordered it died before.
    stands = erasures.begin(task.worker, task.subject, By(who="", reason=""))
    if recording is None or recording.erasing is None:
        erasures.tell(task.worker, task.subject, stands)
    if recording and recording.erasing is None:
        return task.now  # from here on nobody begins to fetch it
    if any(map(task.worker.ledger.is_worked_on, _others(task.claim.obligation))):
        return task.now + _WHILE_OTHERS_WORK
    _remove(task, check_lease)
    later = later or _remove_at_provider(task)
    if later:
        return later
    _check_all_gone(task)
    return _done(task)


def _only_waits_its_turn(task: _Task) -> bool:
    """Whether nothing but the account's rate is in the way of asking the provider."""
    worker, account = task.worker, task.subject.account
    if account not in worker.settings.accounts:
        remedy = "its copies are not erased: add it to the rules file"
        worker.alert("no_such_account", account=account, remedy=remedy)
        return False
    return not worker.ledger.halted([account])


def _may_be_back(task: _Task, recording: Recording) -> bool:
    """Whether there may be a copy of an erased recording again."""
    back = erasing.files_of(task.worker.archive.store, task.subject.key)
    return bool(back) or erasure.may_be_back(recording)


def _retain(task: _Task) -> tuple[datetime | None, str]:
    """When the receipt says that the recording is to be erased, and by which rule; None: never."""
    if task.subject.retain_until is None:
        return None, ""
    retain = task.worker.archive.read_receipt(task.subject.key).get("retain")
    if not isinstance(retain, dict):
        return None, ""
    return wire.parse_rfc3339(str(retain.get("until"))), str(retain.get("rule"))


def _begin_by_rule(task: _Task, rule: str) -> None:
    """Begin because `retain` is over. Raises Held."""
    by = By(who=f"rule:{rule}", reason="retain")
    erasures.check_not_held(task.worker, task.subject)
    erasures.enter(task.worker, task.subject, by)
    erasures.begin(task.worker, task.subject, by, rule)


def _others(owed: Obligation) -> list[Obligation]:
    """What may read the recording before it is erased, and write about it afterwards: its file, a
    fact, a row. What begins later sees the tombstone.
    """
    return [
        *(replace(owed, duty=duty) for duty in (Duty.FETCH, Duty.OFFLOAD)),
        *(replace(owed, duty=duty, recording_id=None) for duty in (Duty.INDEX, Duty.FACTS)),
    ]


def _remove(task: _Task, check_lease: Callable[[], None]) -> None:
    """Delete what archive, fallback and spool have of it. Raises what the archive raises."""
    archive = task.worker.archive
    # The fallback first: what moves from there meanwhile is found in the archive afterwards.
    for store in [*([archive.fallback.store] if archive.fallback else []), archive.store]:
        erasing.remove(store, task.subject.key, check_lease)
    archive.spool.forget(task.subject.recording_id)


def _remove_at_provider(task: _Task) -> datetime | None:
    """Delete the provider's copy, and look whether it is gone. Returns when to come back where the
    provider cannot be asked now. Raises what the client raises.
    """
    worker, known = task.worker, task.subject
    account = worker.settings.accounts[known.account]
    try:
        worker.vobiz.delete_recording(account, known.recording_id)
        spend(worker, account)
        if _provider_has(worker, account, known.recording_id):
            raise TryAgain("the provider still lists the recording after its deletion")
    except Refused as error:
        handle_refusal(worker, account, error, recording_id=known.recording_id)
        return task.now + _AGAIN_LATER
    return None


def _provider_has(worker: Worker, account: Account, recording_id: str) -> bool:
    try:
        worker.vobiz.get_recording(account, recording_id)
    except NotReady:
        return False
    return True


def _check_all_gone(task: _Task) -> None:
    """Raises Unstored where the archive or its fallback has anything left but the tombstone."""
    archive = task.worker.archive
    for store in [archive.store, *([archive.fallback.store] if archive.fallback else [])]:
        if left := erasing.files_of(store, task.subject.key):
            raise Unstored(f"{left[0]} is there again after its deletion")


def _done(task: _Task) -> Literal["committed"]:
    """Nothing is left: the catalogue forgets the numbers, and the erasure is recorded."""
    worker, known = task.worker, task.subject
    row = row_of(worker.archive, known.key)
    worker.catalogue.enter([row] if row else [])
    worker.ledger.indexed(known.account, [known.recording_id])
    is_first = not (task.recording and task.recording.erased)
    if worker.settings.notify and is_first:
        worker.ledger.ensure_due([notify.erased(known.account, known.recording_id)])
    log.info("erased", account=known.account, recording_id=known.recording_id)
    if task.call is None:
        wait_until(worker, task.claim, task.loaded, None)
        worker.ledger.count({"events_total|RecordingErased": 1})
        return "committed"
    erased = Event(
        id=f"erased.{known.recording_id}.{task.claim.fence}",
        kind=Kind.RECORDING_ERASED,
        call_uuid=known.call_uuid,
        recording_id=known.recording_id,
        sha256=known.sha256,
    )
    found = Commit(claim=task.claim, events=[erased], seen=task.loaded.size)
    commit_and_plan(worker, found, task.call, now=task.now)
    return "committed"


def _forget_numbers(task: _Task) -> datetime | None:
    """Take the call's numbers out of Redis, where that is due. Returns when to come back."""
    call = task.call
    goes_at = erasure.numbers_go_at(call) if call else None
    if call is None or goes_at is None:
        return None
    if goes_at > task.now:
        return goes_at
    done = task.worker.ledger.forget_numbers(call.account, call.call_uuid, task.loaded.log)
    return None if done else task.now
