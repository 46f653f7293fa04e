"""What a failed fetch means: whose fault it is, which alerts it raises, when it may be retried."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from worker.calls import timing
from worker.calls.events import Event, Fault
from worker.duties import trials
from worker.duties.access import handle_refusal
from worker.duties.fetch_task import FetchTask
from worker.errors import (
    Conflict,
    CorruptMedia,
    EndtapeError,
    MediaRefused,
    Refused,
    TryAgain,
    Unsigned,
    Unstored,
    WrongPath,
)
from worker.vobiz.account import Account
from worker.vobiz.download import RedirectRefused

log = structlog.get_logger()
_LONGEST_WAIT_ASKED_S = 3600
CONFLICT = (
    "conflict"  # the check of a fetch that failed because other content stands in the archive
)


class WrongOwner(TryAgain):
    """A callback named this recording under a call that it does not belong to."""


# The first line that fits decides. The client turns an OSError of the network into a TryAgain, so
# any OSError here comes from our own disks.
_FAULTS: tuple[tuple[tuple[type[Exception], ...], Fault], ...] = (
    ((Unstored, Conflict, OSError), Fault.STORAGE),
    ((CorruptMedia, WrongOwner), Fault.MEDIA),
    ((Refused, WrongPath, RedirectRefused, Unsigned), Fault.SETTINGS),
    ((TryAgain,), Fault.PROVIDER),
)
# Two checks of the media have another fault: the file is larger than the settings allow, and the
# copy on our own disk differs from what arrived.
_NOT_THE_MEDIA = {"size": Fault.SETTINGS, "sha256": Fault.STORAGE}


def fault_of(error: Exception) -> Fault:
    """Whose fault it is that a fetch failed with this error; OURS where nobody expected it."""
    if isinstance(error, CorruptMedia) and error.check in _NOT_THE_MEDIA:
        return _NOT_THE_MEDIA[error.check]
    return next((fault for kinds, fault in _FAULTS if isinstance(error, kinds)), Fault.OURS)


def failure(task: FetchTask, account: Account, error: Exception) -> Event:
    """The event of a fetch that failed with this error. Raises its alerts; an exception that nobody
    expected is logged with its traceback.
    """
    fault = fault_of(error)
    if fault is Fault.OURS:
        log.error(
            "a recording cannot be fetched", obligation=str(task.claim.obligation), exc_info=error
        )
        task.worker.alert(
            "poison", account=account.auth_id, recording_id=task.recording.recording_id
        )
    if fault is Fault.STORAGE and not isinstance(error, (Conflict, CorruptMedia)):
        trials.no_room(task.worker.ledger, task.worker.settings, error)
    _handle_refused(task, account, error)
    _alert(task, error)
    known = isinstance(error, EndtapeError)
    return replace(
        task.failure(fault, str(error) if known else f"{type(error).__name__}: {error}"),
        retry_at=_retry_at(error, task.now),
        check=_check(error),
    )


def _handle_refused(task: FetchTask, account: Account, error: Exception) -> None:
    recording_id = task.recording.recording_id
    if isinstance(error, MediaRefused):
        task.worker.alert(
            "media_refused", account=account.auth_id, recording_id=recording_id, error=str(error)
        )
    elif isinstance(error, Refused):
        handle_refusal(task.worker, account, error, recording_id=recording_id)


def _alert(task: FetchTask, error: Exception) -> None:
    worker, recording = task.worker, task.recording
    recording_id = recording.recording_id
    if isinstance(error, Conflict):
        worker.alert("conflict", recording_id=recording_id, error=str(error))
    if isinstance(error, Unsigned):
        worker.alert("unsigned", recording_id=recording_id, error=str(error))
    if isinstance(error, WrongOwner):
        worker.alert("wrong_owner", recording_id=recording_id, error=str(error))
    if isinstance(error, RedirectRefused):
        worker.alert("redirect_refused", host=error.host, recording_id=recording_id)
    ended_at = recording.ended_at or recording.over_at
    if ended_at and task.now - ended_at > timing.FETCH_ALERT:
        worker.alert("fetch_overdue", recording_id=recording_id, error=str(error))


def _check(error: Exception) -> str | None:
    if isinstance(error, Conflict):
        return CONFLICT
    return error.check if isinstance(error, CorruptMedia) else None


def _retry_at(error: Exception, now: datetime) -> datetime | None:
    """When the provider asked us to try again, within an hour; None where it did not ask."""
    if isinstance(error, TryAgain) and error.after_s:
        return now + timedelta(seconds=min(error.after_s, _LONGEST_WAIT_ASKED_S))
    return None
