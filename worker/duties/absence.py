"""Files that a recording was given up: the archive alone then says what is not there, and why."""

from __future__ import annotations

from datetime import timedelta

from worker.archive import days, keys
from worker.archive.filing import Archive
from worker.archive.keys import key_of
from worker.archive.receipts import Absence
from worker.calls import stop_state
from worker.calls.events import Event, Fault, Kind
from worker.calls.views import stop_view
from worker.duties import archiving
from worker.duties.fetch_task import FetchTask
from worker.duties.outcomes import commit_and_plan, wait_until
from worker.errors import Conflict, LedgerUnavailable, StaleLease, Unsigned, Unstored
from worker.governing import signing

_AGAIN = timedelta(seconds=30)


def file_absence(task: FetchTask) -> None:
    """File the statement, and record that. Where the archive or the key refuses, it is tried again
    after half a minute. Raises LedgerUnavailable.
    """
    worker, call, recording = task.worker, task.call, task.recording
    try:
        key, absence = _key(task), _absence(task).written()

        def put(archive: Archive) -> str:
            signing.ready(worker.ledger, archive)
            return archive.publish_absence(key, absence)

        sha256 = archiving.put(worker, put)
    except (LedgerUnavailable, StaleLease):
        raise
    except (OSError, Unstored, Unsigned, Conflict) as error:
        worker.alert("absence_unfiled", recording_id=recording.recording_id, error=str(error))
        worker.ledger.wait_for_archive(task.claim.obligation)
        wait_until(worker, task.claim, task.loaded, task.now + _AGAIN)
        return
    filed = Event(
        id=f"absence.{recording.recording_id}",
        kind=Kind.ABSENCE_FILED,
        call_uuid=call.call_uuid,
        recording_id=recording.recording_id,
        archive_key=key,
    )
    line = days.line_of(keys.parse(key).absence, sha256)
    commit_and_plan(worker, task.commit(filed, filed=[line]), call, now=task.now)


def _key(task: FetchTask) -> str:
    known = task.recording
    return key_of(
        task.call.account,
        known.recording_id,
        started_at=known.provider_started_at,
        ended_at=known.ended_at,
        duration_s=known.duration_s,
        added_at=known.added_at or known.known_at,
        extension="absent",
    )


def _absence(task: FetchTask) -> Absence:
    call, recording = task.call, task.recording
    gave_up = recording.gave_up
    return Absence(
        account=call.account,
        call_uuid=call.call_uuid,
        recording_id=recording.recording_id,
        started_at=recording.provider_started_at,
        ended_at=recording.ended_at,
        first_seen_at=recording.first_seen_at,
        at=task.now,
        gave_up_at=gave_up.at if gave_up else None,
        fault=(recording.fault or Fault.PROVIDER).value,
        reason=gave_up.reason if gave_up else None,
        attempts=len(recording.failures),
        stop=stop_view(stop_state.judge(call, recording, task.worker.settings.rules, task.now)),
    )
