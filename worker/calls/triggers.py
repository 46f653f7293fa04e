"""Which events of a call act on its recordings, and how. Pure.

Three things are not left to the rules. A dial that failed counts as a failed transfer. For two
minutes after a hand-off's `go`, or until the transfer fails, a transfer event of the call counts as
the transfer that was asked about, so it does nothing more. A hand-off for which the rules have no
key stops the recording: asking is the trigger.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.calls import timing
from worker.calls.call import Call, Handoff, Recording
from worker.calls.dials import failed_dials
from worker.calls.events import TRIGGERS, Event, Kind
from worker.calls.rules import Action, Mode, Rules

_TRANSFERS = {
    Kind.CALL_TRANSFERRED,
    Kind.CALL_REDIRECTED,
    Kind.DIAL_ANSWERED,
    Kind.DIAL_CONNECTED,
    Kind.CONFERENCE_JOINED,
}
_RACE = timedelta(seconds=2)  # callbacks about the legs of one dial overtake each other by so much
_ORDERS = {Kind.STOP_ORDERED, Kind.PAUSE_ORDERED, Kind.RESUME_ORDERED}
_ASKS_FOR_AN_END = {Kind.HANDOFF_ASKED, Kind.STOP_ORDERED, Kind.PAUSE_ORDERED}


@dataclass(frozen=True, kw_only=True, slots=True)
class Act:
    """One event and what the rules do about it. `enforced`: False where they only observe."""

    event: Event
    trigger: str
    action: Action
    rule: str
    at: datetime
    enforced: bool

    @property
    def ends(self) -> bool:
        """Whether the act ends the recordings that it covers."""
        return self.action in {Action.STOP, Action.PAUSE}

    @property
    def is_transfer(self) -> bool:
        return self.event.kind in _TRANSFERS or self.event.kind is Kind.HANDOFF_ASKED

    @property
    def is_order(self) -> bool:
        """Whether somebody asks for the end of everything on the call. Then a stop is sent even
        where no recording is known.
        """
        return self.is_asked and not self.names_one

    @property
    def is_asked(self) -> bool:
        """Whether a person or an application asks for an end. Then a request leaves at once,
        whatever was sent before.
        """
        return self.event.kind in _ASKS_FOR_AN_END and self.ends

    @property
    def names_one(self) -> bool:
        """Whether the act is about one recording only, named by its id or URL."""
        return bool(self.event.recording_id or self.event.url)

    @property
    def settled_at(self) -> datetime:
        """When we may act. A failed leg waits 2 s: another leg of the same dial may have been
        answered.
        """
        return (
            self.at + _RACE
            if self.event.kind is Kind.DIAL_ENDED and not self.event.whole
            else self.at
        )

    def covers(self, recording: Recording) -> bool:
        """Whether the act is about this recording: one that had begun by then, or that was first
        reported within 5 s after the act.

        A recording that we started later is never covered.
        """
        if self.event.recording_id and self.event.recording_id != recording.recording_id:
            # The act also covers the next segment of the named recording, if the start of that
            # segment was under way when the act came.
            under_way = (
                recording.ours_at is not None and recording.ours_at <= self.at < recording.known_at
            )
            return (
                under_way and (self.event.segment_of or self.event.recording_id) == recording.root
            )
        if self.event.url and self.event.url != recording.url:
            return False
        if recording.ours_at is not None:
            return recording.ours_at <= self.at
        return recording.started_at <= self.at or recording.known_at <= self.at + timing.SETTLE


def acts(call: Call, rules: Rules) -> list[Act]:
    """The call's acts in time order, also those whose action is `keep`. Left out: transfer events
    that only repeat a hand-off that was answered with `go`.
    """
    rule, terms = rules.choose(call)
    dials = list(failed_dials(call))
    failed = [*(e for e in call.triggers if e.kind is Kind.HANDOFF_FAILED), *dials]
    gos = [
        h.decided.at
        for h in call.handoffs.values()
        if h.decided and h.decided.verdict == "go" and h.decided.at
    ]
    spans = _spans(sorted(gos), sorted(f.at for f in failed if f.at))
    result = []
    for event in [*call.triggers, *dials]:
        assert event.at is not None
        if event.kind in _TRANSFERS and _is_within(spans, event.at):
            continue
        trigger = trigger_of(event)
        result.append(
            Act(
                event=event,
                trigger=trigger,
                action=terms.action(trigger, asked=event.kind is Kind.HANDOFF_ASKED),
                rule=rule,
                at=event.at,
                enforced=terms.mode is Mode.ENFORCE or event.kind in _ORDERS,
            )
        )
    return sorted(result, key=lambda a: (a.at, a.event.id))


def _spans(gos: Sequence[datetime], failed: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """The times in which a call's transfer events belong to a hand-off's `go`: until the transfer
    fails, two minutes at most. In time order, without overlaps.

    `gos` and `failed`: the instants of each `go` and of each failed transfer, in time order.
    """
    spans: list[tuple[datetime, datetime]] = []
    for at in gos:
        after = bisect_right(failed, at)
        until = min([at + timing.THAT_TRANSFER, *failed[after : after + 1]])
        if spans and at <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], until))
        else:
            spans.append((at, until))
    return spans


def _is_within(spans: Sequence[tuple[datetime, datetime]], at: datetime) -> bool:
    before = bisect_right(spans, at, key=lambda span: span[0])
    return before > 0 and at < spans[before - 1][1]


def act_of(call_acts: Sequence[Act], handoff: Handoff) -> Act:
    """The hand-off's own act, among the acts of its call."""
    return next(
        a
        for a in call_acts
        if a.event.kind is Kind.HANDOFF_ASKED and a.event.order == handoff.asked.order
    )


def trigger_of(event: Event) -> str:
    """The name of the trigger that an event raises, as rules spell it."""
    if event.kind is Kind.DIAL_ENDED:
        return "transfer.failed"
    return TRIGGERS.get(event.kind) or event.trigger or "transfer"


def is_transfer(trigger: str) -> bool:
    """Whether a trigger's name means that the call is handed to somebody else."""
    if trigger == "transfer.failed":
        return False
    return trigger in {
        "transfer",
        "redirect",
        "dial.answer",
        "dial.connected",
        "conference.join",
    } or trigger.startswith("transfer.")


def ended_before(recording: Recording, at: datetime) -> bool:
    """Whether a recording was over before that instant."""
    end = recording.ended_at or recording.over_at
    return end is not None and end < at
