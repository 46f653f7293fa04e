"""The calls: one log of events for each, and what finds a call by its recording or its leg.

{endtape}:call:ACCOUNT:CALL       string  the call's log: a line for each event (codec.py)
{endtape}:recordings:ACCOUNT      hash    recording → call
{endtape}:recent:ACCOUNT          zset    recordings, by the instant they were first seen (ms)
{endtape}:aliases:ACCOUNT         hash    another leg → its call
{endtape}:listeners:ACCOUNT:CALL  set     channels of processes in which a request waits for news

recording.py writes what is reported into them.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime

from worker.calls.events import Event
from worker.ledger.codec import decode, encode, to_ms
from worker.ledger.store import Store

SeenAt = tuple[int, str, str]  # first seen (ms), account, recording

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
            i: _readable(text, account, i) for i, text in self.texts(account, sorted(call_uuids))
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
        yield from heapq.merge(
            *(self._recent(account, before, since, until) for account in accounts), reverse=True
        )

    def _recent(
        self, account: str, before: SeenAt | None, since: datetime | None, until: datetime | None
    ) -> Iterator[SeenAt]:
        top: int | str = before[0] if before else to_ms(until) if until else "+inf"
        low: int | str = to_ms(since) if since else "-inf"
        skip, size, last = 0, 100, before
        while True:
            page = self._page(account, top, low, skip, size)
            for seen_at in page:
                if last is None or seen_at < last:
                    yield seen_at
                    last = seen_at
            if len(page) < size:
                return
            # The next page begins where this one ended. A count from the top would be shifted by
            # recordings that are new meanwhile.
            skip = skip + size if page[-1][0] == top else 0
            top = page[-1][0]

    def _page(
        self, account: str, top: int | str, low: int | str, skip: int, size: int
    ) -> list[SeenAt]:
        key, limit = self.key("recent", account), ("WITHSCORES", "LIMIT", skip, size)
        answer = self.command("ZREVRANGEBYSCORE", key, top, low, *limit)
        if answer and isinstance(answer[0], list | tuple):
            answer = [value for pair in answer for value in pair]
        return [
            (int(float(score)), account, recording_id)
            for recording_id, score in zip(answer[::2], answer[1::2], strict=True)
        ]

    # Forgetting
    # ---------------------------------------------------------------------------------------------

    def forget(self, account: str, *, before: datetime) -> int:
        """Deletes what points to calls whose logs expired: recordings first seen before that
        instant, and legs. Returns how many recordings were deleted.
        """
        gone, kept = 0, 0
        recordings, recent = self.key("recordings", account), self.key("recent", account)
        while ids := self.command(
            "ZRANGEBYSCORE", recent, "-inf", to_ms(before), "LIMIT", kept, _AT_ONCE
        ):
            known = self._known(account, self.command("HMGET", recordings, *ids))
            dead = [i for i, is_known in zip(ids, known, strict=True) if not is_known]
            if dead:
                self.command("HDEL", recordings, *dead)
                self.command("ZREM", recent, *dead)
            gone, kept = gone + len(dead), kept + len(ids) - len(dead)
        aliases = self.key("aliases", account)
        with self.answering():
            legs = list(self.redis.hscan_iter(aliases, count=_AT_ONCE))
        for leg, call_uuid in legs:
            if not self._known(account, [call_uuid])[0]:
                self.command("HDEL", aliases, leg)
        return gone

    def _known(self, account: str, calls: Sequence[str | None]) -> list[bool]:
        with self.pipeline() as pipe:
            for call_uuid in calls:
                pipe.exists(self.call_key(account, call_uuid or ""))
            return [bool(exists) for exists in pipe.execute()]


def _readable(log: str, account: str, call_uuid: str) -> list[Event]:
    try:
        return decode(log, account, call_uuid)
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
