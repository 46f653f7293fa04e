"""A downloaded file on its way from the spool into the archive: checks, publication, receipt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import structlog

from worker.archive import days, keys, media, peaks
from worker.archive.checks import check_media, first_failed
from worker.archive.filing import Archive
from worker.archive.keys import key_of
from worker.archive.pages import FoundPages
from worker.archive.peaks import Outline
from worker.archive.receipts import Receipt
from worker.archive.spool import Part
from worker.calls import consent, erasure, restriction, stop_state, timing
from worker.calls.call import Call, Recording, Stop, StopState
from worker.calls.check_words import archived_although
from worker.calls.events import Event, Fault, Kind
from worker.calls.replay import replay
from worker.calls.segments import gaps
from worker.calls.triggers import acts
from worker.calls.views import consent_view, gap_view, stop_view
from worker.duties import archiving
from worker.duties.archived_before import with_facts
from worker.duties.fetch_task import FetchTask
from worker.duties.look import listed
from worker.errors import TryAgain, Unsigned, Unstored
from worker.governing import signing
from worker.vobiz.answers import Row
from worker.vobiz.piece import Download

log = structlog.get_logger()

_NEVER_AUDIO = {"html", "json", "xml", "empty"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """What a download brought: the provider's row, the spooled file, what was read, and the text
    and the check of the error where the download broke off. `pages`: those that were found in it
    while it came; None for a file that an earlier try kept.
    """

    row: Row
    part: Part
    got: Download
    pages: FoundPages | None = None
    broken_off: str | None = None
    broken_check: str | None = None

    def keep(self) -> None:
        """Keep the file for a later try, which needs no download."""
        known = {name: getattr(self, name) for name in _NOTED}
        self.part.keep(msgspec.json.encode(known))

    @classmethod
    def kept(cls, part: Part, call_uuid: str) -> Arrival | None:
        """What an earlier try for this call kept; None where it kept nothing. Raises TryAgain where
        the note is of no use; the file is removed then.
        """
        note = part.kept
        if note is None:
            return None
        try:
            known = msgspec.json.decode(note, type=_Noted)
            if known.row.call_uuid in {None, call_uuid}:
                return cls(part=part, **{name: getattr(known, name) for name in _NOTED})
        except msgspec.DecodeError:
            pass
        part.remove()
        raise TryAgain("a file that was kept in the spool is of no use")


class _Noted(msgspec.Struct):
    row: Row
    got: Download
    broken_off: str | None
    broken_check: str | None


_NOTED = _Noted.__struct_fields__


@dataclass(frozen=True, kw_only=True, slots=True)
class Filed:
    """A recording that is in the archive: the events to record, its stop as in the receipt, and the
    lines of its files for the day's list.
    """

    # RECORDING_LISTED, MEDIA_ARCHIVED, and what stood in the archive already about the recording
    events: tuple[Event, ...]
    stop: Stop
    lines: tuple[str, ...]


def keep(task: FetchTask, arrival: Arrival) -> Filed | Event:
    """Check the file, and archive it with its receipt if it may be kept. FETCH_FAILED otherwise.

    Raises Conflict, Unstored, CorruptMedia and OSError of the archive.
    """
    max_bytes = task.worker.settings.max_media_bytes
    examined = media.examine(arrival.part.file, arrival.pages)
    checks = check_media(
        examined,
        arrival.got,
        arrival.row.duration_s,
        max_bytes,
        broken_off=arrival.broken_off if arrival.broken_check == "length" else None,
    )
    bad = first_failed(checks)
    if bad and not _may_be_kept(task, arrival, examined):
        return _refused(task, arrival, bad, checks[bad])
    return _file(task, arrival, examined, checks, bad)


# Checks
# ------------------------------------------------------------------------------------------------


def _is_cut_by_us(task: FetchTask, arrival: Arrival) -> bool:
    return arrival.got.bytes > task.worker.settings.max_media_bytes


def _may_be_kept(task: FetchTask, arrival: Arrival, examined: media.Media) -> bool:
    """Whether a file that failed a check is archived nevertheless: the same bytes came
    STUBBORN_TRIES times over STUBBORN_SPAN, so the provider has nothing else.

    Never a file that we cut off at our size limit: it is the same each time, and the provider has
    more.
    """
    if _is_cut_by_us(task, arrival) or examined.container in _NEVER_AUDIO:
        return False
    same = [f.at for f in task.recording.failures if f.sha256 == arrival.got.sha256 and f.at]
    often = len(same) + 1 >= timing.STUBBORN_TRIES
    return often and task.now - min(same, default=task.now) >= timing.STUBBORN_SPAN


def _refused(task: FetchTask, arrival: Arrival, bad: str, why: str) -> Event:
    cut_by_us = _is_cut_by_us(task, arrival)
    return replace(
        task.failure(
            Fault.SETTINGS if cut_by_us else Fault.MEDIA,
            arrival.broken_off or f"{bad}: {why}",
        ),
        check="size" if cut_by_us else bad,
        sha256=arrival.got.sha256,
        bytes=arrival.got.bytes,
    )


# File and receipt
# ------------------------------------------------------------------------------------------------


def _file(
    task: FetchTask,
    arrival: Arrival,
    examined: media.Media,
    checks: Mapping[str, str],
    bad: str | None,
) -> Filed:
    """The audio first, then the receipt. Both are harmless to repeat. The file stays in the spool
    where the archive refuses.
    """
    worker, call = task.worker, task.call
    row_event = _listed(task, arrival.row)
    after = replay(call.account, call.call_uuid, [*call.events, row_event])
    recording = after.recordings[task.recording.recording_id]
    stop = stop_state.judge(after, recording, worker.settings.rules, task.now)
    limits = restriction.limits_of(recording, worker.settings.rules.choose(after)[1])
    retain = erasure.retention(after, recording, worker.settings.rules)
    receipt = _receipt(task, arrival, after, examined, checks, stop)
    reasons = restriction.restricted_by(after, recording, limits, stop, task.now)
    key, receipt_sha256 = _put(task, arrival, _key(task, arrival.row, examined.extension), receipt)
    archived = Event(
        id=f"archived.{recording.recording_id}",
        kind=Kind.MEDIA_ARCHIVED,
        call_uuid=call.call_uuid,
        recording_id=recording.recording_id,
        archive_key=key,
        sha256=arrival.got.sha256,
        bytes=arrival.got.bytes,
        format=examined.extension,
        check=bad,
        reason=archived_although(bad, checks[bad]) if bad else None,
        rule=stop.rule,
        due_at=stop.due_at,
        overdue_since=stop.overdue_since,
        trigger=stop.trigger if stop.due_at else None,
        enforced=stop.state is not StopState.NONE,
        retain_until=retain["until"] if retain else None,
        # A tail that was too long, or not known, restricts for good.
        restricted_by=tuple(why for why in reasons if why == restriction.LONG_TAIL),
        digest=restriction.digest(after, reasons),
        **restriction.limits_view(limits),
    )
    filed = {key: arrival.got.sha256, keys.parse(key).receipt: receipt_sha256}
    known = [archived]
    if hashlib.sha256(worker.archive.as_written(receipt)).hexdigest() != receipt_sha256:
        # Somebody filed it before: Redis was emptied, or a process died before it could say so.
        stands = worker.archive.read_receipt(key)
        known = with_facts(worker.archive, call.account, archived, stands, after.consents)
    lines = tuple(days.line_of(name, sha256) for name, sha256 in filed.items())
    return Filed(events=(row_event, *known), stop=stop, lines=lines)


def _put(task: FetchTask, arrival: Arrival, named: str, receipt: dict[str, Any]) -> tuple[str, str]:
    """Put audio, receipt and outline into the archive that takes them. Returns the key there, and
    the SHA-256 of the receipt that stands there.
    """
    drawn = peaks.outline(arrival.part.file)  # before the file leaves the spool

    def put(archive: Archive) -> tuple[str, str]:
        signing.ready(task.worker.ledger, archive)
        with archive.store.within(named):
            key = archive.publish(arrival.part.path, named, arrival.got.sha256)
            sha256 = archive.publish_receipt(key, receipt)
            _file_outline(archive, key, drawn)
        return key, sha256

    try:
        return archiving.put(task.worker, put)
    except (OSError, Unstored, Unsigned):
        arrival.keep()
        raise


def _file_outline(archive: Archive, key: str, drawn: Outline | None) -> None:
    """Put the outline beside the receipt. The recording is home without it, and `/v1` draws it
    again where it is missing, so no failure here is one of the fetch.
    """
    if drawn is None:
        return
    try:
        archive.publish_peaks(key, peaks.written(drawn))
    except (Unstored, OSError) as error:
        log.warning("an outline could not be stored", archive_key=key, error=str(error))


def _key(task: FetchTask, row: Row, extension: str) -> str:
    known = task.recording
    if known.absence and known.absence.archive_key:
        # A recording's folder is chosen once, at its first file, whatever is learned of its start.
        stands = keys.parse(known.absence.archive_key)
        return replace(stands, extension=extension).plain().audio
    return key_of(
        task.call.account,
        known.recording_id,
        started_at=row.started_at or known.provider_started_at,
        ended_at=row.ended_at or known.ended_at,
        duration_s=row.duration_s or known.duration_s,
        added_at=row.added_at or known.added_at or known.known_at,
        extension=extension,
    )


def _listed(task: FetchTask, row: Row) -> Event:
    """The provider's row as an event. Its recording is over, whatever the row lacks."""
    event = listed(task.call.call_uuid, row)
    return replace(event, id=f"listed.end.{row.recording_id}", at=task.now)


