"""Writes down that a stop is confirmed, as an event (STOP_CONFIRMED). Pure.

`stop_state` decides whether a stop is confirmed, by the evidence alone; the event changes no state.
The plan concludes the event the first time that evidence meets a stop which was owed. The event
serves the log, the timeline, the receipt and the counters.

A proof can be taken back: a sign of life that arrives after a 404 makes the 404 a mere claim. The
event of the first proof then stays in the log, and the next proof is an event of its own, because
the id names the proof and its instant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from worker.calls.call import Call, Recording, Stop, StopState
from worker.calls.events import Event, Kind


def confirmations(call: Call, judge: Callable[[Recording], Stop]) -> Iterator[Event]:
    """One STOP_CONFIRMED for each recording whose owed stop is proven and not yet recorded so.

    `judge` gives a recording's stop as of now. Only recordings that need it are judged.
    """
    confirmed = _confirmed_at(call)
    for recording in call.recordings.values():
        if recording.over_at is None or recording.archived:
            continue  # once it is archived, its receipt has fixed what was proven
        recorded_at = confirmed.get(recording.recording_id)
        if recorded_at is not None and recording.over_at <= recorded_at:
            continue
        stop = judge(recording)
        if stop.confirmed_at is not None and _was_owed(recording, stop):
            yield _confirmed(call, recording, stop, again=recorded_at is not None)


def lacks_tail(call: Call, recording_id: str) -> bool:
    """Whether the recording's stop is confirmed, and its end was not known at any confirmation."""
    confirmed = [
        e for e in call.events if e.kind is Kind.STOP_CONFIRMED and e.recording_id == recording_id
    ]
    return bool(confirmed) and not any(e.ended_at for e in confirmed)


def _confirmed_at(call: Call) -> dict[str | None, datetime]:
    """When the last STOP_CONFIRMED of each recording was recorded. If the first proof that still
    holds is later than that, the earlier proof was taken back.
    """
    return {e.recording_id: e.at for e in call.events if e.kind is Kind.STOP_CONFIRMED and e.at}


def _was_owed(recording: Recording, stop: Stop) -> bool:
    """Whether the stop was owed while the recording ran.

    A stop that was requested was owed. Without a request, the provider's facts must show that the
    recording ran on after its stop was due. Once a fetch was tried the answer is no: rules that
    changed after the end cannot make a stop owed.
    """
    if stop.requested_at is not None:
        return True
    tried = recording.failures or recording.abandoned or recording.gave_up or recording.retried_at
    return recording.finalized_at is not None and not tried


def _confirmed(call: Call, recording: Recording, stop: Stop, *, again: bool) -> Event:
    proven_at = recording.over_at
    assert proven_at is not None
    first = min(recording.evidence, key=lambda name: (recording.evidence[name], name))
    return Event(
        id=f"confirmed:{recording.recording_id}:{first}:{round(proven_at.timestamp() * 1000)}",
        kind=Kind.STOP_CONFIRMED,
        call_uuid=call.call_uuid,
        recording_id=recording.recording_id,
        proven_at=proven_at,
        ended_at=recording.ended_at,
        trigger=stop.trigger,
        rule=stop.rule,
        due_at=stop.due_at,
        evidence=stop.evidence,
        reason=_reason(stop, again=again),
    )


def _reason(stop: Stop, *, again: bool) -> str:
    proof = f"proven by {', '.join(stop.evidence)}"
    if again:
        proof += "; an earlier proof was taken back"
    if stop.state is not StopState.ALREADY_OVER:
        return proof
    when = "before any request" if stop.requested_at is None else "before our request"
    return f"already over {when}: {proof}"
