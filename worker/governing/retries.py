"""What a person wants tried again, whoever knows it: Redis, or the catalogue alone. Of a recording
that was given up and forgotten, Redis is told again what the catalogue says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from worker import wire
from worker.calls.call import Phase
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty, Obligation
from worker.catalogue.database import Catalogue
from worker.catalogue.rows import Row
from worker.errors import Conflict, Gone, LedgerUnavailable
from worker.ledger.client import Ledger
from worker.ledger.recording import Report
from worker.ledger.whose import find_recording


@dataclass(frozen=True, kw_only=True, slots=True)
class ToRetry:
    """A recording that is not home. `restored`: what Redis has to be told first, in this order."""

    owed: Obligation
    restored: tuple[Event, ...] = ()


def find(
    ledger: Ledger,
    catalogue: Catalogue,
    accounts: Iterable[str],
    recording_id: str,
    account: str | None = None,
) -> ToRetry | None:
    """The recording of this id, from the first of these accounts that knows it; None where none
    does. `account`: whose row of the catalogue is meant, where that matters.

    Raises Gone where it is erased, Conflict where it is archived, LedgerUnavailable, and
    CatalogueAway where Redis does not know it.
    """
    known = find_recording(ledger, accounts, recording_id)
    if known:
        call, recording = known
        key = recording.archived.archive_key if recording.archived else None
        _refuse(erased=bool(recording.erasing), archived=bool(recording.archived), key=key)
        return ToRetry(owed=_fetch(call.account, call.call_uuid, recording_id))
    row = catalogue.find(recording_id, account)
    if row is None:
        return None
    view = row.view
    _refuse(erased=_is_erased(row), archived=view["phase"] == Phase.ARCHIVED, key=row.key)
    return ToRetry(
        owed=_fetch(view["account"], view["call_uuid"], recording_id),
        restored=tuple(_given_up(row)),
    )


def restore(ledger: Ledger, catalogue: Catalogue, found: ToRetry) -> None:
    """Tell Redis what it has forgotten. Harmless to repeat: where a process dies after it, the
    recording is fetched once.

    Raises Gone where it was ordered to be erased meanwhile; LedgerUnavailable, and CatalogueAway.
    """
    if not found.restored:
        return
    owed = found.owed
    for outcome in ledger.record_each(
        [Report(account=owed.account, event=e) for e in found.restored]
    ):
        if isinstance(outcome, LedgerUnavailable):
            raise outcome
    row = catalogue.find(owed.recording_id or "", owed.account)
    if row and _is_erased(row):
        ledger.ensure_due([replace(owed, duty=Duty.ERASE)])  # it takes back what we told
        raise Gone("it is erased")


def _is_erased(row: Row) -> bool:
    """Whether its tombstone stands."""
    return row.view["phase"] == Phase.ERASED or bool(row.view["erased"])


def _refuse(*, erased: bool, archived: bool, key: str | None) -> None:
    if erased:
        raise Gone("it is erased")
    if archived:
        raise Conflict(f"it is archived already, as {key}")


def _fetch(account: str, call_uuid: str, recording_id: str) -> Obligation:
    return Obligation(
        duty=Duty.FETCH, account=account, call_uuid=call_uuid, recording_id=recording_id
    )


def _given_up(row: Row) -> Iterator[Event]:
    """What the catalogue says of a recording that was given up. It ended long ago, so it must never
    look as if it ran: its end comes first.
    """
    view = row.view
    known = Event(
        id=f"restored.{view['recording_id']}",
        kind=Kind.RECORDING_LISTED,
        call_uuid=view["call_uuid"],
        recording_id=view["recording_id"],
        first_seen_at=wire.parse_rfc3339(view["first_seen_at"]),
        started_at=wire.parse_rfc3339(view["started_at"]),
        ended_at=wire.parse_rfc3339(view["ended_at"]),
        by="catalogue",
    )
    yield replace(
        known,
        id=f"absence.{view['recording_id']}",
        kind=Kind.ABSENCE_FILED,
        started_at=None,
        ended_at=None,
        archive_key=row.key,
    )
    if view["held"]:
        # Every fact about it in the archive has a higher number.
        yield Event(
            id=f"hold.{view['recording_id']}.0",
            kind=Kind.RECORDING_HELD,
            call_uuid=known.call_uuid,
            recording_id=known.recording_id,
            by="catalogue",
        )
    if known.ended_at is None:  # the provider never listed it
        yield Event(
            id=f"over.{view['recording_id']}",
            kind=Kind.CALL_ENDED,
            call_uuid=known.call_uuid,
            signed=True,
            by="catalogue",
        )
        yield replace(known, kind=Kind.RECORDING_ANNOUNCED)
    else:
        yield known
