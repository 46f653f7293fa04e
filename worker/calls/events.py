"""What was reported to us or found by us: one event, and the kinds of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What an event says. The first group comes from the provider, the second from our callers, the
    third from us.
    """

    CALL_SEEN = "CallSeen"  # Ring, StartApp, trunk CallInitiated
    RECORDING_STARTED = "RecordingStarted"  # Event=Record: never an end, whatever it carries
    RECORDING_FINALIZED = (
        "RecordingFinalized"  # RecordStop, the REST callback, trunk recording.completed
    )
    CALL_TRANSFERRED = "CallTransferred"
    CALL_REDIRECTED = "CallRedirected"
    DIAL_ANSWERED = "DialAnswered"
    DIAL_CONNECTED = "DialConnected"
    DIAL_ENDED = "DialEnded"
    CONFERENCE_ENTERED = "ConferenceEntered"
    CONFERENCE_LEFT = "ConferenceLeft"
    MACHINE_DETECTED = "MachineDetected"
    CALL_ENDED = "CallEnded"  # Hangup of the A-leg

    STOP_ORDERED = "StopOrdered"  # an operator or application asks for a stop
    CALL_ANNOUNCED = "CallAnnounced"  # an application announces a call, with facts and labels
    RECORDING_ANNOUNCED = (
        "RecordingAnnounced"  # an application announces a recording that somebody else started
    )
    NOTHING_DECLARED = (
        "NothingDeclared"  # an application declares that nothing is being recorded: a proof
    )
    HANDOFF_ASKED = (
        "HandoffAsked"  # an application is about to transfer: the trigger `transfer.KIND`
    )
    HANDOFF_FAILED = "HandoffFailed"  # the transfer did not happen
    PAUSE_ORDERED = "PauseOrdered"
    RESUME_ORDERED = "ResumeOrdered"
    CUSTOM_REPORTED = "CustomReported"  # `custom.NAME`
    START_ORDERED = "StartOrdered"  # by a caller, or by us because a rule says resume
    RETRY_ORDERED = "RetryOrdered"  # a person wants a recording fetched, whatever became of it

    CONFERENCE_JOINED = "ConferenceJoined"  # found by us: two calls are in one room
    STOP_ACCEPTED = "StopAccepted"  # 2xx to a DELETE: a promise, no proof
    STOP_ERRED = "StopErred"  # 429, 5xx, timeout, wrong path: tried again, not counted
    STOP_SET_ASIDE = "StopSetAside"  # refused although our credentials are good
    STOP_UNKNOWN = "StopUnknown"  # no proof after all tries, or nothing to name it by: alert
    STOP_CONFIRMED = "StopConfirmed"  # evidence proves that a recording whose stop was owed is over
    # the provider's application answered 404: to a stop of the call, or (`named`) of one recording
    CALL_FOUND_OVER = "CallFoundOver"
    CALL_FOUND_LIVE = "CallFoundLive"  # a survey saw the call live, and nobody had announced it
    START_SENT = "StartSent"  # recorded before the request leaves, so that it is sent once
    START_ACCEPTED = "StartAccepted"  # 2xx: a recording begins
    START_ERRED = "StartErred"  # certainly not started, and worth another try (429)
    START_FAILED = "StartFailed"  # certainly not started, for good
    START_UNCLEAR = "StartUnclear"  # nobody knows: never repeated, looked for
    # of an unclear start: the time limit sent with it has run out, so whatever it began is over
    START_LAPSED = "StartLapsed"
    HANDOFF_DECIDED = "HandoffDecided"  # go or hold; the first one that is recorded counts
    TRANSFER_SENT = "TransferSent"  # the provider's transfer, sent by us: 2xx
    TRANSFER_FAILED = "TransferFailed"
    TRANSFER_UNCLEAR = "TransferUnclear"
    LOOKED = "Looked"  # we asked the provider's list and live calls
    RECORDING_LISTED = "RecordingListed"  # the provider's own row for a recording
    MEDIA_ARCHIVED = "MediaArchived"
    FETCH_FAILED = "FetchFailed"
    ABANDONED = (
        "Abandoned"  # the usual tries are used up: a person should look, and it is tried rarely
    )
    GAVE_UP = "GaveUp"  # the provider no longer keeps the recording


