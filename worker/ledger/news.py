"""Requests that wait for news of a call. Redis pushes the news; nothing polls.

One connection of the process is subscribed for all waiting requests. When it breaks, the process
subscribes anew and every waiting request reads its call once, because news may have been published
in between.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import redis
import structlog

from worker import logs
from worker.calls.call import Call
from worker.calls.replay import replay
from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger

log = structlog.get_logger()
T = TypeVar("T")
_RECONNECT_S = 0.2
_LISTEN_S = 5.0
_STORE_IS_DOWN_S = 0.2


class Waiting:
    """One per process; safe to share between threads."""

    def __init__(self, ledger: Ledger, ended: threading.Event | None = None) -> None:
        """`ended`: when it is set, the listening thread ends."""
        self._ledger, self._ended = ledger, ended or threading.Event()
        self._channel = ledger.key("listener", secrets.token_hex(8))
        self._waiters: dict[str, set[threading.Event]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, name="news", daemon=True).start()

    def until(
        self, account: str, call_uuid: str, deadline: float, seen: Callable[[Call], T | None]
    ) -> T | None:
        """The first value other than None that `seen` returns for the call; None at the deadline
        (an instant of `time.monotonic`).

        Calls `seen` at once and after each event. Raises LedgerUnavailable if Redis does not answer
        at the deadline.
        """
        with self._news(account, call_uuid) as news:
            while True:
                news.clear()
                left = deadline - time.monotonic()
                try:
                    events = self._ledger.events(account, call_uuid)
                    value = seen(replay(account, call_uuid, events))
                except LedgerUnavailable:
                    if left <= 0:
                        raise
                    news.set()  # the listener may not know yet that the connection is lost
                    time.sleep(min(left, _STORE_IS_DOWN_S))
                else:
                    if value is not None or left <= 0:
                        return value
                news.wait(max(left, 0))

    @contextmanager
    def _news(self, account: str, call_uuid: str) -> Iterator[threading.Event]:
        """An event that is set whenever the log of the call grows."""
        key, news = self._ledger.call_key(account, call_uuid), threading.Event()
        with self._lock:
            self._waiters.setdefault(key, set()).add(news)
        try:
            self._ledger.add_listener(self._channel, account, call_uuid)
            yield news
        finally:
            # The channel stays among the call's listeners until their key expires: another request
            # of this process may wait for the call by now.
            with self._lock:
                waiters = self._waiters[key]
                waiters.discard(news)
                if not waiters:
                    del self._waiters[key]

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                with self._ledger.redis.pubsub() as subscription:  # type: ignore[no-untyped-call]
                    subscription.subscribe(self._channel)
                    primary = self._ledger.primary()
                    # A server that vanished closes no connection, so the thread looks for another
                    # primary itself.
                    while primary == self._ledger.primary() and not self._ended.is_set():
                        message = subscription.get_message(timeout=_LISTEN_S)
                        if message:
                            self._wake(message["data"] if message["type"] == "message" else None)
            except (redis.RedisError, OSError) as error:
                if logs.seldom("news", error):
                    log.warning("news cannot be heard", error=f"{type(error).__name__}: {error}")
                time.sleep(_RECONNECT_S)

    def _wake(self, key: str | None) -> None:
        """Wakes the requests that wait for the call with this key. With None (just subscribed) it
        wakes all.
        """
        with self._lock:
            waiters = self._waiters.values() if key is None else [self._waiters.get(key, set())]
            for news in [news for waiting in waiters for news in waiting]:
                news.set()
