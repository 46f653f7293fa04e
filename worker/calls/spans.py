"""The life of a recording as spans of a trace, from its first callback to the archived file. Pure.

All of it stands in the call's log, so nothing is measured for it on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from worker.calls.call import Call, Recording
from worker.calls.events import Event, Kind

Value = str | int | float | bool
_REQUESTS = {
    Kind.STOP_ACCEPTED: "accepted",
    Kind.STOP_ERRED: "failed",
    Kind.STOP_SET_ASIDE: "refused",
    Kind.CALL_FOUND_OVER: "call is over",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """An event within a span."""

    at: datetime
    name: str
    attributes: Mapping[str, Value]


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """`is_failed`: what it tells of did not succeed."""

    name: str
    began_at: datetime
    ended_at: datetime
    attributes: Mapping[str, Value] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    is_failed: bool = False


def of_recording(call: Call, archived: Event, at: datetime) -> list[Span]:
    """The spans of a recording that was archived at this instant, by `archived`. The first holds
    all others. Empty where the call does not know the recording.

    No telephone number is among the attributes.
    """
    recording = call.recordings.get(archived.recording_id or "")
    if recording is None:
        return []
    whole = Span(
        name="recording",
        began_at=recording.known_at,
        ended_at=at,
        attributes=_given(
            {
                "endtape.account": call.account,
                "endtape.call_uuid": call.call_uuid,
                "endtape.recording_id": recording.recording_id,
                "endtape.rule": archived.rule,
                "endtape.trigger": archived.trigger,
                "endtape.bytes": archived.bytes,
                "endtape.archive_key": archived.archive_key,
            }
        ),
        marks=tuple(_marks(call, recording)),
    )
    return [whole, *_requests(call, recording), *_steps(call, recording, at)]


def _given(attributes: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in attributes.items() if value is not None}


def _marks(call: Call, recording: Recording) -> Iterator[Mark]:
    """Each event of the recording, and of the call as a whole."""
    for event in call.events:
        if event.at and event.recording_id in {None, recording.recording_id}:
            facts = {"by": event.by, "signed": event.signed, "trigger": event.trigger}
            yield Mark(at=event.at, name=event.kind.value, attributes=_given(facts))


def _requests(call: Call, recording: Recording) -> Iterator[Span]:
    """Each stop that was sent for it."""
    for event in call.events:
        outcome = _REQUESTS.get(event.kind)
        is_its = event.recording_id in {None, recording.recording_id}
        if outcome and is_its and event.requested_at and event.at:
            yield Span(
                name="stop request",
                began_at=event.requested_at,
                ended_at=event.at,
                attributes=_given(
                    {"endtape.outcome": outcome, "http.response.status_code": event.status}
                ),
                is_failed=event.kind in {Kind.STOP_ERRED, Kind.STOP_SET_ASIDE},
            )


def _steps(call: Call, recording: Recording, at: datetime) -> Iterator[Span]:
    """From due to proven, until the provider has the file, until it is ours."""
    for event in call.events:
        is_its = event.recording_id == recording.recording_id
        if event.kind is Kind.STOP_CONFIRMED and is_its and event.due_at and event.proven_at:
            yield Span(name="stop", began_at=event.due_at, ended_at=event.proven_at)
    over_at, finalized_at = recording.over_at, recording.finalized_at
    if over_at and finalized_at and over_at < finalized_at:
        yield Span(name="finalize", began_at=over_at, ended_at=finalized_at)
    if finalized_at:
        yield Span(
            name="fetch",
            began_at=finalized_at,
            ended_at=at,
            attributes={"endtape.failed_tries": len(recording.failures)},
        )
