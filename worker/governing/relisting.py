"""Has lists show what the archive says anew of a recording."""

from __future__ import annotations

from worker.calls.events import Event
from worker.calls.obligations import Duty, Obligation
from worker.catalogue.rebuild import row_of
from worker.governing.places import Places
from worker.governing.subject import Subject


def relist(places: Places, subject: Subject, event: Event) -> None:
    """Record the event where Redis knows the recording; its row is entered soon. Else enter its row
    anew, from the archive. Harmless to repeat.

    Raises LedgerUnavailable, CatalogueAway, and as `row_of` does.
    """
    if not subject.is_live:
        row = row_of(places.archive, subject.key)
        places.catalogue.enter([row] if row else [])
        return
    places.ledger.record(subject.account, event)
    index = Obligation(duty=Duty.INDEX, account=subject.account, call_uuid=subject.call_uuid)
    places.ledger.ensure_due([index])
