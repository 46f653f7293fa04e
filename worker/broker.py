"""Celery's Redis transport without one of its deaths.

When a connection is lost, kombu 5.7 puts back what was delivered and not acknowledged. If Redis is away at that moment,
what it raises ends the whole worker (5 of 48, counting each worker at each kill of Redis under load), and a
new one takes seconds to come up. A message is only a hint here: what is not put back comes again when its lease runs out.
"""

from __future__ import annotations

from typing import Any

import structlog
from kombu.transport import redis

log = structlog.get_logger()


class ForgivingQoS(redis.QoS):
    def restore_unacked(self, client: Any = None) -> None:
        try:
            super().restore_unacked(client)  # type: ignore[no-untyped-call]  # kombu ships no types
        except Exception as error:      # noqa: BLE001 - whatever it is, the worker must outlive it
            log.warning("messages could not be put back; their leases bring the work back", error=f"{type(error).__name__}: {error}",
                        messages=len(self._delivered))
            self._delivered.clear()


def install() -> None:
    """From now on in this process. Harmless to repeat."""
    redis.Channel.QoS = ForgivingQoS
