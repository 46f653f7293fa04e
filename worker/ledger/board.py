"""What the processes tell one another through Redis: who is alive, which limits hold, what was
counted, what changed.

{endtape}:seen                 hash   role and process → when it last did its work, and its slots
{endtape}:rate:BUCKET:ACCOUNT  hash   a token bucket;  {endtape}:halted:ACCOUNT: its credentials are refused, since when
{endtape}:metrics              hash   counters;  {endtape}:refused:SLOT: refused callbacks of ten minutes, by reason
{endtape}:generation           int    grows with each reload;  {endtape}:schema, {endtape}:first_start
{endtape}:reload:N             hash   process → its answer to that reload;  {endtape}:settings: those in force, without secrets
{endtape}:rules_file           string the name of the rules file that was read last; missing where there never was one
{endtape}:degraded             hash   what does not work → since when it is known (ms) and why
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.errors import LedgerUnavailable, SettingsError
from worker.ledger import redis_url, sentinel, sentinel_url
from worker.ledger.codec import SCHEMA, from_ms, to_ms

PREFIX = "{endtape}:"
_SLOT_S = 600
_DEGRADED_FOR = timedelta(minutes=2)  # more than lies between two trials


def connect(url: str, *, timeout_s: float = 2.0, connections: int = 32) -> redis.Redis:
    """A client that gives up in time: the library's own defaults hold a caller for almost a
    minute.
    """
    how: dict[str, Any] = {
        "max_connections": connections,
        "timeout": 0.3,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, 1.0),
        "retry": Retry(NoBackoff(), 1),
        "health_check_interval": 10,
        "decode_responses": True,
        **_undelivered(url, timeout_s),
    }
    if url.startswith(sentinel_url.SCHEME):
        return redis.Redis(connection_pool=sentinel.pool(url, timeout_s=timeout_s, **how))
    return redis.Redis(
        connection_pool=redis.BlockingConnectionPool.from_url(
            redis_url.parse(url).for_redis(), **how
        )
    )


def _undelivered(url: str, timeout_s: float) -> dict[str, Any]:
    # What a dead link did not take the kernel would go on sending: a command that was given up
    # would be done when the link is back.
    option: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
    if option is None or url.startswith("unix"):
        return {}
    return {"socket_keepalive": True, "socket_keepalive_options": {option: round(timeout_s * 1000)}}


class Board:
    """What every process reads and writes. One per process; safe to share between threads, never
    across a fork.
    """

    def __init__(self, client: redis.Redis, prefix: str = PREFIX) -> None:
        self.redis = client
        self.prefix = prefix
        source = files("worker.ledger") / "lua"
        self._scripts = {
            name: client.register_script((source / f"{name}.lua").read_text())
            for name in (
                "record",
                "record_together",
                "claim_due",
                "begin",
                "commit",
                "renew",
                "enter_room",
                "take_tokens",
                "tidy",
            )
        }

    def key(self, *parts: str) -> str:
        return self.prefix + ":".join(parts)

    def home(self) -> tuple[str, int] | None:
        """The server that is written to just now; None where that never changes."""
        found: tuple[str, int] | None = getattr(self.redis.connection_pool, "master_address", None)
        return found

    def _run(self, name: str, keys: list[str], args: list[Any], client: Any = None) -> Any:
        try:
            return self._scripts[name](keys=keys, args=args, client=client)
        except redis.RedisError as error:
            raise LedgerUnavailable(f"{type(error).__name__}: {error}") from error

    def command(self, *parts: Any) -> Any:
        """One plain command. Raises LedgerUnavailable."""
        try:
            return self.redis.execute_command(*parts)  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            raise LedgerUnavailable(f"{type(error).__name__}: {error}") from error

    @contextlib.contextmanager
    def pipeline(self) -> Iterator[Any]:
        """Commands that travel together, sent at the end. Raises LedgerUnavailable."""
        try:
            pipe = self.redis.pipeline(transaction=False)
            yield pipe
            pipe.execute()
        except redis.RedisError as error:
            raise LedgerUnavailable(f"{type(error).__name__}: {error}") from error

    def now(self) -> datetime:
        seconds, micros = self.command("TIME")
        return from_ms(int(seconds) * 1000 + int(micros) / 1000)

    # Limits and credentials
    # ---------------------------------------------------------------------------------------

    def take(
        self, bucket: str, account: str, wanted: int, rate: float, *, queue: int = 0
    ) -> tuple[int, timedelta]:
        """Asks for request tokens: how many are granted now, and how long until the next.

        `queue`: so many mean to come back, `1 / rate` seconds apart; the answer is when the first
        of them should.
        """
        burst = max(1.0, rate / 4)
        granted, wait_ms = self._run(
            "take_tokens", [self.key("rate", bucket, account)], [wanted, rate, burst, 20000, queue]
        )
        return int(granted), timedelta(milliseconds=int(wait_ms))

    def charge(self, bucket: str, account: str, rate: float) -> None:
        """Takes a token that was granted elsewhere, if there is one or not: whoever asks next waits
        the longer.
        """
        self._run(
            "take_tokens",
            [self.key("rate", bucket, account)],
            [1, rate, max(1.0, rate / 4), 20000, "owe"],
        )

    def slow_down(self, bucket: str, account: str, rate: float) -> None:
        """The provider said 429: half the rate, recovering over 20 s."""
        self._run(
            "take_tokens",
            [self.key("rate", bucket, account)],
            [0, rate, max(1.0, rate / 4), 20000, "cut"],
        )

    def halt(self, account: str) -> bool:
        """Our credentials are refused: listings and fetches of the account wait. True when this is
        news.
        """
        return bool(self.command("SET", self.key("halted", account), to_ms(self.now()), "NX"))

    def release(self, account: str) -> bool:
        """The account works again. True when this is news."""
        return bool(self.command("DEL", self.key("halted", account)))

    def halted(self, accounts: Iterable[str]) -> set[str]:
        names = sorted(set(accounts))
        found = self.command("MGET", *(self.key("halted", a) for a in names)) if names else []
        return {a for a, since in zip(names, found, strict=True) if since}

    def once_per(self, deed: str, what: str, *, every: timedelta) -> bool:
        """True for one caller of all processes within each `every`."""
        return bool(
            self.command(
                "SET",
                self.key("turn", deed, what),
                1,
                "NX",
                "PX",
                round(every.total_seconds() * 1000),
            )
        )

    # The processes about themselves
    # -------------------------------------------------------------------------------

    def prepare(self) -> datetime:
        """Checks the schema, and returns the instant of our first start ever. Raises
        SettingsError.
        """
        self.command("SET", self.key("schema"), SCHEMA, "NX")
        schema = int(self.command("GET", self.key("schema")))
        if schema > SCHEMA + 1:
            raise SettingsError(
                [
                    f"REDIS_URL: its data has schema {schema}; this release reads up to {SCHEMA + 1}; upgrade Endtape"
                ]
            )
        self.command("SET", self.key("first_start"), to_ms(self.now()), "NX")
        return from_ms(int(self.command("GET", self.key("first_start"))))

    def first_start(self) -> datetime | None:
        """The instant of our first start as it is remembered; None in a ledger that was erased
        under us.
        """
        found = self.command("GET", self.key("first_start"))
        return from_ms(int(found)) if found else None

    def set_first_start(self, instant: datetime) -> None:
        """Another memory than the ledger's goes further back."""
        self.prepare()
        self.command("SET", self.key("first_start"), to_ms(instant))

    def seen(self, role: str, name: str, slots: int = 0) -> None:
        """Says that a process did its work just now."""
        self.command("HSET", self.key("seen"), f"{role}|{name}", f"{to_ms(self.now())}|{slots}")

    def gone(self, role: str, name: str) -> None:
        """Takes back what `seen` said: this process ends."""
        self.command("HDEL", self.key("seen"), f"{role}|{name}")

    def alive(self, within: timedelta) -> dict[str, list[int]]:
        """Roles with a process seen lately, and the slots of each."""
        since = to_ms(self.now() - within)
        found: dict[str, list[int]] = {}
        for field, value in pairs(self.command("HGETALL", self.key("seen"))).items():
            at, slots = (int(n) for n in value.split("|"))
            if at >= since:
                found.setdefault(field.split("|")[0], []).append(slots)
            elif at < since - 3_600_000:
                self.command("HDEL", self.key("seen"), field)
        return found

    def last_seen(self, role: str) -> dict[str, datetime]:
        """The processes of a role, and when each said so last; those that ended without a word are
        there for an hour.
        """
        found = pairs(self.command("HGETALL", self.key("seen")))
        return {
            field.partition("|")[2]: from_ms(int(value.partition("|")[0]))
            for field, value in found.items()
            if field.startswith(f"{role}|")
        }

    def generation(self) -> int:
        return int(self.command("GET", self.key("generation")) or 0)

    def answer(self, generation: int, who: str, text: str) -> None:
        """What a process says to a reload; the first one came with the start."""
        with self.pipeline() as pipe:
            pipe.hset(self.key("reload", str(generation)), who, text)
            pipe.expire(self.key("reload", str(generation)), 3600)

    def answers(self, generation: int) -> dict[str, str]:
        return pairs(self.command("HGETALL", self.key("reload", str(generation))))

    def had_rules(self, name: str | None) -> str | None:
        """Remembers the rules file that was read now; or, without one, says which was read
        before.
        """
        if name:
            self.command("SET", self.key("rules_file"), name)
        return str(name or self.command("GET", self.key("rules_file")) or "") or None

    # What does not work, as the last outcome had it
    # -----------------------------------------------------------------

    def degrade(self, what: str, why: str) -> None:
        """Something was tried and did not work. Forgotten when nobody says so again."""
        with self.pipeline() as pipe:
            pipe.hset(self.key("degraded"), what, f"{to_ms(self.now())}|{why}")
            pipe.expire(self.key("degraded"), round(_DEGRADED_FOR.total_seconds()))

    def restore(self, *what: str) -> bool:
        """It worked. True when this is news."""
        return bool(self.command("HDEL", self.key("degraded"), *what))

    def degraded(self) -> dict[str, str]:
        found = {
            what: text.partition("|")
            for what, text in pairs(self.command("HGETALL", self.key("degraded"))).items()
        }
        since = to_ms(self.now() - _DEGRADED_FOR) if found else 0
        return {what: why for what, (at, _, why) in sorted(found.items()) if int(at) >= since}

    def count(self, counts: dict[str, float]) -> None:
        """Adds to the counters that `/metrics` shows; field names are `name{labels}`."""
        if counts:
            with self.pipeline() as pipe:
                for name, amount in counts.items():
                    pipe.hincrbyfloat(self.key("metrics"), name, amount)

    def count_refusal(self, reason: str) -> None:
        """One callback that was turned away: for `/metrics`, and for `refusals`."""
        slot = self.key("refused", str(int(time.time() // _SLOT_S)))
        with self.pipeline() as pipe:
            pipe.hincrby(slot, reason, 1)
            pipe.expire(slot, 3600 + 2 * _SLOT_S)
            pipe.hincrbyfloat(self.key("metrics"), f"refused_total|{reason}", 1)

    def refusals(self) -> dict[str, int]:
        """Callbacks turned away in the last hour (up to ten minutes more), by reason."""
        this, found = int(time.time() // _SLOT_S), dict[str, int]()
        for slot in range(this - 3600 // _SLOT_S, this + 1):
            for reason, count in pairs(
                self.command("HGETALL", self.key("refused", str(slot)))
            ).items():
                found[reason] = found.get(reason, 0) + int(count)
        return found

    def counters(self) -> dict[str, float]:
        return {k: float(v) for k, v in pairs(self.command("HGETALL", self.key("metrics"))).items()}


def pairs(answer: Any) -> dict[str, str]:
    return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
