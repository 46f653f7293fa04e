"""Orders for many recordings at once: what is left of each, and what came of the rest.

{endtape}:bulk:ID          hash    what is to be done, by whom, why, and how far it is
{endtape}:bulk:ID:left     list    `ACCOUNT|RECORDING`, of those that are not done yet
{endtape}:bulk:ID:refused  list    `[RECORDING, why]` as JSON
{endtape}:bulk:ID:turn     string  somebody works on it just now
{endtape}:bulks            zset    ids, by when they were planned (ms)

Everything goes by itself after a week.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from worker.ledger.client import Ledger
from worker.ledger.codec import from_ms, to_ms
from worker.ledger.store import as_dict

_KEPT = timedelta(days=7)
_TURN = timedelta(seconds=30)  # longer than a turn takes
_SHOWN = 200
_AT_ONCE = 1000


class State(StrEnum):
    PLANNED = "planned"  # nobody has confirmed it yet
    GOING = "going"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    account: str
    recording_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Bulk:
    """One such order. `who` planned it or, once it is confirmed, confirmed it, `claimed` being the
    name that the person gave. `left_out`: why recordings that were meant are not in it, and how
    many. `total` were planned, `left` of them are not done; `refused` (the first 200) were not
    possible.
    """

    id: str
    what: str
    meant: str
    who: str
    claimed: str | None
    reason: str | None
    made_at: datetime
    state: State
    total: int
    left: int
    refused: list[tuple[str, str]]
    refused_count: int
    left_out: dict[str, int]

    @property
    def done(self) -> int:
        return self.total - self.left - self.refused_count

    @property
    def is_under_way(self) -> bool:
        """Whether it is confirmed, and something is left to do."""
        return self.state is State.GOING and self.left > 0


def plan(
    ledger: Ledger,
    what: str,
    items: Sequence[Item],
    *,
    meant: str,
    who: str,
    claimed: str | None,
    left_out: Mapping[str, int],
) -> str:
    """Puts down what would be done, and returns its id. `meant`: which recordings, in words."""
    bulk_id, now = secrets.token_hex(8), to_ms(ledger.now())
    said = {
        "what": what,
        "meant": meant,
        "who": who,
        "claimed": claimed or "",
        "made_ms": now,
        "total": len(items),
        "left_out": json.dumps(dict(left_out)),
    }
    names = [f"{item.account}|{item.recording_id}" for item in items]
    with ledger.pipeline() as pipe:
        pipe.hset(_key(ledger, bulk_id), mapping=said)
        pipe.expire(_key(ledger, bulk_id), _KEPT)
        for at in range(0, len(names), _AT_ONCE):
            pipe.rpush(_key(ledger, bulk_id, "left"), *names[at : at + _AT_ONCE])
        pipe.expire(_key(ledger, bulk_id, "left"), _KEPT)
        pipe.zadd(ledger.key("bulks"), {bulk_id: now})
        pipe.zremrangebyscore(ledger.key("bulks"), "-inf", now - _KEPT / timedelta(milliseconds=1))
        pipe.expire(ledger.key("bulks"), _KEPT)
    return bulk_id


def find(ledger: Ledger, bulk_id: str) -> Bulk | None:
    """The order of this id; None where there is none, or none any more."""
    said = as_dict(ledger.command("HGETALL", _key(ledger, bulk_id)))
    if not said:
        return None
    confirmed = json.loads(said.get("confirmed") or "{}")
    by = confirmed or said
    going = State.GOING if confirmed else State.PLANNED
    refused = _key(ledger, bulk_id, "refused")
    return Bulk(
        id=bulk_id,
        what=said["what"],
        meant=said["meant"],
        who=by["who"],
        claimed=by.get("claimed") or None,
        reason=confirmed.get("reason"),
        made_at=from_ms(float(said["made_ms"])),
        state=State.CANCELLED if "cancelled" in said else going,
        total=int(said["total"]),
        left=int(ledger.command("LLEN", _key(ledger, bulk_id, "left"))),
        refused=[tuple(json.loads(one)) for one in ledger.command("LRANGE", refused, 0, _SHOWN)],
        refused_count=int(ledger.command("LLEN", refused)),
        left_out=json.loads(said["left_out"]),
    )


def recent(ledger: Ledger) -> list[Bulk]:
    """The orders of the last week, the newest 50, newest first."""
    ids = ledger.command("ZREVRANGE", ledger.key("bulks"), 0, 49)
    return [bulk for bulk_id in ids if (bulk := find(ledger, bulk_id))]


def under_way(ledger: Ledger) -> list[str]:
    """The ids of those of the newest 50 that are confirmed and not done, newest first; at the cost
    of two round trips, so that a page of something else can tell of them.
    """
    ids = ledger.command("ZREVRANGE", ledger.key("bulks"), 0, 49)
    with ledger.pipeline() as pipe:
        for bulk_id in ids:
            pipe.hmget(_key(ledger, bulk_id), "confirmed", "cancelled")
            pipe.llen(_key(ledger, bulk_id, "left"))
        answers = pipe.execute()
    return [
        bulk_id
        for bulk_id, (confirmed, cancelled), left in zip(
            ids, answers[::2], answers[1::2], strict=True
        )
        if confirmed and not cancelled and left
    ]


def items(ledger: Ledger, bulk_id: str, count: int = -1) -> list[Item]:
    """What is left, the first `count` of it; -1 means all."""
    last = count - 1 if count > 0 else -1
    names = ledger.command("LRANGE", _key(ledger, bulk_id, "left"), 0, last)
    return [Item(account=a, recording_id=r) for a, _, r in (name.partition("|") for name in names)]


def confirm(
    ledger: Ledger, bulk_id: str, *, who: str, claimed: str | None, reason: str | None
) -> bool:
    """From here on it may be worked on, unless it is cancelled. False where somebody else was
    quicker.
    """
    said = json.dumps({"who": who, "claimed": claimed, "reason": reason})
    return bool(ledger.command("HSETNX", _key(ledger, bulk_id), "confirmed", said))


def cancel(ledger: Ledger, bulk_id: str) -> None:
    """What is not done stays as it is, whatever is confirmed at the same time."""
    ledger.command("HSET", _key(ledger, bulk_id), "cancelled", 1)


def take_turn(ledger: Ledger, bulk_id: str) -> bool:
    """Whether nobody else works on it; they end their turn, or it ends by itself."""
    turn = _key(ledger, bulk_id, "turn")
    return bool(ledger.command("SET", turn, 1, "NX", "EX", int(_TURN.total_seconds())))


def end_turn(ledger: Ledger, bulk_id: str) -> None:
    ledger.command("DEL", _key(ledger, bulk_id, "turn"))


def settle(ledger: Ledger, bulk_id: str, item: Item, refused: str | None = None) -> None:
    """Takes the item off what is left, once it is done or `refused`."""
    refusals = _key(ledger, bulk_id, "refused")
    with ledger.pipeline() as pipe:
        pipe.lrem(_key(ledger, bulk_id, "left"), 1, f"{item.account}|{item.recording_id}")
        if refused is not None:
            pipe.rpush(refusals, json.dumps([item.recording_id, refused]))
            pipe.expire(refusals, _KEPT)


def _key(ledger: Ledger, bulk_id: str, *part: str) -> str:
    return ledger.key("bulk", bulk_id, *part)
