"""One list of recordings, newest first: live ones from Redis, finished ones from the catalogue.

Redis is read before the catalogue. A recording leaves Redis's list only after the catalogue has it,
so it may be found in both, and is then shown once; it is never missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from worker.catalogue.database import Catalogue
from worker.catalogue.live import Live
from worker.catalogue.rows import Row
from worker.catalogue.wanted import Wanted
from worker.errors import CatalogueAway
from worker.ledger.calls import SeenAt
from worker.ledger.client import Ledger

_Listed = tuple[SeenAt, dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A part of the list. `end`: where the next page begins; None at the end of the list.
    `degraded`: why the finished recordings are missing from it, where they are.
    """

    views: list[dict[str, Any]]
    end: SeenAt | None = None
    degraded: str | None = None


class Listing:
    """The list. A page reads `at_once` live recordings first, then ten times as many after each
    other, for at most `for_s` seconds; its `end` says where to go on.
    """

    def __init__(
        self,
        ledger: Ledger,
        live: Live,
        catalogue: Catalogue,
        *,
        at_once: int = 200,
        for_s: float = 3.0,
    ) -> None:
        self._ledger, self._live, self._catalogue = ledger, live, catalogue
        self._at_once, self._for_s = at_once, for_s

    def page(
        self, wanted: Wanted, accounts: Iterable[str], *, limit: int, before: SeenAt | None = None
    ) -> Page:
        """At most `limit` recordings that are wanted, after `before` in the list. `accounts`: those
        whose live recordings are listed. Raises LedgerUnavailable.
        """
        found, degraded = list[_Listed](), None
        live = self._ledger.live(accounts, before=before, since=wanted.since, until=wanted.until)
        until, at_once = time.monotonic() + self._for_s, self._at_once
        while True:
            sights = list(islice(live, at_once))
            bottom = sights[-1] if len(sights) == at_once else None
            some = [(sight, view) for sight, view in self._live.views(sights) if wanted.fits(view)]
            try:
                some += self._past(wanted, sights, before=before, down_to=bottom, enough=limit + 1)
            except CatalogueAway as error:
                degraded = str(error)
            some.sort(key=lambda one: one[0], reverse=True)
            found += some
            if len(found) > limit:
                return _page(found[:limit], found[limit - 1][0], degraded)
            if bottom is None:
                return _page(found, None, degraded)
            if time.monotonic() > until:
                return _page(found, bottom, degraded)
            before, at_once = bottom, 10 * self._at_once

    def _past(
        self,
        wanted: Wanted,
        live: Sequence[SeenAt],
        *,
        before: SeenAt | None,
        down_to: SeenAt | None,
        enough: int,
    ) -> list[_Listed]:
        """The finished recordings of a part of the list, without those that are live; at most about
        `enough`. Raises CatalogueAway.
        """
        here = {(sight.account, sight.recording_id) for sight in live}
        found = list[_Listed]()
        while True:
            rows = self._catalogue.search(wanted, before=before, down_to=down_to, limit=enough)
            here |= self._live_again(rows)
            found += [(_sight(row), row.view) for row in rows if row.id not in here]
            if len(found) >= enough or len(rows) < enough:
                return found
            before = _sight(rows[-1])

    def _live_again(self, rows: Sequence[Row]) -> set[tuple[str, str]]:
        """Those of the finished recordings that are live again, at another place in the list: a
        callback came after Redis had forgotten them.
        """
        found = set[tuple[str, str]]()
        for account in {row.id[0] for row in rows}:
            ids = [row.id[1] for row in rows if row.id[0] == account]
            found |= {(account, i) for i in self._ledger.are_live(account, ids)}
        return found


def _sight(row: Row) -> SeenAt:
    account, recording_id = row.id
    return SeenAt(row.first_seen_ms, recording_id, account)


def _page(found: Sequence[_Listed], end: SeenAt | None, degraded: str | None) -> Page:
    return Page(views=[view for _, view in found], end=end, degraded=degraded)
