"""What an erased recording still needs: erasing again, or that its call forgets its numbers. Pure.

A recording may be erased before the provider lists it, and a callback about it may come late. Each
may mean that there is a copy again, and brings numbers with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from worker.calls.call import Call, Recording
from worker.calls.rules import Rules
from worker.calls.timing import LONGEST_CALL

# What `/v1` shows of an erased recording no longer
GONE = ("from", "to", "direction", "duration_ms", "format", "bytes", "archive_key", "consent")
BEING_ERASED = "it is being erased"


def retention(call: Call, recording: Recording, rules: Rules) -> dict[str, Any] | None:
    """Until when a recording that is archived now is kept, and by which rule, as the receipt says
    it; None: for ever.
    """
    rule, terms = rules.choose(call)
    if terms.retain is None:
        return None
    until = recording.started_at + terms.retain
    return {"rule": rule, "for_s": round(terms.retain.total_seconds()), "until": until}


def owed_again(call: Call) -> Iterator[str]:
    """The erased recordings for which there is something left to do."""
    for recording_id, recording in call.recordings.items():
        if recording.erased and (may_be_back(recording) or numbers_go_at(call)):
            yield recording_id


def may_be_back(recording: Recording) -> bool:
    """Whether there may be a copy of an erased recording again."""
    done_at = recording.erased.at if recording.erased else None
    return bool(done_at and recording.copied_at and recording.copied_at >= done_at)


def numbers_go_at(call: Call) -> datetime | None:
    """When the call's numbers are forgotten: once all its recordings are erased, and no other can
    begin that the rules would have to know the numbers for. None: not now, or there are none.
    """
    known = call.from_number or call.to_number
    if not known or not all(recording.erased for recording in call.recordings.values()):
        return None
    last = max(event.at for event in call.events if event.at)
    return call.over_at or call.claimed_over_at or last + LONGEST_CALL


def without_what_goes(view: Mapping[str, Any], sha256: str | None) -> dict[str, Any]:
    """A recording as `/v1` shows it once its tombstone stands: ids, times, digest and reason stay.
    `sha256`: by the tombstone.
    """
    none = dict.fromkeys((*GONE, "provider_keeps_until", "retain_until"))
    free = {"held": False, "restricted": False, "restricted_by": [], "derived": []}
    return {**view, **none, **free, "labels": {}, "sha256": sha256}
