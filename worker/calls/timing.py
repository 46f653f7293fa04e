"""Every wait of the rules in one place: how long things take, and when they are tried again."""

from __future__ import annotations

import hashlib
from datetime import timedelta

SETTLE = timedelta(
    seconds=5
)  # a trigger also ends what is first reported within this time after it


ITSELF = timedelta(seconds=2)  # ended this much before our request: it ended by itself


LOOK_HEAD_START = timedelta(
    seconds=1
)  # a repeated stop waits so long for the look that may make it unnecessary


UNKNOWN_REPEAT = timedelta(seconds=60)


THAT_TRANSFER = timedelta(
    minutes=2
)  # after a go, the call's transfer events are the transfer that was asked about


DECLARED_WITHIN = timedelta(
    seconds=10
)  # "nothing is being recorded" answers a question that is asked so shortly after it


START_WITHIN = timedelta(seconds=10)  # a start that a caller waits for is not sent later


RESUME_WITHIN = timedelta(seconds=60)  # nor one that a rule wants


START_TRIES = 5  # of a start that was refused for the moment


SEND_BEFORE_END = timedelta(
    milliseconds=250
)  # a transfer without proof leaves so long before the asker's wait ends


CEILING = timedelta(
    seconds=5
)  # the provider's own limit of a recording that we start, after our deadline


LAPSES_AFTER = timedelta(seconds=60)  # the end of that limit, for a start whose answer is missing


NO_CEILING = timedelta(
    hours=4
)  # the same where nothing bounds it: a call's default limit (vendor's documentation)


IDLE_LOOK = timedelta(hours=1)


KEPT_BY_PROVIDER = timedelta(days=30)  # vendor console: recordings are deleted after 30 days


FETCH_ALERT = timedelta(hours=24)


MOST_FAILURES_TOLD = 100  # of one recording's fetches since a person's last retry


STUBBORN_TRIES, STUBBORN_SPAN = 3, timedelta(minutes=10)


def stop_backoff(errors: int, seed: str) -> timedelta:
    """How long after the nth error in a row (from 1) a stop is tried again: at most 1 s at first,
    at most 15 s later.
    """
    return _jittered(min(0.5 * 2 ** (errors - 1), 12.0), f"{seed}:{errors}")


def fetch_backoff(failures: int, seed: str) -> timedelta:
    """How long after the nth failed fetch (from 1) the next is tried: from 1 s, doubling, to an
    hour.
    """
    return _jittered(min(2.0 ** (failures - 1), 3000.0), f"{seed}:{failures}")


def _jittered(seconds: float, seed: str) -> timedelta:
    # ±20 %, from the seed: the plan is computed by several processes and all must find the same
    # instant.
    spread = hashlib.sha256(seed.encode()).digest()[0] / 255
    return timedelta(seconds=seconds * (0.8 + 0.4 * spread))
