"""The calls: one log of events for each, and what finds a call by its recording or its leg.

{endtape}:call:ACCOUNT:CALL       string  the call's log: a line for each event (codec.py)
{endtape}:recordings:ACCOUNT      hash    recording → call
{endtape}:recent:ACCOUNT          zset    recordings, by the instant they were first seen (ms)
{endtape}:live:ACCOUNT            zset    those of them that the catalogue does not have
{endtape}:aliases:ACCOUNT         hash    another leg → its call
{endtape}:listeners:ACCOUNT:CALL  set     channels of processes in which a request waits for news
{endtape}:news                    channel the key of each call whose log grew

recording.py writes what is reported into them.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from worker.calls.events import Event
from worker.ledger.codec import decode, encode, to_ms, without_numbers
from worker.ledger.store import Store


class SeenAt(NamedTuple):
    """When a recording was first seen (ms): its place in every list. Equal instants go by id."""

    ms: int
    recording_id: str
    account: str


_LISTENERS_S = 120  # longer than any request waits
_AT_ONCE = 500


class Calls(Store):
    """Events out."""

    def record_together(self, account: str, events: Sequence[Event], *, seen: int) -> bool:
        """Records events of one call, all or none. True if they were recorded.

        Nothing is recorded if the log no longer has the size `seen`, or if it already holds the
        last of the events.
        """
        call_uuid = events[0].call_uuid
        args: list[str | int] = [seen]
        for event in events:
            args += [event.id, encode(event, account), event.kind.value]
        keys = [
            self.call_key(account, call_uuid),
            self.key("listeners", account, call_uuid),
            self.key("metrics"),
            self.key("news"),
        ]
        return bool(self.run("record_together", keys, args))

    def add_listener(self, channel: str, account: str, call_uuid: str) -> None:
        """For two minutes, publishes the call's key to `channel` whenever the log of the call
        grows.
        """
        key = self.key("listeners", account, call_uuid)
        with self.pipeline() as pipe:
            pipe.sadd(key, channel)
            pipe.expire(key, _LISTENERS_S)

    # Reading calls
    # ------------------------------------------------------------------------------------------

    def events(self, account: str, call_uuid: str) -> list[Event]:
        """All events of a call; empty if the call is unknown."""
        log = self.command("GET", self.call_key(account, call_uuid))
        return decode(log or "", account, call_uuid)

    def size(self, account: str, call_uuid: str) -> int:
        """The size of a call's log; compare it with `Loaded.size`."""
        return int(self.command("STRLEN", self.call_key(account, call_uuid)))

    def texts(self, account: str, call_uuids: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Each of these calls and its log as stored, which is empty for an unknown call."""
        for at in range(0, len(call_uuids), _AT_ONCE):
            some = call_uuids[at : at + _AT_ONCE]
            logs: list[str | None] = self.command(
                "MGET", *(self.call_key(account, call_uuid) for call_uuid in some)
            )
            yield from ((i, log or "") for i, log in zip(some, logs, strict=True))

    def logs(self, account: str, call_uuids: Collection[str]) -> dict[str, list[Event]]:
        """The events of each of these calls. Unknown and unreadable calls give an empty list; an
        unreadable one raises an alert when it is planned.
        """
        return {
            i: readable(text, account, i) for i, text in self.texts(account, sorted(call_uuids))
        }

    def call_of(self, account: str, recording_id: str) -> str | None:
        """The call that a recording belongs to; None if the recording is unknown."""
        call_uuid: str | None = self.command("HGET", self.key("recordings", account), recording_id)
        return call_uuid

    def calls_of(self, account: str, recording_ids: Sequence[str]) -> dict[str, str]:
        """Recording → call, for those of these recordings that are known."""
        if not recording_ids:
            return {}
        calls = self.command("HMGET", self.key("recordings", account), *recording_ids)
        return {i: call for i, call in zip(recording_ids, calls, strict=True) if call}

    def a_leg(self, account: str, leg: str) -> str:
        """The call that a leg belongs to; the leg itself if no other call is known for it."""
        return self.command("HGET", self.key("aliases", account), leg) or leg

    def known_as(self, account: str, name: str) -> tuple[str, int]:
        """The call that a leg of this id belongs to, as `a_leg` tells it, and the size of the log
        of the call of this id: one round trip.
        """
        with self.pipeline() as pipe:
            pipe.hget(self.key("aliases", account), name)
            pipe.strlen(self.call_key(account, name))
            a_leg, size = pipe.execute()
        return a_leg or name, int(size)

    def accounts(self) -> list[str]:
        """Every account with a known recording, also one that left the settings. Scans all keys."""
        prefix = self.key("recent", "")
        pattern = f"{prefix.replace('{', '[{]')}*"
        with self.answering():
            keys = [str(key) for key in self.redis.scan_iter(pattern, count=2000)]
        return sorted(key.removeprefix(prefix) for key in keys)

    # Recordings, newest first
    # -------------------------------------------------------------------------------

    def remembered(self, accounts: Iterable[str]) -> int:
        """How many recordings `recent` gives."""
        return sum(int(self.command("ZCARD", self.key("recent", account))) for account in accounts)

    def recent(
        self,
        accounts: Iterable[str],
        *,
        before: SeenAt | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[SeenAt]:
        """Recordings by the instant they were first seen, newest first.

        `before`: the last item of the page before. A recording that is new meanwhile moves no other
        to another page.
        """
        keys = ((account, self.key("recent", account)) for account in accounts)
        yield from self._newest_first(keys, before, since, until)

    def live(
        self,
        accounts: Iterable[str],
        *,
        before: SeenAt | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[SeenAt]:
        """As `recent`: those that the catalogue does not have."""
        keys = ((account, self.key("live", account)) for account in accounts)
        yield from self._newest_first(keys, before, since, until)

    def are_live(self, account: str, recording_ids: Sequence[str]) -> set[str]:
        """Those of these recordings that the catalogue does not have, as far as Redis knows."""
        if not recording_ids:
            return set()
        scores = self.command("ZMSCORE", self.key("live", account), *recording_ids)
        return {i for i, score in zip(recording_ids, scores, strict=True) if score is not None}

    def make_live(self, sights: Iterable[SeenAt]) -> None:
        """The catalogue does not have these recordings."""
        with self.pipeline() as pipe:
            for sight in sights:
                pipe.zadd(self.key("live", sight.account), {sight.recording_id: sight.ms}, nx=True)

    def indexed(self, account: str, recording_ids: Collection[str]) -> None:
        """The catalogue has these recordings, so lists find them there."""
        if recording_ids:
            self.command("ZREM", self.key("live", account), *recording_ids)

    def _newest_first(
        self,
        keys: Iterable[tuple[str, str]],
        before: SeenAt | None,
        since: datetime | None,
        until: datetime | None,
    ) -> Iterator[SeenAt]:
        top: int | str = before.ms if before else to_ms(until) if until else "+inf"
        low: int | str = to_ms(since) if since else "-inf"
        found = (self._sights(account, key, before, top, low) for account, key in keys)
        yield from heapq.merge(*found, reverse=True)

    def _sights(
        self, account: str, key: str, before: SeenAt | None, top: int | str, low: int | str
    ) -> Iterator[SeenAt]:
        skip, size, last = 0, 100, before
        while True:
            page = self._page(account, key, top, low, skip, size)
            for seen_at in page:
                if last is None or seen_at < last:
                    yield seen_at
                    last = seen_at
            if len(page) < size:
                return
            # The next page begins where this one ended. A count from the top would be shifted by
            # recordings that are new meanwhile.
            skip = skip + size if page[-1].ms == top else 0
            top, size = page[-1].ms, _AT_ONCE

    def _page(
        self, account: str, key: str, top: int | str, low: int | str, skip: int, size: int
    ) -> list[SeenAt]:
        limit = ("WITHSCORES", "LIMIT", skip, size)
        answer = self.command("ZREVRANGEBYSCORE", key, top, low, *limit)
        if answer and isinstance(answer[0], list | tuple):
            answer = [value for pair in answer for value in pair]
        return [
            SeenAt(int(float(score)), recording_id, account)
            for recording_id, score in zip(answer[::2], answer[1::2], strict=True)
        ]

    # Forgetting
    # ---------------------------------------------------------------------------------------------

    def forget_numbers(self, account: str, call_uuid: str, log: str) -> bool:
        """Takes the telephone numbers out of a call's log, which was read as `log`. True where none
        are left; False where the log has changed.
        """
        plain = without_numbers(log)
        key = self.call_key(account, call_uuid)
        return plain == log or bool(self.run("rewrite", [key], [log, plain]))

    def forget(self, account: str) -> int:
        """Deletes what points to calls whose logs expired: recordings and legs. Returns how many
        recordings were deleted.
        """
        return self._forget(account, "recordings", "r") + self._forget(account, "aliases", "l")

    def _forget(self, account: str, pointers: str, sort: str) -> int:
        with self.answering():
            found = self.redis.hscan_iter(self.key(pointers, account), count=_AT_ONCE)
            gone, keys = (
                0,
                [self.key(name, account) for name in ("recordings", "recent", "aliases", "live")],
            )
            while some := list(islice(found, _AT_ONCE)):
                logs = [self.call_key(account, call_uuid) for _, call_uuid in some]
                named = [word for name, _ in some for word in (sort, name)]
                gone += int(self.run("forget", [*keys, *logs], named))
        return gone


def readable(log: str, account: str, call_uuid: str) -> list[Event]:
    """The events of a log as stored; none where it cannot be read."""
    try:
        return decode(log, account, call_uuid)
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
