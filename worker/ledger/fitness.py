"""Is this a Redis that Endtape's promises can stand on? Found out once, when a process starts, and
by `endtape doctor`.

What would lose calls silently is refused: an evicting, clustered, too old or forgetful server, or a
clock that is off. A server that does not answer is waited for: it may be restarting. What a server
does not tell is said, and not held against it: managed services forbid `CONFIG`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import redis
import structlog

from worker import logs
from worker.errors import LedgerUnavailable, SettingsError
from worker.ledger import sentinel, sentinel_url
from worker.ledger.presence import Presence
from worker.ledger.store import connect
from worker.settings import Settings, gone

log = structlog.get_logger()
OLDEST_REDIS = (6, 2)
CLOCK_REFUSED_S, CLOCK_WARNED_S = 2.0, 0.25
_ASK_AGAIN_S = 0.5


class State(StrEnum):
    FINE = "fine"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at; what is not fine says what to do."""

    name: str
    state: State
    detail: str


def findings(
    client: redis.Redis, *, unsaved: bool = False, now: Callable[[], float] = time.time
) -> list[Finding]:
    """Everything there is to know about the server of the ledger. `unsaved`: it may keep no
    append-only file.

    Raises LedgerUnavailable while it does not answer.
    """
    with _understood("REDIS_URL"):
        told = _told(client, "server", "memory", "persistence", "cluster")
        if _mode_of(told) == "sentinel":
            return [_mode(told)]  # it knows nothing of the rest
        return [
            _version(told),
            _mode(told),
            _eviction(told),
            *_durability(client, told, unsaved=unsaved),
            _clock(client, now),
        ]


def broker_findings(client: redis.Redis) -> list[Finding]:
    """What a Redis of its own for the queues must be; it carries hints only, so it may forget
    them.
    """
    with _understood("CELERY_BROKER_URL"):
        return [_mode(_told(client, "server", "cluster"))]


@contextlib.contextmanager
def _understood(name: str) -> Iterator[None]:
    """Tells what waiting puts right from what it does not; `name` is the setting that led to the
    server.
    """
    try:
        yield
    except redis.AuthenticationError as error:
        raise SettingsError(
            [
                f"{name} = (secret): the server refuses name and password ({error}); set them in the URL"
            ]
        ) from None
    except (redis.RedisError, LedgerUnavailable) as error:
        if _forbidden(error) or _forbidden(error.__cause__):
            raise SettingsError(
                [
                    f"{name} = (secret): the server refuses a command that Endtape needs ({error}); "
                    "let this user do everything with our keys (ACL), or name another server"
                ]
            ) from None
        if "CERTIFICATE_VERIFY_FAILED" in str(error):  # waiting would not help
            raise SettingsError(
                [
                    f"{name} = (secret): the server's certificate is not trusted ({error}); name who vouches for it with "
                    "?ssl_ca_certs=/path/ca.pem, and the server by the name that it was made for"
                ]
            ) from None
        if isinstance(error, LedgerUnavailable):
            raise
        raise LedgerUnavailable(f"{type(error).__name__}: {error}") from error


def _forbidden(error: BaseException | None) -> bool:
    """Whether the server answered that it never does this for us: waiting would not help."""
    return isinstance(error, redis.exceptions.NoPermissionError) or (
        isinstance(error, redis.ResponseError) and "unknown command" in str(error)
    )


