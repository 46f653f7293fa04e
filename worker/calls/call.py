"""The nouns that events add up to: `Call`, `Recording`, `Start`, `Handoff`, `Stop`. Pure.

A call changes in one way only: an event is recorded. `replay.replay` computes calls and recordings
from their events, in whatever order they came; `stop_state.judge` computes a `Stop` by the rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from worker.calls.events import Event, Fault, Kind


class Phase(StrEnum):
    """Where a recording stands between its start and the archive."""

    RECORDING = "recording"
    STOPPING = "stopping"  # a stop was requested, and the end is not proven
    FINALIZING = "finalizing"  # proven over; the provider's facts about the file are still missing
    FETCHING = "fetching"  # the facts are known; the file is not in the archive yet
    ARCHIVED = "archived"
    ABANDONED = "abandoned"  # the normal tries are used up, or the provider no longer keeps it
    ERASED = "erased"  # both copies are gone, by order; a signed tombstone stays


# The phases in which it may still record.
RUNNING = frozenset({Phase.RECORDING, Phase.STOPPING})


class StopState(StrEnum):
    """How a stop went. Only `confirmed` and `already_over` say that the recording is over."""

    NONE = "none"  # no stop was needed, or none is due yet
    DUE = "due"
    ACCEPTED = "accepted"  # the provider said yes; nothing is proven
    CONFIRMED = "confirmed"
    ALREADY_OVER = "already_over"
    UNKNOWN = "unknown"  # no proof after all tries: an alert, and further tries
    FAILED = "failed"  # set aside: refused with good credentials


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Why the whole call is stopped because of an unseen recording.

    `proof`: stops are sent until one is proven, or until we give up with an alert. Without it one
    stop is enough.
    """

    due_at: datetime
    trigger: str
    action: str
    rule: str
    proof: bool
    covers_starts: bool = False  # the stop also ends what our own starts may have begun


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What the events say about one recording. `evidence` maps each kind of proof to the instant it
    reached us.
    """

    recording_id: str
    known_at: datetime
    first_seen_at: datetime | None = None  # the first event that names it, by Redis's clock
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
    claimed_at: datetime | None = None  # first claim, without proof, that it ended
    # STOP_ACCEPTED, STOP_ERRED, STOP_SET_ASIDE, CALL_FOUND_OVER, by time
    attempts: tuple[Event, ...] = ()
    unknown_at: datetime | None = None  # STOP_UNKNOWN
    finalized_at: datetime | None = None  # when the provider's facts about the end were known
    failures: tuple[Event, ...] = ()  # FETCH_FAILED since a person's last retry, by time
    abandoned: tuple[Event, ...] = ()  # ABANDONED, the same, by time
    archived: Event | None = None
    gave_up: Event | None = None
    absence: Event | None = None  # ABSENCE_FILED
    held: bool = False  # legal hold: nothing of ours deletes either copy
    was_held: bool = False  # at any time
    erasing: Event | None = None  # ERASE_BEGUN
    erased: Event | None = None  # the last RECORDING_ERASED
    # The last event that may mean that there is a copy again: the provider's, or our own.
    copied_at: datetime | None = None
    offloaded: Event | None = None  # PROVIDER_COPY_DELETED
    derived: tuple[Event, ...] = ()  # FILE_DERIVED, by time
    facts_filed: Event | None = None  # the last FACTS_FILED
    retried_at: datetime | None = None  # when a person last ordered a retry
    # Only if we started it: when a caller ordered that, or a rule or a resume wanted it.
    ours_at: datetime | None = None
    asked: Asked | None = None  # only of the unseen recording: why it is to be stopped
    segment_of: str | None = None  # the first segment, if this is a later one
    channels: int | None = None
    max_duration_s: float | None = None  # the limit that was asked for when it was started

    @property
    def root(self) -> str:
        """The first segment of the logical recording that this one belongs to."""
        return self.segment_of or self.recording_id

    @property
    def started_at(self) -> datetime:
        """The provider's figure, else end minus duration, else when it became known."""
        return self.provider_started_at or self.derived_started_at or self.known_at

    @property
    def derived_started_at(self) -> datetime | None:
        if self.ended_at and self.duration_s:
            return self.ended_at - timedelta(seconds=self.duration_s)
        return None

    @property
    def fault(self) -> Fault | None:
        """The fault of the last failure. None where nothing failed, or the recording is
        archived.
        """
        if self.archived or self.erasing:
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
    recording_id: str | None = None  # the recording that it began, if we know it
    lapsed_at: datetime | None = None  # START_LAPSED

    @property
    def began_at(self) -> datetime:
        """When the start counts as begun: at its trigger, or when it was ordered."""
        began_at = self.ordered.due_at or self.ordered.at
        assert began_at is not None
        return began_at

    @property
    def failed(self) -> bool:
        """Whether the start certainly began nothing."""
        return (
            self.recording_id is None
            and self.outcome is not None
            and self.outcome.kind is Kind.START_FAILED
        )

    @property
    def unclear(self) -> bool:
        """Whether the start was sent and may have begun a recording that we cannot name."""
        return (
            self.recording_id is None
            and self.outcome is not None
            and not self.failed
            and self.lapsed_at is None
        )

    @property
    def unsettled(self) -> bool:
        """Whether the start counts as running: it may yet be sent, or may have begun something."""
        return self.recording_id is None and not self.failed and self.lapsed_at is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Handoff:
    """One question before a transfer, and its answer. `asked.order` is its id."""

    asked: Event
    decided: Event | None = None
    transfer: Event | None = None  # the outcome of the provider's transfer that we sent

    @property
    def until(self) -> datetime:
        """Until when the asker waits."""
        assert self.asked.at is not None
        return self.asked.at + timedelta(seconds=self.asked.wait_s or 0)

    @property
    def is_ours_to_send(self) -> bool:
        """Whether the worker decided `go`, which it does just before it sends the transfer. After a
        decision by anyone else the transfer is never sent.
        """
        return self.decided is not None and self.decided.verdict == "go" and self.decided.by == "us"


