"""Which recordings may be played only for a stated reason, and why. Pure.

Two things restrict a recording: consent that a rule requires and that is not there, and a tail
longer than `tail_limit` behind a stop by trigger, since what was said after the trigger (a card
number, perhaps) is in it. The terms are those of the moment in which the recording was archived.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from worker.calls import consent, timing
from worker.calls.call import Call, Recording, Stop
from worker.calls.rules import DEADLINES, Rules, Terms
from worker.calls.stop_state import judge
from worker.calls.triggers import Act

NO_CONSENT = "no_consent"
LONG_TAIL = "long_tail"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What the rules ask of one recording. `consent_by`: when it needs consent at the latest; None:
    it needs none.
    """

    consent_by: datetime | None
    tail: timedelta | None


def limits_of(recording: Recording, terms: Terms) -> Limits:
    """The limits that hold for a recording: those of its receipt, else those of the rules now."""
    filed = recording.archived
    if filed:
        tail_s = filed.tail_limit_s
        tail = None if tail_s is None else timedelta(seconds=tail_s)
        return Limits(consent_by=filed.consent_by, tail=tail)
    needed_by = recording.started_at + terms.consent_within
    return Limits(consent_by=needed_by if terms.consent_required else None, tail=terms.tail_limit)


def restricted_by(
    call: Call, recording: Recording, limits: Limits, stop: Stop, now: datetime
) -> tuple[str, ...]:
    """Why the recording is restricted: NO_CONSENT, LONG_TAIL, both, or nothing.

    What the archive said counts on where Redis has lost the events behind it.
    """
    reasons = [*(recording.archived.restricted_by if recording.archived else ())]
    if limits.consent_by:
        lacks_from = consent.lacks_from(call, recording.started_at, limits.consent_by)
        if lacks_from is not None and lacks_from <= now:
            reasons.append(NO_CONSENT)
    if limits.tail is not None and _is_tail_too_long(stop, limits.tail, recording):
        reasons.append(LONG_TAIL)
    return tuple(dict.fromkeys(reasons))


def _is_tail_too_long(stop: Stop, limit: timedelta, recording: Recording) -> bool:
    """Whether a stop by trigger left more behind it than the limit. A tail that nobody knows once
    the facts about the file are known counts as too long.
    """
    if stop.due_at is None or stop.trigger in DEADLINES:
        return False
    if stop.tail_ms is not None:
        return timedelta(milliseconds=stop.tail_ms) > limit
    return recording.finalized_at is not None and stop.requested_at is not None


def limits_view(limits: Limits) -> dict[str, Any]:
    """The limits as the receipt states them."""
    tail_s = None if limits.tail is None else limits.tail.total_seconds()
    return {"consent_by": limits.consent_by, "tail_limit_s": tail_s}


# What the archive has to know
# --------------------------------------------------------------------------------------------------


def digest(call: Call, restricted_by: Sequence[str]) -> str | None:
    """A short digest of what is known of consent and restriction, by which what the archive says is
    compared with it. None where there is nothing to say.
    """
    if not call.consents and not restricted_by:
        return None
    said = [*map(consent.statement, call.consents), *restricted_by]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def is_filed(call: Call, recording: Recording, restricted_by: Sequence[str]) -> bool:
    """Whether the archive says of an archived recording what is known now."""
    last = recording.facts_filed or recording.archived
    return last is not None and last.digest == digest(call, restricted_by)


def owed_at(
    call: Call, recording: Recording, rules: Rules, acts: Sequence[Act], now: datetime
) -> datetime | None:
    """When the archive has to be told what changed after the recording's receipt; None: not as far
    as is known now.
    """
    filed = recording.archived
    if filed is None or recording.erasing:
        return None
    limits = limits_of(recording, rules.choose(call)[1])
    may_change = limits.consent_by or limits.tail is not None or filed.restricted_by
    if not (may_change or call.consents or recording.facts_filed):
        return None
    stop = judge(call, recording, rules, now, acts)
    if not is_filed(call, recording, restricted_by(call, recording, limits, stop, now)):
        return now
    if limits.consent_by:
        lacks_from = consent.lacks_from(call, recording.started_at, limits.consent_by)
        # A little later: what is due is claimed a little earlier.
        return lacks_from + timing.FACTS_AFTER if lacks_from and lacks_from > now else None
    return None
