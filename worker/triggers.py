"""Which events of a call act on its recordings, and how. Pure.

Three kinds of event need more than a look into the rules: a dial that ended without ever being connected is a failed
transfer; for two minutes after a go the call's own transfer events are the transfer that was asked about, unless it
failed; and a hand-off that no key is about stops, because to ask is the trigger.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from worker import policy
from worker.policy import Action, Mode, Policy
from worker.recording import TRIGGERS, Call, Event, Handoff, Kind, Recording

_TRANSFERS = {Kind.CALL_TRANSFERRED, Kind.CALL_REDIRECTED, Kind.DIAL_ANSWERED, Kind.DIAL_CONNECTED, Kind.CONFERENCE_JOINED}
_ORDERS = {Kind.STOP_ORDERED, Kind.PAUSE_ORDERED, Kind.RESUME_ORDERED}
_BLIND = {Kind.HANDOFF_ASKED, Kind.STOP_ORDERED, Kind.PAUSE_ORDERED}


@dataclass(frozen=True, kw_only=True, slots=True)
class Act:
    """One event with what the rules make of it. `enforced` is False where it is only observed."""

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
        """Somebody asks for it by name, so it is sent even where no recording is known."""
        return self.event.kind in _BLIND and not self.event.recording_id and not self.event.url

    def covers(self, recording: Recording) -> bool:
        """Whether it is about this recording: one that had begun before, or was first reported within 5 s after; never one
        that we started later.
        """
        if self.event.recording_id and self.event.recording_id != recording.recording_id:
            return False
        if self.event.url and self.event.url != recording.url:
            return False
        if recording.ours_at is not None:
            return recording.ours_at <= self.at
        return recording.started_at <= self.at or recording.known_at <= self.at + policy.SETTLE


def acts(call: Call, rules: Policy) -> list[Act]:
    """By time. A trigger that keeps is among them; one that is that transfer again is not."""
    rule, terms = rules.choose(call)
    failed = [*(e for e in call.triggers if e.kind is Kind.HANDOFF_FAILED), *failed_dials(call)]
    gone = [h.decided.at for h in call.handoffs.values() if h.decided and h.decided.verdict == "go" and h.decided.at]
    spans = [(at, min([at + policy.THAT_TRANSFER, *(f.at for f in failed if f.at and f.at > at)])) for at in gone]
    found = []
    for event in [*call.triggers, *failed_dials(call)]:
        assert event.at is not None
        if event.kind in _TRANSFERS and any(since <= event.at < until for since, until in spans):
            continue
        trigger = name(event)
        action = terms.action(trigger, asked=event.kind is Kind.HANDOFF_ASKED)
        found.append(Act(event=event, trigger=trigger, action=action, rule=rule, at=event.at,
                         enforced=terms.mode is Mode.ENFORCE or event.kind in _ORDERS))
    return sorted(found, key=lambda a: (a.at, a.event.id))


def act_of(call: Call, rules: Policy, handoff: Handoff) -> Act:
    """What a hand-off itself does."""
    return next(a for a in acts(call, rules) if a.event.kind is Kind.HANDOFF_ASKED and a.event.order == handoff.asked.order)


def name(event: Event) -> str:
    """The trigger's name, as rules spell it."""
    if event.kind is Kind.DIAL_ENDED:
        return "transfer.failed"
    return TRIGGERS.get(event.kind) or event.trigger or "transfer"


def failed_dials(call: Call) -> Iterator[Event]:
    """Dials that ended without ever being connected. A connection that is reported late takes it back, so only what the
    provider itself calls a failure counts.
    """
    connected = {e.b_leg for e in call.events if e.kind is Kind.DIAL_CONNECTED}
    for event in call.events:
        if event.kind is Kind.DIAL_ENDED and event.connected is False and (event.b_leg is None or event.b_leg not in connected):
            yield event


def ended_before(recording: Recording, at: datetime) -> bool:
    """Whether it was over before that instant."""
    end = recording.ended_at or recording.over_at
    return end is not None and end < at
