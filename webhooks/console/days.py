"""The pages of days: a month as a grid, a day with its ledger, and the recordings of a figure."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from typing import Any

from flask import Response, jsonify, request

from webhooks.api.problems import Problem
from webhooks.api.reading import Reader
from webhooks.console import month
from webhooks.console.page import rendered, seen
from worker.archive import days
from worker.archive.filing import Archive
from worker.calls.figure_words import MEANINGS
from worker.catalogue import day_ledger
from worker.catalogue.day_ledger import DayLedger
from worker.errors import CatalogueAway, Conflict, EndtapeError
from worker.ledger.calls import SeenAt

SHOWN = 50  # recordings of a figure on a page
_EVERY_S, _SHARE = 1.0, 20  # a ledger is good for so long, or so many times as long as it took
_KEPT_LEDGERS, _KEPT_DAYS = 8, 2000
_AT_ONCE = 8  # files of closed days that are read from the archive at the same time


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosedDay:
    """What the archive says of a closed day of an account, which never changes."""

    account: str
    said: dict[str, Any]
    sha256: str

    def brief(self) -> ClosedDay:
        """The same without the names of recordings, to be kept."""
        ledger = self.said["ledger"]
        kept = {name: v for name, v in ledger.items() if name != "rows"} if ledger else None
        return replace(self, said={**self.said, "ledger": kept, "missing": []})


class Days:
    def __init__(self, reader: Reader) -> None:
        self._reader, self._ledger, self._settings = reader, reader.ledger, reader.settings
        self._lock = threading.Lock()
        self._ledgers: OrderedDict[tuple[Any, ...], tuple[float, dict[str, Any]]] = OrderedDict()
        self._closed: OrderedDict[tuple[str, date], ClosedDay | None] = OrderedDict()

    # Pages
    # --------------------------------------------------------------------------------------------

    def grid(self) -> str:
        """A month as a grid: the worst state of each day."""
        today, accounts = self._ledger.now().date(), self._reader.accounts()
        shown = _parsed_month(request.args.get("month")) or today.replace(day=1)
        wanted = [day for day in month.days_of(shown) if day <= today]
        self._read_closed(wanted, accounts)
        found = {day: self._state_of(day, today, accounts) for day in wanted}
        before = shown - timedelta(days=1) if shown.year > 1 else None
        last = month.days_of(shown)[-1]
        after = last + timedelta(days=1) if last < today else None
        return rendered(
            "days.html",
            month=shown,
            weeks=month.weeks(shown, found),
            days=[day for day in found.values() if day.state][::-1],
            before=f"{before:%Y-%m}" if before else None,
            after=f"{after:%Y-%m}" if after else None,
            today=today,
            states=month.STATES,
            meanings=MEANINGS,
            **self._of_accounts(),
        )

    def day(self, day: str) -> str | Response:
        """The ledger of a day: as it stood when it was closed; of an open one, and where the query
        says `now`, as it is. Also as JSON and CSV, as it is.
        """
        at, accounts = _parsed_day(day), self._reader.accounts()
        wanted = request.args.get("as")
        if wanted == "json":
            return jsonify(self._ledger_of(at, accounts))
        if wanted == "csv":
            return Response(day_ledger.as_csv(self._ledger_of(at, accounts)), mimetype="text/csv")
        today, closed = self._ledger.now().date(), self._closed_of(at, accounts)
        stood = _stood(at, closed) if len(closed) == len(accounts) else None
        view = stood if stood and not _wants_now() else self._ledger_of(at, accounts)
        return rendered(
            "day.html",
            day=at,
            view=view,
            stood=stood,
            state=month.state_of(view["totals"], is_whole=_is_whole(view)),
            states=month.STATES,
            meanings=MEANINGS,
            reasons=month.counted_reasons(view["rows"]),
            closed=closed,
            standing=self._standing(at, today, is_closed=len(closed) == len(accounts)),
            first_start=self._ledger.first_start(),
            now=_wants_now(),
            before=at - timedelta(days=1) if at > date.min else None,
            after=at + timedelta(days=1) if at < today else None,
            signer=self._settings().signer,
            **self._of_accounts(),
        )

    def _standing(self, day: date, today: date, *, is_closed: bool) -> str:
        """Whether the day is closed, is still to be, or never will be: `closed`, `before` the first
        start, `over`, `today` or `to come`.
        """
        first = self._ledger.first_start()
        if is_closed:
            return "closed"
        if day < today and (first is None or day < first.date()):
            return "before"
        if day < today:
            return "over"
        return "today" if day == today else "to come"

    def figure(self, day: str, figure: str) -> str:
        """The recordings of a figure of a day, and the calls that have none."""
        if figure not in MEANINGS:
            raise Problem(404, "no such figure")
        at, rule = _parsed_day(day), request.args.get("rule")
        start = _parsed_start(request.args.get("start"))
        rows = self._rows_of(at, figure)
        mine = [row for row in rows if rule in {None, row["rule"]}]
        ids = sorted((row["account"], i) for row in mine for i in row[figure]["recordings"])
        some = ids[start : start + SHOWN]
        return rendered(
            "figure.html",
            day=at,
            figure=figure,
            says=MEANINGS[figure],
            rule=rule,
            views=[seen(view) for view in self._views(some)],
            reasons=_reasons(mine) if figure == "unexplained" else None,
            count=len(ids),
            start=start,
            more=start + SHOWN if len(ids) > start + SHOWN else None,
            calls=sorted({i for row in mine for i in row[figure]["calls"]}),
            query=request.args,
        )

    def _rows_of(self, day: date, figure: str) -> list[dict[str, Any]]:
        """The rows that name the recordings of a figure: those of the closed day where they do."""
        accounts = self._reader.accounts()
        closed = self._closed_of(day, accounts)
        stood = _stood(day, closed) if len(closed) == len(accounts) else None
        rows: list[dict[str, Any]] = stood["rows"] if stood and not _wants_now() else []
        if stood is None or _wants_now() or any("recordings" not in row[figure] for row in rows):
            rows = self._ledger_of(day, accounts)["rows"]
        return rows

    def _of_accounts(self) -> dict[str, Any]:
        return {
            "account": request.args.get("account"),
            "accounts": list(self._settings().accounts),
            "query": request.args,
        }

    # What is known of a day
    # --------------------------------------------------------------------------------------------

    def _state_of(self, day: date, today: date, accounts: Sequence[str]) -> month.Day:
        """A closed day as it stood then. Of the others, today and yesterday are computed; of one
        before them, somebody has to ask.
        """
        closed = [one for account in accounts if (one := self._closed.get((account, day)))]
        stood = [one.said["ledger"] for one in closed if one.said["ledger"]]
        if len(closed) == len(accounts) == len(stood):
            totals = month.together(one["totals"] for one in stood)
            whole = all(map(_is_whole, stood))
            state = month.state_of(totals, is_whole=whole)
            return month.Day(day=day, state=state, totals=totals, is_closed=True)
        if day >= today - timedelta(days=1):
            view = self._ledger_of(day, accounts)
            state = month.state_of(view["totals"], is_whole=_is_whole(view))
            return month.Day(day=day, state=state, totals=view["totals"])
        first = self._ledger.first_start()
        return month.Day(day=day, state="open" if first and first.date() <= day else None)

    def _ledger_of(self, day: date, accounts: Sequence[str]) -> dict[str, Any]:
        """The ledger of a day as `/v1/ledger` has it, perhaps some moments old: where it takes long
        to compute, it is kept for longer. Raises LedgerUnavailable.
        """
        with self._lock:
            began, key = time.monotonic(), (day, *accounts)
            until, view = self._ledgers.get(key, (0.0, {}))
            if began >= until:
                reader = DayLedger(
                    ledger=self._ledger,
                    catalogue=self._reader.catalogue,
                    rules=self._settings().rules,
                    live=self._reader.live,
                )
                view = reader.view(day, accounts)
                done = time.monotonic()
                self._ledgers[key] = done + max(_EVERY_S, _SHARE * (done - began)), view
                self._ledgers.move_to_end(key)
                while len(self._ledgers) > _KEPT_LEDGERS:
                    self._ledgers.popitem(last=False)
            return view

    def _views(self, ids: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """These recordings as `/v1` shows them, in their order. Redis is read first."""
        sights = [SeenAt(0, recording_id, account) for account, recording_id in ids]
        live = self._reader.live.views(sights)
        found = {(sight.account, sight.recording_id): view for sight, view in live}
        try:
            for row in self._reader.catalogue.named([one for one in ids if one not in found]):
                found[row.id] = row.view
        except CatalogueAway as error:
            raise Problem(503, f"the catalogue does not answer: {error}") from None
        return [found[one] for one in ids if one in found]

    # Closed days
    # --------------------------------------------------------------------------------------------

    def _read_closed(self, wanted: Sequence[date], accounts: Sequence[str]) -> None:
        """Reads the files of those of these days that are closed and were not read yet."""
        archive = self._archive()
        for account in accounts:
            last = self._ledger.closed_day(account)
            new = [d for d in wanted if last and d <= last.day and (account, d) not in self._closed]
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                read = threads.map(partial(_closed_day, archive, account), new)
                for day, closed in zip(new, read, strict=True):
                    self._closed[account, day] = closed.brief() if closed else None
        while len(self._closed) > _KEPT_DAYS:
            self._closed.popitem(last=False)

    def _closed_of(self, day: date, accounts: Sequence[str]) -> list[ClosedDay]:
        """The day as the archive has it, of those of these accounts that have closed it."""
        archive, found = self._archive(), list[ClosedDay]()
        for account in accounts:
            last = self._ledger.closed_day(account)
            if last and day <= last.day and (closed := _closed_day(archive, account, day)):
                found.append(closed)
        return found

    def _archive(self) -> Archive:
        settings = self._settings()
        return Archive(settings.archive, settings.spool, fallback=settings.fallback)


def _stood(day: date, closed: Sequence[ClosedDay]) -> dict[str, Any] | None:
    """The ledger of a day as it stood when it was closed, of all of these accounts together; None
    where one of them has none.
    """
    ledgers = [one.said["ledger"] for one in closed]
    if not all(ledgers):
        return None
    all_totals = [one["totals"] for one in ledgers]
    # Of several accounts the rate cannot be told: the files have the rates, not what they are of.
    rate = all_totals[0]["consent_capture_rate"] if len(all_totals) == 1 else None
    degraded = [one["degraded"] for one in ledgers if "degraded" in one]
    return {
        "day": day.isoformat(),
        "computed_at": max(one["computed_at"] for one in ledgers),
        "rows": [row for one in ledgers for row in one["rows"]],
        "totals": {
            **month.together(all_totals),
            "consent_capture_rate": rate,
            "saved_per_month": round(sum(one["saved_per_month"] for one in all_totals), 6),
        },
        "call_records": {a: told for one in ledgers for a, told in one["call_records"].items()},
        **({"degraded": degraded[0]} if degraded else {}),
    }


def _reasons(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """Why each recording, by account and id, is unexplained."""
    return {
        (row["account"], name): ", ".join(said)
        for row in rows
        for name, said in month.reasons(row).items()
    }


def _wants_now() -> bool:
    return "now" in request.args


def _closed_day(archive: Archive, account: str, day: date) -> ClosedDay | None:
    """A closed day; None where the archive has none, as before the first. Raises Problem 503."""
    try:
        content = archive.store.read(f"{account}/{days.day_name(day)}")
        said = days.read(content)
    except (FileNotFoundError, Conflict, ValueError):
        return None
    except (EndtapeError, OSError):
        raise Problem(503, "the archive does not answer; `/readyz` says why") from None
    return ClosedDay(account=account, said=said, sha256=hashlib.sha256(content).hexdigest())


def _is_whole(view: dict[str, Any]) -> bool:
    return "degraded" not in view and not any(o["problem"] for o in view["call_records"].values())


def _parsed_day(text: str) -> date:
    """A day in the path, like `2026-09-14`. Raises Problem 404 for what is none."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise Problem(404, "a day (UTC) is like 2026-09-14")
    return day


def _parsed_month(text: str | None) -> date | None:
    """A month in the query, like `2026-09`. Raises Problem 400 for what is none."""
    if text is None:
        return None
    try:
        return _parsed_day(f"{text}-01")
    except Problem:
        raise Problem(400, "month: must be a month like 2026-09", field="month") from None


def _parsed_start(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise Problem(400, "start: must be a whole number", field="start")
    return int(text)
