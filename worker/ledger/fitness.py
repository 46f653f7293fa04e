"""Whether a Redis can keep Endtape's promises. Checked when a process starts, and by
`endtape doctor`.

A process refuses a server that would lose calls silently: one that evicts keys, is part of a
cluster, is too old, keeps no append-only file, or has a clock that is off. It waits for a server
that does not answer, which may be restarting. What the server does not report is a warning only:
managed services forbid `CONFIG`.
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
from worker.calls.rules_file import gone
from worker.errors import LedgerUnavailable, SettingsError
from worker.ledger import sentinel, sentinel_url
from worker.ledger.presence import Presence
from worker.ledger.redis_url import SCHEMES
from worker.ledger.store import connect

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
    """The result of one check. If it is not fine, `detail` says what to do."""

    name: str
    state: State
    detail: str


def findings(
    client: redis.Redis, *, allow_no_aof: bool = False, now: Callable[[], float] = time.time
) -> list[Finding]:
    """Checks the server of the ledger. `allow_no_aof`: accept one without an append-only file.

    Raises LedgerUnavailable if it does not answer, SettingsError if it refuses us.
    """
    with _blaming("REDIS_URL"):
        info = _info(client, "server", "memory", "persistence", "cluster")
        if _mode_of(info) == "sentinel":
            return [_mode(info)]  # a Sentinel has no answer to the other checks
        return [
            _version(info),
            _mode(info),
            _eviction(info),
            *_durability(client, info, allow_no_aof=allow_no_aof),
            _clock(client, now),
        ]


def broker_findings(client: redis.Redis) -> list[Finding]:
    """Checks a separate Redis for Celery's queues. They carry hints only, so it may lose them.

    Raises as `findings` does.
    """
    with _blaming("CELERY_BROKER_URL"):
        return [_mode(_info(client, "server", "cluster"))]


@contextlib.contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Raises SettingsError for what only a person can put right, and LedgerUnavailable for what may
    pass. `name`: the setting with the server's address.
    """
    try:
        yield
    except redis.AuthenticationError as error:
        raise SettingsError(
            [
                f"{name} = (secret): the server refuses name and password ({error}); "
                "set them in the URL"
            ]
        ) from None
    except (redis.RedisError, LedgerUnavailable) as error:
        if _forbidden(error) or _forbidden(error.__cause__):
            raise SettingsError(
                [
                    f"{name} = (secret): the server refuses a command that Endtape needs "
                    f"({error}); let this user do everything with our keys (ACL), or name "
                    "another server"
                ]
            ) from None
        if "CERTIFICATE_VERIFY_FAILED" in str(error):  # waiting would not help
            raise SettingsError(
                [
                    f"{name} = (secret): the server's certificate is not trusted ({error}); "
                    "name who vouches for it with ?ssl_ca_certs=/path/ca.pem, and the server "
                    "by the name that it was made for"
                ]
            ) from None
        if isinstance(error, LedgerUnavailable):
            raise
        raise LedgerUnavailable(f"{type(error).__name__}: {error}") from error


def _forbidden(error: BaseException | None) -> bool:
    """Whether the server will never run this command for us, so that waiting would not help."""
    return isinstance(error, redis.exceptions.NoPermissionError) or (
        isinstance(error, redis.ResponseError) and "unknown command" in str(error)
    )


def _info(client: redis.Redis, *sections: str) -> dict[str, Any]:
    info: dict[str, Any] = {}
    with contextlib.suppress(redis.ResponseError):  # the server forbids INFO
        for section in sections:
            info |= client.info(section)
    return info


def _fine(name: str, detail: str) -> Finding:
    return Finding(name=name, state=State.FINE, detail=detail)


def _failed(name: str, detail: str) -> Finding:
    return Finding(name=name, state=State.FAILED, detail=detail)


def _warning(name: str, detail: str) -> Finding:
    return Finding(name=name, state=State.WARNING, detail=detail)


def _version(info: dict[str, Any]) -> Finding:
    version = str(info.get("redis_version") or "unknown")
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
        "version", f"{info.get('server_name') or 'redis'} {info.get('valkey_version') or version}"
    )


def _mode_of(info: dict[str, Any]) -> str:
    # `server_mode` is Valkey's word.
    return str(info.get("redis_mode") or info.get("server_mode") or "standalone")


def _mode(info: dict[str, Any]) -> Finding:
    mode = _mode_of(info)
    if int(info.get("cluster_enabled") or 0) or mode == "cluster":
        return _failed(
            "mode",
            "the server is part of a Redis Cluster, which cannot carry Celery's queues; "
            "use a server of its own, or Sentinel",
        )
    if mode == "sentinel":
        return _failed(
            "mode", f"this is a Sentinel, not the server that it watches; write {sentinel_url.FORM}"
        )
    return _fine("mode", "a server of its own")


