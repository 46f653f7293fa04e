"""What the events about one recording add up to: its end, facts, attempts and fetches. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from worker.calls.call import Recording
from worker.calls.call_end import CallEnd
from worker.calls.events import Event, Kind
from worker.calls.trust import (
    ABOUT_RECORDING,
    ATTEMPTS,
    CLOCKS_DIFFER,
    by_worth,
    is_proven_end,
    is_start,
    received_at,
    take,
)

_RECORDING_FACTS = ("url", "format", "reason", "added_at")
_END_FACTS = ("ended_at", "duration_s")
_GOVERNS = {
    Kind.RECORDING_HELD,
    Kind.RECORDING_RELEASED,
    Kind.ERASE_BEGUN,
    Kind.RECORDING_ERASED,
}
_MEANS_A_COPY = {Kind.RECORDING_FINALIZED, Kind.RECORDING_LISTED, Kind.MEDIA_ARCHIVED}


def replay_recording(
    recording_id: str,
    events: Sequence[Event],
    end: CallEnd,
    declared: Sequence[datetime],
    wide: Sequence[Event],
) -> Recording:
    """One recording.

    `events`: those that name it, by time, at least one of a kind in ABOUT_RECORDING. `declared`:
    when applications declared that nothing is being recorded. `wide`: the stops of the whole call.
    """
    about = [e for e in events if e.kind in ABOUT_RECORDING]
    known_at = received_at(about[0])
    facts = _facts(about)
    began_at = _began_at(facts)
    room = any(e.room for e in about)
    reported = _reported_ends(about)
    finalized_at = min(reported.values(), default=None)
    evidence = reported | _declared_end(known_at, declared)
    if not room and (call_over_at := end.proves(known_at, began_at)):
        evidence["call_over"] = call_over_at
    attempts = [e for e in events if e.kind in ATTEMPTS]
    if evidence and began_at:
        ran_unknown = (began_at, known_at)
        attempts = [*_stopped_unknown(recording_id, ran_unknown, facts, wide), *attempts]
    return Recording(
        recording_id=recording_id,
        known_at=known_at,
        first_seen_at=min(e.first_seen_at or received_at(e) for e in events),
        evidence=evidence,
        finalized_at=finalized_at,
        trunk=any(e.trunk for e in about),
        room=room,
        claimed_at=min((received_at(e) for e in events if _claims_an_end(e)), default=None),
        attempts=tuple(attempts),
        unknown_at=next((received_at(e) for e in events if e.kind is Kind.STOP_UNKNOWN), None),
        **facts,
        **_fetching(events, finalized_at),
        **_governing(events),
    )


# Proofs
# ------------------------------------------------------------------------------------------------


def _reported_ends(about: Sequence[Event]) -> dict[str, datetime]:
    """When the provider first said that the recording ended, by callback and by list."""
    ends = [e for e in about if is_proven_end(e)]
    proofs = {
        "callback": [e for e in ends if e.kind is Kind.RECORDING_FINALIZED],
        "listed": [e for e in ends if e.kind is Kind.RECORDING_LISTED],
    }
    return {name: received_at(events[0]) for name, events in proofs.items() if events}


def _declared_end(known_at: datetime, declared: Sequence[datetime]) -> dict[str, datetime]:
    """When an application declared that nothing is being recorded, after the recording was known.

    A recording that became known at the very instant may have begun after it.
    """
    later = [at for at in declared if at > known_at]
    return {"declared": later[0]} if later else {}


def _claims_an_end(event: Event) -> bool:
    """Whether an event claims the end without proof, so that we poll: an unsigned end, or a 404 to
    the stop that named this recording.
    """
    return (event.kind is Kind.RECORDING_FINALIZED and not event.signed) or (
        event.kind is Kind.CALL_FOUND_OVER and bool(event.named)
    )


# Facts
# ------------------------------------------------------------------------------------------------


def _facts(about: Sequence[Event]) -> dict[str, Any]:
    """The fields of Recording that the provider and our callers report."""
    facts: dict[str, Any] = {}
    for event in sorted(about, key=by_worth):
        take(facts, event, _RECORDING_FACTS)
        if event.started_at and is_start(event):
            facts["provider_started_at"] = event.started_at
        if is_proven_end(event):
            take(facts, event, _END_FACTS)
    return facts


def _began_at(facts: dict[str, Any]) -> datetime | None:
    """The provider's figure, else end minus duration; None where neither is known."""
    started_at: datetime | None = facts.get("provider_started_at")
    ended_at: datetime | None = facts.get("ended_at")
    if started_at is None and ended_at and facts.get("duration_s"):
        return ended_at - timedelta(seconds=facts["duration_s"])
    return started_at


