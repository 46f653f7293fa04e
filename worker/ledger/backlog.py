"""What does not come home by itself, as the ledger tells, and a person's order to try it again."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from worker.calls.call import Call, Recording
from worker.calls.events import Event, Fault, Kind
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.ledger.calls import SeenAt
from worker.ledger.client import Ledger

_AT_ONCE = 500
_ABANDONED = (Kind.ABANDONED.value, Kind.GAVE_UP.value)
_FAILING = (*_ABANDONED, Kind.FETCH_FAILED.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A recording that is abandoned or fails, or work that was set aside: a fetch, or the look at a
    call.

    `next_at`: the next try, None where none will come without a person.
    """

    owed: Obligation
    started_at: datetime | None
    fault: Fault
    tries: int
    next_at: datetime | None
    problem: str


def find(
    ledger: Ledger,
    fault: Fault | None = None,
    *,
    failing: bool = False,
    told: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[Entry]:
    """Everything of that fault, of all where it is None: what was set aside, then what is
    abandoned, newest first; where `failing`, also what is not abandoned yet.

    Reads the log of every recording that is remembered; `told` hears how many of how many are done.
    """
    aside = ledger.set_aside()
    if fault in {None, Fault.OURS}:
        for o, tries in aside.items():
            yield from _aside(ledger, o, tries)
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
            and (entry := _entry(ledger, recording, owed, failing=failing))
        ):
            yield entry


def marked(
    ledger: Ledger, marks: Sequence[str], told: Callable[[int, int], None]
) -> Iterator[tuple[Call, Recording]]:
    """Every recording that is remembered, newest first, in whose call's log one of these words
    stands.
    """
    accounts = ledger.accounts()
    total, done = ledger.remembered(accounts), 0
    sights = ledger.recent(accounts)
    while some := list(islice(sights, _AT_ONCE)):
        yield from _marked(ledger, some, marks)
        done += len(some)
        told(done, max(done, total))


def retry(ledger: Ledger, owed: Obligation, *, reason: str, by: str) -> None:
    """Orders another try, whatever became of it before. To repeat it is harmless."""
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
    ledger: Ledger, sights: Sequence[SeenAt], marks: Sequence[str]
) -> Iterator[tuple[Call, Recording]]:
    """Those of these recordings in whose call's log one of the marks stands, by first sight as they
    came.
    """
    calls: dict[tuple[str, str], Call] = {}
    where: dict[tuple[str, str], str] = {}
    for account in {account for _, account, _ in sights}:
        mine = ledger.calls_of(account, [i for _, a, i in sights if a == account])
        where |= {(account, i): call_uuid for i, call_uuid in mine.items()}
        marked = [
            i
            for i, text in ledger.texts(account, sorted(set(mine.values())))
            if any(mark in text for mark in marks)
        ]
        calls |= {
            (account, i): replay(account, i, events)
            for i, events in ledger.logs(account, marked).items()
        }
    for _, account, recording_id in sights:
        call = calls.get((account, where.get((account, recording_id), "")))
        if call and recording_id in call.recordings:
            yield call, call.recordings[recording_id]


def _entry(
    ledger: Ledger, recording: Recording, owed: Obligation, *, failing: bool
) -> Entry | None:
    if recording.archived or not (
        recording.abandoned or recording.gave_up or (failing and recording.failures)
    ):
        return None
    look = replace(owed, duty=Duty.LOOK, recording_id=None)
    last = recording.gave_up or [*recording.abandoned, *recording.failures][-1]
    return Entry(
        owed=owed,
        started_at=recording.started_at,
        fault=recording.fault or Fault.PROVIDER,
        tries=len(recording.failures),
        problem=last.reason or "",
        next_at=None
        if recording.gave_up
        else ledger.next_at(owed if recording.finalized_at else look),
    )


def _aside(ledger: Ledger, o: Obligation, tries: int) -> Iterator[Entry]:
    call = replay(o.account, o.call_uuid, ledger.logs(o.account, [o.call_uuid])[o.call_uuid])
    recording = call.recordings.get(o.recording_id or "")
    if recording is None or not recording.archived:
        what = "the look at its call" if o.duty is Duty.LOOK else "fetching it"
        yield Entry(
            owed=o,
            fault=Fault.OURS,
            tries=tries,
            next_at=ledger.next_at(o),
            started_at=recording.started_at
            if recording
            else min((r.started_at for r in call.recordings.values()), default=None),
            problem=f"{what} was begun and never finished; the workers' log says why",
        )
