"""What an event says, in words: the last column of a call's timeline. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from worker.calls.events import Event, Kind

# The kinds whose requests are numbered: each is a try to stop.
_TRIES = {Kind.STOP_ACCEPTED, Kind.STOP_ERRED, Kind.STOP_SET_ASIDE, Kind.CALL_FOUND_OVER}
# Where there is a reason, it says the same, and more.
_REASON_SAYS_IT = {Kind.STOP_UNKNOWN, Kind.STOP_CONFIRMED, Kind.ABANDONED}

_MEANS: dict[str, str] = {
    Kind.CALL_SEEN: "the provider reports the call",
    Kind.RECORDING_STARTED: "it records",
    Kind.RECORDING_FINALIZED: "it has ended",
    Kind.CALL_TRANSFERRED: "the call was transferred",
    Kind.CALL_REDIRECTED: "the call was redirected",
    Kind.DIAL_ANSWERED: "a dialled party answered",
    Kind.DIAL_CONNECTED: "a dialled party is connected",
    Kind.DIAL_ENDED: "a dialled leg ended",
    Kind.CONFERENCE_ENTERED: "it entered a conference",
    Kind.CONFERENCE_LEFT: "it left the conference",
    Kind.MACHINE_DETECTED: "the provider looked for a machine",
    Kind.CALL_ENDED: "the call hung up",
    Kind.STOP_ORDERED: "a stop is asked for",
    Kind.CALL_ANNOUNCED: "an application announced the call",
    Kind.RECORDING_ANNOUNCED: "an application announced the recording",
    Kind.CONSENT_GIVEN: "the parties agreed to be recorded",
    Kind.CONSENT_WITHDRAWN: "consent was taken back",
    Kind.NOTHING_DECLARED: "an application says that nothing is recorded",
    Kind.HANDOFF_ASKED: "may the call be handed on?",
    Kind.HANDOFF_FAILED: "the transfer did not happen",
    Kind.PAUSE_ORDERED: "a pause is asked for",
    Kind.RESUME_ORDERED: "the pause is to end",
    Kind.CUSTOM_REPORTED: "an application reported it",
    Kind.START_ORDERED: "a start is asked for",
    Kind.RETRY_ORDERED: "another try to fetch it is asked for",
    Kind.RECORDING_HELD: "on legal hold",
    Kind.RECORDING_RELEASED: "the legal hold is over",
    Kind.CONFERENCE_JOINED: "another call is in the same conference",
    Kind.STOP_ACCEPTED: "DELETE accepted (2xx): a promise, no proof",
    Kind.STOP_ERRED: "DELETE failed, so it is sent again",
    Kind.STOP_SET_ASIDE: "DELETE refused",
    Kind.CALL_FOUND_OVER: "DELETE answered 404: no such live call",
    Kind.LOOKED: "the provider was asked",
    Kind.STOP_UNKNOWN: "no proof of the end",
    Kind.STOP_CONFIRMED: "the end is proven",
    Kind.CALL_FOUND_LIVE: "a survey saw the call live",
    Kind.START_SENT: "the start was sent",
    Kind.START_ACCEPTED: "the provider accepted the start (2xx)",
    Kind.START_ERRED: "not started; it is tried again",
    Kind.START_FAILED: "not started, for good",
    Kind.START_UNCLEAR: "the start got no clear answer, so it is not repeated",
    Kind.START_LAPSED: "what it may have begun is over",
    Kind.HANDOFF_DECIDED: "the hand-off is decided",
    Kind.TRANSFER_SENT: "the provider accepted the transfer (2xx)",
    Kind.TRANSFER_FAILED: "the transfer was not accepted",
    Kind.TRANSFER_UNCLEAR: "the transfer got no clear answer",
    Kind.RECORDING_LISTED: "the provider lists it",
    Kind.MEDIA_ARCHIVED: "it is in the archive",
    Kind.FETCH_FAILED: "it could not be fetched",
    Kind.ABANDONED: "the normal tries are used up",
    Kind.GAVE_UP: "the provider no longer keeps it",
    Kind.ABSENCE_FILED: "the archive says that there is no audio",
    Kind.ERASE_BEGUN: "it is to be erased; its tombstone is written",
    Kind.RECORDING_ERASED: "neither the archive nor the provider has it",
    Kind.PROVIDER_COPY_DELETED: "the provider's copy is deleted",
    Kind.FILE_DERIVED: "a file was made from it",
    Kind.FACTS_FILED: "consent and restriction stand in the archive",
}


def what(event: Event, number: int | None = None) -> str:
    """What the event says: its trigger or verdict, what it means, what the provider answered, why.

    `number`: which try to stop its recording it was, from `tries`; None: that is not known.
    """
    reason = event.reason or ""
    is_told = event.status is None or str(event.status) in reason
    says = None if reason and event.kind in _REASON_SAYS_IT else _said(event)
    parts = (
        event.trigger,
        event.verdict,
        says,
        f"try {number}" if number else None,
        None if is_told else f"HTTP {event.status}",
        reason,
        f"asked to wait until {event.retry_at:%H:%M:%S}" if event.retry_at else None,
    )
    return "; ".join(part for part in parts if part)


def _said(event: Event) -> str:
    say = _SAYS.get(event.kind)
    return say(event) if say else means(event.kind)


def means(kind: str) -> str:
    """What events of this kind mean, in a few words; empty for a kind that is not ours."""
    return _MEANS.get(kind, "")


def tries(events: Iterable[Event]) -> dict[str, int]:
    """The number of each request to stop, by the id of its event, counted for each recording.
    `events`: of one call, by time.
    """
    numbers, counts = dict[str, int](), dict[str | None, int]()
    for event in events:
        if event.kind in _TRIES:
            counts[event.recording_id] = counts.get(event.recording_id, 0) + 1
            numbers[event.id] = counts[event.recording_id]
    return numbers


def looked(*, live: bool | None, reason: str | None) -> str:
    """What a look at the provider saw. `live` and `reason`: as the event has them."""
    if reason:
        return "it failed"
    if live is None:
        return "the provider's list was read"
    return "the provider has the call live" if live else "the provider has no such live call"


def _stop(event: Event) -> str:
    return f"{_MEANS[event.kind]}; for {'one recording' if event.named else 'the whole call'}"


def _detected(event: Event) -> str:
    return "a machine answered" if event.machine else "no machine answered"


def _listed(event: Event) -> str:
    ended = f", ended {event.ended_at:%H:%M:%S}" if event.ended_at else ", without an end"
    return f"the provider lists it{ended}"


def _sent(event: Event) -> str:
    limit = f", with a limit of {event.max_duration_s:g} s" if event.max_duration_s else ""
    return f"the start was sent{limit}"


_SAYS: dict[Kind, Callable[[Event], str]] = {
    **dict.fromkeys(_TRIES, _stop),
    Kind.LOOKED: lambda event: looked(live=event.live, reason=event.reason),
    Kind.MACHINE_DETECTED: _detected,
    Kind.RECORDING_LISTED: _listed,
    Kind.START_SENT: _sent,
}
