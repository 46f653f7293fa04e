"""What tests see and change behind the ledger's back: the one place of the tests that knows how
Redis's keys are named and what they hold.

Instants are milliseconds since 1970 by Redis's clock, as stored.
"""

from worker.ledger.codec import to_ms
from worker.processes.broker import PREFIX as QUEUES

BROKEN = "id 1 {not json}\n"


# What is owed ──────────────────────────────────────────────────────────────────────────────────


def make_due(ledger, *obligations, at=0):
    """Owes these, due at that instant; by default long ago."""
    for duty in {o.duty for o in obligations}:
        members = {str(o): at for o in obligations if o.duty is duty}
        ledger.redis.zadd(ledger.key("due", duty), members)


def due_at(ledger, obligation):
    """When it is due; None if it is not owed."""
    return ledger.redis.zscore(ledger.key("due", obligation.duty), str(obligation))


def due_in_s(ledger, obligation):
    return due_at(ledger, obligation) / 1000 - ledger.now().timestamp()


def owed(ledger, duty):
    """Every obligation of a duty, as text."""
    return ledger.redis.zrange(ledger.key("due", duty), 0, -1)


def forget_due(ledger, obligation):
    """It is owed no longer. Its lease, fence and count stay."""
    ledger.redis.zrem(ledger.key("due", obligation.duty), str(obligation))


def forget_all_due(ledger, duty):
    assert ledger.redis.delete(ledger.key("due", duty)), f"no {duty} was owed"


# Leases ────────────────────────────────────────────────────────────────────────────────────────


def lease_of(ledger, obligation):
    """When its lease ends; None if it has none."""
    return ledger.redis.zscore(ledger.key("leases", obligation.duty), str(obligation))


def leases(ledger, duty):
    """How many leases of a duty there are, also those that ended and were not given back."""
    return ledger.redis.zcard(ledger.key("leases", duty))


def end_leases(ledger, *obligations):
    """As if their workers had died a lease ago: they are due again."""
    for o in obligations:
        ledger.redis.zadd(ledger.key("leases", o.duty), {str(o): 1})
        make_due(ledger, o, at=1)


def fences(ledger):
    """Every obligation with a fence, as text."""
    return ledger.redis.hkeys(ledger.key("fences"))


def wait_for_work(ledger, timeout_s):
    """Blocks until the clock or those who plan calls would look for work."""
    names = [ledger.key("wake"), ledger.key("hints")]
    ledger.redis.blpop(names, timeout=max(timeout_s, 0.01))


def is_woken(ledger):
    """Whether a clock that waits would look now."""
    return bool(ledger.redis.llen(ledger.key("wake")))


def claims_so_far(ledger):
    return int(ledger.redis.get(ledger.key("fence")))


def unfinished(ledger):
    """How many obligations have tries that were counted."""
    return ledger.redis.hlen(ledger.key("unfinished"))


def set_unfinished(ledger, obligation, tries):
    ledger.redis.hset(ledger.key("unfinished"), str(obligation), tries)


# The logs of calls ─────────────────────────────────────────────────────────────────────────────


def log_of(ledger, account, call_uuid):
    return ledger.redis.get(ledger.call_key(account, call_uuid))


def set_log(ledger, account, call_uuid, text):
    ledger.redis.set(ledger.call_key(account, call_uuid), text)


def spoil_log(ledger, account, call_uuid):
    """As if no release could read what is stored of this call."""
    set_log(ledger, account, call_uuid, BROKEN)


def spoil_listeners(ledger, account, call_uuid):
    """As if something else stood where the listeners of a call are: its commit fails in Redis."""
    ledger.redis.set(ledger.key("listeners", account, call_uuid), BROKEN)


def drop_log(ledger, account, call_uuid):
    """As if the log had expired."""
    ledger.redis.delete(ledger.call_key(account, call_uuid))


def expires_in_s(ledger, account, call_uuid):
    """In how many seconds the log of a call expires; -1: it does not."""
    return ledger.redis.ttl(ledger.call_key(account, call_uuid))


def keys_about(ledger, *words):
    """The keys that hold one of these words, in their names or as a field or member."""
    found = []
    for key in ledger.redis.scan_iter(ledger.prefix.replace("{", "[{]") + "*"):
        kind = ledger.redis.type(key)
        inside = (
            ledger.redis.hgetall(key)
            if kind == "hash"
            else ledger.redis.zrange(key, 0, -1)
            if kind == "zset"
            else ""
        )
        if any(word in f"{key} {inside}" for word in words):
            found.append(key)
    return found


def see_recording(ledger, account, recording_id, at):
    """A recording that was first seen at that instant."""
    ledger.redis.zadd(ledger.key("recent", account), {recording_id: at})


def on_every_send(client, seen):
    """From now on `seen` gets the bytes of each message to Redis before it leaves. A message may
    hold many commands, and is one round trip.
    """
    pool = client.connection_pool

    class Watched(pool.connection_class):
        def send_packed_command(self, command, *given, **named):
            seen(command if isinstance(command, bytes) else b"".join(command))
            return super().send_packed_command(command, *given, **named)

    pool.disconnect()
    pool.reset()
    pool.connection_class = Watched


# Everything else ───────────────────────────────────────────────────────────────────────────────


def erase(ledger):
    """Deletes every key of the ledger."""
    ledger.redis.delete(*ledger.redis.scan_iter(ledger.prefix.replace("{", "[{]") + "*"))


def lowered_rate(ledger, bucket, account):
    """The rate to which a 429 lowered the limit."""
    return float(ledger.redis.hget(ledger.key("rate", bucket, account), "limit"))


def forget_turn(ledger, deed, what):
    """As if the time of `once_per` were over."""
    ledger.redis.delete(ledger.key("turn", deed, what))


def degrade_earlier(ledger, what, why, *, seconds):
    """As if `degrade` had been called so long ago."""
    at = to_ms(ledger.now()) - round(seconds * 1000)
    ledger.redis.hset(ledger.key("degraded"), what, f"{at}|{why}")


def queued(ledger, queue):
    """The messages of one of Celery's queues, newest first."""
    return ledger.redis.lrange(QUEUES + queue, 0, -1)


def seen_earlier(ledger, role, process, *, seconds):
    """A heartbeat that is so old."""
    at = to_ms(ledger.now()) - round(seconds * 1000)
    ledger.redis.hset(ledger.key("seen"), f"{role}|{process}", f"{at}|0")


def expire_notices(ledger, account, call_uuid):
    """As if nothing had come of the call's notices for days."""
    ledger.redis.delete(ledger.key("notices", account, call_uuid))


def set_schema(ledger, schema):
    ledger.redis.set(ledger.key("schema"), schema)
