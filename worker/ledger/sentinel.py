"""A Redis whose address the Sentinels know: connections that follow the primary, for redis-py and
for Celery.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import redis
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

from worker.errors import LedgerUnavailable, SettingsError
from worker.ledger.sentinel_url import FORM, SCHEME, Watched, parse

_ASK_EVERY_S = 1.0


class Following(SentinelManagedConnection):
    """A connection to the primary. It asks the Sentinels for the address whenever it connects.

    It closes at once when the server answers that it is a replica now, or that it lost its replicas
    (then the Sentinels may be about to replace it).
    """

    def connect(self) -> None:
        # One attempt. redis-py repeats the whole command, so attempts here would multiply the time
        # that a caller waits.
        self._connect_retry()  # type: ignore[no-untyped-call]

    def read_response(self, *given: Any, **named: Any) -> Any:
        try:
            return super().read_response(*given, **named)
        except redis.ResponseError as error:
            if str(error).startswith("NOREPLICAS"):  # redis-py itself closes on READONLY
                self.disconnect()  # type: ignore[no-untyped-call]
            raise


class _Pool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """A bounded pool that follows the primary.

    A demoted primary refuses writes but still answers reads with stale data. So the pool asks the
    Sentinels every second, and closes idle connections to any other server.
    """

    _ask_at, _asking = 0.0, False
    watched: Watched

    def get_master_address(self) -> Any:
        try:
            return super().get_master_address()  # type: ignore[no-untyped-call]
        except (redis.ConnectionError, redis.ResponseError) as error:
            # Other messages of redis-py show its objects.
            answer = f" ({error})" if isinstance(error, redis.ResponseError) else ""
            places = ", ".join(f"{host}:{port}" for host, port in self.watched.sentinels)
            raise redis.ConnectionError(
                f"of the Sentinels {places} none names a primary {self.watched.name!r} "
                f"that is up{answer}"
            ) from None

    def get_connection(self, *given: Any, **named: Any) -> Any:
        if time.monotonic() >= self._ask_at and not self._asking:
            # In a thread, because silent Sentinels must not delay commands to a healthy primary.
            self._asking = True
            threading.Thread(target=self._ask, name="sentinels", daemon=True).start()
        return super().get_connection(*given, **named)  # type: ignore[no-untyped-call]

    def _ask(self) -> None:
        try:
            self.get_master_address()
        except redis.RedisError:
            pass  # no answer: the pool stays with the server that it has
        finally:
            self._ask_at, self._asking = time.monotonic() + _ASK_EVERY_S, False


def pool(url: str, *, timeout_s: float, **named: Any) -> redis.ConnectionPool:
    """Connections to the primary. `named`: arguments of `redis.BlockingConnectionPool`."""
    watched = parse(url)
    sentinels = Sentinel(watched.sentinels, sentinel_kwargs=watched.asking(timeout_s))  # type: ignore[no-untyped-call]
    connections = _Pool(
        watched.name,
        sentinels,
        connection_class=Following,
        db=watched.db,
        username=watched.username,  # type: ignore[no-untyped-call]
        password=watched.password,
        **named,
    )
    connections.watched = watched
    return connections


def for_celery(url: str, *, timeout_s: float) -> tuple[str, dict[str, Any]]:
    """The broker address and the transport options with which Celery finds the primary."""
    watched = parse(url)
    login = (
        f"{quote(watched.username or '', safe='')}:{quote(watched.password, safe='')}@"
        if watched.password
        else ""
    )
    hosts = (
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in watched.sentinels
    )
    return ";".join(f"{SCHEME}{login}{host}/{watched.db}" for host in hosts), {
        "master_name": watched.name,
        "sentinel_kwargs": watched.asking(timeout_s),
    }


def primary(url: str, *, timeout_s: float = 1.0) -> str:
    """Asks every Sentinel, and returns `host:port` of the primary that most of them name.

    Raises SettingsError for what only a person can put right; LedgerUnavailable while half of them
    or more do not answer, or most do not agree on a primary that is up.
    """
    watched = parse(url)
    answers, silent = list[str](), list[str]()
    for host, port in watched.sentinels:
        try:
            master = _master(watched, host, port, timeout_s)
        except redis.RedisError as error:
            silent.append(f"{host}:{port}: {error}")
            continue
        if not master["is_sdown"] and not master["is_odown"]:
            answers.append(f"{master['ip']}:{master['port']}")
    return _most(answers, silent, len(watched.sentinels))


def _master(watched: Watched, host: str, port: int, timeout_s: float) -> dict[str, Any]:
    """What one Sentinel knows of the primary. Raises SettingsError for what only a person can put
    right, RedisError if it does not answer.
    """
    place, options = f"{host}:{port}", watched.asking(timeout_s)
    try:
        with redis.Redis(host, port, decode_responses=True, **options) as client:
            masters: dict[str, dict[str, Any]] = client.sentinel_masters()
    except redis.AuthenticationError as error:
        raise SettingsError(
            [
                f"the Sentinel {place} refuses name and password ({error}); "
                "set ?sentinel_username=…&sentinel_password=… at the end of the URL"
            ]
        ) from None
    except redis.ResponseError as error:
        raise SettingsError(
            [
                f"{place} is no Sentinel ({error}); "
                "name the Sentinels, or the server itself as redis://host:port"
            ]
        ) from None
    if watched.name not in masters:
        raise SettingsError(
            [
                f"the Sentinel {place} watches no {watched.name!r}, "
                f"but {', '.join(sorted(masters)) or 'nothing'}; write {FORM}"
            ]
        )
    return masters[watched.name]


def _most(answers: Sequence[str], silent: Sequence[str], asked: int) -> str:
    if 2 * (asked - len(silent)) <= asked:
        raise LedgerUnavailable(
            f"{asked - len(silent)} of {asked} Sentinels answer ({'; '.join(silent)})"
        )
    for place in set(answers):
        if 2 * answers.count(place) > asked:
            return place
    raise LedgerUnavailable(
        f"of {asked} Sentinels most do not agree on a primary that is up; "
        f"they name {', '.join(sorted(set(answers))) or 'none'}"
    )
