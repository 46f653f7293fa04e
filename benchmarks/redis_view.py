"""What benchmarks see and change behind the ledger's back: the one place of them that knows how
Redis's keys are named.
"""

from __future__ import annotations

from collections.abc import Iterable

from worker.calls.obligations import Duty, Obligation
from worker.ledger.client import Ledger

_AT_ONCE = 5000
_CLAIM_BARE = """
local due = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, 200)
for _, member in ipairs(due) do
    redis.call('ZADD', KEYS[1], ARGV[2], member)
end
return due
"""


def track(ledger: Ledger, calls: Iterable[tuple[Obligation, str, float]]) -> None:
    """Stores calls: what is owed on each, its log, and when that is due (ms)."""
    pipe = ledger.redis.pipeline(transaction=False)
    for number, (owed, log, due_at) in enumerate(calls, 1):
        pipe.set(ledger.call_key(owed.account, owed.call_uuid), log)
        pipe.zadd(ledger.key("due", owed.duty), {str(owed): due_at})
        if number % _AT_ONCE == 0:
            pipe.execute()
    pipe.execute()


def make_due(ledger: Ledger, obligations: Iterable[Obligation], at: float) -> None:
    """Makes these plans due at that instant (ms), and ends every lease of a plan."""
    ledger.redis.delete(ledger.key("leases", Duty.PLAN))
    ledger.redis.zadd(ledger.key("due", Duty.PLAN), {str(owed): at for owed in obligations})


def planned(ledger: Ledger, count: int) -> bool:
    """Whether so many stops wait, all of them planned and none of them held by a worker."""
    due, now = ledger.key("due", Duty.PLAN), ledger.now().timestamp() * 1000
    return (
        int(ledger.command("ZCOUNT", due, f"({now}", "+inf")) >= count
        and not ledger.command("ZCARD", ledger.key("leases", Duty.PLAN))
        and not ledger.command("ZCOUNT", due, "-inf", now)
    )


def claim_bare(ledger: Ledger, now: float) -> None:
    """Moves what is due at that instant (ms) by a lease, and fences nothing."""
    ledger.command("EVAL", _CLAIM_BARE, 1, ledger.key("due", Duty.PLAN), now, now + 3000)


def store_bare(ledger: Ledger, call_uuids: Iterable[str], body: str, at: float) -> None:
    """The least that a waiting stop can be: one string and one entry of a sorted set."""
    with ledger.pipeline() as pipe:
        for call_uuid in call_uuids:
            pipe.set(f"bare:{call_uuid}", body)
            pipe.zadd("bare", {call_uuid: at})
