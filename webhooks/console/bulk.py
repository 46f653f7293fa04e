"""What an operator does to many recordings at once: planned, confirmed, worked off, cancelled.

The order stands in Redis, so it outlives request, browser and process. Each turn of a second does
a part of it; the browser asks for the next turn, by itself with script, else at a button. Where
the browser goes away the rest waits, and anybody with a key can go on with it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from flask import Response, redirect, request
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as AnyResponse

from webhooks.api import list_query
from webhooks.api.governing import Governing, by_caller
from webhooks.api.keys import caller
from webhooks.api.problems import Problem
from webhooks.api.reading import Reader
from webhooks.api.reports import Reports
from webhooks.console import asked
from webhooks.console.actions import reason_of_form
from webhooks.console.now import Now
from webhooks.console.page import address, query_of, rendered, seen
from worker.calls.call import RUNNING, Phase
from worker.ledger import bulk
from worker.ledger.bulk import Bulk, Item, State

MOST = 10_000  # recordings of one order
_TURN_S = 1.0
_SHOWN = 20
View = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Words:
    """What is done: in the menu, to one and to several recordings, and when it is over."""

    name: str
    one: str
    several: str  # with a place for their number
    over: str

    def to(self, count: int) -> str:
        return self.one if count == 1 else self.several.format(count)


WORDS = {
    "retry": Words("try again", "Try 1 recording again", "Try {} recordings again", "ordered"),
    "hold": Words(
        "hold", "Put 1 recording on legal hold", "Put {} recordings on legal hold", "on hold"
    ),
    "release": Words(
        *("release", "End the legal hold of 1 recording"),
        *("End the legal hold of {} recordings", "released"),
    ),
    "erase": Words("erase", "Erase 1 recording for good", "Erase {} recordings for good", "erased"),
}


class Bulks:
    def __init__(self, reader: Reader, now: Now, reports: Reports, governing: Governing) -> None:
        self._reader, self._now, self._ledger = reader, now, reader.ledger
        self._reports, self._governing = reports, governing

    def recent(self) -> str:
        return rendered("bulks.html", bulks=bulk.recent(self._ledger), words=WORDS)

    def plan(self) -> AnyResponse:
        """Puts down what would be done to the recordings that are ticked, or to all that match.
        Where nothing is ticked it offers the latter, and puts nothing down.
        """
        what = request.form.get("what", "")
        if what not in WORDS:
            raise Problem(400, f"what: must be one of {', '.join(WORDS)}", field="what")
        if request.form.get("scope") == "all":
            views, meant = self._matching()
        else:
            chosen = list(dict.fromkeys(request.form.getlist("one")))[: list_query.MOST]
            if not chosen:
                return Response(_nothing_ticked(what), 400)
            views, meant = map(self._reader.view, chosen), "the ones that were ticked"
        items, left_out = list[Item](), Counter[str]()
        for view in islice(views, MOST):
            if why := _why_not(what, view):
                left_out[why] += 1
            else:
                items.append(Item(account=view["account"], recording_id=view["recording_id"]))
        by = caller()
        bulk_id = bulk.plan(
            self._ledger,
            what,
            items,
            meant=meant,
            who=by.who,
            claimed=by.claimed,
            left_out=left_out,
        )
        return redirect(f"/bulk/{bulk_id}", 303)

    def show(self, bulk_id: str) -> str:
        """The question, how far it is, or what came of it."""
        known = self._known(bulk_id)
        first = bulk.items(self._ledger, bulk_id, _SHOWN) if known.state is State.PLANNED else []
        return rendered(
            "bulk.html",
            bulk=known,
            words=WORDS[known.what],
            views=[seen(view) for view in self._views(first)],
            most=MOST,
        )

    def ids(self, bulk_id: str) -> Response:
        """The ids of what is left, a line each, for the command line."""
        self._known(bulk_id)
        lines = [f"{item.recording_id}\n" for item in bulk.items(self._ledger, bulk_id)]
        answer = Response("".join(lines), mimetype="text/plain")
        answer.headers["Content-Disposition"] = 'attachment; filename="ids.txt"'
        return answer

    def confirm(self, bulk_id: str) -> AnyResponse:
        known = self._known(bulk_id)
        if known.state is not State.PLANNED:
            raise Problem(409, "it is confirmed already, or cancelled")
        reason = reason_of_form()
        if known.what != "retry":
            by_caller(reason or "")
        by = caller()
        if not bulk.confirm(self._ledger, bulk_id, who=by.who, claimed=by.claimed, reason=reason):
            raise Problem(409, "it is confirmed already")
        return self.go_on(bulk_id)

    def cancel(self, bulk_id: str) -> AnyResponse:
        self._known(bulk_id)
        bulk.cancel(self._ledger, bulk_id)
        return redirect(f"/bulk/{bulk_id}", 303)

    def go_on(self, bulk_id: str) -> AnyResponse:
        """Does a part of what is left, for about a second."""
        known = self._known(bulk_id)
        if known.state is not State.GOING:
            raise Problem(409, f"it is {known.state.value}")
        if bulk.take_turn(self._ledger, bulk_id):
            try:
                self._turn(known)
            finally:
                bulk.end_turn(self._ledger, bulk_id)
        return redirect(f"/bulk/{bulk_id}", 303)

    def _turn(self, known: Bulk) -> None:
        """Raises Problem 503 where archive or catalogue do not answer: the rest is left."""
        do, until = self._deed(known), time.monotonic() + _TURN_S
        while time.monotonic() < until and (some := bulk.items(self._ledger, known.id, 1)):
            try:
                do(some[0])
            except Problem as problem:
                if problem.status == 503:
                    raise
                bulk.settle(self._ledger, known.id, some[0], refused=problem.detail)
            else:
                bulk.settle(self._ledger, known.id, some[0])
            current = bulk.find(self._ledger, known.id)
            if current is None or current.state is not State.GOING:
                return

    def _deed(self, known: Bulk) -> Callable[[Item], object]:
        if known.what == "retry":
            return lambda item: self._reports.order_retry(
                item.recording_id, known.reason, item.account
            )
        by, governing = by_caller(known.reason or ""), self._governing
        does = {
            "hold": governing.put_hold,
            "release": governing.end_hold,
            "erase": governing.order_erasure,
        }[known.what]
        return lambda item: does(item.recording_id, by, item.account)

    def _known(self, bulk_id: str) -> Bulk:
        known = bulk.find(self._ledger, bulk_id)
        if known is None:
            raise Problem(404, "no such order, or it is more than a week old")
        return known

    def _views(self, items: Iterable[Item]) -> Iterator[View]:
        for item in items:
            try:
                yield self._reader.view(item.recording_id)
            except Problem:
                continue

    def _matching(self) -> tuple[Iterator[View], str]:
        """What the page shows whose form this is, and all that its list goes on with; in words."""
        query = query_of(request.form.get("query", ""))
        is_not_home = request.form.get("page") == "not-home"
        asked.refuse_unknown("console.not_home" if is_not_home else "console.recordings", query)
        if is_not_home:
            fault = query.get("fault")
            failing = (v for v in self._now.board().failing if fault in {None, v["fault"]})
            return failing, f"not home, fault {fault or 'of any kind'}"
        list_query.wanted(query)  # raises for a wrong value before anything is put down
        said = ", ".join(f"{name} {value}" for name, value in query.items()) or "all recordings"
        return self._listed(query), said

    def _listed(self, query: MultiDict[str, str]) -> Iterator[View]:
        before, wanted = None, list_query.wanted(query)
        while True:
            page = self._reader.listing.page(
                wanted, self._reader.accounts(), limit=list_query.MOST, before=before
            )
            if page.degraded:
                raise Problem(503, f"the catalogue does not answer: {page.degraded}")
            yield from page.views
            before = page.end
            if before is None:
                return


def _nothing_ticked(what: str) -> str:
    page = "not-home" if request.form.get("page") == "not-home" else "recordings"
    query = request.form.get("query", "")
    return rendered(
        "bulk_none.html",
        words=WORDS[what],
        what=what,
        page=page,
        query=query,
        back=address(f"/{page}", query_of(query)),
    )


def _why_not(what: str, view: View) -> str | None:
    """Why this cannot be done to the recording; None where it can, as far as is known now."""
    is_running, is_held = view["phase"] in RUNNING, bool(view["held"])
    if view["phase"] == Phase.ERASED or view.get("erased"):
        return "erased"
    return {
        "retry": "archived already" if view["archive_key"] else is_running and "still recording",
        "hold": is_held and "on hold already",
        "release": not is_held and "not on hold",
        "erase": (is_running and "still recording") or (is_held and "on hold"),
    }[what] or None
