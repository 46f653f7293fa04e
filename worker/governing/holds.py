"""Legal holds: while one stands, nothing of ours deletes a recording, neither copy.

A hold is a fact in the archive. The fact that a recording is being erased takes a number in the
same row, and each writer has read all numbers before its own. So of a hold and an erasure that
race, one has seen the other and yields. Where the archive is a bucket with object lock, the
bucket's own legal hold is set before the fact, which says so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from worker import wire
from worker.archive import erasing, fact_files, facts, object_lock
from worker.archive.facts import Fact, FactKind
from worker.calls.events import Event, Kind
from worker.calls.history import Deed, Entry
from worker.calls.obligations import Duty, Obligation
from worker.errors import Gone, TryAgain
from worker.governing.facts import write
from worker.governing.places import Places
from worker.governing.relisting import relist
from worker.governing.subject import By, Subject

_WAIT_S, _LOOK_S = 10.0, 0.05  # a step of an offload is a few requests


def hold(places: Places, subject: Subject, by: By) -> Fact:
    """Hold a recording. The signed fact stands in the archive when this returns. Harmless to
    repeat.

    Raises Gone where it is erased or being erased; Unstored, OSError, Conflict and Unsigned where
    the archive or the key cannot be used; LedgerUnavailable, CatalogueAway; TryAgain where the hold
    stands, but came while the provider's copy was being deleted, and nobody knows yet whether it
    was in time.
    """
    _check_not_erased(places, subject)
    store = places.archive.store
    locked = object_lock.lock(store, erasing.beside(store, subject.key))
    said: dict[str, Any] = {"ours_alone": locked.why_not is not None, "locked": locked.names}
    try:
        fact = _write(places, subject, by, FactKind.HOLD, {**said, "why_alone": locked.why_not})
    except Exception:
        object_lock.unlock(store, locked.names)
        raise
    _wait_for_offload(places, subject, fact)
    return fact


def standing(places: Places, subject: Subject) -> Fact | None:
    """The hold with which it began, as the archive has it; None where none stands. Raises what the
    archive raises.
    """
    known = fact_files.read_all(places.archive.store, subject.account, subject.recording_id)
    return next(iter(facts.standing_holds(known)), None)


def release(places: Places, subject: Subject, by: By) -> Fact | None:
    """End the hold of a recording, that of the bucket first; None where it has none. What it put
    off is due at once. Raises as `hold` does.
    """
    known = fact_files.read_all(places.archive.store, subject.account, subject.recording_id)
    written = None
    if facts.is_held(known) or subject.is_held:
        object_lock.unlock(places.archive.store, facts.locked_by_us(known))
        written = _write(places, subject, by, FactKind.RELEASE, {})
    # Also where it is held no more: whoever released it may have died before this.
    for put_off in (subject.erasing, _offload_of(subject)):
        places.ledger.make_due_now(put_off)
    places.ledger.wake()
    return written


def _write(
    places: Places, subject: Subject, by: By, kind: FactKind, particulars: Mapping[str, Any]
) -> Fact:
    deed = Deed.HOLD if kind is FactKind.HOLD else Deed.RELEASE
    entry = Entry(
        what=deed,
        who=by.who,
        claimed=by.claimed,
        call_uuid=subject.call_uuid,
        recording_id=subject.recording_id,
        reason=by.reason,
    )
    _check_not_erased(places, subject)
    places.ledger.enter(subject.account, entry)
    fact = Fact(
        account=subject.account,
        recording_id=subject.recording_id,
        kind=kind,
        at=places.ledger.now(),
        who=by.who,
        claimed=by.claimed,
        reason=by.reason,
        particulars=particulars,
    )
    written = write(places, fact, key=subject.key)
    relist(places, subject, _event_of(subject, written))
    return written


def _check_not_erased(places: Places, subject: Subject) -> None:
    """Raises Gone where the recording's tombstone stands."""
    if subject.is_erased or places.archive.tombstone(subject.key):
        raise Gone("it is erased")


def _wait_for_offload(places: Places, subject: Subject, written: Fact) -> None:
    """Wait until nobody works on the offload, where one was announced before this hold: who
    announced it may not have seen the hold. Raises TryAgain where that takes long.
    """
    offload, until = _offload_of(subject), time.monotonic() + _WAIT_S
    if not places.ledger.is_worked_on(offload):
        return
    known = fact_files.read_all(places.archive.store, subject.account, subject.recording_id)
    before = [fact for fact in known if fact.n < written.n]
    last = facts.last_of(before, FactKind.DELETED_AT_PROVIDER)
    if last is None or last.particulars.get("gone"):
        return
    while places.ledger.is_worked_on(offload):
        if time.monotonic() > until:
            raise TryAgain("the provider's copy was about to be deleted when the hold came")
        time.sleep(_LOOK_S)


def _offload_of(subject: Subject) -> Obligation:
    return replace(subject.erasing, duty=Duty.OFFLOAD)


def _event_of(subject: Subject, fact: Fact) -> Event:
    held = fact.kind is FactKind.HOLD
    return Event(
        id=f"{fact.kind}.{subject.recording_id}.{fact.n}",
        kind=Kind.RECORDING_HELD if held else Kind.RECORDING_RELEASED,
        call_uuid=subject.call_uuid,
        recording_id=subject.recording_id,
        reason=wire.without_numbers(fact.reason) if fact.reason else None,
        by=fact.who,
    )
