"""Legal holds: while one stands, nothing of ours deletes a recording, neither copy.

A hold is a fact in the archive. The fact that a recording is being erased takes a number in the
same row, and each writer has read all numbers before its own. So of a hold and an erasure that
race, one has seen the other and yields. Where the archive is a bucket with object lock, the
bucket's own legal hold is set before the fact, which says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from worker import wire
from worker.archive import erasing, fact_files, facts, keys, object_lock
from worker.archive.facts import Fact, FactKind
from worker.calls.events import Event, Kind
from worker.calls.history import Deed, Entry
from worker.calls.obligations import Duty, Obligation
from worker.catalogue.rebuild import row_of
from worker.errors import Gone
from worker.governing.facts import write
from worker.governing.places import Places
from worker.governing.subject import By, Subject


def hold(places: Places, subject: Subject, by: By) -> Fact:
    """Hold a recording. The signed fact stands in the archive when this returns. Harmless to
    repeat.

    Raises Gone where it is erased or being erased; Unstored, OSError, Conflict and Unsigned where
    the archive or the key cannot be used; LedgerUnavailable, CatalogueAway.
    """
    _alive(places, subject)
    store = places.archive.store
    locked = object_lock.lock(store, erasing.beside(store, subject.key))
    said: dict[str, Any] = {"ours_alone": locked.why_not is not None, "locked": locked.names}
    try:
        return _write(places, subject, by, FactKind.HOLD, {**said, "why_alone": locked.why_not})
    except Exception:
        object_lock.unlock(store, locked.names)
        raise


def release(places: Places, subject: Subject, by: By) -> Fact | None:
    """End the hold of a recording, that of the bucket first; None where it has none. What it put
    off is due at once. Raises as `hold` does.
    """
    known = fact_files.read_all(places.archive.store, subject.account, subject.recording_id)
    if not facts.is_held(known) and not subject.is_held:
        return None
    object_lock.unlock(places.archive.store, facts.locked_by_us(known))
    written = _write(places, subject, by, FactKind.RELEASE, {})
    for put_off in (subject.erasing, replace(subject.erasing, duty=Duty.OFFLOAD)):
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
    _alive(places, subject)
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
    written = write(places, fact)
    if places.archive.tombstone(subject.key):
        # All its facts were erased just before ours took the first number again.
        _take_back(places, written)
        raise Gone("it is erased")
    _tell(places, subject, written)
    return written


def _alive(places: Places, subject: Subject) -> None:
    """Raises Gone where the recording's tombstone stands."""
    if subject.is_erased or places.archive.tombstone(subject.key):
        raise Gone("it is erased")


def _take_back(places: Places, fact: Fact) -> None:
    name = facts.name_of(fact.account, fact.recording_id, fact.n)
    for one in (name, keys.signature_of(name)):
        places.archive.store.delete(one)


def _tell(places: Places, subject: Subject, fact: Fact) -> None:
    """Make the fact known where lists are made."""
    if not subject.is_live:
        row = row_of(places.archive, subject.key)
        places.catalogue.enter([row] if row else [])
        return
    held = fact.kind is FactKind.HOLD
    event = Event(
        id=f"{fact.kind}.{subject.recording_id}.{fact.n}",
        kind=Kind.RECORDING_HELD if held else Kind.RECORDING_RELEASED,
        call_uuid=subject.call_uuid,
        recording_id=subject.recording_id,
        reason=wire.without_numbers(fact.reason) if fact.reason else None,
        by=fact.who,
    )
    places.ledger.record(subject.account, event)
    index = Obligation(duty=Duty.INDEX, account=subject.account, call_uuid=subject.call_uuid)
    places.ledger.ensure_due([index])
