"""Which events of a call act on its recordings, and how. Pure.

The rules alone do not decide three kinds of event. A dial that failed is a failed transfer. For two
minutes after a go, or until the transfer fails, the call's transfer events are the transfer that
was asked about, so they do nothing more. A hand-off for which the rules have no key stops the
recording: to ask is the trigger.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from worker.calls import timing
from worker.calls.call import Call, Handoff, Recording
from worker.calls.events import TRIGGERS, Event, Kind
from worker.calls.rules import Action, Mode, Rules

_TRANSFERS = {
    Kind.CALL_TRANSFERRED,
    Kind.CALL_REDIRECTED,
    Kind.DIAL_ANSWERED,
    Kind.DIAL_CONNECTED,
    Kind.CONFERENCE_JOINED,
}
_RACE = timedelta(seconds=2)  # by so much callbacks about the legs of one dial overtake each other
_EVER = datetime.min.replace(tzinfo=UTC)
_TOLD_AGAIN = timedelta(seconds=15)  # the provider repeats a callback for so long
_ORDERS = {Kind.STOP_ORDERED, Kind.PAUSE_ORDERED, Kind.RESUME_ORDERED}
_BLIND = {Kind.HANDOFF_ASKED, Kind.STOP_ORDERED, Kind.PAUSE_ORDERED}


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
        return self.action in {Action.STOP, Action.PAUSE}

    @property
    def is_transfer(self) -> bool:
        return self.event.kind in _TRANSFERS or self.event.kind is Kind.HANDOFF_ASKED

    @property
    def is_order(self) -> bool:
        """Whether somebody asks for the end of everything. Then a stop is sent even where no
        recording is known.
        """
        return self.is_asked and not self.names_one

    @property
    def is_asked(self) -> bool:
        """Whether a person or an application asks for an end. Then a request leaves at once,
        whatever was tried before.
        """
        return self.event.kind in _BLIND and self.ends

    @property
    def names_one(self) -> bool:
        return bool(self.event.recording_id or self.event.url)

    @property
    def settled_at(self) -> datetime:
        """When we may act upon it. A failed leg waits 2 s: another leg of the same dial may have
        been answered.
        """
        return (
            self.at + _RACE
            if self.event.kind is Kind.DIAL_ENDED and not self.event.whole
            else self.at
        )

    def covers(self, recording: Recording) -> bool:
        """Whether it is about this recording: one that had begun by then, or that was first
        reported within 5 s after.

        A recording that we started later is never covered.
        """
        if self.event.recording_id and self.event.recording_id != recording.recording_id:
            # Also meant: the segment that goes on with the named recording, if its start was under
            # way when the stop came.
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
    """The call's acts by time, also those whose action is `keep`. Left out: transfer events that
    only repeat a hand-off's go.
    """
    rule, terms = rules.choose(call)
    failed = [*(e for e in call.triggers if e.kind is Kind.HANDOFF_FAILED), *failed_dials(call)]
    gos = [
        h.decided.at
        for h in call.handoffs.values()
        if h.decided and h.decided.verdict == "go" and h.decided.at
    ]
    spans = _spans(sorted(gos), sorted(f.at for f in failed if f.at))
    found = []
    for event in [*call.triggers, *failed_dials(call)]:
        assert event.at is not None
        if event.kind in _TRANSFERS and _is_within(spans, event.at):
            continue
        trigger = name(event)
        action = terms.action(trigger, asked=event.kind is Kind.HANDOFF_ASKED)
        found.append(
            Act(
                event=event,
                trigger=trigger,
                action=action,
                rule=rule,
                at=event.at,
                enforced=terms.mode is Mode.ENFORCE or event.kind in _ORDERS,
            )
        )
    return sorted(found, key=lambda a: (a.at, a.event.id))


def _spans(gos: Sequence[datetime], failed: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """The times in which a call's transfer events belong to a hand-off's go: until the transfer
    fails, two minutes at most.

    By time, and without overlaps.
    """
    found: list[tuple[datetime, datetime]] = []
    for at in gos:
        after = bisect_right(failed, at)
        until = min([at + timing.THAT_TRANSFER, *failed[after : after + 1]])
        if found and at <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], until))
        else:
            found.append((at, until))
    return found


def _is_within(spans: Sequence[tuple[datetime, datetime]], at: datetime) -> bool:
    before = bisect_right(spans, at, key=lambda span: span[0])
    return before > 0 and at < spans[before - 1][1]


def act_of(known: Sequence[Act], handoff: Handoff) -> Act:
    """The hand-off's own act, among the acts of its call."""
    return next(
        a
        for a in known
        if a.event.kind is Kind.HANDOFF_ASKED and a.event.order == handoff.asked.order
    )


def name(event: Event) -> str:
    """The trigger's name, as rules spell it."""
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


def failed_dials(call: Call) -> Iterator[Event]:
    """The events that say that a dial failed: the provider reports it, or its leg, as ended and
    never connected.

    A leg that ended while another leg was connected has lost the race, so it proves nothing; nor
    does a leg of a dial that completed. A whole dial that is reported as failed within 15 s after a
    leg was answered is an older dial, whose callback the provider repeats.
    """
    failures = [e for e in call.events if e.kind is Kind.DIAL_ENDED and e.connected is False]
    if not failures:
        return
    answered: dict[str | None, datetime] = {}
    ended: dict[str | None, datetime] = {}
    for event in call.events:
        assert event.at is not None
        if event.kind in {Kind.DIAL_CONNECTED, Kind.DIAL_ANSWERED}:
            answered.setdefault(event.b_leg, event.at)
        elif event.kind is Kind.DIAL_ENDED and event.b_leg:
            ended.setdefault(event.b_leg, event.at)
    connected = {e.b_leg for e in call.events if e.kind is Kind.DIAL_CONNECTED}
    dials_over = [e.at for e in call.events if e.kind is Kind.DIAL_ENDED and e.whole and e.at]
    completed = [
        e.at for e in call.events if e.kind is Kind.DIAL_ENDED and e.whole and e.connected and e.at
    ]
    for event in failures:
        assert event.at is not None
        if event.b_leg is not None and event.b_leg in connected:
            continue
        if not event.whole and any(abs(event.at - at) <= timing.SETTLE for at in completed):
            continue
        if event.whole:
            since, until = event.at - _TOLD_AGAIN, event.at
        else:
            since, until = (
                max((at for at in dials_over if at < event.at), default=_EVER),
                event.at + timing.SETTLE,
            )
        others = {leg: at for leg, at in answered.items() if leg is None or leg != event.b_leg}
        if not any(
            since <= at <= until and ended.get(leg, event.at) >= event.at
            for leg, at in others.items()
        ):
            yield event


def ended_before(recording: Recording, at: datetime) -> bool:
    """Whether it was over before that instant."""
    end = recording.ended_at or recording.over_at
    return end is not None and end < at
