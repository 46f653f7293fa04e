"""What differs between the brokers: Redis, Redis behind Sentinels, RabbitMQ.

Messages are hints: the clock sends a lost one again when its lease has run out.

ForgivingQoS removes one way in which a Celery worker dies: kombu 5.7 requeues unacknowledged
messages when a connection is lost, and if Redis is down then, the exception ends the worker (5 of
48, counting each worker at each kill of Redis under load). A new worker takes seconds to start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import structlog
from celery.app.amqp import AMQP
from kombu import connection as kombu
from kombu.transport import pyamqp, redis

from worker.ledger import redis_url, sentinel, sentinel_url

log = structlog.get_logger()
PREFIX = "{endtape}:broker:"  # of the queues' keys in Redis
RABBIT = ("amqp://", "amqps://")
HEARTBEAT_S = 10  # of RabbitMQ's connections: after twice that a worker closes a silent one
_PUBLISH_S = 0.5  # so long the clock waits for a broker
_RETRY_S, _RETRY_MAX_S = 0.5, 1.0


class ForgivingQoS(redis.QoS):
    def restore_unacked(self, client: Any = None) -> None:
        try:
            super().restore_unacked(client)  # type: ignore[no-untyped-call]  # kombu ships no types
        except Exception as error:  # noqa: BLE001 - no exception may end the worker
            log.warning(
                "messages could not be put back; their leases bring the work back",
                error=f"{type(error).__name__}: {error}",
                messages=len(self._delivered),
            )
            self._delivered.clear()


class Connection(kombu.Connection):
    """Reconnects soon. kombu's own pauses grow to 30 s, so a worker could come back that late after
    its broker.
    """

    def _ensure_connection(self, *given: Any, **named: Any) -> Any:
        if len(given) < 3:  # the clock names its own pauses, of 0 s
            named = {
                "interval_start": _RETRY_S,
                "interval_step": _RETRY_S,
                "interval_max": _RETRY_MAX_S,
                **named,
            }
        return super()._ensure_connection(*given, **named)  # type: ignore[no-untyped-call]

    def _establish_connection(self) -> Any:
        if "answer_within_s" in (self.transport_options or {}):
            self.transport.Connection = Brief
        return super()._establish_connection()  # type: ignore[no-untyped-call]


class Brief(pyamqp.Connection):
    """A connection to RabbitMQ that waits `answer_within_s` at most for an answer, and to write a
    message. py-amqp itself waits without end.
    """

    def __init__(self, *, answer_within_s: float, **named: Any) -> None:
        super().__init__(**named)
        self._wait_s = answer_within_s

    def connect(self, callback: Any = None) -> Any:
        answer = super().connect(callback)
        self.sock.settimeout(self._wait_s)
        write: Callable[..., None] = self.frame_writer  # type: ignore[has-type]

        def written(*frame: Any) -> None:
            with self._closed_on_timeout():
                write(*frame)

        self.frame_writer = written
        return answer

    def blocking_read(self, timeout: float | None = None) -> Any:
        with contextlib.nullcontext() if timeout is not None else self._closed_on_timeout():
            return super().blocking_read(timeout)

    @contextlib.contextmanager
    def _closed_on_timeout(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            self.collect()  # after half a frame the connection cannot carry another one
            raise


class Amqp(AMQP):  # type: ignore[misc]  # Celery ships no types
    Connection = Connection


def install() -> None:
    """Replaces kombu's classes in this process. Harmless to repeat."""
    redis.Channel.QoS = ForgivingQoS
    redis.SentinelChannel.connection_class = sentinel.Following


def transport(url: str, *, publisher: bool) -> tuple[str, dict[str, Any]]:
    """The address as Celery spells it, and the options of its transport.

    `publisher`: for a process that only sends, like the clock: it tries once and waits 0.5 s.
    """
    at_once = (
        {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}
        if publisher
        else {}
    )
    if url.startswith(RABBIT):
        return url, {**at_once, "answer_within_s": _PUBLISH_S} if publisher else {}
    options: dict[str, Any] = {"visibility_timeout": 900, "global_keyprefix": PREFIX, **at_once}
    if publisher:
        options |= {"socket_timeout": _PUBLISH_S, "socket_connect_timeout": _PUBLISH_S}
    else:
        options |= {
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "socket_keepalive": not url.startswith("unix://"),
            "health_check_interval": 10,
            "unacked_restore_interval": 5,
            "unacked_mutex_expire": 30,
        }
    if url.startswith(sentinel_url.SCHEME):
        url, more = sentinel.for_celery(url, timeout_s=_PUBLISH_S)
        # A worker notices a server that vanished after twice this interval.
        options |= more if publisher else {**more, "health_check_interval": 2}
    else:
        url = redis_url.parse(url).for_celery()
    return url, options


def try_rabbit(url: str, *, within_s: float = 2.0) -> str | None:
    """Connects once. Returns None, or why RabbitMQ refuses us. Raises OSError when it does not
    answer.
    """
    try:
        with kombu.Connection(url, connect_timeout=within_s) as connection:  # type: ignore[no-untyped-call]
            connection.connect()
    except amqp.AccessRefused:
        return "RabbitMQ refuses name and password; set them in the URL"
    except amqp.NotAllowed as error:
        return (
            f"RabbitMQ refuses the virtual host ({error.reply_text}); "
            "create it and give the user its rights, or name another in the URL"
        )
    except amqp.AMQPError as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    return None
