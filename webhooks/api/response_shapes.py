"""The shapes of `/v1`'s answers, for the OpenAPI document. The views do not use them; tests compare
them with real answers.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from worker.calls.call import Phase, StopState
from worker.calls.events import Fault

Instant = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Time = Instant | None
Day = Annotated[str, Meta(extra_json_schema={"format": "date"})]


class Stop(Struct, kw_only=True):
    """How far the end of a recording is proven, and what was done for it."""

    state: Literal[tuple(s.value for s in StopState)]  # type: ignore[valid-type]
    trigger: str | None
    rule: str | None
    due_at: Time
    requested_at: Time
    accepted_at: Time
    confirmed_at: Time
    evidence: list[Literal["callback", "listed", "call_over", "declared"]]
    attempts: int
    tail_ms: int | None
    overdue_since: Time = None


class Consent(Struct, kw_only=True):
    """The last that was said of the call's consent."""

    kind: str | None
    at: Instant
    by: str | None
    evidence: str | None
    withdrawn: bool


class Erased(Struct, kw_only=True):
    """Why it was erased, or is being erased. `rule`: whose `retain` was over."""

    at: Instant
    who: str | None
    rule: str | None
    reason: str | None


class Derived(Struct, kw_only=True):
    """A file that was made from a recording. `name`: by which it is read."""

    name: str
    kind: str
    content_type: str
    bytes: int
    sha256: str
    at: Instant
    who: str


class LinkedFile(Derived, kw_only=True):
    """The file as it is linked to its recording now."""

    recording_id: str
    derived_from: dict[str, str]


class Recording(Struct, kw_only=True, rename={"from_": "from"}):
    """A recording: where it is on its way, and how far its end is proven."""

    recording_id: str
    account: str
    call_uuid: str
    phase: Literal[tuple(p.value for p in Phase)]  # type: ignore[valid-type]
    labels: dict[str, str]
    started_at: Time
    ended_at: Time
    duration_ms: int | None
    format: str | None
    bytes: int | None
    sha256: str | None
    archive_key: str | None
    segment_of: str | None
    first_seen_at: Instant
    from_: str | None
    to: str | None
    direction: str | None
    held: bool
    stop: Stop
    consent: Consent | None
    restricted: bool
    restricted_by: list[Literal["no_consent", "long_tail"]]
    problem: str | None
    fault: Literal[tuple(f.value for f in Fault)] | None  # type: ignore[valid-type]
    deleted_at_provider: Time = None
    saved_per_month: float | None = None
    provider_keeps_until: Time
    retain_until: Time
    derived: list[Derived] = field(default_factory=list)
    erased: Erased | None


class Hold(Struct, kw_only=True):
    """A legal hold. `ours_alone`: no object lock of a bucket stands behind it, and `why_alone` says
    why.
    """

    at: Instant
    who: str
    claimed: str | None
    reason: str | None
    ours_alone: bool
    why_alone: str | None


class HeldRecording(Recording, kw_only=True, rename={"from_": "from"}):
    """The recording with the hold that stands now."""

    hold: Hold


class Figure(Struct, kw_only=True):
    """Ids of recordings, and of calls that should have one and have none."""

    count: int
    recordings: list[str]
    calls: list[str]


class Unexplained(Figure, kw_only=True):
    """The same, and of each id why somebody has to look: figures, or `not_verified`."""

    why: dict[str, list[str]]


class LedgerRow(Struct, kw_only=True):
    """What became of the recordings of one account and rule."""

    account: str
    rule: str
    expected: Figure
    archived: Figure
    verified: Figure
    under_way: Figure
    missing: Figure
    unexpected: Figure
    over_long: Figure
    too_short: Figure
    unproven: Figure
    without_consent: Figure
    restricted: Figure
    erased: Figure
    deleted_at_provider: Figure
    cut_at_default_limit: Figure
    with_gaps: Figure
    unexplained: Unexplained
    consent_capture_rate: float | None
    saved_per_month: float


class CallRecords(Struct, kw_only=True):
    """How well the answered calls of the day are known."""

    needed: bool
    read_to: Time
    problem: str | None


