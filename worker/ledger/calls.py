"""The book of events and of what is owed, in Redis. Every write is one script, so no crash falls
between two of them.

    {endtape}:call:ACCOUNT:CALL    string a line for each event: all that is known of a call (worker/codec.py)
    {endtape}:due:DUTY             zset   every obligation, by the next instant to look at it (ms)
    {endtape}:leases:DUTY          zset   who is being worked on, until when; {endtape}:fences: the token of each
    {endtape}:unfinished           hash   obligation → how often it was begun again and not finished
    {endtape}:recordings:ACCOUNT   hash   recording → call;  {endtape}:recent:ACCOUNT: recordings by first sight (ms)
    {endtape}:aliases:ACCOUNT      hash   another leg → its call
    {endtape}:nonces:HOUR:XX       hash   digest of a nonce → digest of the body that came with it, in many small hashes
    {endtape}:wake                 list   a clock blocks on it
    {endtape}:ears:ACCOUNT:CALL    set    channels of processes in which somebody waits for news of the call

An obligation never leaves its `due` before it is done: claiming moves its score to the end of the
lease.
"""

from __future__ import annotations

import base64
import hashlib
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal

import redis

from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty, Obligation
from worker.errors import LedgerUnavailable, StaleLease
from worker.ledger.board import PREFIX, connect, pairs
from worker.ledger.codec import decode, encode, from_ms, to_ms
from worker.ledger.reading import Reading, Sight

__all__ = ["PREFIX", "Ledger", "Sight", "connect"]
# The shorter, the sooner a stop that died with its worker is sent again; the longer, the less a
# slow worker is doubted.
LEASES = dict.fromkeys(Duty, timedelta(seconds=5)) | {Duty.PLAN: timedelta(seconds=3)}
ALONE_AFTER, ASIDE_AFTER = (
    3,
    6,
)  # tries that were not finished: by a worker that died, or a fault of ours
LONGEST_WAIT, ASIDE = timedelta(seconds=60), timedelta(hours=6)
REPEAT_AFTER = timedelta(
    seconds=15
)  # two transfers that look alike within it count as one: a provider's retry
_EARS_S = 120  # longer than anybody waits
_REPEATABLE = {
    Kind.CALL_TRANSFERRED,
    Kind.CALL_REDIRECTED,
}  # and a dial that ended and names no leg
_IN_ROOMS = {Kind.CONFERENCE_ENTERED, Kind.CONFERENCE_LEFT}


class Recorded(StrEnum):
    NEW = "new"
    REPEAT = "repeat"
    NOTED = "noted"  # nothing to record but the nonce
    NONCE_REUSED = "nonce"  # this nonce came with another body


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """An obligation that is ours until the lease runs out."""

    obligation: Obligation
    fence: str
    failed: int = 0  # tries before this one that were not finished


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    now: datetime
    claims: tuple[Claim, ...]
    next_at: datetime | None  # the earliest obligation that was not claimed


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A call's log as it was read."""

    obligation: Obligation
    log: str

    @property
    def size(self) -> int:
        """It only grows, so it tells whether anything is newer."""
        return len(self.log)

    @cached_property
    def events(self) -> list[Event]:
        return decode(self.log, self.obligation.account, self.obligation.call_uuid)


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """What a piece of work found out. `dues`: the next instant of obligations, None: nothing more
    is owed.
    """

    claim: Claim
    events: Sequence[Event] = ()
    seen: int = 0  # the size of the log that the work was based on
    dues: tuple[tuple[Obligation, datetime | Literal["now"] | None], ...] = ()
    keep: timedelta | None = None  # the call is finished: forget it after this time
    generation: int | None = (
        None  # of the settings that the plan came from; None: it came from none
    )


