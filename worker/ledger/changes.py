"""Whether the log of any call grew: for who shows many calls, and looks at them all anew.

Redis sends its news to a subscription only while somebody listens. So a flood of callbacks costs
the listener a few messages a look, and not one for each callback.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import redis

from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger


class Changes:
    """For one thread: `listen`, look, `wait`, `rest`, and again. Each raises LedgerUnavailable."""

    def __init__(self, ledger: Ledger, subscription: Any) -> None:
        self._ledger, self._subscription = ledger, subscription
        self._channel = ledger.key("news")
        self._primary = ledger.primary()

    def listen(self) -> None:
        """From here on every change counts. Returns once Redis has taken the subscription."""
        with _answering():
            self._subscription.subscribe(self._channel)
            while self._next(5.0)["type"] != "subscribe":
                pass  # what was sent before the rest began

    def wait(self, within_s: float) -> bool:
        """True once a log grew since `listen`; False after this many seconds."""
        until = time.monotonic() + within_s
        with _answering():
            while (left := until - time.monotonic()) > 0:
                message = self._subscription.get_message(timeout=left)
                if message and message["type"] == "message":
                    return True
        # A server that vanished closes no connection.
        if self._primary != self._ledger.primary():
            raise LedgerUnavailable("another server takes the writes now")
        return False

    def rest(self) -> None:
        """Redis sends nothing more until the next `listen`."""
        with _answering():
            self._subscription.unsubscribe(self._channel)

    def _next(self, within_s: float) -> dict[str, Any]:
        until = time.monotonic() + within_s
        while (left := until - time.monotonic()) > 0:
            message: dict[str, Any] | None = self._subscription.get_message(timeout=left)
            if message:
                return message
        raise LedgerUnavailable("Redis did not take the subscription in time")


@contextlib.contextmanager
def changes(ledger: Ledger) -> Iterator[Changes]:
    """One connection, closed at the end."""
    with _answering():
        subscription = ledger.redis.pubsub()  # type: ignore[no-untyped-call]
    try:
        yield Changes(ledger, subscription)
    finally:
        with contextlib.suppress(redis.RedisError, OSError):
            subscription.close()


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise LedgerUnavailable(f"{type(error).__name__}: {error}") from error
