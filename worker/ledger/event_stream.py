"""Every event as it is recorded, for `endtape watch` and `endtape run`.

Redis publishes the key of each call whose log grew. What is published while the connection is lost
is lost, so the stream then reads the calls that may have grown meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import redis

from worker.calls.events import Event
from worker.calls.obligations import Duty
from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger

_LISTEN_S = 1.0
_RECONNECT_S = 0.2
_AT_ONCE = 500  # calls that are read together
_REMEMBERED = 20_000  # calls
_LATELY = timedelta(hours=1)
# To a call whose log may grow, one of these is owed.
_DUTIES = (Duty.PLAN, Duty.LOOK, Duty.FETCH, Duty.INDEX, Duty.ERASE)


class EventStream:
    """For one reader."""

    def __init__(
        self,
        ledger: Ledger,
        accounts: Sequence[str],
        *,
        ended: threading.Event,
        on_listening: Callable[[], None] = lambda: None,
        on_lost: Callable[[Exception], None] = lambda _error: None,
    ) -> None:
        """`ended`: when it is set, the stream ends within a second. `on_listening` is called
        whenever Redis has taken the subscription, `on_lost` whenever it stops answering.
        """
        self._ledger, self._accounts, self._ended = ledger, accounts, ended
        self._on_listening, self._on_lost = on_listening, on_lost
        self._is_listening = self._has_listened = False
        self._since: datetime | None = None  # what is older is no news
        # How many events of a call are told, and when it was last read.
        self._told: dict[tuple[str, str], tuple[int, datetime]] = {}
        self._grown: set[tuple[str, str]] = set()  # calls of which something is to be told

    def events(self) -> Iterator[tuple[str, Event]]:
        """Account and event, of each that is recorded from now on, also across a restart of Redis.

        Raises LedgerUnavailable if Redis does not answer at first.
        """
        self._since = self._ledger.now()
        while not self._ended.is_set():
            try:
                yield from self._until_lost()
            except (redis.RedisError, LedgerUnavailable, OSError) as error:
                if self._is_listening:
                    self._on_lost(error)
                self._is_listening = False
                self._ended.wait(_RECONNECT_S)

    def _until_lost(self) -> Iterator[tuple[str, Event]]:
        with self._ledger.redis.pubsub() as subscription:  # type: ignore[no-untyped-call]
            subscription.subscribe(self._ledger.key("news"))
            primary = self._ledger.primary()
            # A server that vanished closes no connection, so we look for another primary ourselves.
            while primary == self._ledger.primary() and not self._ended.is_set():
                for message in _messages(subscription):
                    if message["type"] == "message":
                        self._grown.add(self._call(message["data"]))
                    else:  # subscribed; once more, if redis-py itself has connected anew
                        self._grown |= self._may_have_grown() if self._has_listened else set()
                        self._is_listening = self._has_listened = True
                        self._on_listening()
                yield from self._news()

    def _call(self, key: str) -> tuple[str, str]:
        account, _, call_uuid = key.removeprefix(self._ledger.key("call", "")).partition(":")
        return account, call_uuid

    def _may_have_grown(self) -> set[tuple[str, str]]:
        since = max((at for _, at in self._told.values()), default=self._since)
        calls = set(self._told)
        for account in self._accounts:
            seen = self._ledger.recent([account], since=since)
            ids = [sight.recording_id for sight in seen]
            calls |= {(account, c) for c in self._ledger.calls_of(account, ids).values()}
            calls |= {(account, c) for c in self._ledger.tracked(account, _DUTIES)}
        return calls

    def _news(self) -> Iterator[tuple[str, Event]]:
        """The events of the calls that grew which were not told yet, in their order."""
        of_account: dict[str, list[str]] = {}
        for account, call_uuid in sorted(self._grown):
            of_account.setdefault(account, []).append(call_uuid)
        # All are read before any counts as told: Redis may be lost in between.
        logs = {account: self._ledger.logs(account, ids) for account, ids in of_account.items()}
        self._grown.clear()
        news = [
            (account, event)
            for account, read in logs.items()
            for call_uuid, events in read.items()
            for event in self._untold(account, call_uuid, events)
        ]
        yield from sorted(news, key=lambda one: one[1].at.timestamp() if one[1].at else 0.0)
        self._forget()

    def _untold(self, account: str, call_uuid: str, events: Sequence[Event]) -> list[Event]:
        count, _ = self._told.get((account, call_uuid), (0, None))
        begun_anew = len(events) < count  # the log had expired
        untold = events[0 if begun_anew else count :]
        if not count or begun_anew:
            untold = [e for e in untold if e.at and self._since and e.at >= self._since]
        if events and events[-1].at:
            self._told[account, call_uuid] = len(events), events[-1].at
        return list(untold)

    def _forget(self) -> None:
        """Forget calls that have been silent for an hour, once there are many."""
        if len(self._told) <= _REMEMBERED or self._since is None:
            return
        lately = max(at for _, at in self._told.values()) - _LATELY
        self._since = max(self._since, lately)
        self._told = {call: (n, at) for call, (n, at) in self._told.items() if at >= lately}


def _messages(subscription: Any) -> Iterator[dict[str, Any]]:
    """The first message, awaited for a second at most, and those that are there already."""
    message = subscription.get_message(timeout=_LISTEN_S)
    for _ in range(_AT_ONCE):
        if not message:
            return
        yield message
        message = subscription.get_message(timeout=0)
    if message:
        yield message
