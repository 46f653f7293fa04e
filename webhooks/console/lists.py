"""The pages with lists: recordings, what is not home, notifications, rules."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, fields
from datetime import timedelta
from enum import StrEnum
from typing import Any

from flask import Response, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from webhooks.api import list_query
from webhooks.api.reading import Reader
from webhooks.console.now import Now
from webhooks.console.page import address, rendered, seen
from worker.calls.call import Phase, StopState
from worker.calls.events import Fault
from worker.calls.rules import DailyTime, Rule, Terms
from worker.calls.views import rfc3339

FILTERS = (
    *("phase", "stop", "fault", "rule", "number", "label", "call_uuid", "account", "held"),
    *("since", "until", "q"),
)
_CHOICES = {
    "phase": [p.value for p in Phase],
    "stop": [s.value for s in StopState],
    "fault": [f.value for f in Fault],
    "held": ["true", "false"],
}
_COLUMNS = (
    *("recording_id", "account", "call_uuid", "phase", "started_at", "ended_at", "duration_ms"),
    *("format", "bytes", "sha256", "archive_key", "from", "to", "direction", "fault", "problem"),
    *("held", "restricted", "provider_keeps_until"),
)
_STOP_COLUMNS = (
    *("state", "trigger", "rule", "due_at", "requested_at", "accepted_at", "confirmed_at"),
    *("tail_ms", "attempts"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Lists:
    def __init__(self, reader: Reader, now: Now) -> None:
        self._reader, self._now = reader, now
        self._ledger, self._settings = reader.ledger, reader.settings

    def recordings(self) -> str | AnyResponse:
        """A page of recordings, by the filters of the address; also as JSON and CSV."""
        query = request.args
        if any(value == "" for value in query.values()):
            # A form sends what was left empty, too: such an address is no good to send to others.
            return redirect(address(request.path, query), 303)
        page = self._reader.page()
        views = [seen(view) for view in page.views]
        cursor = list_query.spelled(page.end) if page.end else None
        if query.get("as") == "json":
            return jsonify({"recordings": views, "cursor": cursor})
        if query.get("as") == "csv":
            return Response(_as_csv(views), mimetype="text/csv")
        now = self._ledger.now()
        return rendered(
            "recordings.html",
            views=views,
            query=query,
            filters=[name for name in FILTERS if query.get(name)],
            choices=_CHOICES,
            accounts=list(self._settings().accounts),
            older=address(request.path, query, cursor=cursor) if cursor else None,
            newest=address(request.path, query, cursor=None) if query.get("cursor") else None,
            degraded=page.degraded,
            day_ago=rfc3339(now - timedelta(days=1)),
            hour_ago=rfc3339(now - timedelta(hours=1)),
        )

    def not_home(self) -> str:
        """Recordings that ended and do not come home, by whose fault it is."""
        wanted = request.args.get("fault")
        failing = self._now.board().failing
        asked = [v for v in failing if wanted in {None, v["fault"]}]
        counts = {f.value: sum(v["fault"] == f.value for v in failing) for f in Fault}
        aside = [(owed, tries) for owed, tries in self._ledger.set_aside().items()]
        return rendered(
            "not_home.html",
            views=[seen(v) for v in asked[:200]],
            counts=counts,
            wanted=wanted,
            aside=aside[:200],
        )

    def notifications(self) -> str:
        """The notifications that do not arrive, and the applications that are told."""
        endpoints = self._settings().notify
        return rendered(
            "notifications.html", failing=self._ledger.failing(200), endpoints=endpoints
        )

    def rules(self) -> str:
        """The rules in force, in the order in which they are tried."""
        rules = self._settings().rules
        return rendered(
            "rules.html",
            rules=[(rule.name, _match(rule), _terms(rule.terms)) for rule in rules.rules],
            defaults=_terms(rules.defaults),
            from_file=rules.from_file,
            adopt=_plain(rules.adopt),
        )


def _as_csv(views: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow([*_COLUMNS, *(f"stop_{name}" for name in _STOP_COLUMNS), "stop_evidence"])
    for view in views:
        stop = view["stop"]
        values = [*(view[name] for name in _COLUMNS), *(stop[name] for name in _STOP_COLUMNS)]
        rows.writerow([_cell(value) for value in [*values, " ".join(stop["evidence"])]])
    return out.getvalue()


def _cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula, whoever filled it."""
    is_formula = isinstance(value, str) and value.startswith(_FORMULA)
    return f"'{value}" if is_formula else value


def _match(rule: Rule) -> dict[str, str]:
    said = asdict(rule.match)
    labels = {f"label {name}": value for name, value in said.pop("labels").items()}
    names = {"from_number": "from", "to_number": "to"}
    return {names.get(k, k): v for k, v in said.items() if v is not None} | labels


def _terms(terms: Terms) -> dict[str, str]:
    return {one.name: _plain(getattr(terms, one.name)) for one in fields(terms)}


def _plain(value: Any) -> str:
    """A value of the rules, about as it stands in the file."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, timedelta):
        return _duration(value)
    if isinstance(value, DailyTime):
        return f"{value.at:%H:%M} {value.zone}"
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(inner)}" for key, inner in value.items()) or "nothing"
    if isinstance(value, tuple):
        return ", ".join(map(_plain, value)) or "none"
    return str(value)


def _duration(span: timedelta) -> str:
    seconds = span.total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"
