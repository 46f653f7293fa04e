"""Requests that wait for news of a call. What happens is pushed to them; nobody polls Redis.

One connection of the process listens, whoever waits. It is made anew when it breaks, and then
everybody looks once, because something may have been said while nobody listened.
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
from worker.ledger.calls import Ledger

log = structlog.get_logger()
T = TypeVar("T")
_RECONNECT_S = 0.2
_LISTEN_S = 5.0
_STORE_IS_DOWN_S = 0.2


class Waiting:
    """One per process; safe to share between threads."""

    def __init__(self, ledger: Ledger, ended: threading.Event | None = None) -> None:
        self._ledger, self._ended = ledger, ended or threading.Event()
        self._ear = ledger.key("ear", secrets.token_hex(8))
        self._waiters: dict[str, set[threading.Event]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, name="news", daemon=True).start()

    def until(
        self, account: str, call_uuid: str, deadline: float, seen: Callable[[Call], T | None]
    ) -> T | None:
        """The first value that `seen` makes of the call, or None at the deadline
        (`time.monotonic`).

        `seen` is asked at once and after each event. Raises LedgerUnavailable when Redis does not
        answer at the deadline.
        """
        with self._news(account, call_uuid) as news:
            while True:
                news.clear()
                left = deadline - time.monotonic()
                try:
                    found = seen(
                        replay(account, call_uuid, self._ledger.events(account, call_uuid))
                    )
                except LedgerUnavailable:
                    if left <= 0:
                        raise
                    news.set()  # the listener may not know yet that the connection is gone
                    time.sleep(min(left, _STORE_IS_DOWN_S))
                else:
                    if found is not None or left <= 0:
                        return found
                news.wait(max(left, 0))

    @contextmanager
    def _news(self, account: str, call_uuid: str) -> Iterator[threading.Event]:
        key, news = self._ledger.call_key(account, call_uuid), threading.Event()
        with self._lock:
            self._waiters.setdefault(key, set()).add(news)
        try:
            self._ledger.hear(self._ear, account, call_uuid)
            yield news
        finally:
            with self._lock:
                mine = self._waiters[key]
                mine.discard(news)
                if not mine:
                    del self._waiters[
                        key
                    ]  # the ear goes on hearing of the call until it expires: another may wait by now

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                with self._ledger.redis.pubsub() as channel:  # type: ignore[no-untyped-call]
                    channel.subscribe(self._ear)
                    home = self._ledger.home()
                    while (
                        home == self._ledger.home() and not self._ended.is_set()
                    ):  # a server that vanished closes no connection
                        message = channel.get_message(timeout=_LISTEN_S)
                        if message:
                            self._wake(message["data"] if message["type"] == "message" else None)
            except (redis.RedisError, OSError) as error:
                if logs.seldom("news", error):
                    log.warning("news cannot be heard", error=f"{type(error).__name__}: {error}")
                time.sleep(_RECONNECT_S)

    def _wake(self, key: str | None) -> None:
        with self._lock:
            woken = (
                self._waiters.get(key, set())
                if key is not None
                else {w for waiters in self._waiters.values() for w in waiters}
            )
            for news in woken:
                news.set()