def _told(client: redis.Redis, *sections: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    with contextlib.suppress(redis.ResponseError):  # INFO is forbidden to us
        for section in sections:
            told |= client.info(section)
    return told


def _fine(name: str, detail: str) -> Finding:
    return Finding(name=name, state=State.FINE, detail=detail)


def _failed(name: str, detail: str) -> Finding:
    return Finding(name=name, state=State.FAILED, detail=detail)


def _warning(name: str, detail: str) -> Finding:
    return Finding(name=name, state=State.WARNING, detail=detail)


def _version(told: dict[str, Any]) -> Finding:
    version = str(told.get("redis_version") or "unknown")
    if version == "unknown":
        return _warning(
            "version",
            "the server does not tell its version; it must be Redis 6.2 or newer, or Valkey",
        )
    numbers = tuple(int(n) for n in version.split(".")[:2] if n.isdigit())
    if numbers < OLDEST_REDIS:
        return _failed(
            "version", f"the server is version {version}; use Redis 6.2 or newer, or Valkey"
        )
    return _fine(
        "version", f"{told.get('server_name') or 'redis'} {told.get('valkey_version') or version}"
    )


def _mode_of(told: dict[str, Any]) -> str:
    return str(
        told.get("redis_mode") or told.get("server_mode") or "standalone"
    )  # Valkey has its own word for it


def _mode(told: dict[str, Any]) -> Finding:
    mode = _mode_of(told)
    if int(told.get("cluster_enabled") or 0) or mode == "cluster":
        return _failed(
            "mode",
            "the server is part of a Redis Cluster, which cannot carry Celery's queues; use a server of its own, or Sentinel",
        )
    if mode == "sentinel":
        return _failed(
            "mode", f"this is a Sentinel, not the server that it watches; write {sentinel_url.FORM}"
        )
    return _fine("mode", "a server of its own")


def _eviction(told: dict[str, Any]) -> Finding:
    policy = str(told.get("maxmemory_policy") or "unknown")
    if policy == "unknown":
        return _warning(
            "eviction", "the server does not tell its maxmemory-policy; it must be noeviction"
        )
    if policy != "noeviction":
        return _failed(
            "eviction",
            f"maxmemory-policy is {policy}, so the server may throw calls away; set `maxmemory-policy noeviction`",
        )
    return _fine("eviction", "noeviction")


def _durability(client: redis.Redis, told: dict[str, Any], *, unsaved: bool) -> Iterator[Finding]:
    if "aof_enabled" not in told:
        yield _warning(
            "append-only file",
            "the server does not tell whether it keeps one; it needs `appendonly yes`, `appendfsync always`",
        )
        return
    if not int(told["aof_enabled"]):
        lost = (
            "appendonly is off, so a restart of the server forgets calls and acknowledged callbacks"
        )
        if unsaved:
            yield _warning("append-only file", f"{lost}; ENDTAPE_APPENDONLY=optional allows it")
        else:
            yield _failed(
                "append-only file",
                f"{lost}; set `appendonly yes` and `appendfsync always`, or, where a managed service keeps "
                "data in its own way, ENDTAPE_APPENDONLY=optional",
            )
        return
    yield _fine("append-only file", "appendonly yes")
    try:
        fsync = str(client.config_get("appendfsync").get("appendfsync") or "unknown")
    except redis.ResponseError:
        fsync = "unknown"
    if fsync == "always":
        yield _fine("appendfsync", "always")
    elif fsync == "unknown":
        yield _warning(
            "appendfsync",
            "the server does not tell; with anything but `always` acknowledged callbacks can be lost",
        )
    else:
        lost = "up to a second" if fsync == "everysec" else "up to half a minute"
        yield _warning(
            "appendfsync",
            f"appendfsync is {fsync}: {lost} of acknowledged callbacks can be lost; set `appendfsync always`",
        )


def _clock(client: redis.Redis, now: Callable[[], float]) -> Finding:
    before, (seconds, micros), after = now(), client.time(), now()
    theirs = int(seconds) + int(micros) / 1e6
    off = (
        before - theirs if theirs < before else theirs - after if theirs > after else 0.0
    )  # the way there and back is no error
    if off > CLOCK_REFUSED_S:
        return _failed(
            "clock", f"this machine's clock and the server's are {off:.1f} s apart; set both by NTP"
        )
    if off > CLOCK_WARNED_S:
        return _warning(
            "clock", f"this machine's clock and the server's are {off:.2f} s apart; set both by NTP"
        )
    return _fine("clock", "agrees with the server's")


def check(settings: Settings) -> None:
    """One look at each Redis that is named. Raises SettingsError with every reason,
    LedgerUnavailable while one does not answer.
    """
    problems = [*_watched("REDIS_URL", settings.redis_url)]
    if settings.broker_url != settings.redis_url:
        problems += _watched("CELERY_BROKER_URL", settings.broker_url)
    if problems:
        raise SettingsError(problems)
    with connect(settings.redis_url, connections=2) as client:
        for finding in findings(client, unsaved=settings.unsaved):
            if finding.state is State.FAILED:
                problems.append(f"REDIS_URL = (secret): {finding.detail}")
            elif finding.state is State.WARNING:
                log.warning("redis", what=finding.name, detail=finding.detail)
        if not problems:
            presence = Presence(client)
            with _understood("REDIS_URL"):
                presence.prepare()
                before = presence.had_rules(settings.config.name if settings.config else None)
            if before and not settings.config:
                problems.append(gone(before))
    if settings.broker_url != settings.redis_url and settings.broker_url.startswith(
        ("redis://", "rediss://", "unix://", sentinel_url.SCHEME)
    ):
        with connect(settings.broker_url, connections=2) as client:
            problems += [
                f"CELERY_BROKER_URL = (secret): {f.detail}"
                for f in broker_findings(client)
                if f.state is State.FAILED
            ]
    if problems:
        raise SettingsError(problems)


def _watched(name: str, url: str) -> Iterator[str]:
    """What is wrong with the Sentinels that an address names, if it does. Raises LedgerUnavailable
    while too few of them answer.
    """
    if url.startswith(sentinel_url.SCHEME):
        try:
            sentinel.primary(url)
        except SettingsError as error:
            yield from (f"{name} = (secret): {problem}" for problem in error.problems)


def wait(settings: Settings, *, given_up: Callable[[], bool] = lambda: False) -> None:
    """Returns once Redis answers and is fit, or when `given_up` says so. Raises SettingsError."""
    while not given_up():
        try:
            check(settings)
        except LedgerUnavailable as error:
            if logs.seldom("waiting", error):
                log.warning("waiting for redis; see REDIS_URL", error=str(error))
            time.sleep(_ASK_AGAIN_S)
        else:
            return
