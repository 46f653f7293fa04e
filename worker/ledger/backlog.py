"""Recordings that are not archived and will not be without a person, and the order to try again."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from worker.calls import history
from worker.calls.call import Call, Recording
from worker.calls.events import Event, Fault, Kind
from worker.calls.fetch_times import kept_until
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.ledger.calls import SeenAt
from worker.ledger.client import Ledger

_AT_ONCE = 500
_ABANDONED = (Kind.ABANDONED.value, Kind.GAVE_UP.value)
_FAILING = (*_ABANDONED, Kind.FETCH_FAILED.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A recording that is abandoned or keeps failing, or work that was set aside: a fetch, or the
    look at a call.

    `next_at`: the next try; None if only a person can order one.
    """

    owed: Obligation
    started_at: datetime | None
    fault: Fault
    tries: int
    next_at: datetime | None
    problem: str
    keeps_until: datetime | None = None  # when the provider deletes its copy, where that is known


@dataclass(frozen=True, slots=True)
class Standing:
    """How often a recording was fetched in vain, and when the next try is; None if only a person
    can order one.
    """

    tries: int
    next_at: datetime | None


def standings(
    ledger: Ledger, account: str, calls: Mapping[str, Sequence[str]]
) -> dict[str, Standing]:
    """Of these recordings, by id, how they stand. `calls`: the recordings by their call."""
    found, owed = dict[str, Recording](), dict[str, Obligation]()
    for call_uuid, events in ledger.logs(account, calls).items():
        known = replay(account, call_uuid, events).recordings
        for recording in (known[i] for i in calls[call_uuid] if i in known):
            found[recording.recording_id] = recording
            owed[recording.recording_id] = _next_step(account, call_uuid, recording)
    instants = ledger.all_next_at(list(owed.values()))
    return {
        i: Standing(len(recording.failures), None if recording.gave_up else instants[owed[i]])
        for i, recording in found.items()
    }


def _next_step(account: str, call_uuid: str, recording: Recording) -> Obligation:
    """A fetch; before the provider has named a file, a look at the call."""
    duty, named = Duty.LOOK, None
    if recording.finalized_at:
        duty, named = Duty.FETCH, recording.recording_id
    return Obligation(duty=duty, account=account, call_uuid=call_uuid, recording_id=named)


def find(
    ledger: Ledger,
    fault: Fault | None = None,
    *,
    failing: bool = False,
    told: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[Entry]:
    """What was set aside, then what is abandoned, newest first. `fault`: only entries with this
    fault; None: all. `failing`: also recordings that fail and are not abandoned yet.

    Reads the log of every known recording. Calls `told` with how many of how many are done.
    """
    aside = ledger.set_aside()
    if fault in {None, Fault.OURS}:
        for owed, tries in aside.items():
            yield from _aside(ledger, owed, tries)
    for call, recording in marked(ledger, _FAILING if failing else _ABANDONED, told):
        owed = Obligation(
            duty=Duty.FETCH,
            account=call.account,
            call_uuid=call.call_uuid,
            recording_id=recording.recording_id,
        )
        if (
            owed not in aside
            and fault in {None, recording.fault}
            and (entry := _entry(ledger, call, recording, owed, failing=failing))
        ):
            yield entry


def marked(
    ledger: Ledger, marks: Sequence[str], told: Callable[[int, int], None]
) -> Iterator[tuple[Call, Recording]]:
    """Every known recording, newest first, whose call's log contains one of these words."""
    accounts = ledger.accounts()
    total, done = ledger.remembered(accounts), 0
    recordings = ledger.recent(accounts)
    while some := list(islice(recordings, _AT_ONCE)):
        yield from _marked(ledger, some, marks)
        done += len(some)
        told(done, max(done, total))


def retry(ledger: Ledger, owed: Obligation, *, reason: str, by: str) -> None:
    """Orders another try, whatever the tries before gave. Ordering twice is harmless.

    `reason` and `by` (who ordered it) go into the history and the event.
    """
    deed = history.Entry(
        what=history.Deed.RETRY,
        who=by,
        call_uuid=owed.call_uuid,
        recording_id=owed.recording_id,
        reason=reason,
    )
    ledger.enter(owed.account, deed)
    if owed.recording_id:
        ledger.record(
            owed.account,
            Event(
                id=f"retry.{secrets.token_hex(6)}",
                kind=Kind.RETRY_ORDERED,
                call_uuid=owed.call_uuid,
                recording_id=owed.recording_id,
                reason=reason,
                by=by,
            ),
        )
    else:
        ledger.reset_tries(owed.account, owed.call_uuid)


def _marked(
    ledger: Ledger, seen: Sequence[SeenAt], marks: Sequence[str]
) -> Iterator[tuple[Call, Recording]]:
    """Those of these recordings whose call's log contains one of the marks, in the same order."""
    calls: dict[tuple[str, str], Call] = {}
    call_of: dict[tuple[str, str], str] = {}
    for account in {sight.account for sight in seen}:
        call_uuids = ledger.calls_of(
            account, [s.recording_id for s in seen if s.account == account]
        )
        call_of |= {(account, i): call_uuid for i, call_uuid in call_uuids.items()}
        with_marks = [
            call_uuid
            for call_uuid, text in ledger.texts(account, sorted(set(call_uuids.values())))
            if any(mark in text for mark in marks)
        ]
        calls |= {
            (account, call_uuid): replay(account, call_uuid, events)
            for call_uuid, events in ledger.logs(account, with_marks).items()
        }
    for _, recording_id, account in seen:
        call = calls.get((account, call_of.get((account, recording_id), "")))
        if call and recording_id in call.recordings:
            yield call, call.recordings[recording_id]


def _entry(
    ledger: Ledger, call: Call, recording: Recording, owed: Obligation, *, failing: bool
) -> Entry | None:
    if recording.archived or not (
        recording.abandoned or recording.gave_up or (failing and recording.failures)
    ):
        return None
    last = recording.gave_up or [*recording.abandoned, *recording.failures][-1]
    return Entry(
        owed=owed,
        started_at=recording.started_at,
        keeps_until=kept_until(call, recording),
        fault=recording.fault or Fault.PROVIDER,
        tries=len(recording.failures),
        problem=last.reason or "",
        next_at=None
        if recording.gave_up
        else ledger.next_at(_next_step(call.account, call.call_uuid, recording)),
    )


def _aside(ledger: Ledger, owed: Obligation, tries: int) -> Iterator[Entry]:
    events = ledger.logs(owed.account, [owed.call_uuid])[owed.call_uuid]
    call = replay(owed.account, owed.call_uuid, events)
    recording = call.recordings.get(owed.recording_id or "")
    if recording and recording.archived:
        return
    what = "the look at its call" if owed.duty is Duty.LOOK else "fetching it"
    starts = [recording] if recording else call.recordings.values()
    yield Entry(
        owed=owed,
        fault=Fault.OURS,
        tries=tries,
        next_at=ledger.next_at(owed),
        started_at=min((r.started_at for r in starts), default=None),
        problem=f"{what} was begun and never finished; the workers' log says why",
    )
