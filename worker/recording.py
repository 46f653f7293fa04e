"""The nouns: what is reported or found out (`Event`), and what it adds up to (`Call`, `Recording`, `Stop`). Pure.

A call and its recordings change in one way only: an event is recorded. Everything else here is computed from events
by `lifecycle.fold`, in whatever order they came.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """What an event says. The first group comes from the provider, the second from our callers, the third from us."""

    CALL_SEEN = "CallSeen"                        # Ring, StartApp, trunk CallInitiated
    RECORDING_STARTED = "RecordingStarted"        # Event=Record: never an end, whatever it carries
    RECORDING_FINALIZED = "RecordingFinalized"    # RecordStop, the REST callback, trunk recording.completed
    CALL_TRANSFERRED = "CallTransferred"
    CALL_REDIRECTED = "CallRedirected"
    DIAL_ANSWERED = "DialAnswered"
    DIAL_CONNECTED = "DialConnected"
    DIAL_ENDED = "DialEnded"
    CONFERENCE_ENTERED = "ConferenceEntered"
    CONFERENCE_LEFT = "ConferenceLeft"
    MACHINE_DETECTED = "MachineDetected"
    CALL_ENDED = "CallEnded"                      # Hangup of the A-leg

    STOP_ORDERED = "StopOrdered"                  # an operator or application asks for a stop

    CONFERENCE_JOINED = "ConferenceJoined"        # found by us: two calls are in one room
    STOP_ACCEPTED = "StopAccepted"                # 2xx to a DELETE: a promise, no proof
    STOP_ERRED = "StopErred"                      # 429, 5xx, timeout, wrong path: tried again, not counted
    STOP_SET_ASIDE = "StopSetAside"               # refused although our credentials are good
    STOP_UNKNOWN = "StopUnknown"                  # no proof after all tries, or nothing to name it by: alert
    CALL_FOUND_OVER = "CallFoundOver"             # an application's 404 for the call
    LOOKED = "Looked"                             # we asked the provider's list and live calls
    RECORDING_LISTED = "RecordingListed"          # the provider's own row for a recording
    MEDIA_ARCHIVED = "MediaArchived"
    FETCH_FAILED = "FetchFailed"
    GAVE_UP = "GaveUp"                            # the provider no longer keeps the recording


# Which trigger an event raises by itself; `machine` only when a machine was detected.
TRIGGERS = {
    Kind.CALL_TRANSFERRED: "transfer",
    Kind.CALL_REDIRECTED: "redirect",
    Kind.DIAL_ANSWERED: "dial.answer",
    Kind.DIAL_CONNECTED: "dial.connected",
    Kind.CONFERENCE_JOINED: "conference.join",
    Kind.MACHINE_DETECTED: "machine",
    Kind.STOP_ORDERED: "api",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing that was reported to us or found out by us. Fields that do not apply are None.

    `id` is its identity within the call: an event whose id is already recorded changes nothing. `at` is the instant
    of receipt by Redis's clock, None until the ledger has set it.
    """

    id: str
    kind: Kind
    call_uuid: str                        # the A-leg as far as the event tells it
    at: datetime | None = None
    signed: bool = False                  # the provider's signature was verified
    # facts about the call
    leg: str | None = None                # the uuid that the event itself was about, if that is not the A-leg
    b_leg: str | None = None
    from_number: str | None = None        # digits
    to_number: str | None = None
    direction: str | None = None
    trunk: bool | None = None
    # facts about a recording
    recording_id: str | None = None
    url: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    added_at: datetime | None = None      # the provider's add_time
    duration_s: float | None = None
    format: str | None = None             # as the provider calls it
    # particulars
    reason: str | None = None             # end reason, hang-up cause, what failed, why a stop was ordered
    room: str | None = None               # conference: its uuid, else its name
    member: str | None = None
    first: bool | None = None             # the room was empty when this member came
    machine: bool | None = None
    # what we did
    recording_ids: tuple[str, ...] = ()   # the recordings that an attempt or a look was about
    named: bool | None = None             # stop: by URL rather than call-wide
    requested_at: datetime | None = None  # just before the request was written
    trigger: str | None = None
    rule: str | None = None
    due_at: datetime | None = None
    retry_at: datetime | None = None      # the provider asked us to wait until then
    status: int | None = None             # HTTP status
    live: bool | None = None              # a look saw the call alive
    sha256: str | None = None
    bytes: int | None = None
    archive_key: str | None = None
    check: str | None = None              # the check that the bytes failed
    by: str | None = None                 # who or what caused it: a callback's name, a caller
