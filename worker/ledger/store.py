"""One Redis: the connection, the names of the keys, and the scripts.

The parts of the ledger (calls, obligations, limits, presence, counters) are each a `Store` with the
methods of their subject. Each lists its own keys.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from worker.errors import LedgerUnavailable
from worker.ledger import redis_url, sentinel, sentinel_url
from worker.ledger.codec import from_ms

PREFIX = "{endtape}:"


def connect(url: str, *, timeout_s: float = 2.0, connections: int = 32) -> redis.Redis:
    """A client that gives up in time. With the defaults of redis-py a command can block for almost
    a minute.

    `connections`: the most that are open at once; a caller waits 0.3 s for one. Raises ValueError
    for an address that cannot be parsed.
    """
    options: dict[str, Any] = {
        "max_connections": connections,
        "timeout": 0.3,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, 1.0),
        "retry": Retry(NoBackoff(), 1),
        "health_check_interval": 10,
        "decode_responses": True,
        **_drop_undelivered(url, timeout_s),
    }
    if url.startswith(sentinel_url.SCHEME):
        return redis.Redis(connection_pool=sentinel.pool(url, timeout_s=timeout_s, **options))
    return redis.Redis(
        connection_pool=redis.BlockingConnectionPool.from_url(
            redis_url.parse(url).for_redis(), **options
        )
    )


def _drop_undelivered(url: str, timeout_s: float) -> dict[str, Any]:
    # The kernel retransmits what a dead link did not take. Without this option Redis could run a
    # command, once the link is back, that the caller had given up.
    option: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
    if option is None or url.startswith("unix"):
        return {}
    return {"socket_keepalive": True, "socket_keepalive_options": {option: round(timeout_s * 1000)}}


class Store:
    """Safe to share between threads, never across a fork.

    Every method of the ledger raises LedgerUnavailable when Redis does not answer in time or
    refuses a command.
    """

    def __init__(self, client: redis.Redis, prefix: str = PREFIX) -> None:
        self.redis = client
        self.prefix = prefix
        scripts = [f for f in (files("worker.ledger") / "lua").iterdir() if f.name.endswith(".lua")]
        self._scripts = {
            script.name.removesuffix(".lua"): client.register_script(script.read_text())
            for script in scripts
        }

    def key(self, *parts: str) -> str:
        return self.prefix + ":".join(parts)

    def call_key(self, account: str, call_uuid: str) -> str:
        """The key of a call's log; also the message that listeners get when it grew."""
        return self.key("call", account, call_uuid)

    def primary(self) -> tuple[str, int] | None:
        """Host and port of the server that takes writes just now; None where it never changes."""
        place: tuple[str, int] | None = getattr(self.redis.connection_pool, "master_address", None)
        return place

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Turns every error of redis-py into LedgerUnavailable."""
        try:
            yield
        except redis.RedisError as error:
            raise _refused(error) from error

    def run(self, script: str, keys: list[str], args: list[Any], client: Any = None) -> Any:
        """Runs `lua/SCRIPT.lua` and returns its answer. With a pipeline as `client` the script is
        only queued there.
        """
        with self.answering():
            return self._scripts[script](keys=keys, args=args, client=client)

    def run_each(self, script: str, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        """Runs `lua/SCRIPT.lua` for each of these keys and arguments, all in one round trip. In
        place of an answer that is an error stands a LedgerUnavailable.
        """
        known = self._scripts[script]
        with self.answering():
            answers = self._run_at_once(known.sha, calls)
            missing = [i for i, a in enumerate(answers) if isinstance(a, NoScriptError)]
            if missing:  # a Redis that was started, or took over, since the script was loaded
                self.redis.script_load(known.script)
                again = self._run_at_once(known.sha, [calls[i] for i in missing])
                for i, answer in zip(missing, again, strict=True):
                    answers[i] = answer
        return [_refused(a) if isinstance(a, redis.RedisError) else a for a in answers]

    def _run_at_once(self, sha: str, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        pipe = self.redis.pipeline(transaction=False)
        for keys, args in calls:
            pipe.evalsha(sha, len(keys), *keys, *args)
        answers: list[Any] = pipe.execute(raise_on_error=False)
        return answers

    def run_together(self, script: str, runs: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        """The same for callers that want all answers or none. Raises LedgerUnavailable for the
        first that Redis refuses.
        """
        answers = self.run_each(script, runs) if runs else []
        for answer in answers:
            if isinstance(answer, LedgerUnavailable):
                raise answer
        return answers

    def command(self, *words: Any) -> Any:
        """Runs one plain command."""
        with self.answering():
            return self.redis.execute_command(*words)  # type: ignore[no-untyped-call]

    @contextlib.contextmanager
    def pipeline(self) -> Iterator[Any]:
        """Queues commands, and sends them in one round trip at the end. They are no transaction."""
        with self.answering():
            pipe = self.redis.pipeline(transaction=False)
            yield pipe
            pipe.execute()

    def now(self) -> datetime:
        """The instant by Redis's clock."""
        return instant_of(self.command("TIME"))


def _refused(error: redis.RedisError) -> LedgerUnavailable:
    return LedgerUnavailable(f"{type(error).__name__}: {error}")


def instant_of(answer: Any) -> datetime:
    """The instant that Redis's TIME tells: seconds and microseconds."""
    seconds, micros = answer
    return from_ms(int(seconds) * 1000 + int(micros) / 1000)


def as_dict(answer: Any) -> dict[str, str]:
    """The answer to HGETALL: a dict, or a flat list of names and values, by the protocol's
    version.
    """
    return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))


def span_ms(span: timedelta) -> int:
    return round(span / timedelta(milliseconds=1))
