"""Every wait that the operator's rules do not set, in one place. Pure."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

LONGEST_CALL = timedelta(hours=24)  # the provider ends any call then (vendor's documentation)

# Stops
# ------------------------------------------------------------------------------------------------

# A trigger also ends a recording that is first reported within this time after it.
SETTLE = timedelta(seconds=5)
# A recording that ended this long before our request ended by itself.
ITSELF = timedelta(seconds=2)
# A repeated stop waits so long for the look that may make it unnecessary.
LOOK_HEAD_START = timedelta(seconds=1)
# How often a stop is repeated once all tries are used up.
UNKNOWN_REPEAT = timedelta(seconds=60)
# How often the provider is asked about a recording that nothing is due for.
IDLE_LOOK = timedelta(hours=1)

# Hand-offs
# ------------------------------------------------------------------------------------------------

# For so long after a `go`, a transfer event of the call is taken for the transfer asked about.
THAT_TRANSFER = timedelta(minutes=2)
# The declaration "nothing is being recorded" answers questions that are asked within this time.
DECLARED_WITHIN = timedelta(seconds=10)
# A transfer without proof leaves so long before the asker's wait ends.
SEND_BEFORE_END = timedelta(milliseconds=250)

# Starts
# ------------------------------------------------------------------------------------------------

START_WITHIN = timedelta(seconds=10)  # a start that a caller ordered is not sent later
RESUME_WITHIN = timedelta(seconds=60)  # a start that a rule or a resume wants is not sent later
START_TRIES = 5  # of a start that the provider answers with 429
# The provider's own limit of a recording that we start lies so long after our deadline.
CEILING = timedelta(seconds=5)
# That limit where no deadline bounds it: a call's default limit (vendor's documentation).
NO_CEILING = timedelta(hours=4)
# A start without an answer counts as over so long after that limit.
LAPSES_AFTER = timedelta(seconds=60)

# Fetches
# ------------------------------------------------------------------------------------------------

KEPT_BY_PROVIDER = timedelta(days=30)  # vendor console: recordings are deleted after 30 days
# So long before that, an alert says which recordings are not home.
WARN_BEFORE_DELETION = (timedelta(days=7), timedelta(days=2))
FETCH_ALERT = timedelta(hours=24)  # so long after its end a recording that is not fetched alerts
MOST_FAILURES_RECORDED = 100  # of one recording's fetches since a person's last retry
# If the same bad bytes come so often, over such a time, the provider has nothing better.
STUBBORN_TRIES, STUBBORN_SPAN = 3, timedelta(minutes=10)


# The archive is told so long after consent was lacking.
FACTS_AFTER = timedelta(seconds=0.5)

# Back-off
# ------------------------------------------------------------------------------------------------


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
    # ±20 %, from the seed: several processes compute the plan, and all must get the same instant.
    spread = hashlib.sha256(seed.encode()).digest()[0] / 255
    return timedelta(seconds=seconds * (0.8 + 0.4 * spread))


def fetch_at(instant: datetime) -> datetime:
    """When a recording is fetched that may be at this instant: a moment later, together with those
    that may be by then, so that one slot fetches several. The clock claims some of it ahead.
    """
    return datetime.fromtimestamp((instant.timestamp() // 0.1 + 2) * 0.1, UTC)


def index_at(now: datetime) -> datetime:
    """When a recording that is finished now is entered into the catalogue: at the next even second,
    so that one transaction takes what came in meanwhile.
    """
    return datetime.fromtimestamp((now.timestamp() // 2 + 1) * 2, UTC)
