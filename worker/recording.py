"""The nouns: what is reported or found out (`Event`), and what it adds up to (`Call`, `Recording`,
`Stop`). Pure.

A call and its recordings change in one way only: an event is recorded. Everything else here is
computed from events by `lifecycle.fold`, in whatever order they came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What an event says. The first group comes from the provider, the second from our callers, the
    third from us."""

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
    again."""

    PROVIDER = "provider"  # 5xx, 429, timeouts, 404, no address, never listed
    STORAGE = "storage"  # our disks are full, cannot be written or hold other content
    MEDIA = "media"  # what came is not the recording
    OURS = "ours"  # an exception nobody expected; work that is begun and never finished
    SETTINGS = "settings"  # refused or not allowed by what somebody can set right


class Duty(StrEnum):
    """What can be owed. A stop is owed by a call, and so is a look; a fetch by one recording; a
    survey by an account."""

    STOP = "stop"  # plan the call, and send what is due
    LOOK = "look"  # ask the provider's list and live calls
    FETCH = "fetch"  # bring the file home
    # compare the provider's lists with the ledger; the place of the call names the scope
    SURVEY = "survey"


@dataclass(frozen=True, kw_only=True, slots=True)
class Obligation:
    """One entry of the ledger's sorted set."""

    duty: Duty
    account: str
    call_uuid: str
    recording_id: str | None = None

    def __str__(self) -> str:
        parts = [
            self.duty,
            self.account,
            self.call_uuid,
            *([self.recording_id] if self.recording_id else []),
        ]
        return "|".join(parts)

    @classmethod
    def parse(cls, text: str) -> Obligation:
        duty, account, call_uuid, *rest = text.split("|")
        return cls(
            duty=Duty(duty),
            account=account,
            call_uuid=call_uuid,
            recording_id=rest[0] if rest else None,
        )


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


class Phase(StrEnum):
    """Where a recording stands on its way home."""

    RECORDING = "recording"
    STOPPING = "stopping"  # a stop is due or requested, and not proven
    FINALIZING = "finalizing"  # proven over; the provider's facts about the file are still missing
    FETCHING = "fetching"  # the facts are known; the file is not in the archive yet
    ARCHIVED = "archived"
    ABANDONED = "abandoned"  # the usual tries are used up, or the provider no longer keeps it