def _eviction(info: dict[str, Any]) -> Finding:
    policy = str(info.get("maxmemory_policy") or "unknown")
    if policy == "unknown":
        return _warning(
            "eviction", "the server does not tell its maxmemory-policy; it must be noeviction"
        )
    if policy != "noeviction":
        return _failed(
            "eviction",
            f"maxmemory-policy is {policy}, so the server may throw calls away; "
            "set `maxmemory-policy noeviction`",
        )
    return _fine("eviction", "noeviction")


def _durability(
    client: redis.Redis, info: dict[str, Any], *, allow_no_aof: bool
) -> Iterator[Finding]:
    if "aof_enabled" not in info:
        yield _warning(
            "append-only file",
            "the server does not tell whether it keeps one; "
            "it needs `appendonly yes`, `appendfsync always`",
        )
        return
    if not int(info["aof_enabled"]):
        lost = (
            "appendonly is off, so a restart of the server forgets calls and acknowledged callbacks"
        )
        if allow_no_aof:
            yield _warning("append-only file", f"{lost}; ENDTAPE_APPENDONLY=optional allows it")
        else:
            yield _failed(
                "append-only file",
                f"{lost}; set `appendonly yes` and `appendfsync always`, or, where a managed "
                "service keeps data in its own way, ENDTAPE_APPENDONLY=optional",
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
            "the server does not tell; with anything but `always` acknowledged callbacks "
            "can be lost",
        )
    else:
        lost = "up to a second" if fsync == "everysec" else "up to half a minute"
        yield _warning(
            "appendfsync",
            f"appendfsync is {fsync}: {lost} of acknowledged callbacks can be lost; "
            "set `appendfsync always`",
        )


def _clock(client: redis.Redis, now: Callable[[], float]) -> Finding:
    before, (seconds, micros), after = now(), client.time(), now()
    theirs = int(seconds) + int(micros) / 1e6
    off = max(before - theirs, theirs - after, 0.0)  # between `before` and `after` it agrees
    if off > CLOCK_REFUSED_S:
        return _failed(
            "clock", f"this machine's clock and the server's are {off:.1f} s apart; set both by NTP"
        )
    if off > CLOCK_WARNED_S:
        return _warning(
            "clock", f"this machine's clock and the server's are {off:.2f} s apart; set both by NTP"
        )
    return _fine("clock", "agrees with the server's")


def check(
    redis_url: str, broker_url: str, *, allow_no_aof: bool = False, rules_file: str | None = None
) -> None:
    """Checks each Redis once, and logs warnings. Remembers `rules_file`, the name of the one in
    use.

    Raises SettingsError with every reason; one is that there is no rules file now and there was one
    before. Raises LedgerUnavailable if a server does not answer.
    """
    problems = [*_watched("REDIS_URL", redis_url)]
    if broker_url != redis_url:
        problems += _watched("CELERY_BROKER_URL", broker_url)
    if not problems:
        problems += _ledger_problems(redis_url, allow_no_aof=allow_no_aof, rules_file=rules_file)
        if broker_url != redis_url and broker_url.startswith((*SCHEMES, sentinel_url.SCHEME)):
            problems += _broker_problems(broker_url)
    if problems:
        raise SettingsError(problems)


def _watched(name: str, url: str) -> Iterator[str]:
    """What is wrong with the Sentinels of an address. `name`: the setting with the address.

    Raises LedgerUnavailable if too few of them answer.
    """
    if url.startswith(sentinel_url.SCHEME):
        try:
            sentinel.primary(url)
        except SettingsError as error:
            yield from (f"{name} = (secret): {problem}" for problem in error.problems)


def _ledger_problems(url: str, *, allow_no_aof: bool, rules_file: str | None) -> Iterator[str]:
    with connect(url, connections=2) as client:
        fit = True
        for finding in findings(client, allow_no_aof=allow_no_aof):
            if finding.state is State.FAILED:
                fit = False
                yield f"REDIS_URL = (secret): {finding.detail}"
            elif finding.state is State.WARNING:
                log.warning("redis", what=finding.name, detail=finding.detail)
        if fit:
            presence = Presence(client)
            with _blaming("REDIS_URL"):
                presence.prepare()
                before = presence.had_rules(rules_file)
            if before and not rules_file:
                yield gone(before)


def _broker_problems(url: str) -> Iterator[str]:
    with connect(url, connections=2) as client:
        for finding in broker_findings(client):
            if finding.state is State.FAILED:
                yield f"CELERY_BROKER_URL = (secret): {finding.detail}"


def wait(
    redis_url: str,
    broker_url: str,
    *,
    allow_no_aof: bool = False,
    rules_file: str | None = None,
    given_up: Callable[[], bool] = lambda: False,
) -> None:
    """Repeats `check` until every Redis answers and is fit, or until `given_up` returns True.
    Raises SettingsError.
    """
    while not given_up():
        try:
            check(redis_url, broker_url, allow_no_aof=allow_no_aof, rules_file=rules_file)
        except LedgerUnavailable as error:
            if logs.seldom("waiting", error):
                log.warning("waiting for redis; see REDIS_URL", error=str(error))
            time.sleep(_ASK_AGAIN_S)
        else:
            return