# Attempts
# ------------------------------------------------------------------------------------------------


def _stopped_unknown(
    recording_id: str,
    ran_unknown: tuple[datetime, datetime],
    facts: dict[str, Any],
    wide: Sequence[Event],
) -> list[Event]:
    """The stops of the whole call that we sent while this recording ran unknown to us. They count
    as stops of this recording, too.

    `ran_unknown`: when it began, and when it became known.
    """
    began_at, known_at = ran_unknown
    ended_at = facts.get("ended_at")
    if not ended_at:
        return []
    return [
        replace(e, recording_id=recording_id)
        for e in wide
        if e.requested_at
        and e.recording_id != recording_id
        and began_at <= e.requested_at < known_at
        and e.requested_at - CLOCKS_DIFFER <= ended_at
    ]


# Fetches
# ------------------------------------------------------------------------------------------------


def _fetching(events: Sequence[Event], finalized_at: datetime | None) -> dict[str, Any]:
    """The fields of Recording that say how its fetch went. A person's retry starts it anew."""
    retried_at = max((received_at(e) for e in events if e.kind is Kind.RETRY_ORDERED), default=None)
    since_retry = [e for e in events if retried_at is None or received_at(e) > retried_at]
    return {
        "retried_at": retried_at,
        "failures": tuple(e for e in since_retry if e.kind is Kind.FETCH_FAILED),
        # An ABANDONED that was written before the recording was listed meant "never listed". It is
        # listed now.
        "abandoned": tuple(
            e
            for e in since_retry
            if e.kind is Kind.ABANDONED and (finalized_at is None or received_at(e) >= finalized_at)
        ),
        "archived": next((e for e in events if e.kind is Kind.MEDIA_ARCHIVED), None),
        "gave_up": next((e for e in since_retry if e.kind is Kind.GAVE_UP), None),
        "offloaded": next((e for e in events if e.kind is Kind.PROVIDER_COPY_DELETED), None),
        "derived": tuple(e for e in events if e.kind is Kind.FILE_DERIVED),
        "absence": next((e for e in events if e.kind is Kind.ABSENCE_FILED), None),
        "facts_filed": next((e for e in reversed(events) if e.kind is Kind.FACTS_FILED), None),
    }


# Holding and erasing
# ------------------------------------------------------------------------------------------------


def _governing(events: Sequence[Event]) -> dict[str, Any]:
    """The fields of Recording that say whether it is held, and how far its erasure came."""
    if not any(e.kind in _GOVERNS for e in events):
        return {}
    holds = [e for e in events if e.kind in {Kind.RECORDING_HELD, Kind.RECORDING_RELEASED}]
    copies = (received_at(e) for e in events if e.kind in _MEANS_A_COPY)
    last = max(holds, key=_number, default=None)
    return {
        "held": last is not None and last.kind is Kind.RECORDING_HELD,
        "was_held": bool(holds),
        "erasing": next((e for e in events if e.kind is Kind.ERASE_BEGUN), None),
        "erased": next((e for e in reversed(events) if e.kind is Kind.RECORDING_ERASED), None),
        "copied_at": max(copies, default=None),
    }


def _number(event: Event) -> int:
    """The number of the fact that an event follows."""
    return int(event.id.rpartition(".")[2])
