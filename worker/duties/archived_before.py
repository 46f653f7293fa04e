"""What the archive knows of a recording that the ledger does not know: a receipt, or the statement
that it was given up, or its tombstone. Each means that nothing is left to fetch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from worker import wire
from worker.archive import derived, fact_files, facts
from worker.archive.facts import Fact, FactKind
from worker.archive.filing import Archive
from worker.archive.keys import key_of
from worker.calls import consent
from worker.calls.call import Consent
from worker.calls.events import Event, Fault, Kind
from worker.calls.restriction import NO_CONSENT
from worker.errors import EndtapeError
from worker.governing import derivations


def archived_before(archive: Archive, account: str, row: Event) -> list[Event]:
    """The events that say how a recording was finished, which the provider lists as in `row`. None
    where the archive says nothing that can be read, or a signature is missing: then fetching the
    recording decides.
    """
    try:
        # Neither name has a part of the extension, so any extension will do.
        place = key_of(
            account,
            row.recording_id or "",
            started_at=row.started_at,
            ended_at=row.ended_at,
            duration_s=row.duration_s,
            added_at=row.added_at,
            extension="absent",
        )
        if tombstone := archive.tombstone(place):
            return _erased(tombstone, place, row)
        try:
            found = with_facts(archive, account, *_archived(archive, place, row))
            made = derived.all_of(archive.store, place)
            return [*found, *(derivations.event_of(one, row) for one in made)]
        except FileNotFoundError:
            known = fact_files.read_all(archive.store, account, row.recording_id or "")
            return [*_given_up(archive, place, row), *_holds(known, row)]
    except (EndtapeError, OSError, ValueError, TypeError, KeyError):
        return []


def with_facts(
    archive: Archive,
    account: str,
    archived: Event,
    receipt: Mapping[str, Any],
    consents: Sequence[Consent] = (),
) -> list[Event]:
    """The event that a recording is archived, as the receipt that stands has it, and what the facts
    about it say. `consents`: what Redis knows itself. Raises what the archive raises.
    """
    row, limits = archived, receipt.get("restriction") or {}
    known = fact_files.read_all(archive.store, account, row.recording_id or "")
    consent_by = wire.parse_rfc3339(limits.get("consent_by"))
    reasons = facts.restricted_by(receipt, known)
    if consent_by:  # what was said of consent decides, and that is restored, too
        reasons = [why for why in reasons if why != NO_CONSENT]
    as_filed = replace(
        archived,
        first_seen_at=wire.parse_rfc3339(receipt.get("first_seen_at")),
        overdue_since=wire.parse_rfc3339((receipt.get("stop") or {}).get("overdue_since")),
        retain_until=wire.parse_rfc3339((receipt.get("retain") or {}).get("until")),
        consent_by=consent_by,
        tail_limit_s=None,
        restricted_by=tuple(reasons),
        digest=None,
    )
    restored = [
        as_filed,
        *_holds(known, row),
        *(
            _said(said, row)
            for said in facts.statements(receipt, known)
            if not _is_in(consents, said)
        ),
    ]
    if any(fact.kind in {FactKind.CONSENT, FactKind.RESTRICTED} for fact in known):
        # Without a digest: the duty FACTS compares once, and what reads rows reads the facts.
        restored.append(
            Event(
                id=f"facts.{row.recording_id}.{known[-1].n}",
                kind=Kind.FACTS_FILED,
                call_uuid=row.call_uuid,
                recording_id=row.recording_id,
            )
        )
    return restored


def _is_in(consents: Sequence[Consent], said: Mapping[str, Any]) -> bool:
    """Whether Redis knows a statement about consent; facts have it without numbers."""
    plain = consent.without_numbers(said)
    return any(plain == consent.without_numbers(consent.statement(one)) for one in consents)


def _said(said: Mapping[str, Any], row: Event) -> Event:
    """A statement about consent, the same for each recording of the call."""
    given = consent.of_statement(said)
    body = {name: said[name] for name in ("kind", "by", "evidence") if said.get(name)}
    digest = hashlib.sha256(json.dumps(dict(said), sort_keys=True).encode()).hexdigest()[:12]
    return Event(
        id=f"consent.{digest}",
        kind=Kind.CONSENT_GIVEN if given.given else Kind.CONSENT_WITHDRAWN,
        call_uuid=row.call_uuid,
        happened_at=given.at,
        body=body or None,
        by="archive",
    )


def _archived(archive: Archive, place: str, row: Event) -> tuple[Event, dict[str, Any]]:
    """That it is archived, and the receipt that says so."""
    receipt = archive.read_receipt(place)
    if receipt.get("signature"):  # a crash may have left the signature out: then fetch it again
        archive.signature(place)
    media: dict[str, Any] = receipt["media"]
    container = str(media["codec"] if media["container"] == "mp3" else media["container"])
    extension = container.replace("unknown", "bin")
    key = archive.audio_of(f"{place.rpartition('.')[0]}.{extension}", str(media["sha256"]))
    archived = Event(
        id=f"archived.{row.recording_id}",
        kind=Kind.MEDIA_ARCHIVED,
        call_uuid=row.call_uuid,
        recording_id=row.recording_id,
        archive_key=key,
        sha256=str(media["sha256"]),
        bytes=int(media["bytes"]),
        format=extension,
    )
    return archived, receipt


def _holds(known: Sequence[Fact], row: Event) -> list[Event]:
    """The hold that counts, where there is one."""
    last = facts.last_of(known, FactKind.HOLD) if facts.is_held(known) else None
    if last is None:
        return []
    return [
        Event(
            id=f"{last.kind}.{row.recording_id}.{last.n}",
            kind=Kind.RECORDING_HELD,
            call_uuid=row.call_uuid,
            recording_id=row.recording_id,
            reason=last.reason,
            by=last.who,
        )
    ]


def _erased(tombstone: dict[str, Any], place: str, row: Event) -> list[Event]:
    """That it was erased. The provider lists it all the same, so it is erased again."""
    begun = Event(
        id=f"erase.{row.recording_id}",
        kind=Kind.ERASE_BEGUN,
        call_uuid=row.call_uuid,
        recording_id=row.recording_id,
        first_seen_at=wire.parse_rfc3339(tombstone.get("first_seen_at")),
        archive_key=place,
        sha256=tombstone.get("sha256"),
        rule=tombstone.get("rule"),
        reason=tombstone.get("reason"),
        by=tombstone.get("who"),
    )
    return [begun, replace(begun, id=f"erased.{row.recording_id}", kind=Kind.RECORDING_ERASED)]


def _given_up(archive: Archive, place: str, row: Event) -> list[Event]:
    absence = json.loads(archive.absence(place))
    gave_up = Event(
        id=f"gave-up:{row.recording_id}",
        kind=Kind.GAVE_UP,
        call_uuid=row.call_uuid,
        recording_id=row.recording_id,
        first_seen_at=wire.parse_rfc3339(absence.get("first_seen_at")),
        reason=absence["reason"],
        fault=Fault(absence["fault"]),
    )
    filed = replace(
        gave_up,
        id=f"absence.{row.recording_id}",
        kind=Kind.ABSENCE_FILED,
        reason=None,
        fault=None,
        archive_key=place,
    )
    return [gave_up, filed]