class StopState(StrEnum):
    """How a stop went. Only `confirmed` and `already_over` say that the recording is over."""

    NONE = "none"  # none was needed, or none is due yet
    DUE = "due"
    ACCEPTED = "accepted"  # the provider said yes; nothing is proven
    CONFIRMED = "confirmed"
    ALREADY_OVER = "already_over"
    UNKNOWN = "unknown"  # no proof after all tries: still tried, with an alert
    FAILED = "failed"  # set aside: refused with good credentials


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Why the whole call is stopped because of a recording that nobody told us of.

    `proof`: stops are sent until one is proven, or until we give up with an alert. Without it one
    stop is enough.
    """

    due_at: datetime
    trigger: str
    action: str
    rule: str
    proof: bool
    covers_starts: bool = False  # also meant: whatever our own starts may have begun


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What the events say about one recording. `evidence` maps each kind of proof to the instant it
    reached us."""

    recording_id: str
    known_at: datetime
    url: str | None = None
    provider_started_at: datetime | None = None
    ended_at: datetime | None = None
    added_at: datetime | None = None
    duration_s: float | None = None
    format: str | None = None
    reason: str | None = None
    trunk: bool = False
    room: bool = False  # a conference's: a leg that hangs up does not end it
    evidence: dict[str, datetime] = field(default_factory=dict)
    claimed_at: datetime | None = None  # unsigned: somebody says it ended
    attempts: tuple[
        Event, ...
    ] = ()  # STOP_ACCEPTED, STOP_ERRED, STOP_SET_ASIDE, CALL_FOUND_OVER, by time
    unknown_at: datetime | None = None
    finalized_at: datetime | None = None  # when the provider's facts about the end were known
    failures: tuple[Event, ...] = ()  # FETCH_FAILED since a person's last retry, by time
    abandoned: tuple[Event, ...] = ()  # ABANDONED, the same, by time
    archived: Event | None = None
    gave_up: Event | None = None
    retried_at: datetime | None = None  # a person wants it, whatever became of it before
    ours_at: datetime | None = (
        None  # when we were told to start it, or a rule or a resume wanted it
    )
    asked: Asked | None = None  # only of the one that nobody told us of: why it is to be stopped
    segment_of: str | None = None
    channels: int | None = None
    max_duration_s: float | None = None  # asked for when it was started

    @property
    def root(self) -> str:
        """The first segment of the logical recording that this one belongs to."""
        return self.segment_of or self.recording_id

    @property
    def started_at(self) -> datetime:
        """The provider's figure, else end minus duration, else our receipt."""
        return self.provider_started_at or self.derived_started_at or self.known_at

    @property
    def derived_started_at(self) -> datetime | None:
        if self.ended_at and self.duration_s:
            return self.ended_at - timedelta(seconds=self.duration_s)
        return None

    @property
    def fault(self) -> Fault | None:
        """The fault of the last failure. None where nothing failed, or the recording is
        archived."""
        if self.archived:
            return None
        last = next(
            (e for e in (self.gave_up, *self.failures[-1:], *self.abandoned[-1:]) if e), None
        )
        return (last.fault or Fault.PROVIDER) if last else None

    @property
    def over_at(self) -> datetime | None:
        """When the first proof of its end reached us."""
        return min(self.evidence.values()) if self.evidence else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """One order to start a recording, and how far it came. `ordered.order` is its id."""

    ordered: Event
    sent: Event | None = None  # START_SENT: from here on it may have happened
    errors: tuple[Event, ...] = ()  # START_ERRED, by time
    outcome: Event | None = None  # START_ACCEPTED, START_FAILED or START_UNCLEAR
    recording_id: str | None = None  # what it started, however we learned of it
    lapsed_at: datetime | None = None  # START_LAPSED

    @property
    def began_at(self) -> datetime:
        """When it counts as begun: at its trigger, or when it was ordered."""
        began_at = self.ordered.due_at or self.ordered.at
        assert began_at is not None
        return began_at

    @property
    def failed(self) -> bool:
        """Whether it certainly started nothing."""
        return (
            self.recording_id is None
            and self.outcome is not None
            and self.outcome.kind is Kind.START_FAILED
        )

    @property
    def unclear(self) -> bool:
        """Whether it was sent and may have begun a recording that we cannot name."""
        return (
            self.recording_id is None
            and self.outcome is not None
            and not self.failed
            and self.lapsed_at is None
        )

    @property
    def unsettled(self) -> bool:
        """Whether it counts as running: it may still be sent, or it may have begun something."""
        return self.recording_id is None and not self.failed and self.lapsed_at is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Handoff:
    """One question before a transfer, and its answer. `asked.order` is its id."""

    asked: Event
    decided: Event | None = None
    transfer: Event | None = None  # what came of the provider's transfer that we sent

    @property
    def until(self) -> datetime:
        """How long the asker waits."""
        assert self.asked.at is not None
        return self.asked.at + timedelta(seconds=self.asked.wait_s or 0)

    @property
    def is_ours_to_send(self) -> bool:
        """The worker decided `go`, which it does just before it sends the transfer. After anybody
        else's decision nobody sends it."""
        return self.decided is not None and self.decided.verdict == "go" and self.decided.by == "us"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What the events say about one call."""

    account: str
    call_uuid: str
    from_number: str | None = None
    to_number: str | None = None
    direction: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    started_at: datetime | None = None  # as an application told it
    trunk: bool = False
    reported: bool = False  # the provider itself named this uuid as the A-leg, in a signed callback
    known: bool = False  # anything but our callers' orders ever spoke of it
    hung_up_at: datetime | None = None  # a signed hang-up
    over_at: datetime | None = (
        None  # proven: a signed hang-up, or 404 for a reported uuid and no sign of life since
    )
    claimed_over_at: datetime | None = (
        None  # an unsigned hang-up or any other 404, and no look since that saw it live
    )
    found_live_at: datetime | None = None  # first seen live by a survey, unannounced
    looks: tuple[Event, ...] = ()  # LOOKED, by time
    triggers: tuple[Event, ...] = ()  # by time
    recordings: dict[str, Recording] = field(default_factory=dict)
    starts: dict[str, Start] = field(default_factory=dict)  # by order
    handoffs: dict[str, Handoff] = field(default_factory=dict)  # by order
    attempts: tuple[Event, ...] = ()  # stops of the whole call, each request once, by time
    unknowns: tuple[Event, ...] = ()  # STOP_UNKNOWN of the recording that nobody told us of
    declared_at: datetime | None = None  # last: an application said that nothing is being recorded
    events: tuple[Event, ...] = ()  # all, by time


def is_no_call(call: Call, attempts: Iterable[Event]) -> bool:
    """Whether a stop of the whole call was answered that there is no such call, and nobody ever
    spoke of one."""
    return not call.known and any(a.kind is Kind.CALL_FOUND_OVER for a in attempts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """One recording's stop as judged by the rules: what is owed, what was done, what is proven."""

    state: StopState
    trigger: str | None = None
    rule: str | None = None
    due_at: datetime | None = None
    requested_at: datetime | None = None
    accepted_at: datetime | None = None
    confirmed_at: datetime | None = None
    evidence: tuple[str, ...] = ()
    attempts: int = 0
    tail_ms: int | None = None
    action: str | None = None  # what the trigger does: `stop` or `pause`
    problem: str | None = None  # `no_live_call`: nobody ever spoke of such a call, and none is live
