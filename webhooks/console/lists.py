"""The pages with lists: recordings, what is not home, notifications."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from datetime import timedelta
from typing import Any

from flask import Response, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from webhooks.api import list_query
from webhooks.api.problems import Problem
from webhooks.api.reading import Reader
from webhooks.console.asked import FILTERS, with_instants
from webhooks.console.now import Now
from webhooks.console.page import address, rendered, seen, session
from worker.calls.call import Phase, StopState
from worker.calls.events import Fault
from worker.calls.views import rfc3339
from worker.catalogue.csv_cell import cell
from worker.catalogue.listing import Page
from worker.ledger import backlog, bulk
from worker.ledger.backlog import Standing

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
_SHOWN = 200  # rows of what is not home


class Lists:
    def __init__(self, reader: Reader, now: Now) -> None:
        self._reader, self._now = reader, now
        self._ledger, self._settings = reader.ledger, reader.settings

    def recordings(self) -> AnyResponse:
        """A page of recordings, by the filters of the address; also as JSON and CSV. A filter that
        cannot be is told at the form, which keeps the others.
        """
        query, wanted_as = request.args, request.args.get("as")
        try:
            spelled = with_instants(query)
            if spelled != query or any(value == "" for value in query.values()):
                # A form sends what was left empty, too: such an address is no good to send to
                # others, nor is one with a day where `/v1` takes an instant.
                return redirect(address(request.path, spelled), 303)
            page = self._reader.page()
        except Problem as problem:
            if problem.field not in FILTERS or wanted_as:
                raise
            return Response(self._list(Page(views=[]), wrong=problem.detail), 400)
        if wanted_as == "json":
            cursor = list_query.spelled(page.end) if page.end else None
            views = [seen(view) for view in page.views]
            return jsonify({"recordings": views, "cursor": cursor})
        if wanted_as == "csv":
            return Response(_as_csv([seen(view) for view in page.views]), mimetype="text/csv")
        return Response(self._list(page))

    def _list(self, page: Page, *, wrong: str | None = None) -> str:
        query, now = request.args, self._ledger.now()
        cursor = list_query.spelled(page.end) if page.end else None
        return rendered(
            "recordings.html",
            views=[seen(view) for view in page.views],
            wrong=wrong,
            query=query,
            filters=[name for name in FILTERS if query.get(name)],
            choices=_CHOICES,
            accounts=list(self._settings().accounts),
            older=address(request.path, query, cursor=cursor) if cursor else None,
            newest=address(request.path, query, cursor=None) if query.get("cursor") else None,
            degraded=page.degraded,
            under_way=self._under_way(),
            day_ago=rfc3339(now - timedelta(days=1)),
            hour_ago=rfc3339(now - timedelta(hours=1)),
        )

    def not_home(self) -> str:
        """Recordings that ended and do not come home, by whose fault it is."""
        wanted = request.args.get("fault")
        failing = self._now.board().failing
        of_fault = [v for v in failing if wanted in {None, v["fault"]}]
        counts = {f.value: sum(v["fault"] == f.value for v in failing) for f in Fault}
        shown = of_fault[:_SHOWN]
        aside = list(self._ledger.set_aside().items())
        return rendered(
            "not_home.html",
            views=[seen(v) for v in shown],
            more=len(of_fault) - len(shown),
            standings=self._standings(shown),
            now=self._ledger.now(),
            counts=counts,
            wanted=wanted,
            aside=aside[:_SHOWN],
            under_way=self._under_way(),
        )

    def _standings(self, views: list[dict[str, Any]]) -> dict[tuple[str, str], Standing]:
        """How often each was tried, and when the next try is, by account and recording."""
        found = dict[tuple[str, str], Standing]()
        for account in {view["account"] for view in views}:
            calls = defaultdict[str, list[str]](list)
            for view in (v for v in views if v["account"] == account):
                calls[view["call_uuid"]].append(view["recording_id"])
            standings = backlog.standings(self._ledger, account, calls)
            found |= {(account, recording_id): one for recording_id, one in standings.items()}
        return found

    def _under_way(self) -> list[str]:
        """The orders for many that wait for who may go on with them."""
        return bulk.under_way(self._ledger) if session().acts else []

    def notifications(self) -> str:
        """The notifications that do not arrive, and the applications that are told."""
        failing, endpoints = self._ledger.failing(200), self._settings().notify
        fails = {one.endpoint for one in failing}
        return rendered(
            "notifications.html",
            failing=failing,
            more=max(0, self._ledger.failing_count() - len(failing)),
            told=[(e, self._ledger.down_until(e.name), e.name in fails) for e in endpoints],
        )


def _as_csv(views: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow([*_COLUMNS, *(f"stop_{name}" for name in _STOP_COLUMNS), "stop_evidence"])
    for view in views:
        stop = view["stop"]
        values = [*(view[name] for name in _COLUMNS), *(stop[name] for name in _STOP_COLUMNS)]
        rows.writerow([cell(value) for value in [*values, " ".join(stop["evidence"])]])
    return out.getvalue()
