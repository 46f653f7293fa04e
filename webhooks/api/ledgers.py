"""The completeness ledger of a day, as JSON or CSV."""

from __future__ import annotations

from datetime import date

from flask import Response, jsonify, request
from werkzeug.datastructures import MIMEAccept

from webhooks.api.problems import Problem
from webhooks.api.reading import Reader
from worker.catalogue import day_ledger
from worker.catalogue.day_ledger import DayLedger

_JSON, _CSV = "application/json", "text/csv"


class Ledgers:
    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def ledger(self) -> Response:
        """The ledger of a day, today's where none is named; CSV where `Accept` prefers that."""
        reader = self.reader
        day = _day(request.args.get("day")) or reader.ledger.now().date()
        found = DayLedger(
            ledger=reader.ledger,
            catalogue=reader.catalogue,
            rules=reader.settings().rules,
            live=reader.live,
        )
        view = found.view(day, reader.accounts())
        # `text/csv; charset=utf-8` asks for CSV, too, which has that
        asked = [(kind.partition(";")[0].strip(), q) for kind, q in request.accept_mimetypes]
        if MIMEAccept(asked).best_match([_JSON, _CSV], default=_JSON) == _CSV:
            answer = Response(day_ledger.as_csv(view), mimetype=_CSV)
        else:
            answer = jsonify(view)
        answer.vary.add("Accept")
        return answer


def _day(text: str | None) -> date | None:
    """The day that the query names. Raises Problem 400 for what is none."""
    try:
        day = date.fromisoformat(text) if text else None
    except ValueError:
        day = None
    if text and (day is None or day.isoformat() != text):
        raise Problem(400, "day: a day (UTC) like 2026-09-14", field="day")
    return day