class Ledger(Reading):
    """One per process; safe to share between threads, never across a fork."""

    # Recording what is reported
    # -----------------------------------------------------------------------------------

    def record(
        self, account: str, event: Event | None, *, nonces: Sequence[str] = (), body: bytes = b""
    ) -> tuple[Recorded, datetime]:
        """Writes one event and makes its call due, or only notes the nonces when `event` is None.
        Repeats are harmless.

        `body`: what came with the nonces, as it was received. Returns what became of it, and the
        instant by Redis's clock.
        """
        call_uuid = event.call_uuid if event else ""
        recording = event.recording_id or "" if event else ""
        aliases = " ".join(leg for leg in (event.leg, event.b_leg) if leg) if event else ""
        repeat_after = REPEAT_AFTER if event and may_happen_again(event) else timedelta(0)
        if event and event.kind is Kind.RETRY_ORDERED:
            self.forgive(
                account, event.call_uuid, event.recording_id
            )  # first: a retry that is written down finds nothing in its way
        places, fields = self._nonces(nonces)
        status, now = self._run(
            "record",
            [
                self.call_key(account, call_uuid),
                self.key("due", Duty.PLAN),
                self.key("leases", Duty.PLAN),
                self.key("recordings", account),
                self.key("recent", account),
                self.key("wake"),
                self.key("aliases", account),
                self.key("metrics"),
                self.key("ears", account, call_uuid),
                *places,
            ],
            [
                str(Obligation(duty=Duty.PLAN, account=account, call_uuid=call_uuid)),
                event.id if event else "",
                encode(event, account) if event else "",
                _short(body, 8),
                recording,
                call_uuid,
                round(repeat_after.total_seconds() * 1000),
                aliases,
                event.kind.value if event else "",
                *fields,
            ],
        )
        if event and event.room and event.kind in _IN_ROOMS and status != Recorded.NONCE_REUSED:
            self._move_in_room(account, event)
        return Recorded(status), from_ms(now)

    def record_together(self, account: str, events: Sequence[Event], *, seen: int) -> bool:
        """Records events of one call, all or none. True if they were recorded.

        None is recorded if the log has not the size `seen` any more, or if it holds the last of the
        events already.
        """
        call_uuid = events[0].call_uuid
        args: list[str | int] = [seen]
        for event in events:
            args += [event.id, encode(event, account), event.kind.value]
        found: int = self._run(
            "record_together",
            [
                self.call_key(account, call_uuid),
                self.key("ears", account, call_uuid),
                self.key("metrics"),
            ],
            args,
        )
        return bool(found)

    def _nonces(self, nonces: Sequence[str]) -> tuple[list[str], list[str]]:
        # Small hashes are packed by Redis: 20 bytes for a nonce instead of 90.
        hour, places, fields = int(time.time() // 3600), [], []
        for field in dict.fromkeys(_short(nonce.encode("utf-8", "replace"), 9) for nonce in nonces):
            bucket = f"{zlib.crc32(field.encode()) % 256:02x}"
            places += [
                self.key("nonces", str(hour), bucket),
                self.key("nonces", str(hour - 1), bucket),
            ]
            fields.append(field)
        return places, fields

    def _move_in_room(self, account: str, event: Event) -> None:
        # Safe to repeat, and done before the provider gets its answer: if we die between, it sends
        # the event again.
        assert event.room is not None
        state = "out" if event.kind is Kind.CONFERENCE_LEFT else "first" if event.first else "in"
        inside = set(
            self._run(
                "enter_room",
                [self.key("room", account, event.room)],
                [f"{event.call_uuid}|{event.member or ''}", state],
            )
        )
        if event.kind is not Kind.CONFERENCE_ENTERED:
            return
        # `first=false` says that somebody was there, even if we were never told who.
        joined = (
            inside
            if event.call_uuid in inside and len(inside) > 1
            else {event.call_uuid}
            if event.first is False
            else set()
        )
        for call_uuid in sorted(joined):
            self.record(
                account,
                Event(
                    id=f"join:{event.id}",
                    kind=Kind.CONFERENCE_JOINED,
                    call_uuid=call_uuid,
                    b_leg=None,
                    signed=event.signed,
                    reason=event.room,
                    by=event.call_uuid,
                ),
            )

    # Working on what is owed
    # --------------------------------------------------------------------------------------

    def claim(self, *, lead: timedelta, batch: int, free: dict[Duty, int]) -> Claimed:
        """Takes what is due within `lead`, at most `batch` at once and `free` of each duty
        outstanding.
        """
        now, claims, next_at = self._run(
            "claim_due",
            [self.key("fence"), self.key("fences"), self.key("unfinished"), *self._sets()],
            [
                _ms(lead),
                batch,
                ALONE_AFTER,
                ASIDE_AFTER,
                _ms(LONGEST_WAIT),
                _ms(ASIDE),
                *(n for d in Duty for n in (free.get(d, 0), _ms(LEASES[d]))),
            ],
        )
        return Claimed(
            now=from_ms(now),
            next_at=from_ms(float(next_at)) if next_at else None,
            claims=tuple(
                Claim(obligation=Obligation.parse(o), fence=str(f), failed=int(n))
                for o, f, n in claims
            ),
        )

    def load(self, claims: Sequence[Claim]) -> tuple[datetime, list[Loaded | None]]:
        """Begins work: now by Redis's clock, and what is known of each call; None where the claim
        is no longer ours. Leases start anew.
        """
        keys, args = [self.key("fences"), self.key("unfinished")], list[str | int]()
        for claim in claims:
            o = claim.obligation
            keys += [
                self.key("due", o.duty),
                self.key("leases", o.duty),
                self.call_key(o.account, o.call_uuid),
            ]
            args += [str(o), claim.fence, _ms(LEASES[o.duty])]
        seconds, micros, *logs = self._run("begin", keys, args)
        found = [
            Loaded(obligation=claim.obligation, log=log) if log is not None else None
            for claim, log in zip(claims, logs, strict=True)
        ]
        return from_ms(int(seconds) * 1000 + int(micros) / 1000), found

    def unfinished(self) -> dict[Obligation, int]:
        """What keeps being begun and never finished, and how often it was."""
        found = self.command("HGETALL", self.key("unfinished"))
        return {
            Obligation.parse(o): int(n) + 1
            for o, n in pairs(found).items()
            if int(n) + 1 >= ALONE_AFTER
        }

    def set_aside(self) -> dict[Obligation, int]:
        """What of that is tried every few hours only."""
        return {
            o: n
            for o, n in self.unfinished().items()
            if o.duty in {Duty.LOOK, Duty.FETCH} and n >= ASIDE_AFTER
        }

    def forgive(self, account: str, call_uuid: str, recording_id: str | None = None) -> None:
        """Whatever of a call was begun and never finished is tried again as if it were new, and at
        once.
        """
        look = Obligation(duty=Duty.LOOK, account=account, call_uuid=call_uuid)
        mine = (
            look,
            replace(look, duty=Duty.PLAN),
            replace(look, duty=Duty.FETCH, recording_id=recording_id),
        )
        if self.command("HDEL", self.key("unfinished"), *map(str, mine)):
            for o in mine:
                self.hasten(
                    o
                )  # the planner leaves what is held as it is, also where whoever holds it is dead
            self.wake()

    def next_at(self, obligation: Obligation) -> datetime | None:
        """When it is due; None when it is not owed."""
        found = self.command("ZSCORE", self.key("due", obligation.duty), str(obligation))
        return from_ms(float(found)) if found else None

    def tidy(self) -> None:
        """Drops what obligations left behind that are owed no longer."""
        left = {
            o
            for name in ("fences", "unfinished")
            for o, _ in self.redis.hscan_iter(self.key(name), count=500)
        }
        for duty in Duty:
            mine = [o for o in left if o.startswith(f"{duty}|")]
            for i in range(0, len(mine), 500):
                self._run(
                    "tidy",
                    [
                        self.key("due", duty),
                        self.key("leases", duty),
                        self.key("fences"),
                        self.key("unfinished"),
                    ],
                    mine[i : i + 500],
                )

    def size(self, account: str, call_uuid: str) -> int:
        """Of a call's log; compare with `Loaded.size`."""
        return int(self.command("STRLEN", self.call_key(account, call_uuid)))

    def sizes(self, calls: Sequence[tuple[str, str]]) -> list[int]:
        """The sizes of these calls' logs, each named by account and call."""
        if not calls:
            return []
        try:
            pipe = self.redis.pipeline(transaction=False)
            for account, call_uuid in calls:
                pipe.strlen(self.call_key(account, call_uuid))
            return [int(size) for size in pipe.execute()]
        except redis.RedisError as error:
            raise LedgerUnavailable(f"{type(error).__name__}: {error}") from error

    def commit(self, commits: Sequence[Commit]) -> list[frozenset[str] | None]:
        """Ends leases. For each: the ids of the events that are new, or None when the claim was no
        longer ours.
        """
        if not commits:
            return []
        try:
            pipe = self.redis.pipeline(transaction=False)
            for c in commits:
                self._scripts["commit"](
                    keys=self._commit_keys(c), args=_commit_args(c), client=pipe
                )
            answers = pipe.execute()
        except redis.RedisError as error:
            raise LedgerUnavailable(f"{type(error).__name__}: {error}") from error
        return [frozenset(a[1]) if a[0] == "ok" else None for a in answers]

    def _commit_keys(self, c: Commit) -> list[str]:
        o = c.claim.obligation
        return [
            self.call_key(o.account, o.call_uuid),
            self.key("fences"),
            self.key("recordings", o.account),
            self.key("recent", o.account),
            self.key("wake"),
            self.key("ears", o.account, o.call_uuid),
            *self._sets(),
            self.key("unfinished"),
            self.key("generation"),
        ]

    def _sets(self) -> list[str]:
        return [self.key(name, duty) for duty in Duty for name in ("due", "leases")]

    def renew(self, claim: Claim) -> None:
        """Keeps a claim for another lease. Raises StaleLease when it is no longer ours."""
        o = claim.obligation
        if not self._run(
            "renew",
            [self.key("due", o.duty), self.key("fences"), self.key("leases", o.duty)],
            [str(o), claim.fence, _ms(LEASES[o.duty])],
        ):
            raise StaleLease(str(o))

    def hasten(self, obligation: Obligation) -> None:
        """Makes due now what is owed later; while somebody works on it, or seems to, when the lease
        ends.
        """
        held = self.command("ZSCORE", self.key("leases", obligation.duty), str(obligation))
        self.command(
            "ZADD",
            self.key("due", obligation.duty),
            "XX",
            "LT",
            max(to_ms(self.now()), float(held or 0)),
            str(obligation),
        )

    def outstanding(self) -> int:
        """How much is owed to calls and recordings."""
        return sum(
            int(self.command("ZCARD", self.key("due", duty)))
            for duty in Duty
            if duty is not Duty.SURVEY
        )

    def make_all_due(self) -> None:
        """After a change of the rules every tracked call is planned anew: whatever is owed on it, a
        stop may be now.
        """
        now = to_ms(self.now())
        for duty in (Duty.PLAN, Duty.LOOK, Duty.FETCH):
            for member, _ in self.redis.zscan_iter(self.key("due", duty), count=500):
                o = Obligation.parse(member)
                planner = Obligation(duty=Duty.PLAN, account=o.account, call_uuid=o.call_uuid)
                self.command("ZADD", self.key("due", Duty.PLAN), "LT", now, str(planner))
        self.wake()

    def reload(self) -> int:
        """Tells every process on every machine to read its settings again; what they may have
        mended is tried at once.
        """
        number = int(self.command("INCR", self.key("generation")))
        aside = self.set_aside()
        self.command("DEL", self.key("unfinished"))  # what is set aside gets another try
        for o in aside:
            self.hasten(o)
        self.make_all_due()
        return number

    def wake(self) -> None:
        self.command("RPUSH", self.key("wake"), 1)

    def forget(self, account: str, *, before: datetime) -> int:
        """Drops what points to calls that are forgotten already: recordings first seen before that
        instant, and legs.
        """
        gone, kept, recordings, recent = (
            0,
            0,
            self.key("recordings", account),
            self.key("recent", account),
        )
        while ids := self.command(
            "ZRANGEBYSCORE", recent, "-inf", to_ms(before), "LIMIT", kept, 500
        ):
            calls = self.command("HMGET", recordings, *ids)
            dead = [
                i for i, alive in zip(ids, self._known(account, calls), strict=True) if not alive
            ]
            if dead:
                self.command("HDEL", recordings, *dead)
                self.command("ZREM", recent, *dead)
            gone, kept = gone + len(dead), kept + len(ids) - len(dead)
        for leg, call_uuid in list(self.redis.hscan_iter(self.key("aliases", account), count=500)):
            if not self._known(account, [call_uuid])[0]:
                self.command("HDEL", self.key("aliases", account), leg)
        return gone

    def _known(self, account: str, calls: Sequence[str | None]) -> list[bool]:
        with self.pipeline() as pipe:
            for call_uuid in calls:
                pipe.exists(self.call_key(account, call_uuid or ""))
            return [bool(n) for n in pipe.execute()]

    # Waiting for news
    # -----------------------------------------------------------------------------------------------

    def hear(self, ear: str, account: str, call_uuid: str) -> None:
        """From now on each event of the call is published to the channel `ear`, for a while."""
        with self.pipeline() as pipe:
            pipe.sadd(self.key("ears", account, call_uuid), ear)
            pipe.expire(self.key("ears", account, call_uuid), _EARS_S)


def may_happen_again(event: Event) -> bool:
    """Whether two events that look alike may be two events: nothing in them names the dial or the
    transfer they are about.
    """
    return event.kind in _REPEATABLE or (event.kind is Kind.DIAL_ENDED and event.b_leg is None)


def _commit_args(c: Commit) -> list[Any]:
    o = c.claim.obligation
    args: list[Any] = [
        str(o),
        c.claim.fence,
        o.call_uuid,
        c.seen,
        round(c.keep.total_seconds()) if c.keep else 0,
        len(c.events),
        len(c.dues),
        "" if c.generation is None else c.generation,
    ]
    for event in c.events:
        args += [event.id, encode(event, o.account), event.recording_id or ""]
    for other, instant in c.dues:
        args += [str(other), _instant(instant)]
    return args


def _instant(instant: datetime | Literal["now"] | None) -> str | int:
    if isinstance(instant, datetime):
        return to_ms(instant)
    return instant or ""


def _short(content: bytes, size: int) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()[:size]).decode().rstrip("=")


def _ms(span: timedelta) -> int:
    return round(span / timedelta(milliseconds=1))