class DayLedger(Struct, kw_only=True, omit_defaults=True):
    """The completeness of a day. `degraded`: why finished recordings are missing, while the
    catalogue does not answer.
    """

    day: Day
    computed_at: Instant
    rows: list[LedgerRow]
    totals: dict[str, int | float | None]
    call_records: dict[str, CallRecords]
    degraded: str | None = None


class RecordingsPage(Struct, kw_only=True, omit_defaults=True):
    """A page of the list. `degraded`: why finished recordings are missing, while the catalogue does
    not answer.
    """

    recordings: list[Recording]
    cursor: str | None
    degraded: str | None = None


class OneStop(Struct, kw_only=True):
    """The stop of one recording."""

    recording_id: str
    stop: Stop


class Stops(Struct, kw_only=True):
    """The stops of a call's recordings. `stop` is the one that is furthest from proven; null where
    nothing is known to record.
    """

    call_uuid: str
    account: str
    stop: Stop | None
    recordings: list[OneStop]


class Resumed(Struct, kw_only=True):
    """The segments with which the recordings go on."""

    call_uuid: str
    account: str
    recordings: list[Recording]


class HandoffFailed(Struct, kw_only=True):
    """What the rule for a transfer that failed has done."""

    call_uuid: str
    account: str
    action: Literal["stop", "keep", "pause", "resume"]
    rule: str
    resumed: bool
    recordings: list[Recording]


class Handoff(Struct, kw_only=True):
    """Whether the transfer may take place. With `verdict` hold the status is 409 and the members of
    a problem are there too.
    """

    verdict: Literal["go", "hold"]
    proven: bool
    kind: str
    action: Literal["stop", "keep", "pause", "resume"]
    rule: str
    evidence: list[str]
    reason: str
    handoff_id: str
    call_uuid: str
    account: str
    stop: Stop | None
    recordings: list[OneStop]
    transfer: Literal["sent", "failed", "unknown", "not_sent"] = "not_sent"


class Gap(Struct, kw_only=True, rename={"from_": "from"}):
    """From when to when a logical recording did not record, and why."""

    recording_id: str
    from_: Time
    to: Time
    trigger: str | None
    reason: str | None
    resumed_by: str | None


class Start(Struct, kw_only=True):
    """What became of a start that was ordered."""

    state: Literal["ordered", "started", "failed", "unknown"]
    recording_id: str | None
    segment_of: str | None
    ordered_at: Instant
    reason: str | None


class TimelineEntry(Struct, kw_only=True):
    """One event or attempt."""

    at: Instant
    event: str
    recording_id: str | None
    by: str | None
    claimed: str | None
    signed: bool
    trigger: str | None
    verdict: str | None
    live: bool | None
    reason: str | None
    what: str


class Call(Struct, kw_only=True, rename={"from_": "from"}):
    """A call with its recordings, gaps, starts, hand-offs and timeline."""

    call_uuid: str
    account: str
    from_: str | None
    to: str | None
    direction: str | None
    labels: dict[str, str]
    started_at: Time
    over_at: Time
    consent: Consent | None
    recordings: list[Recording]
    gaps: list[Gap]
    starts: list[Start]
    handoffs: list[Handoff]
    timeline: list[TimelineEntry]


class EventRecorded(Struct, kw_only=True):
    """What became of the event. `repeat`: it was known already; `ignored`: a kind that is not
    followed.
    """

    event: str | None
    recorded: Literal["new", "repeat", "ignored"]
    call_uuid: str | None = None
    account: str | None = None


class Problem(Struct, kw_only=True):
    """Why the request was refused (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    start: Literal["unknown", "failed"] | None = None
    provider_status: int | None = None


class Peaks(Struct, kw_only=True):
    """For each channel, the peak of each bucket: 0 is silence, 255 full scale."""

    schema: Literal["endtape/peaks/1"]
    bucket_ms: int
    channels: list[list[int]]


class Receipt(Struct, kw_only=True):
    """A receipt as it lies in the archive: `schema` is `endtape/receipt/1`."""

    schema: str
    recording_id: str
    more: dict[str, Any] = field(default_factory=dict)