class Fault(StrEnum):
    """Whose fault it is that a recording is not archived. `abandoned` says how often each is tried
    again.
    """

    PROVIDER = "provider"  # 5xx, 429, timeouts, 404, no address, never listed
    STORAGE = "storage"  # our disks are full, cannot be written or hold other content
    MEDIA = "media"  # what came is not the recording
    OURS = "ours"  # an exception nobody expected; work that is begun and never finished
    SETTINGS = "settings"  # refused or not allowed by what somebody can set right


# Which trigger an event raises by itself; `machine` only when a machine was detected. Hand-offs and
# custom events bring their own name.
TRIGGERS = {
    Kind.CALL_TRANSFERRED: "transfer",
    Kind.CALL_REDIRECTED: "redirect",
    Kind.DIAL_ANSWERED: "dial.answer",
    Kind.DIAL_CONNECTED: "dial.connected",
    Kind.CONFERENCE_JOINED: "conference.join",
    Kind.MACHINE_DETECTED: "machine",
    Kind.STOP_ORDERED: "api",
    Kind.PAUSE_ORDERED: "pause",
    Kind.RESUME_ORDERED: "resume",
    Kind.HANDOFF_FAILED: "transfer.failed",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing that was reported to us or found out by us. Fields that do not apply are None.

    `id` is its identity within the call: an event whose id is already recorded changes nothing.
    `at` is the instant of receipt by Redis's clock, None until the ledger has set it.
    """

    id: str
    kind: Kind
    call_uuid: str  # the A-leg as far as the event tells it
    at: datetime | None = None
    signed: bool = False  # the provider's signature was verified
    # facts about the call
    leg: str | None = None  # the uuid that the event itself was about, if that is not the A-leg
    b_leg: str | None = None
    from_number: str | None = None  # digits
    to_number: str | None = None
    direction: str | None = None
    labels: dict[str, str] | None = None
    trunk: bool | None = None
    connected: bool | None = None  # a dial that ended: whether anybody was ever connected
    whole: bool | None = None  # a dial that ended: the dial itself, not one of its legs
    # facts about a recording
    recording_id: str | None = None
    url: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    added_at: datetime | None = None  # the provider's add_time
    duration_s: float | None = None
    format: str | None = None  # as the provider calls it
    # particulars
    reason: str | None = None  # end reason, hang-up cause, what failed, why a stop was ordered
    room: str | None = None  # conference: its uuid, else its name
    member: str | None = None
    first: bool | None = None  # the room was empty when this member came
    machine: bool | None = None
    # what we did
    recording_ids: tuple[str, ...] = ()  # the recordings that an attempt or a look was about
    named: bool | None = None  # stop: by URL rather than call-wide
    requested_at: datetime | None = None  # just before the request was written
    proven_at: datetime | None = None  # STOP_CONFIRMED: when the first proof reached us
    trigger: str | None = None
    rule: str | None = None
    due_at: datetime | None = (
        # stop: its deadline or trigger; start that a rule or a resume wants: when it counts as
        # begun
        None
    )
    action: str | None = None  # stop: `pause` if the rule that sent it pauses
    enforced: bool | None = None  # archived: whether the stop was enforced (False: only observed)
    retry_at: datetime | None = None  # the provider asked us to wait until then
    status: int | None = None  # HTTP status
    live: bool | None = None  # a look saw the call alive
    sha256: str | None = None
    bytes: int | None = None
    archive_key: str | None = None
    check: str | None = None  # the check that the bytes failed
    fault: Fault | None = (
        None  # of a failed fetch: whose it was; events of the first release lack it
    )
    generation: int | None = None  # of the settings that it failed with
    by: str | None = None  # who or what caused it: a callback's name, a caller
    # what our callers order
    order: str | None = None  # the start or hand-off that this is about
    digest: str | None = None  # of what was asked for: the same order must ask for the same
    wait_s: float | None = None
    target: str | None = None  # hand-off: to whom
    body: dict[str, Any] | None = None  # hand-off: the provider's transfer request
    channels: int | None = None  # start: 1 or 2
    max_duration_s: float | None = (
        None  # START_ORDERED: as asked for; START_SENT: the provider's limit that was sent with it
    )
    segment_of: str | None = (
        None  # start: the first recording of the logical one that goes on; stop: of the named one
    )
    verdict: str | None = None  # hand-off: go or hold
    proven: bool | None = None
    evidence: tuple[str, ...] = ()
