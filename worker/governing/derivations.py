"""Taking a file that was made from a recording: a transcript, a redacted copy.

Where it is being erased meanwhile, the tombstone stands before anything is removed; so whoever
finds none after the file was put knows that the erasing finds the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker import wire
from worker.archive import days, derived
from worker.archive.derived import Derived
from worker.calls.events import Event, Kind
from worker.calls.history import Deed, Entry
from worker.errors import Gone, NotOver, Unsigned
from worker.governing import erasures, signing
from worker.governing.places import Places
from worker.governing.relisting import relist
from worker.governing.subject import By, Subject


def check_open(places: Places, subject: Subject) -> str:
    """The digest of the recording from which a file may be made. Raises NotOver where it is not
    archived, Gone where it is erased or being erased, and what the archive raises.
    """
    if subject.is_erased or erasures.is_begun(places, subject):
        raise Gone("it is erased, or being erased")
    if subject.sha256 is None:
        raise NotOver("it is not archived: there is nothing that a file could be made from")
    return subject.sha256


def take(
    places: Places, subject: Subject, by: By, part: Path, made: Derived
) -> tuple[dict[str, Any], bool]:
    """File what was made from a recording, signed. Returns it as `/v1` shows it, and whether it is
    new. Harmless to repeat.

    Raises as `check_open` does; Unstored, OSError, Conflict and Unsigned where the archive or the
    key cannot be used; LedgerUnavailable, CatalogueAway.
    """
    check_open(places, subject)
    store, signer = places.archive.store, places.archive.signer
    if signer is None:
        raise Unsigned("without a signing key no file is linked to a recording")
    entry = Entry(
        what=Deed.DERIVE,
        who=by.who,
        claimed=by.claimed,
        call_uuid=subject.call_uuid,
        recording_id=subject.recording_id,
        reason=by.reason or None,
    )
    places.ledger.enter(subject.account, entry, order=f"derive.{subject.recording_id}.{made.name}")
    signing.ready(places.ledger, places.archive)
    said, receipt = derived.publish(store, signer, subject.key, part, made)
    if places.archive.tombstone(subject.key):
        derived.remove(store, subject.key, made.name)
        raise Gone("it was erased meanwhile")
    place = derived.file_of(subject.key, made.name)
    lines = [
        days.line_of(place, made.sha256),
        days.line_of(f"{place}.json", hashlib.sha256(receipt).hexdigest()),
    ]
    places.ledger.note_filed(subject.account, lines)
    shown = derived.shown(said)
    relist(places, subject, event_of(shown, subject))
    return shown, said["at"] == made.written()["at"]


def event_of(shown: Mapping[str, Any], about: Subject | Event) -> Event:
    """The event that a file was made from a recording. `shown`: as `/v1` shows it. `about`: what
    names the recording and its call.
    """
    return Event(
        id=f"derived.{about.recording_id}.{shown['name']}",
        kind=Kind.FILE_DERIVED,
        call_uuid=about.call_uuid,
        recording_id=about.recording_id,
        made=shown["kind"],
        content_type=shown["content_type"],
        bytes=shown["bytes"],
        sha256=shown["sha256"],
        by=shown["who"],
        happened_at=wire.parse_rfc3339(shown["at"]),
    )