def _receipt(
    task: FetchTask,
    arrival: Arrival,
    call: Call,
    examined: media.Media,
    checks: Mapping[str, str],
    stop: Stop,
) -> dict[str, Any]:
    """The receipt's content. `call`: with the provider's row in it."""
    row, known = arrival.row, task.recording
    recording = call.recordings[known.recording_id]
    known_acts = acts(call, task.worker.settings.rules)
    return Receipt(
        account=call.account,
        call_uuid=call.call_uuid,
        recording_id=recording.recording_id,
        from_number=call.from_number,
        to_number=call.to_number,
        direction=call.direction,
        labels=call.labels,
        started_at=row.started_at or known.provider_started_at or recording.started_at,
        ended_at=row.ended_at or known.ended_at,
        provider_url=row.url,
        provider_duration_s=row.duration_s,
        provider_format=row.format,
        media=examined,
        sha256=arrival.got.sha256,
        checks=checks,
        stop=stop_view(stop),
        attempts=len(known.failures) + 1,
        fetched_at=task.now,
        first_seen_at=recording.first_seen_at,
        consent=consent_view(call),
        restriction=_restriction(task, call, recording, stop),
        retain=erasure.retention(call, recording, task.worker.settings.rules),
        segment_of=recording.segment_of,
        gaps=[gap_view(g) for g in gaps(call, recording.root, known_acts)],
        events=[_told(e) for e in call.events if e.recording_id in {None, recording.recording_id}],
    ).written()


def _told(event: Event) -> dict[str, Any]:
    """An event as the receipt tells it, with what somebody said of it, and of himself."""
    said = {"event": event.kind.value, "at": event.at, "by": event.by, "signed": event.signed}
    if event.claimed:
        said["claimed"] = event.claimed
    if event.by and event.reason:
        said["reason"] = event.reason
    return said


def _restriction(
    task: FetchTask, call: Call, recording: Recording, stop: Stop
) -> dict[str, Any] | None:
    """Why the recording is restricted as it is archived, and the limits that say so. None where no
    limit holds.
    """
    limits = restriction.limits_of(recording, task.worker.settings.rules.choose(call)[1])
    if limits == restriction.Limits(consent_by=None, tail=None):
        return None
    reasons = restriction.restricted_by(call, recording, limits, stop, task.now)
    statements = [consent.statement(said) for said in call.consents]
    return {
        "restricted_by": reasons,
        **restriction.limits_view(limits),
        **({"statements": statements} if statements else {}),
    }
