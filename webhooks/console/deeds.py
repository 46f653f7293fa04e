"""The page of who did what to a recording: on open days from Redis, on closed ones from the
archive.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

from flask import request

from webhooks.api.problems import Problem
from webhooks.api.reading import Reader
from webhooks.console.page import rendered
from worker import wire
from worker.archive import days
from worker.archive.filing import Archive
from worker.calls.views import rfc3339
from worker.errors import Conflict, EndtapeError
from worker.ledger.client import Ledger

_DAYS = 31  # closed days that are read for a page
_AT_ONCE = 8
_BEFORE = timedelta(hours=1)  # a call may be stopped before its recording is known


class Deeds:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def shown(self, recording_id: str) -> str:
        """A page of deeds, the last first; the query says before which closed day."""
        reader, view = self._reader, self._reader.view(recording_id)
        found = [] if "before" in request.args else list(on_open_days(reader.ledger, view))
        closed_days = self._closed_days(view)
        read = closed_days[:_DAYS]
        settings = reader.settings()
        archive = Archive(settings.archive, settings.spool, fallback=settings.fallback)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            for deeds in threads.map(partial(_on_closed_day, archive, view), read):
                found += deeds
        return rendered(
            "deeds.html",
            view=view,
            deeds=found,
            read=read,
            earlier=read[-1].isoformat() if len(closed_days) > _DAYS else None,
        )

    def _closed_days(self, view: Mapping[str, Any]) -> list[date]:
        """The closed days that are asked for, the last first, down to the recording's first."""
        last, began = self._last(view["account"]), view["started_at"] or view["first_seen_at"]
        first = wire.parse_rfc3339(began)
        if last is None or first is None:
            return []
        return [last - timedelta(days=n) for n in range((last - first.date()).days + 1)]

    def _last(self, account: str) -> date | None:
        """The last closed day that is asked for. Raises Problem 400."""
        closed, text = self._reader.ledger.closed_day(account), request.args.get("before")
        try:
            before = date.fromisoformat(text) - timedelta(days=1) if text else date.max
        except (ValueError, OverflowError):
            raise Problem(400, "before: must be a day like 2026-09-14", field="before") from None
        return min(closed.day, before) if closed else None


def on_open_days(ledger: Ledger, view: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What was done to a recording on days that are not closed yet, the last first."""
    entries = ledger.history_about(
        view["account"],
        [view["recording_id"], view["call_uuid"]],
        since=datetime.fromisoformat(view["first_seen_at"]) - _BEFORE,
    )
    found = ({**entry.said, "at": rfc3339(entry.at)} for entry in entries)
    return (one for one in found if _is_about(one, view))


def _on_closed_day(archive: Archive, view: Mapping[str, Any], day: date) -> list[dict[str, Any]]:
    """The same of a closed day. Raises Problem 503 where the archive does not answer."""
    try:
        content = archive.store.read(f"{view['account']}/{days.history_name(day)}")
    except (FileNotFoundError, Conflict):
        return []
    except (EndtapeError, OSError):
        raise Problem(503, "the archive does not answer; `/readyz` says why") from None
    return [one for one in list(_lines(content))[::-1] if _is_about(one, view)]


def _lines(content: bytes) -> Iterator[dict[str, Any]]:
    """What can be read; whether the chain holds, `endtape verify` finds out."""
    for line in content.splitlines():
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(said, dict):
            yield said


def _is_about(said: Mapping[str, Any], view: Mapping[str, Any]) -> bool:
    recording_id = said.get("recording_id")
    is_of_call = recording_id is None and said.get("call_uuid") == view["call_uuid"]
    return bool(is_of_call or recording_id == view["recording_id"])
