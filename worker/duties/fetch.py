"""The duty FETCH: bring one recording home. Facts from the provider's API, bytes into the spool,
checks, archive, receipt.

Harmless to repeat: the archive never overwrites, and an identical file under the final name is a
success. Each attempt locks the spooled file that it writes to, so two attempts never write into one
file; an attempt continues what a dead one left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from worker import wire
from worker.archive.pages import FoundPages
from worker.archive.spool import Part
from worker.calls import fetch_times
from worker.calls.call import Stop
from worker.calls.confirmation import lacks_tail
from worker.calls.events import Event, Fault
from worker.calls.obligations import Duty
from worker.calls.replay import replay
from worker.duties import archiving, leaving
from worker.duties.absence import file_absence
from worker.duties.access import not_yet
from worker.duties.fetch_faults import CONFLICT, WrongOwner, failure
from worker.duties.fetch_file import Arrival, Filed, keep
from worker.duties.fetch_task import FetchTask
from worker.duties.histograms import TAIL, observe
from worker.duties.leases import LeaseKeeper
from worker.duties.outcomes import commit_and_plan, do_or_report, wait_until
from worker.duties.worker import Worker
from worker.errors import Ending, LedgerUnavailable, StaleLease, TryAgain
from worker.ledger.obligations import Claim, Loaded
from worker.vobiz.account import Account
from worker.vobiz.answers import Row
from worker.vobiz.piece import CorruptDownload, Hooks

# How long a dead attempt's file stays in the spool. On a recording's first day the next attempt
# follows within about an hour, and continues that file.
_DEAD_PART_S = 7200.0
_SWEEP_EVERY_S = 60.0
_RUN_S = 1.0


@dataclass(slots=True)
class _Run:
    """The fetches of one message. `is_home`: whether the last of them archived its recording.
    `counts`: what the counters are to know of them all.
    """

    worker: Worker
    is_home: bool = False
    counts: dict[str, float] = field(default_factory=dict)

    def fetch(self, now: datetime, claim: Claim, loaded: Loaded) -> None:
        self.is_home = False
        work = partial(_fetch, self, claim, loaded, now)
        do_or_report(self.worker, claim, work, "a recording cannot be fetched")


def fetches(worker: Worker, claims: Sequence[Claim]) -> None:
    """Fetch the claimed recordings, one after the other. Raises LedgerUnavailable.

    The clock hands out one recording at a time for each free slot. A message costs about as much as
    half a fetch, so a slot that brought one home goes on with the next that is due, for a second.
    """
    run, until = _Run(worker), time.monotonic() + _RUN_S
    try:
        for claim in claims:
            now, (loaded,) = worker.ledger.load([claim])
            if loaded is not None:
                run.fetch(now, claim, loaded)
        while run.is_home and not worker.ending() and time.monotonic() < until:
            # One slot stays free of fetches, as the clock has it.
            most = max(1, worker.ledger.slots("fetches") - 1)
            begun = worker.ledger.take_next(Duty.FETCH, most)
            if begun is None:
                break
            run.fetch(*begun)
    finally:
        worker.ledger.count(run.counts)


def _fetch(run: _Run, claim: Claim, loaded: Loaded, now: datetime) -> None:
    worker, o = run.worker, claim.obligation
    call = replay(o.account, o.call_uuid, loaded.events)
    recording = call.recordings.get(o.recording_id or "")
    if recording is None or recording.archived or recording.erasing:
        wait_until(worker, claim, loaded, None)
        return
    task = FetchTask(
        worker=worker, claim=claim, loaded=loaded, call=call, recording=recording, now=now
    )
    if recording.gave_up:
        file_absence(task)
        return
    leaving.warn(worker, call, recording, now)
    account = worker.settings.accounts.get(o.account)
    if account is None:
        reason = (
            f"the account {o.account} left the settings:"
            " add it to the rules file until its recordings are home"
        )
        _record_failure(task, task.failure(Fault.SETTINGS, reason))
        return
    later = not_yet(worker, o.account, now)
    if later:
        wait_until(worker, claim, loaded, later)
        return
    outcome = _try(task, account)
    if outcome is None:
        wait_until(worker, claim, loaded, now)  # given back: another worker takes it at once
    elif isinstance(outcome, Event):
        _record_failure(task, outcome)
    else:
        run.is_home = True
        found = task.commit(*outcome.events, filed=outcome.lines)
        if commit_and_plan(worker, found, call, now=now, counts=run.counts):
            _count_tail(run.counts, task, outcome.stop)
        else:
            _erase_if_begun(task, outcome)


def _erase_if_begun(task: FetchTask, filed: Filed) -> None:
    """Our lease was lost while the recording was filed. Where it was erased meanwhile, it has to be
    erased again.
    """
    key = filed.events[1].archive_key
    if key and task.worker.archive.tombstone(key):
        task.worker.ledger.ensure_due([replace(task.claim.obligation, duty=Duty.ERASE)])


def _try(task: FetchTask, account: Account) -> Filed | Event | None:
    """One try: the archived recording, else the event of its failure; None where this process ends.

    Raises StaleLease and LedgerUnavailable.
    """
    with LeaseKeeper(task.worker.ledger, task.claim) as check_lease:

        def keep_going() -> None:
            check_lease()
            if task.worker.ending():
                raise Ending(str(task.claim.obligation))

        try:
            return _bring(task, account, keep_going)
        except (StaleLease, LedgerUnavailable):
            raise
        except Ending:
            return None
        except Exception as error:  # noqa: BLE001 - recorded as a failed fetch, which has a fault
            return failure(task, account, error)


def _record_failure(task: FetchTask, failed: Event) -> None:
    """Record a failed fetch. A failure like many before it is not recorded again: it only waits."""
    if failed.fault is Fault.STORAGE and failed.check != CONFLICT:
        # It is tried again soon, for as long as it takes, and the first success releases it.
        task.worker.ledger.wait_for_archive(task.claim.obligation)
        before = task.recording.failures[-1:]
        if before and before[0].fault is Fault.STORAGE and not _is_lost(task):
            again = archiving.again_at(task.recording, task.now)
            wait_until(task.worker, task.claim, task.loaded, again)
            return
    says_nothing_new = fetch_times.says_nothing_new(task.recording, failed)
    if says_nothing_new and not _is_lost(task):
        rarely = fetch_times.rarely(failed, task.now)
        wait_until(task.worker, task.claim, task.loaded, rarely)
    else:
        commit_and_plan(task.worker, task.commit(failed), task.call, now=task.now)


def _is_lost(task: FetchTask) -> bool:
    return fetch_times.is_lost(task.call, task.recording, task.now)


def _count_tail(counts: dict[str, float], task: FetchTask, stop: Stop) -> None:
    """Count the tail of a confirmed stop, if the end was still unknown at its confirmation."""
    if stop.tail_ms is not None and lacks_tail(task.call, task.recording.recording_id):
        observe(counts, TAIL, timedelta(milliseconds=stop.tail_ms))


def _bring(task: FetchTask, account: Account, keep_going: Callable[[], None]) -> Filed | Event:
    """Download the recording into the spool and archive it. `keep_going` raises to abort.

    Raises whatever the client, the spool and the archive raise.
    """
    worker, recording_id = task.worker, task.recording.recording_id
    if worker.archive.signer:
        worker.archive.signer.key()  # before a download that could not be filed
    spool = worker.archive.spool
    if time.monotonic() - spool.swept_at > _SWEEP_EVERY_S:
        spool.sweep(older_than_s=_DEAD_PART_S)
    with spool.part(recording_id, int(task.claim.fence)) as part:
        arrival = Arrival.kept(part, task.call.call_uuid) or _download(
            task, account, part, keep_going
        )
        keep_going()
        return keep(task, arrival)


def _download(
    task: FetchTask, account: Account, part: Part, keep_going: Callable[[], None]
) -> Arrival:
    worker = task.worker
    archiving.room(worker)
    row = worker.vobiz.get_recording(account, task.recording.recording_id)
    _check_owner(task, row)
    if not row.url:
        raise TryAgain("the provider lists the recording without an address")
    found = FoundPages()
    try:
        got = worker.vobiz.download(
            account,
            row.url,
            part.file,
            Hooks(keep_going=keep_going, announced=worker.archive.reserve, follower=found),
            notes=part.notes,
        )
    except CorruptDownload as error:
        return Arrival(
            row=row,
            part=part,
            got=error.got,
            pages=found,
            broken_off=str(error),
            broken_check=error.check,
        )
    return Arrival(row=row, part=part, got=got, pages=found)


def _check_owner(task: FetchTask, row: Row) -> None:
    """Raises WrongOwner where the recording belongs to another call, which fetches it itself."""
    if not row.call_uuid or row.call_uuid == task.call.call_uuid:
        return
    if task.recording.recording_id in _recordings_of(task, row.call_uuid):
        raise WrongOwner(
            f"the provider says that it belongs to call {row.call_uuid}, which fetches it"
        )


def _recordings_of(task: FetchTask, call_uuid: str) -> set[str | None]:
    if not wire.identifier(call_uuid):
        return set()
    return {e.recording_id for e in task.worker.ledger.events(task.call.account, call_uuid)}
