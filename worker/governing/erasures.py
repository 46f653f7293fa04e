"""Erasing a recording: ordering it, and the tombstone that stands before anything is gone.

1  the obligation is put down, due in half a minute
2  the fact that it is being erased, in the archive: from here on no hold is taken
3  the tombstone, signed
4  the event, where Redis knows the call: from here on `/v1` shows nothing of it, nobody fetches it
5  the obligation is due now: the duty ERASE does the rest

Each step is harmless to repeat. Where a process dies after 2, the duty goes on from there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from worker.archive import days, erasing, fact_files, facts, keys, object_lock
from worker.archive.facts import Fact, FactKind
from worker.archive.receipts import Tombstone
from worker.calls import erasure
from worker.calls.events import Event, Kind
from worker.calls.history import Deed, Entry
from worker.catalogue.rows import WHY
from worker.errors import CatalogueAway, Held, NotOver
from worker.governing import signing
from worker.governing.facts import write
from worker.governing.places import Places
from worker.governing.subject import By, Subject

_MEANWHILE = timedelta(seconds=30)  # so long an order has for its own steps


def order(places: Places, subject: Subject, by: By) -> bool:
    """Order that a recording is erased. The tombstone stands when this returns. False where it is
    erased already, and nothing of it came back. Harmless to repeat.

    Raises NotOver while it is still recording, Held; Unstored, OSError, Conflict and Unsigned where
    the archive or the key cannot be used; LedgerUnavailable.
    """
    if subject.is_erased and not erasing.files_of(places.archive.store, subject.key):
        return False
    if not subject.is_over:
        raise NotOver("it is still recording; stop it first")
    ledger = places.ledger
    if not places.archive.tombstone(subject.key):
        check_not_held(places, subject)
    enter(places, subject, by)
    ledger.owe(subject.erasing, ledger.now() + _MEANWHILE)
    tombstone = begin(places, subject, by)
    tell(places, subject, tombstone)
    ledger.owe(subject.erasing, ledger.now())
    ledger.make_due_now(subject.erasing)
    ledger.wake()
    return True


def enter(places: Places, subject: Subject, by: By) -> None:
    """Enter the erasure into the history, once. Nothing is erased without that. Raises
    LedgerUnavailable.
    """
    entry = Entry(
        what=Deed.ERASE,
        who=by.who,
        claimed=by.claimed,
        call_uuid=subject.call_uuid,
        recording_id=subject.recording_id,
        reason=by.reason,
    )
    places.ledger.enter(subject.account, entry, order=f"erase.{subject.recording_id}")


def begin(places: Places, subject: Subject, by: By, rule: str | None = None) -> dict[str, Any]:
    """Put the fact that it is being erased, and the tombstone, unless they stand. Returns what the
    tombstone says, which is by whoever began first.

    Raises Held where a hold was quicker, and what archive and key raise.
    """
    archive, account = places.archive, subject.account
    # The facts before the tombstone: where another process has removed them, it stands by then.
    known = fact_files.read_all(archive.store, account, subject.recording_id)
    said = archive.tombstone(subject.key)
    if said is None:
        fact = facts.erasing(known) or _write_fact(places, subject, by, rule)
        said = _tombstone(subject, fact).written()
    signing.ready(places.ledger, archive)
    sha256 = archive.publish_tombstone(subject.key, said)
    line = days.line_of(keys.parse(subject.key).tombstone, sha256)
    places.ledger.note_filed(account, [line])
    return archive.tombstone(subject.key) or said


def _write_fact(places: Places, subject: Subject, by: By, rule: str | None) -> Fact:
    """The fact that it is being erased. Raises Held where a hold was quicker."""
    fact = Fact(
        account=subject.account,
        recording_id=subject.recording_id,
        kind=FactKind.ERASE,
        at=places.ledger.now(),
        who=by.who,
        claimed=by.claimed,
        reason=by.reason,
        particulars={"rule": rule},
    )
    return write(places, fact, _check_not_held)


def tell(places: Places, subject: Subject, tombstone: Mapping[str, Any]) -> None:
    """Make it known that the tombstone stands, so that `/v1` shows no more than that says. Raises
    CatalogueAway where Redis does not know the recording.
    """
    if not subject.is_live:
        _enter_begun(places, subject, tombstone)
        return
    places.ledger.record(subject.account, _begun(subject, tombstone))
    with contextlib.suppress(CatalogueAway):
        _enter_begun(places, subject, tombstone)


def _enter_begun(places: Places, subject: Subject, tombstone: Mapping[str, Any]) -> None:
    """Where the catalogue has a row, it says that the recording is being erased since then: so the
    erasure goes on also where Redis is emptied meanwhile.
    """
    row = places.catalogue.find(subject.recording_id, subject.account)
    if row and not row.view.get("erased"):
        why = {name: tombstone.get(name) for name in WHY}
        view = erasure.without_what_goes(row.view, tombstone.get("sha256"))
        view |= {"erased": why, "problem": erasure.BEING_ERASED}
        view |= {"retain_until": tombstone.get("at")}
        places.catalogue.enter([replace(row, view=view)])


def _begun(subject: Subject, tombstone: Mapping[str, Any]) -> Event:
    """The event that this tombstone stands."""
    return Event(
        id=f"erase.{subject.recording_id}",
        kind=Kind.ERASE_BEGUN,
        call_uuid=subject.call_uuid,
        recording_id=subject.recording_id,
        archive_key=subject.key,
        sha256=tombstone.get("sha256"),
        rule=tombstone.get("rule"),
        reason=tombstone.get("reason"),
        by=tombstone.get("who"),
    )


def check_not_held(places: Places, subject: Subject) -> None:
    """Raises Held, also where the bucket itself would delete nothing, and what the archive
    raises.
    """
    store = places.archive.store
    _check_not_held(fact_files.read_all(store, subject.account, subject.recording_id))
    if why := object_lock.why_locked(store, erasing.beside(store, subject.key)):
        raise Held(why)


def is_begun(places: Places, subject: Subject) -> bool:
    """Whether the fact that it is being erased stands, or its tombstone. Raises what the archive
    raises.
    """
    if places.archive.tombstone(subject.key):
        return True
    store = places.archive.store
    known = fact_files.read_all(store, subject.account, subject.recording_id)
    return facts.erasing(known) is not None


def _check_not_held(known: list[Fact]) -> None:
    if facts.is_held(known):
        last = facts.last_of(known, FactKind.HOLD)
        raise Held(f"it is under legal hold: {last.reason if last else ''}")


def _tombstone(subject: Subject, fact: Fact) -> Tombstone:
    return Tombstone(
        account=subject.account,
        call_uuid=subject.call_uuid,
        recording_id=subject.recording_id,
        first_seen_at=subject.first_seen_at,
        started_at=subject.started_at,
        ended_at=subject.ended_at,
        at=fact.at,
        sha256=subject.sha256,
        rule=fact.particulars.get("rule"),
        reason=fact.reason,
        who=fact.who,
        claimed=fact.claimed,
        stop=subject.stop,
    )
