"""A Redis that is found by asking Sentinels:
`sentinel://[[user]:password@]host:port,host:port,host:port/master-name[/db]`.

All that differs from the address of one server. `user` and `password` are the servers'; Sentinels
that want their own get `?sentinel_username=…&sentinel_password=…`.
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
from worker.ledger.sentinel_url import _ASK_S, FORM, SCHEME, Watched, parse


class Following(SentinelManagedConnection):
    """Leads to whoever the Sentinels call primary, asked anew whenever it connects.

    A server that is the primary no longer, or that has lost its replicas and may be about to be
    replaced, is left at once.
    """

    def connect(self) -> None:
        # Once: the command as a whole is tried again, and a caller must not wait for the product of
        # both.
        self._connect_retry()  # type: ignore[no-untyped-call]

    def read_response(self, *given: Any, **named: Any) -> Any:
        try:
            return super().read_response(*given, **named)
        except redis.ResponseError as error:
            if str(error).startswith("NOREPLICAS"):  # READONLY is seen to by the library
                self.disconnect()  # type: ignore[no-untyped-call]
            raise


class _Pool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """Both: follows the primary, and does not grow without bounds.

    A server that was replaced and does not know it yet refuses writes but goes on answering reads,
    of a past that was overtaken. So the Sentinels are asked every second, and idle connections to
    any other server are closed.
    """

    _ask_at, _asking = 0.0, False
    watched: Watched

    def get_master_address(self) -> Any:
        try:
            return super().get_master_address()  # type: ignore[no-untyped-call]
        except (redis.ConnectionError, redis.ResponseError) as error:
            told = (
                f" ({error})" if isinstance(error, redis.ResponseError) else ""
            )  # the library's other words show its objects
            places = ", ".join(f"{host}:{port}" for host, port in self.watched.sentinels)
            raise redis.ConnectionError(
                f"of the Sentinels {places} none names a primary {self.watched.name!r} that is up{told}"
            ) from None

    def get_connection(self, *given: Any, **named: Any) -> Any:
        if time.monotonic() >= self._ask_at and not self._asking:
            # Aside: Sentinels that say nothing must not hold up a primary that is well.
            self._asking = True
            threading.Thread(target=self._ask, name="sentinels", daemon=True).start()
        return super().get_connection(*given, **named)  # type: ignore[no-untyped-call]

    def _ask(self) -> None:
        try:
            self.get_master_address()
        except redis.RedisError:
            pass  # what they know no better stays
        finally:
            self._ask_at, self._asking = time.monotonic() + _ASK_S, False


def pool(url: str, *, timeout_s: float, **named: Any) -> redis.ConnectionPool:
    """Connections to the primary; `named` as for `redis.BlockingConnectionPool`."""
    watched = parse(url)
    sentinels = Sentinel(watched.sentinels, sentinel_kwargs=watched.asking(timeout_s))  # type: ignore[no-untyped-call]
    found = _Pool(
        watched.name,
        sentinels,
        connection_class=Following,
        db=watched.db,
        username=watched.username,  # type: ignore[no-untyped-call]
        password=watched.password,
        **named,
    )
    found.watched = watched
    return found


def for_celery(url: str, *, timeout_s: float) -> tuple[str, dict[str, Any]]:
    """The address and the transport options by which Celery's client finds the primary."""
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
    """Asks every Sentinel: `host:port` of the primary, as most of them know it.

    Raises SettingsError for what only a person can put right; LedgerUnavailable while fewer than
    half of them answer, or they know of no primary that is up.
    """
    watched = parse(url)
    answers, silent = list[str](), list[str]()
    for host, port in watched.sentinels:
        place = f"{host}:{port}"
        try:
            with redis.Redis(
                host, port, decode_responses=True, **watched.asking(timeout_s)
            ) as client:
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
                    f"{place} is no Sentinel ({error}); name the Sentinels, or the server itself as redis://host:port"
                ]
            ) from None
        except redis.RedisError as error:
            silent.append(f"{place}: {error}")
            continue
        if watched.name not in masters:
            raise SettingsError(
                [
                    f"the Sentinel {place} watches no {watched.name!r}, but {', '.join(sorted(masters)) or 'nothing'}; "
                    f"write {FORM}"
                ]
            )
        found = masters[watched.name]
        if not found["is_sdown"] and not found["is_odown"]:
            answers.append(f"{found['ip']}:{found['port']}")
    return _most(answers, silent, len(watched.sentinels))


def _most(answers: Sequence[str], silent: Sequence[str], asked: int) -> str:
    if 2 * (asked - len(silent)) <= asked:
        raise LedgerUnavailable(
            f"{asked - len(silent)} of {asked} Sentinels answer ({'; '.join(silent)})"
        )
    for place in set(answers):
        if 2 * answers.count(place) > asked:
            return place
    raise LedgerUnavailable(
        f"of {asked} Sentinels most do not agree on a primary that is up; they name {', '.join(sorted(set(answers))) or 'none'}"
    )
