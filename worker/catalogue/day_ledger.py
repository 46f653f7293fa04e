"""The completeness ledger of a UTC day: read anew at each request, from Redis and the catalogue."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any

from worker.calls import completeness
from worker.calls.completeness import FIGURES, AnsweredCall
from worker.calls.replay import replay
from worker.calls.rules import Rules
from worker.calls.views import rfc3339
from worker.catalogue.csv_cell import cell
from worker.catalogue.database import Catalogue
from worker.catalogue.live import Live
from worker.errors import CatalogueAway
from worker.ledger import call_records
from worker.ledger.client import Ledger

# Clocks differ: a recording may be first seen a little before it began, by the provider's clock.
_SKEW = timedelta(hours=1)
_AT_ONCE = 200
# The figures whose recordings a closed day names; of the others it has the counts.
_NAMED = tuple(f for f in FIGURES if f not in {"expected", "archived", "verified"})


@dataclass(frozen=True, kw_only=True, slots=True)
class DayLedger:
    """Reads the ledger of days. Raises LedgerUnavailable. `live`: where a process keeps what it has
    replayed of live recordings.
    """

    ledger: Ledger
    catalogue: Catalogue
    rules: Rules
    live: Live | None = None

    def view(self, day: date, accounts: Iterable[str]) -> dict[str, Any]:
        """The ledger of a day, as `/v1/ledger` shows it. `degraded`: why finished recordings are
        missing from it, where they are.
        """
        now, accounts = self.ledger.now(), list(accounts)
        views, degraded = self._views(day, accounts)
        calls, told = list[AnsweredCall](), dict[str, Any]()
        for account in accounts:
            known, told[account] = self._calls(account, day)
            calls += known
        recorded = self._recorded(calls, {view["call_uuid"] for view in views})
        rows = completeness.rows_of(views, calls, self.rules, now, recorded=recorded)
        return {
            "day": day.isoformat(),
            "computed_at": rfc3339(now),
            "rows": [row.view() for row in rows],
            "totals": completeness.totals(rows),
            "call_records": told,
            **({"degraded": f"catalog: {degraded}"} if degraded else {}),
        }

    def _views(self, day: date, accounts: Sequence[str]) -> tuple[list[dict[str, Any]], str | None]:
        """The recordings that began that day. Redis is read before the catalogue, so what moves
        from one to the other in between is found in one of them.
        """
        found = dict[tuple[str, str], dict[str, Any]]()
        # The first day of all has no hour before it.
        began = max(datetime.combine(day, time(), UTC), datetime.min.replace(tzinfo=UTC) + _SKEW)
        live = self.live or Live(self.ledger, lambda: self.rules)
        sights = self.ledger.live(accounts, since=began - _SKEW)
        while some := list(islice(sights, _AT_ONCE)):
            for sight, view in live.views(some):
                if str(view["started_at"]).startswith(day.isoformat()):
                    found[sight.account, sight.recording_id] = view
        degraded = None
        try:
            for account in accounts:
                for row in self.catalogue.of_day(account, day):
                    found.setdefault(row.id, row.view)
        except CatalogueAway as error:
            degraded = str(error)
        return list(found.values()), degraded

    def _calls(self, account: str, day: date) -> tuple[list[AnsweredCall], dict[str, Any]]:
        """The answered calls of a day, and how well they are known."""
        calls, read_to = call_records.of_day(self.ledger, account, day)
        needed = self.rules.expects_every
        problem = call_records.progress(self.ledger, account).problem if needed else None
        if needed and read_to is None:
            problem = problem or "the provider's call records of that day were not read"
        return calls, {"needed": needed, "read_to": rfc3339(read_to), "problem": problem}

    def _recorded(self, calls: Sequence[AnsweredCall], known: set[str]) -> frozenset[str]:
        """Those of these calls that have a recording which began on another day, or whose A-leg
        has one.
        """
        found = set[str]()
        for account in {call.account for call in calls}:
            asked = [c for c in calls if c.account == account and c.call_uuid not in known]
            legs = {c.call_uuid: self.ledger.a_leg(account, c.call_uuid) for c in asked}
            logs = self.ledger.logs(account, set(legs.values()))
            with_one = {i for i, e in logs.items() if replay(account, i, e).recordings} | known
            try:
                with_one |= self.catalogue.recorded(account, [*legs.values()])
            except CatalogueAway:
                with_one |= legs.keys()  # nobody knows, so none is said to be missing
            found |= {call for call, leg in legs.items() if leg in with_one}
        return frozenset(found)


def brief(view: Mapping[str, Any]) -> dict[str, Any]:
    """The ledger as a closed day carries it: all counts, and the recordings of each figure that
    somebody may have to look into.
    """
    rows = [
        {
            name: value if name in _NAMED or name not in FIGURES else {"count": value["count"]}
            for name, value in row.items()
        }
        for row in view["rows"]
    ]
    return {**view, "rows": rows}


def is_clean(view: Mapping[str, Any]) -> bool:
    """Whether every row is explained, and nothing kept the ledger from being whole."""
    return not view["totals"]["unexplained"] and "degraded" not in view


def as_csv(view: Mapping[str, Any]) -> str:
    """One line for each figure of each row; ids with spaces between."""
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(("day", "account", "rule", "figure", "count", "recordings", "calls"))
    lines.writerows(_lines(view))
    return text.getvalue()


def _lines(view: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    for row in view["rows"]:
        place = (view["day"], row["account"], cell(row["rule"]))
        for name in FIGURES:
            figure = row[name]
            ids = (" ".join(figure["recordings"]), " ".join(figure["calls"]))
            yield (*place, name, figure["count"], *ids)
        for name in ("consent_capture_rate", "saved_per_month"):
            yield (*place, name, "" if row[name] is None else row[name], "", "")
