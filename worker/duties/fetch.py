"""Brings one recording home: facts from the provider's API, bytes into the spool, checks, archive,
receipt.

Harmless to repeat: the archive never overwrites, and an identical file under the final name is a
success. A file in the spool is locked by the attempt that writes to it, so two never write into
one; what a dead one left, the next goes on with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from worker import wire
from worker.archive import media
from worker.archive.checks import check_media, first_failed
from worker.archive.keys import key_of
from worker.archive.receipts import Receipt
from worker.calls import fetch_times, planner, timing
from worker.calls.call import Call, Recording, StopState
from worker.calls.events import Event, Fault, Kind
from worker.calls.replay import replay
from worker.calls.segments import gaps
from worker.calls.triggers import acts
from worker.calls.views import gap_view, stop_view
from worker.duties import trials
from worker.duties.worker import Held, Worker, commit_and_plan, is_ours, postponed, wait_until
from worker.errors import (
    Conflict,
    CorruptMedia,
    EndtapeError,
    LedgerUnavailable,
    MediaRefused,
    Refused,
    StaleLease,
    TryAgain,
    Unstored,
    WrongPath,
)
from worker.ledger.calls import Claim, Loaded
from worker.vobiz.account import Account
from worker.vobiz.client import CorruptDownload, Download, RedirectRefused, Row

log = structlog.get_logger()
_DEAD_PART_S = (
    7200.0  # on its first day a recording is tried every hour, and goes on where it was cut off
)
_NEVER_AUDIO = {"html", "json", "xml", "empty"}


def fetches(worker: Worker, claims: Sequence[Claim]) -> None:
    """Fetches one after the other; the clock hands out one at a time for each free slot."""
    for claim in claims:
        now, (loaded,) = worker.ledger.load([claim])
        if loaded is not None:
            try:
                _fetch(worker, claim, loaded, now)
            except StaleLease:
                continue  # somebody else has it now
            except LedgerUnavailable:
                raise
            except Exception:  # not even a failure could be recorded: the ledger counts that, and sets it aside in the end
                log.exception("a recording cannot be fetched", obligation=str(claim.obligation))
                worker.alert(
                    "poison",
                    account=claim.obligation.account,
                    recording_id=claim.obligation.recording_id,
                )


def _fetch(worker: Worker, claim: Claim, loaded: Loaded, now: datetime) -> None:
    o = claim.obligation
    call = replay(o.account, o.call_uuid, loaded.events)
    recording = call.recordings.get(o.recording_id or "")
    if recording is None or recording.archived:
        wait_until(worker, claim, loaded, None)
        return
    account = worker.settings.accounts.get(o.account)
    if account is None:
        error = f"the account {o.account} left the settings: add it to the rules file until its recordings are home"
        _failed(
            worker,
            claim,
            loaded,
            call,
            recording,
            _event(worker, claim, recording, Fault.SETTINGS, error),
            now,
        )
        return
    later = postponed(worker, claim, now)
    if later:
        wait_until(worker, claim, loaded, later)
        return
    with Held(worker.ledger, claim) as alive:

        def going_on() -> None:
            alive()
            if worker.ending():
                raise Ending(str(claim.obligation))

        failure: Event | None
        try:
            events = _bring(worker, claim, account, call, recording, now, going_on)
            failure = next((e for e in events if e.kind is Kind.FETCH_FAILED), None)
        except (StaleLease, LedgerUnavailable):
            raise
        except Ending:
            wait_until(worker, claim, loaded, now)  # given back: another worker takes it at once
            return
        except Exception as error:  # noqa: BLE001 - told with its traceback where it is a fault of ours; when it is tried again, its fault decides
            failure = _failure(worker, claim, account, recording, error, now)
    if failure:
        _failed(worker, claim, loaded, call, recording, failure, now)
    else:
        commit_and_plan(worker, claim, loaded, events, now, call)


def _failed(
    worker: Worker,
    claim: Claim,
    loaded: Loaded,
    call: Call,
    recording: Recording,
    failure: Event,
    now: datetime,
) -> None:
    if fetch_times.says_nothing_new(recording, failure) and not fetch_times.is_lost(
        call, recording, now
    ):
        wait_until(worker, claim, loaded, fetch_times.rarely(failure, now))
    else:
        commit_and_plan(worker, claim, loaded, [failure], now, call)


def _bring(
    worker: Worker,
    claim: Claim,
    account: Account,
    call: Call,
    recording: Recording,
    now: datetime,
    alive: Callable[[], None],
) -> list[Event]:
    worker.archive.spool.sweep(older_than_s=_DEAD_PART_S)
    row = worker.vobiz.get_recording(account, recording.recording_id)
    if (
        row.call_uuid
        and row.call_uuid != call.call_uuid
        and recording.recording_id in _recordings_of(worker, call.account, row.call_uuid)
    ):
        raise WrongOwner(
            f"the provider says that it belongs to call {row.call_uuid}, which fetches it"
        )
    if not row.url:
        raise TryAgain("the provider lists the recording without an address")
    with worker.archive.spool.part(recording.recording_id, int(claim.fence)) as part:
        failed: CorruptDownload | None = None
        try:
            got = worker.vobiz.download(
                account,
                row.url,
                part.file,
                alive=alive,
                announced=worker.archive.reserve,
                notes=part.notes,
            )
        except CorruptDownload as error:
            failed, got = error, error.got
        alive()
        return _keep(worker, claim, call, recording, row, part.path, got, failed, now)


class Ending(EndtapeError):
    """The worker was told to end; the download is given back."""


class WrongOwner(TryAgain):
    """A callback named this recording under a call that it does not belong to."""


def fault_of(error: Exception) -> Fault:
    """Whose fault it is that a fetch failed so."""
    if isinstance(error, CorruptMedia) and error.check in _NOT_THE_MEDIA:
        return _NOT_THE_MEDIA[error.check]
    return next((fault for kinds, fault in _FAULTS if isinstance(error, kinds)), Fault.OURS)


# The first that fits. An OSError of the network is a TryAgain by now, so what is left comes from
# our own disks.
_FAULTS: tuple[tuple[tuple[type[Exception], ...], Fault], ...] = (
    ((Unstored, Conflict, OSError), Fault.STORAGE),
    ((CorruptMedia, WrongOwner), Fault.MEDIA),
    ((Refused, WrongPath, RedirectRefused), Fault.SETTINGS),
    ((TryAgain,), Fault.PROVIDER),
)
# Checks that say something else: larger than allowed, and a copy on our own disk that differs.
_NOT_THE_MEDIA = {"size": Fault.SETTINGS, "sha256": Fault.STORAGE}


def _recordings_of(worker: Worker, account: str, call_uuid: str) -> set[str | None]:
    return (
        {event.recording_id for event in worker.ledger.events(account, call_uuid)}
        if wire.identifier(call_uuid)
        else set()
    )


def _keep(
    worker: Worker,
    claim: Claim,
    call: Call,
    recording: Recording,
    row: Row,
    part: Path,
    got: Download,
    failed: CorruptDownload | None,
    now: datetime,
) -> list[Event]:
    with part.open("rb") as file:
        found = media.examine(file)
    checks = check_media(found, got, row.duration_s, worker.settings.max_media_bytes)
    # What we cut off at the limit is the same each time, and yet not all that the provider has.
    bad, cut_by_us = first_failed(checks), got.bytes > worker.settings.max_media_bytes
    if bad and (
        cut_by_us or found.container in _NEVER_AUDIO or not _stubborn(recording, got.sha256, now)
    ):
        event = _event(
            worker,
            claim,
            recording,
            Fault.SETTINGS if cut_by_us else Fault.MEDIA,
            str(failed) if failed else f"{bad}: {checks[bad]}",
        )
        return [
            replace(event, check="size" if cut_by_us else bad, sha256=got.sha256, bytes=got.bytes)
        ]
    started = row.started_at or recording.provider_started_at
    ended, duration_s = row.ended_at or recording.ended_at, row.duration_s or recording.duration_s
    key = key_of(
        call.account,
        recording.recording_id,
        started_at=started,
        ended_at=ended,
        duration_s=duration_s,
        added_at=row.added_at or recording.added_at or recording.known_at,
        extension=found.extension,
    )
    worker.archive.publish(part, key, got.sha256)
    listed = Event(
        id=f"listed.end.{recording.recording_id}",
        kind=Kind.RECORDING_LISTED,
        call_uuid=call.call_uuid,
        at=now,
        recording_id=recording.recording_id,
        url=row.url,
        started_at=row.started_at,
        ended_at=row.ended_at,
        added_at=row.added_at,
        duration_s=row.duration_s,
        format=row.format,
        from_number=row.from_number,
        to_number=row.to_number,
    )
    after = replay(call.account, call.call_uuid, [*call.events, listed])
    whole = after.recordings[recording.recording_id]
    stop = planner.judge(after, whole, worker.settings.rules, now)
    receipt = Receipt(
        account=call.account,
        call_uuid=call.call_uuid,
        recording_id=recording.recording_id,
        from_number=after.from_number,
        to_number=after.to_number,
        direction=after.direction,
        labels=after.labels,
        started_at=started or whole.started_at,
        ended_at=ended,
        provider_url=row.url,
        provider_duration_s=row.duration_s,
        provider_format=row.format,
        media=found,
        sha256=got.sha256,
        checks=checks,
        stop=stop_view(stop),
        attempts=len(recording.failures) + 1,
        fetched_at=now,
        segment_of=whole.segment_of,
        gaps=[gap_view(g) for g in gaps(after, whole.root, acts(after, worker.settings.rules))],
        events=[
            {"event": e.kind.value, "at": e.at, "by": e.by, "signed": e.signed}
            for e in after.events
            if e.recording_id in {None, recording.recording_id}
        ],
    )
    worker.archive.publish_receipt(key, receipt.written())
    trials.stored(worker.ledger)
    done = Event(
        id=f"archived.{recording.recording_id}",
        kind=Kind.MEDIA_ARCHIVED,
        call_uuid=call.call_uuid,
        recording_id=recording.recording_id,
        archive_key=key,
        sha256=got.sha256,
        bytes=got.bytes,
        format=found.extension,
        check=bad,
        reason=f"archived although {bad} failed: {checks[bad]}" if bad else None,
        rule=stop.rule,
        due_at=stop.due_at,
        trigger=stop.trigger if stop.due_at else None,
        enforced=stop.state is not StopState.NONE,
    )
    return [listed, done]


def _stubborn(recording: Recording, sha256: str, now: datetime) -> bool:
    """The same bytes came often enough over a long enough time that this is all the provider
    has.
    """
    same = [f.at for f in recording.failures if f.sha256 == sha256 and f.at]
    return (
        len(same) + 1 >= timing.STUBBORN_TRIES
        and now - min(same, default=now) >= timing.STUBBORN_SPAN
    )


def _event(worker: Worker, claim: Claim, recording: Recording, fault: Fault, reason: str) -> Event:
    return Event(
        id=f"fetch.{claim.fence}",
        kind=Kind.FETCH_FAILED,
        call_uuid=claim.obligation.call_uuid,
        recording_id=recording.recording_id,
        reason=reason[:300],
        fault=fault,
        generation=worker.generation,
    )


def _failure(
    worker: Worker,
    claim: Claim,
    account: Account,
    recording: Recording,
    error: Exception,
    now: datetime,
) -> Event:
    retry_at, fault = None, fault_of(error)
    if fault is Fault.OURS:
        log.error("a recording cannot be fetched", obligation=str(claim.obligation), exc_info=error)
        worker.alert("poison", account=account.auth_id, recording_id=recording.recording_id)
    if isinstance(error, MediaRefused):
        worker.alert(
            "media_refused",
            account=account.auth_id,
            recording_id=recording.recording_id,
            error=str(error),
        )
    elif isinstance(error, Refused):
        is_ours(worker, account, error, recording_id=recording.recording_id)
    if fault is Fault.STORAGE and not isinstance(error, Conflict):
        trials.no_room(worker.ledger, worker.settings, error)
    if isinstance(error, Conflict | WrongOwner):
        worker.alert(
            "conflict" if isinstance(error, Conflict) else "wrong_owner",
            recording_id=recording.recording_id,
            error=str(error),
        )
    if isinstance(error, RedirectRefused):
        worker.alert("redirect_refused", host=error.host, recording_id=recording.recording_id)
    if isinstance(error, TryAgain) and error.after_s:
        retry_at = now + timedelta(seconds=min(error.after_s, 3600))
    ended = recording.ended_at or recording.over_at
    if ended and now - ended > timing.FETCH_ALERT:
        worker.alert("fetch_overdue", recording_id=recording.recording_id, error=str(error))
    return replace(
        _event(
            worker,
            claim,
            recording,
            fault,
            str(error) if isinstance(error, EndtapeError) else f"{type(error).__name__}: {error}",
        ),
        retry_at=retry_at,
        check=error.check if isinstance(error, CorruptMedia) else None,
    )
