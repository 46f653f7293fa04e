"""Reading the book of events back. What stands where in Redis, `ledger` says."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime

from worker.calls.events import Event
from worker.ledger.board import Board
from worker.ledger.codec import decode, to_ms

SeenAt = tuple[int, str, str]  # first seen (ms), account, recording


class Reading(Board):
    """The ledger as far as it is only read."""

    def call_key(self, account: str, call_uuid: str) -> str:
        return self.key("call", account, call_uuid)

    def events(self, account: str, call_uuid: str) -> list[Event]:
        """All events of a call; empty when it is not known."""
        return decode(
            self.command("GET", self.call_key(account, call_uuid)) or "", account, call_uuid
        )

    def texts(self, account: str, call_uuids: Sequence[str]) -> Iterator[tuple[str, str]]:
        """The log of each of these calls as it is kept, empty where it is not known."""
        for at in range(0, len(call_uuids), 500):
            some = call_uuids[at : at + 500]
            found: list[str | None] = self.command(
                "MGET", *(self.call_key(account, i) for i in some)
            )
            yield from ((i, text or "") for i, text in zip(some, found, strict=True))

    def logs(self, account: str, call_uuids: Collection[str]) -> dict[str, list[Event]]:
        """The events of each of these calls; none for those that are not known, or cannot be read:
        planning them tells of that.
        """
        return {
            i: _readable(text, account, i) for i, text in self.texts(account, sorted(call_uuids))
        }

    def calls_of(self, account: str, recording_ids: Sequence[str]) -> dict[str, str]:
        """The calls of those of these recordings that are known."""
        found = (
            self.command("HMGET", self.key("recordings", account), *recording_ids)
            if recording_ids
            else []
        )
        return {
            i: call_uuid for i, call_uuid in zip(recording_ids, found, strict=True) if call_uuid
        }

    def a_leg(self, account: str, leg: str) -> str:
        """The call that a leg belongs to; the leg itself when nothing else was reported."""
        return self.command("HGET", self.key("aliases", account), leg) or leg

    def accounts(self) -> list[str]:
        """Every account of which a recording is known, also one that left the settings. Walks over
        all keys.
        """
        prefix = self.key("recent", "")
        return sorted(
            str(k).removeprefix(prefix)
            for k in self.redis.scan_iter(f"{prefix.replace('{', '[{]')}*", count=2000)
        )

    def remembered(self, accounts: Iterable[str]) -> int:
        """How many recordings `recent` gives."""
        return sum(int(self.command("ZCARD", self.key("recent", account))) for account in accounts)

    def call_of(self, account: str, recording_id: str) -> str | None:
        found: str | None = self.command("HGET", self.key("recordings", account), recording_id)
        return found

    def recent(
        self,
        accounts: Iterable[str],
        *,
        before: SeenAt | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[SeenAt]:
        """Recordings by first sight, newest first; `before` is where a page ended. New ones never
        shift the rest.
        """
        yield from heapq.merge(
            *(self._recent(a, before, since, until) for a in accounts), reverse=True
        )

    def _recent(
        self, account: str, before: SeenAt | None, since: datetime | None, until: datetime | None
    ) -> Iterator[SeenAt]:
        top: int | str = before[0] if before else to_ms(until) if until else "+inf"
        low: int | str = to_ms(since) if since else "-inf"
        skip, size, last = 0, 100, before
        while True:
            page = self.command(
                "ZREVRANGEBYSCORE",
                self.key("recent", account),
                top,
                low,
                "WITHSCORES",
                "LIMIT",
                skip,
                size,
            )
            flat = (
                [x for pair in page for x in pair]
                if page and isinstance(page[0], list | tuple)
                else page
            )
            sights = [
                (int(float(score)), account, recording_id)
                for recording_id, score in zip(flat[::2], flat[1::2], strict=True)
            ]
            for sight in sights:
                if last is None or sight < last:
                    yield sight
                    last = sight
            if len(sights) < size:
                return
            # From where this page ended, not by a count, which whatever came in meanwhile would
            # shift.
            skip = skip + size if sights[-1][0] == top else 0
            top = sights[-1][0]


def _readable(log: str, account: str, call_uuid: str) -> list[Event]:
    try:
        return decode(log, account, call_uuid)
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
