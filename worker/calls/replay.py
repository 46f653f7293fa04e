"""What the events of one call add up to. Pure, and blind to the order in which they came.

Its law: the same set of events gives the same call, however they were shuffled or repeated. A late
or repeated callback can add a fact or a proof. It takes none away, with one exception: a sign that
the call lives, which reaches us after a 404, makes that 404 a mere claim.

The parts: `call_end` (the end of the call), `replay_recordings`, `replay_starts`; `trust` says how
far one event is believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from worker.calls.call import Call, Consent, Handoff, Recording
from worker.calls.call_end import CallEnd, call_end
from worker.calls.events import TRIGGERS, Event, Kind
from worker.calls.replay_recordings import replay_recording
from worker.calls.replay_starts import replay_starts, wide_stops, with_starts
from worker.calls.trust import (
    ABOUT_RECORDING,
    FROM_PROVIDER,
    by_receipt,
    by_worth,
    received_at,
    take,
)

_NAMES_CALL = {
    *FROM_PROVIDER,
    *ABOUT_RECORDING,
    Kind.CALL_ANNOUNCED,
    Kind.CUSTOM_REPORTED,
    Kind.CONSENT_GIVEN,
    Kind.CONSENT_WITHDRAWN,
    Kind.NOTHING_DECLARED,
    Kind.CONFERENCE_JOINED,
    Kind.CALL_FOUND_LIVE,
}
_ACTS = {*TRIGGERS, Kind.HANDOFF_ASKED, Kind.CUSTOM_REPORTED}
_TRANSFERS = {Kind.TRANSFER_SENT, Kind.TRANSFER_FAILED, Kind.TRANSFER_UNCLEAR}
_CALL_FACTS = ("from_number", "to_number", "direction")


def replay(account: str, call_uuid: str, events: Iterable[Event]) -> Call:
    """The call and its recordings. Each event must have its `at`."""
    events = tuple(events)
    by_time = sorted(events, key=by_receipt)
    end, wide = call_end(by_time), wide_stops(by_time)
    recordings = _recordings(by_time, end, wide)
    starts = replay_starts(by_time, recordings, end, wide)
    return Call(
        account=account,
        call_uuid=call_uuid,
        reported=end.reported,
        over_at=end.over_at,
        claimed_over_at=end.claimed_at,
        hung_up_at=end.hung_up_at,
        known=any(_names_call(e) for e in by_time),
        found_live_at=next((e.at for e in by_time if e.kind is Kind.CALL_FOUND_LIVE), None),
        trunk=any(e.trunk for e in by_time),
        looks=tuple(e for e in by_time if e.kind is Kind.LOOKED),
        triggers=tuple(e for e in by_time if _may_act(e)),
        recordings=with_starts(recordings, starts),
        starts=starts,
        handoffs=_handoffs(by_time),
        attempts=wide,
        unknowns=tuple(
            e for e in by_time if e.kind is Kind.STOP_UNKNOWN and e.recording_id is None
        ),
        consents=_consents(by_time),
        declared_at=max((received_at(e) for e in _declarations(by_time)), default=None),
        # Within one millisecond the log's own order says what came of what.
        events=tuple(sorted(events, key=received_at)),
        **_facts(by_time),
    )


def _facts(by_time: Sequence[Event]) -> dict[str, Any]:
    """The fields of Call that the provider and our callers report."""
    facts: dict[str, Any] = {"labels": {}}
    for event in sorted(by_time, key=by_worth):
        take(facts, event, _CALL_FACTS)
        facts["labels"] |= event.labels or {}
    announced = [e for e in by_time if e.kind is Kind.CALL_ANNOUNCED and e.started_at]
    return {**facts, "started_at": announced[-1].started_at if announced else None}


def _names_call(event: Event) -> bool:
    """Whether anything but our callers' orders says that there is such a call."""
    return event.kind in _NAMES_CALL or (event.kind is Kind.LOOKED and bool(event.live))


def _may_act(event: Event) -> bool:
    """Whether the rules are asked what an event does."""
    return event.kind in _ACTS and (event.kind is not Kind.MACHINE_DETECTED or bool(event.machine))


def _consents(by_time: Sequence[Event]) -> tuple[Consent, ...]:
    consents = []
    for event in by_time:
        if event.kind in {Kind.CONSENT_GIVEN, Kind.CONSENT_WITHDRAWN}:
            received = received_at(event)
            consents.append(
                Consent(
                    at=min(event.happened_at or received, received),
                    given=event.kind is Kind.CONSENT_GIVEN,
                    **(event.body or {}),
                )
            )
    return tuple(sorted(consents, key=lambda consent: consent.at))


def _declarations(by_time: Sequence[Event]) -> list[Event]:
    return [e for e in by_time if e.kind is Kind.NOTHING_DECLARED]


def _recordings(
    by_time: Sequence[Event], end: CallEnd, wide: Sequence[Event]
) -> dict[str, Recording]:
    """Each recording that an event reports. (An attempt names recordings too, but reports none.)"""
    by_recording: dict[str, list[Event]] = {}
    for event in by_time:
        if event.recording_id:
            by_recording.setdefault(event.recording_id, []).append(event)
    declared = [received_at(e) for e in _declarations(by_time)]
    return {
        recording_id: replay_recording(recording_id, events, end, declared, wide)
        for recording_id, events in by_recording.items()
        if any(e.kind in ABOUT_RECORDING for e in events)
    }


def _handoffs(by_time: Sequence[Event]) -> dict[str, Handoff]:
    """Each hand-off by its order, with its decision and what came of its transfer."""
    handoffs = {
        e.order: Handoff(asked=e) for e in by_time if e.kind is Kind.HANDOFF_ASKED and e.order
    }
    for event in by_time:
        if event.order in handoffs and event.kind is Kind.HANDOFF_DECIDED:
            handoffs[event.order] = replace(handoffs[event.order], decided=event)
        elif event.order in handoffs and event.kind in _TRANSFERS:
            handoffs[event.order] = replace(handoffs[event.order], transfer=event)
    return handoffs
