"""Enters into the history what callers do to recordings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog

from webhooks.api.keys import caller
from worker import logs
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


def enter_play(ledger: Ledger, view: Mapping[str, Any], *, reason: str | None = None) -> None:
    """Enters a play of a recording, given as `/v1` shows it: one entry for a recording, person and
    ten minutes.

    Raises LedgerUnavailable where it could not be entered and the recording is restricted: then it
    must not be played.
    """
    try:
        entry = _entry(Deed.PLAY, view["call_uuid"], view["recording_id"], reason)
        ledger.enter(view["account"], replace(entry, restricted=view["restricted"]))
    except LedgerUnavailable as error:
        if view["restricted"]:
            raise
        if logs.seldom("history", error):
            log.warning(
                "a play is not in the history", error=str(error), recording_id=view["recording_id"]
            )


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
