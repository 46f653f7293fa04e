"""One event: what was reported to us or found out by us. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What an event says. The first group comes from the provider, the second from our callers, the
    third from ourselves.
    """

    CALL_SEEN = "CallSeen"  # Ring, StartApp, trunk CallInitiated
    RECORDING_STARTED = "RecordingStarted"  # Event=Record: never an end, whatever it carries
    # RecordStop, the REST callback, trunk recording.completed
    RECORDING_FINALIZED = "RecordingFinalized"
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
    # an application announces a recording that somebody else started
    RECORDING_ANNOUNCED = "RecordingAnnounced"
    CONSENT_GIVEN = "ConsentGiven"  # an application says that the parties agreed to be recorded
    CONSENT_WITHDRAWN = "ConsentWithdrawn"
    # an application declares that nothing is being recorded: a proof
    NOTHING_DECLARED = "NothingDeclared"
    # an application is about to transfer: the trigger `transfer.KIND`
    HANDOFF_ASKED = "HandoffAsked"
    HANDOFF_FAILED = "HandoffFailed"  # the transfer did not happen
    PAUSE_ORDERED = "PauseOrdered"
    RESUME_ORDERED = "ResumeOrdered"
    CUSTOM_REPORTED = "CustomReported"  # `custom.NAME`
    START_ORDERED = "StartOrdered"  # by a caller, or by us because a rule says resume
    RETRY_ORDERED = "RetryOrdered"  # a person wants a recording fetched, whatever failed before
    # Both follow a fact in the archive, whose number ends their id.
    RECORDING_HELD = "RecordingHeld"  # nothing of ours deletes either copy
    RECORDING_RELEASED = "RecordingReleased"

    CONFERENCE_JOINED = "ConferenceJoined"  # two calls are in one room
    STOP_ACCEPTED = "StopAccepted"  # 2xx to a DELETE: a promise, no proof
    STOP_ERRED = "StopErred"  # 429, 5xx, timeout, wrong path: sent again, not counted as a try
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
    START_UNCLEAR = "StartUnclear"  # no clear answer: never repeated, looked for
    # the time limit sent with an unclear start has run out, so the recording it began is over
    START_LAPSED = "StartLapsed"
    HANDOFF_DECIDED = "HandoffDecided"  # go or hold; the first one that is recorded counts
    TRANSFER_SENT = "TransferSent"  # the provider's transfer, sent by us: 2xx
    TRANSFER_FAILED = "TransferFailed"
    TRANSFER_UNCLEAR = "TransferUnclear"
    LOOKED = "Looked"  # we asked the provider's list and live calls
    RECORDING_LISTED = "RecordingListed"  # the provider's own row for a recording
    MEDIA_ARCHIVED = "MediaArchived"
    FETCH_FAILED = "FetchFailed"
    # the normal tries are used up: a person should look, and a fetch is tried rarely
    ABANDONED = "Abandoned"
    GAVE_UP = "GaveUp"  # the provider no longer keeps the recording
    ABSENCE_FILED = "AbsenceFiled"  # the archive says so, signed
    ERASE_BEGUN = "EraseBegun"  # its tombstone stands in the archive
    # neither the archive nor the provider has it any more: both were looked at
    RECORDING_ERASED = "RecordingErased"
    # by `keep_at_provider`, after ours was read back; the provider was looked at since
    PROVIDER_COPY_DELETED = "ProviderCopyDeleted"
    FILE_DERIVED = "FileDerived"  # a file that was made from a recording lies beside it
    # consent and restriction, as they were at that moment, stand in the archive as facts
    FACTS_FILED = "FactsFiled"


class Fault(StrEnum):
    """Whose fault it is that a recording is not archived. `fetch_times` says how often each is
    tried again.
    """

    PROVIDER = "provider"  # 5xx, 429, timeouts, 404, no address, never listed
    STORAGE = "storage"  # our disks are full, cannot be written or hold other content
    MEDIA = "media"  # the bytes that came are not the recording
    OURS = "ours"  # an unexpected exception; work that is begun and never finished
    SETTINGS = "settings"  # refused by the provider, or not allowed by a setting


# After these a recording is owed to the catalogue.
FINISHED = frozenset({Kind.MEDIA_ARCHIVED, Kind.ABSENCE_FILED, Kind.RECORDING_ERASED})

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

    `id` identifies the event within the call: an event whose id is already recorded changes
    nothing. `at` is the instant of receipt by Redis's clock, None until the ledger has set it.
    """

    id: str
    kind: Kind
    call_uuid: str  # the A-leg, as far as the event names it
    at: datetime | None = None
    signed: bool = False  # the provider's signature was verified
    # facts about the call
    leg: str | None = None  # the uuid that the event itself names, if that is not the A-leg
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
    # stop: its deadline or trigger; start that a rule or a resume wants: when it counts as begun
    due_at: datetime | None = None
    overdue_since: datetime | None = None  # archived: as the stop in the receipt has it
    action: str | None = None  # stop: `pause` if the rule that sent it pauses
    enforced: bool | None = None  # archived: whether the stop was enforced (False: only observed)
    retry_at: datetime | None = None  # the provider asked us to wait until then
    status: int | None = None  # HTTP status
    live: bool | None = None  # whether a look saw the call live
    sha256: str | None = None
    bytes: int | None = None
    archive_key: str | None = None
    # archived or given up before this ledger began: when it was first seen, as the archive says
    first_seen_at: datetime | None = None
    check: str | None = None  # the check that the bytes failed
    consent_by: datetime | None = None  # archived: when the recording needed consent at the latest
    tail_limit_s: float | None = None  # archived: the longest tail that restricts nothing
    retain_until: datetime | None = None  # archived: when the rules want it erased
    # provider's copy deleted: what a month of keeping it cost, by the provider's rates
    saved_per_month: float | None = None
    made: str | None = None  # the kind of a file that was made from a recording
    content_type: str | None = None  # of that file
    restricted_by: tuple[str, ...] = ()  # archived, read back from a receipt: why it is restricted
    # failed fetch: whose fault it was; events of the first release lack it
    fault: Fault | None = None
    generation: int | None = None  # failed fetch: the generation of the settings in force
    by: str | None = None  # who or what caused the event: a callback's name, a caller
    claimed: str | None = None  # what that caller says of itself, which nobody has checked
    # what our callers order
    order: str | None = None  # the id of the start or hand-off
    # of the request: the same order must ask for the same thing; archived, and facts filed: of what
    # the archive says of consent and restriction
    digest: str | None = None
    wait_s: float | None = None
    target: str | None = None  # hand-off: to whom
    # hand-off: the provider's transfer request; consent: its `kind`, `by` and `evidence`
    body: dict[str, Any] | None = None
    happened_at: datetime | None = None  # consent: when it was given, by who reports it
    channels: int | None = None  # start: 1 or 2
    # START_ORDERED: the limit asked for; START_SENT: the provider's limit that was sent with it
    max_duration_s: float | None = None
    # the first segment of the logical recording that a start continues, or that a stop names
    segment_of: str | None = None
    verdict: str | None = None  # hand-off: go or hold
    proven: bool | None = None
    evidence: tuple[str, ...] = ()
