"""One list of recordings, newest first: live ones from Redis, finished ones from the catalogue.

Redis is read before the catalogue. A recording leaves Redis's list only after the catalogue has it,
so it may be found in both, and is then shown once; it is never missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from worker.calls.call import Call
from worker.calls.replay import replay
from worker.calls.rules import Rules
from worker.calls.views import recording_view
from worker.catalogue.database import Catalogue
from worker.catalogue.rows import Row
from worker.catalogue.wanted import Wanted
from worker.errors import CatalogueAway
from worker.ledger.calls import SeenAt
from worker.ledger.client import Ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A part of the list. `end`: where the next page begins; None at the end of the list.
    `degraded`: why the finished recordings are missing from it, where they are.
    """

    views: list[dict[str, Any]]
    end: SeenAt | None = None
    degraded: str | None = None


class Listing:
    """The list. A page reads `at_once` live recordings after each other, for at most `for_s`
    seconds; its `end` says where to go on.
    """

    def __init__(
        self,
        ledger: Ledger,
        catalogue: Catalogue,
        rules: Callable[[], Rules],
        *,
        at_once: int = 200,
        for_s: float = 3.0,
    ) -> None:
        self._ledger, self._catalogue, self._rules = ledger, catalogue, rules
        self._at_once, self._for_s = at_once, for_s

    def page(
        self, wanted: Wanted, accounts: Iterable[str], *, limit: int, before: SeenAt | None = None
    ) -> Page:
        """At most `limit` recordings that are wanted, after `before` in the list. `accounts`: those
        whose live recordings are listed. Raises LedgerUnavailable.
        """
        found = list[tuple[SeenAt, dict[str, Any]]]()
        degraded: str | None = None
        live = self._ledger.live(accounts, before=before, since=wanted.since, until=wanted.until)
        until = time.monotonic() + self._for_s
        while True:
            sights = list(islice(live, self._at_once))
            bottom = sights[-1] if len(sights) == self._at_once else None
            here = {(sight.account, sight.recording_id) for sight in sights}
            known = live_views(self._ledger, self._rules(), sights)
            some = [(sight, view) for sight, view in known if wanted.fits(view)]
            try:
                # Some rows may be of recordings that are live, too.
                rows = self._catalogue.search(
                    wanted, before=before, down_to=bottom, limit=limit + 1 + len(sights)
                )
            except CatalogueAway as error:
                rows, degraded = [], str(error)
            here |= self._live_again(rows)
            some += [(_sight(row), row.view) for row in rows if row.id not in here]
            some.sort(key=lambda one: one[0], reverse=True)
            found += some
            if len(found) > limit:
                return _page(found[:limit], found[limit - 1][0], degraded)
            if bottom is None:
                return _page(found, None, degraded)
            if time.monotonic() > until:
                return _page(found, bottom, degraded)
            before = bottom

    def _live_again(self, rows: Sequence[Row]) -> set[tuple[str, str]]:
        """Those of the finished recordings that are live again, at another place in the list: a
        callback came after Redis had forgotten them.
        """
        found = set[tuple[str, str]]()
        for account in {row.id[0] for row in rows}:
            ids = [row.id[1] for row in rows if row.id[0] == account]
            found |= {(account, i) for i in self._ledger.are_live(account, ids)}
        return found


def live_views(
    ledger: Ledger, rules: Rules, sights: Sequence[SeenAt]
) -> Iterator[tuple[SeenAt, dict[str, Any]]]:
    """These live recordings as `/v1` shows them."""
    now, call_of = ledger.now(), dict[tuple[str, str], Call]()
    for account in sorted({sight.account for sight in sights}):
        ids = [sight.recording_id for sight in sights if sight.account == account]
        calls = ledger.calls_of(account, ids)
        logs = ledger.logs(account, set(calls.values()))
        replayed = {i: replay(account, i, events) for i, events in logs.items()}
        call_of |= {(account, i): replayed[call_uuid] for i, call_uuid in calls.items()}
    for sight in sights:
        call = call_of.get((sight.account, sight.recording_id))
        recording = call.recordings.get(sight.recording_id) if call else None
        if call and recording:
            yield sight, recording_view(call, recording, rules, now)


def _sight(row: Row) -> SeenAt:
    account, recording_id = row.id
    return SeenAt(row.first_seen_ms, recording_id, account)


def _page(
    found: Sequence[tuple[SeenAt, dict[str, Any]]], end: SeenAt | None, degraded: str | None
) -> Page:
    return Page(views=[view for _, view in found], end=end, degraded=degraded)