@dataclass(frozen=True, kw_only=True, slots=True)
class Consent:
    """The parties agreed to be recorded, or (`given` False) took that back. `at`: when, by the
    application's word, and never after we heard of it.
    """

    at: datetime
    given: bool
    kind: str | None = None
    by: str | None = None
    evidence: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What the events say about one call."""

    account: str
    call_uuid: str
    from_number: str | None = None
    to_number: str | None = None
    direction: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    started_at: datetime | None = None  # as an application announced it
    trunk: bool = False
    reported: bool = False  # the provider itself named this uuid as the A-leg, in a signed callback
    known: bool = False  # an event other than our callers' orders names the call
    hung_up_at: datetime | None = None  # a signed hang-up
    # Proven: a signed hang-up, or a 404 for a reported uuid and no sign of life since.
    over_at: datetime | None = None
    # Claimed: an unsigned hang-up or any other 404, and no look since that saw the call live.
    claimed_over_at: datetime | None = None
    found_live_at: datetime | None = None  # a survey first saw the call live, unannounced
    looks: tuple[Event, ...] = ()  # LOOKED, by time
    triggers: tuple[Event, ...] = ()  # by time
    recordings: dict[str, Recording] = field(default_factory=dict)
    starts: dict[str, Start] = field(default_factory=dict)  # by order
    handoffs: dict[str, Handoff] = field(default_factory=dict)  # by order
    attempts: tuple[Event, ...] = ()  # stops of the whole call, each request once, by time
    unknowns: tuple[Event, ...] = ()  # STOP_UNKNOWN of the unseen recording, by time
    consents: tuple[Consent, ...] = ()  # by their own instants
    declared_at: datetime | None = None  # last: an application said that nothing is being recorded
    # All, by time, and within one millisecond as the log has them. Nothing else of the call depends
    # on the order of the log.
    events: tuple[Event, ...] = field(default=(), compare=False)


def is_no_call(call: Call, attempts: Iterable[Event]) -> bool:
    """Whether the provider answered a stop of the whole call with "no such call", and no event but
    our callers' orders ever named the call.
    """
    return not call.known and any(a.kind is Kind.CALL_FOUND_OVER for a in attempts)


def known_from_orders_only(call: Call) -> bool:
    """Whether nothing is known of the call but what was ordered here, and the provider answered a
    stop with "no such call": its id was mistyped, or it never was.
    """
    return not call.recordings and is_no_call(call, call.attempts)


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
    # When a rule in force wanted it ended, where that passed before `due_at`: nobody had told us
    overdue_since: datetime | None = None
    action: str | None = None  # what the trigger does: `stop` or `pause`
    # `no_live_call`: the provider knows no such live call, and no event ever named one
    problem: str | None = None
