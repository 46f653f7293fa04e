"""Enters into the history what callers do to recordings."""

from __future__ import annotations

import structlog

from webhooks.api.keys import caller
from worker import logs
from worker.calls.call import Call
from worker.calls.events import Event
from worker.calls.history import Deed, Entry
from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger

log = structlog.get_logger()


def enter_order(ledger: Ledger, account: str, what: Deed, order: Event) -> None:
    """Enters an order that is about to be recorded; a repeat of it is entered once. So an order
    that a crash kept from being recorded may stand here. Raises LedgerUnavailable.
    """
    entry = _entry(what, order.call_uuid, order.recording_id, order.reason)
    ledger.enter(account, entry, order=order.id)


def enter_play(
    ledger: Ledger, call: Call, recording_id: str, *, restricted: bool, reason: str | None = None
) -> None:
    """Enters a play, which is one entry a recording, person and ten minutes.

    Raises LedgerUnavailable where it could not be entered and the recording is restricted: then it
    must not be played.
    """
    try:
        ledger.enter(call.account, _entry(Deed.PLAY, call.call_uuid, recording_id, reason))
    except LedgerUnavailable as error:
        if restricted:
            raise
        if logs.seldom("history", error):
            log.warning("a play is not in the history", error=str(error), recording_id=recording_id)


def _entry(what: Deed, call_uuid: str, recording_id: str | None, reason: str | None) -> Entry:
    by = caller()
    return Entry(
        what=what,
        who=by.who,
        claimed=by.claimed,
        call_uuid=call_uuid,
        recording_id=recording_id,
        reason=reason,
    )
