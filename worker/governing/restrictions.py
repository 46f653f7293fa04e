"""Filing what is told of consent after a recording was archived, and whether that restricts it.

The receipt says what held when it was written. What differs since is a fact in the archive, so
that a catalogue that is built anew, and a Redis that was emptied, say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from worker import wire
from worker.archive import fact_files, facts
from worker.archive.facts import Fact, FactKind
from worker.calls import consent, restriction
from worker.calls.call import Call, Consent
from worker.calls.events import Kind
from worker.calls.rules import Rules
from worker.calls.views import consent_view, recording_view
from worker.catalogue.rebuild import row_of
from worker.catalogue.rows import Row
from worker.errors import Gone
from worker.governing.facts import write
from worker.governing.places import Places

_SAYS = (Kind.CONSENT_GIVEN, Kind.CONSENT_WITHDRAWN)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Said:
    """What holds of a recording: the consent of its call, as `/v1` shows it, and why it is
    restricted. `who`: by whom the restriction is, `teller` told the consent.
    """

    consent: Mapping[str, Any] | None
    restricted_by: list[str]
    who: str
    teller: str


def file_changes(places: Places, call: Call, rules: Rules, now: datetime) -> None:
    """Write what holds of the call's archived recordings and differs from what their receipts and
    facts say. Harmless to repeat.

    Raises Unstored, OSError, Conflict and Unsigned where archive or key cannot be used, ValueError
    for a receipt that cannot be read, LedgerUnavailable.
    """
    rule = rules.choose(call)[0]
    for recording_id, recording in call.recordings.items():
        done = recording.archived
        if done is None or not done.archive_key or recording.erasing:
            continue
        if restriction.may_have_changed(call, recording, now):
            view = recording_view(call, recording, rules, now)
            said = _Said(
                consent=view["consent"],
                restricted_by=view["restricted_by"],
                who=f"rule:{rule}",
                teller=_teller(call),
            )
            _file(places, call.account, recording_id, done.archive_key, said)


def file_past(places: Places, call: Call, now: datetime) -> list[Row]:
    """The same for the recordings of the call that only the catalogue knows. Returns their new
    rows. Raises as `file_changes` does, and CatalogueAway.
    """
    if not call.consents:
        return []
    rows = []
    for row in places.catalogue.of_call(call.call_uuid, call.account):
        is_past = row.id[1] not in call.recordings and row.view["phase"] == "archived"
        if is_past and (said := _of_past(places, call, row, now)):
            _file(places, call.account, row.id[1], row.key, said)
            found = row_of(places.archive, row.key)
            rows += [found] if found else []
    return rows


def _of_past(places: Places, call: Call, row: Row, now: datetime) -> _Said | None:
    """What holds of such a recording. None where its receipt asks for no consent."""
    receipt = places.archive.read_receipt(row.key)
    needed_by = wire.rfc3339((receipt.get("restriction") or {}).get("consent_by") or "")
    started_at = wire.rfc3339(receipt.get("started_at") or row.view["first_seen_at"])
    known = fact_files.read_all(places.archive.store, call.account, row.id[1])
    before = _consent(facts.consent_of(known, receipt.get("consent")))
    told = sorted([*before, *call.consents], key=lambda one: one.at)
    whole = replace(call, consents=tuple(told))
    reasons = set(facts.restricted_by(known, receipt)) - {restriction.NO_CONSENT}
    if needed_by and started_at:
        lacks_from = consent.lacks_from(whole, started_at, needed_by)
        reasons |= {restriction.NO_CONSENT} if lacks_from and lacks_from <= now else set()
    rule = (receipt.get("stop") or {}).get("rule") or "defaults"
    return _Said(
        consent=consent_view(whole),
        restricted_by=sorted(reasons, reverse=True),
        who=f"rule:{rule}",
        teller=_teller(call),
    )


def _consent(said: Mapping[str, Any] | None) -> list[Consent]:
    """What was said of consent before, as far as that is known."""
    at = wire.rfc3339(said.get("at") or "") if said else None
    if said is None or at is None:
        return []
    given = not said.get("withdrawn")
    names = ("kind", "by", "evidence")
    return [Consent(at=at, given=given, **{name: said.get(name) for name in names})]


def _file(places: Places, account: str, recording_id: str, key: str, said: _Said) -> None:
    receipt = places.archive.read_receipt(key)
    known = fact_files.read_all(places.archive.store, account, recording_id)
    fact = Fact(
        account=account,
        recording_id=recording_id,
        kind=FactKind.CONSENT,
        at=places.ledger.now(),
        who=said.teller,
    )
    told = _plain(said.consent)
    try:
        if told and told != _plain(facts.consent_of(known, receipt.get("consent"))):
            write(places, replace(fact, particulars={"consent": told}))
        if set(said.restricted_by) != set(facts.restricted_by(known, receipt)):
            on = {"on": bool(said.restricted_by), "restricted_by": said.restricted_by}
            restricted = replace(fact, kind=FactKind.RESTRICTED, who=said.who, particulars=on)
            write(places, restricted)
    except Gone:
        pass  # it is being erased


def _plain(said: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A consent without telephone numbers, which stand in receipts only."""
    if said is None:
        return None
    return {
        name: wire.without_numbers(value) if isinstance(value, str) else value
        for name, value in said.items()
    }


def _teller(call: Call) -> str:
    """Who told us of the consent last."""
    told = [event.by for event in call.events if event.kind in _SAYS and event.by]
    return told[-1] if told else "api"
