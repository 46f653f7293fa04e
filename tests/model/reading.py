"""The contract's rules (section 5), implemented a second time: what each event asks for, and when a
recording has to end.

It never calls the planner. It knows more than the planner does: whether a dial was really
connected, and when a recording really began.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import datetime, time
from zoneinfo import ZoneInfo

from tests.model.ours import Action, DailyTime, Event, Kind, Match, Mode, Rule, Rules, Terms, replay
from tests.model.truth import Rec
from tests.model.world import A_LEG, ACCOUNT, TELLS, World, s

STOP, PAUSE, RESUME, KEEP = Action.STOP, Action.PAUSE, Action.RESUME, Action.KEEP
_TRIGGERS = {
    Kind.CALL_TRANSFERRED: "transfer",
    Kind.CALL_REDIRECTED: "redirect",
    Kind.DIAL_ANSWERED: "dial.answer",
    Kind.DIAL_CONNECTED: "dial.connected",
    Kind.CONFERENCE_JOINED: "conference.join",
    Kind.STOP_ORDERED: "api",
    Kind.PAUSE_ORDERED: "pause",
    Kind.RESUME_ORDERED: "resume",
    Kind.HANDOFF_FAILED: "transfer.failed",
}
_ORDERS = {Kind.STOP_ORDERED, Kind.PAUSE_ORDERED, Kind.RESUME_ORDERED}
_THE_TRANSFER = {
    Kind.CALL_TRANSFERRED,
    Kind.CALL_REDIRECTED,
    Kind.DIAL_ANSWERED,
    Kind.DIAL_CONNECTED,
    Kind.CONFERENCE_JOINED,
}
_SETTLE = s(5)


def policies(rng: random.Random, local_noon: datetime) -> list[Rules]:
    """The rules of a life, and those after each reload."""
    on = {"transfer": STOP, "transfer.failed": RESUME, "custom.card": PAUSE, "custom.done": RESUME}
    short = Terms(max_duration=s(rng.choice([20, 60, 300])), on=on)
    endless = Terms(max_duration=None, on=on)
    at_noon = DailyTime(at=time(local_noon.hour, local_noon.minute), zone=ZoneInfo("Europe/Berlin"))
    kinds = [
        Rules(defaults=short),
        Rules(defaults=endless),
        Rules(defaults=replace(short, if_unproven="go")),
        Rules(defaults=replace(endless, on={**on, "dial.connected": KEEP, "redirect": STOP})),
        Rules(
            defaults=replace(endless, on={}),
            rules=(Rule(name="card", match=Match(labels={"team": "card"}), terms=short),),
        ),
        Rules(
            defaults=replace(short, max_duration=s(600)),
            rules=(
                Rule(
                    name="in",
                    match=Match(to_number="91*"),
                    terms=replace(endless, on={**on, "dial.answer": STOP}),
                ),
            ),
        ),
        Rules(defaults=replace(endless, stop_at=(at_noon,))),
        Rules(defaults=replace(short, mode=Mode.OBSERVE)),
        Rules(defaults=replace(short, watch=True)),
        Rules(defaults=replace(short, watch=True)),
    ]
    return [rng.choice(kinds), rng.choice(kinds)]


def own_action(terms: Terms, trigger: str, *, asked: bool) -> Action:
    """The action of a trigger."""
    if trigger in ("api", "pause", "resume"):
        return {"api": STOP, "pause": PAUSE, "resume": RESUME}[trigger]
    if trigger in terms.on:
        return terms.on[trigger]
    falls_back = trigger in ("dial.connected", "conference.join") or (
        trigger.startswith("transfer.") and trigger != "transfer.failed"
    )
    if falls_back and "transfer" in terms.on:
        return terms.on["transfer"]
    return STOP if asked else KEEP


@dataclass
class Act:
    at: datetime
    action: Action
    trigger: str
    enforced: bool
    recording_id: str | None
    event: Event

    @property
    def ends(self) -> bool:
        return self.enforced and self.action in (STOP, PAUSE)

    @property
    def ends_all(self) -> bool:
        return self.ends and self.recording_id is None


class Reading(World):
    """What the rules say about the events of a life. `rules`, `orders`, `dials` and `skew` are the
    life's."""

    def terms(self, events: list[Event]) -> Terms:
        whole = len(events) == len(self.log)
        return self.rules.choose(self.call() if whole else replay(ACCOUNT, A_LEG, events))[1]

    def failed_dial(self, event: Event) -> bool:
        """Whether a dial really failed. A leg that lost a race proves nothing."""
        if event.kind is not Kind.DIAL_ENDED or event.connected is not False:
            return False
        dial = self.dial_of.get(event.id)
        if not event.whole and any(
            d is not dial
            and d.told_at
            and d.told_at <= event.at
            and not (d.end_told_at and d.end_told_at <= event.at)
            for d in self.dialled
        ):
            # as far as anybody was told, another leg is connected: this one may have lost to it
            return False
        return dial is None or not dial.connected

    def acts(self, events: list[Event]) -> list[Act]:
        terms, found = self.terms(events), []
        events = sorted(events, key=lambda e: e.at)
        failed = [e.at for e in events if e.kind is Kind.HANDOFF_FAILED or self.failed_dial(e)]
        gone = [e.at for e in events if e.kind is Kind.HANDOFF_DECIDED and e.verdict == "go"]
        spans = [(g, min([g + s(120), *(f for f in failed if f > g)])) for g in gone]
        for e in events:
            trigger = _TRIGGERS.get(e.kind)
            if e.kind in {Kind.HANDOFF_ASKED, Kind.CUSTOM_REPORTED}:
                trigger = e.trigger
            elif self.failed_dial(e):
                trigger = "transfer.failed"
            elif e.kind is Kind.MACHINE_DETECTED and e.machine:
                trigger = "machine"
            if trigger is None or (
                e.kind in _THE_TRANSFER and any(a <= e.at < b for a, b in spans)
            ):
                continue
            action = own_action(terms, trigger, asked=e.kind is Kind.HANDOFF_ASKED)
            found.append(
                Act(
                    at=e.at,
                    action=action,
                    trigger=trigger,
                    enforced=e.kind in _ORDERS or terms.mode is Mode.ENFORCE,
                    recording_id=e.recording_id,
                    event=e,
                )
            )
        return found

    def root_of(self, rid: str | None) -> str | None:
        """The first segment of the logical recording."""
        rec = next((r for r in self.recs if r.rid == rid), None)
        order = self.orders.get(rec.order) if rec and rec.order else None
        return (order.segment_of if order else None) or rid

    def is_about(self, act: Act, rec: Rec) -> bool:
        """Whether a stop by id concerns the recording. It is final for the whole logical recording,
        with what a resume was starting just then.
        """
        if act.recording_id in (None, rec.rid):
            return True
        under_way = (
            rec.ordered_at is not None
            and rec.ordered_at <= act.at
            and (rec.told_at is None or act.at < rec.told_at)
        )
        return under_way and self.root_of(act.recording_id) == self.root_of(rec.rid)

    def due_at(self, rec: Rec, events: list[Event], *, by_truth: bool) -> datetime | None:
        """When the recording had to end, by the reported events. `by_truth`: a trigger ends what
        had really begun; otherwise what seems to have begun.
        """
        terms = self.terms(events)
        mine = sorted(
            (e for e in events if e.recording_id == rec.rid and e.kind in TELLS), key=lambda e: e.at
        )
        told_at = mine[0].at if mine else None
        figures = [e.started_at for e in mine if e.started_at]
        figure = figures[-1] if figures else told_at
        if len(set(figures)) > 1 or (figures and self.skew):
            # Whose figure counts, and whether one that lies in the future does, the contract does
            # not say: any may hold.
            figure = min(*figures, told_at) if by_truth else max(*figures, told_at)
        found = []
        for act in self.acts(events):
            if not act.ends or not self.is_about(act, rec):
                continue
            if rec.order:
                covered = rec.ordered_at is not None and rec.ordered_at <= act.at
                if told_at is None and not covered:
                    continue
            else:
                covered = (
                    (by_truth and rec.begun <= act.at)
                    or (figure is not None and figure <= act.at)
                    or (told_at is not None and told_at <= act.at + _SETTLE)
                )
            if covered:
                found.append(act.at)
        if figure is not None:
            found += self._deadlines(rec, terms, figure)
        return min(found, default=None)

    def _deadlines(self, rec: Rec, terms: Terms, figure: datetime) -> list[datetime]:
        found = []
        if terms.mode is Mode.ENFORCE:
            found += [figure + terms.max_duration] if terms.max_duration else []
            found += [daily.first_from(figure) for daily in terms.stop_at]
        asked = self.orders.get(rec.order) if rec.order else None
        if asked and asked.max_duration_s:
            found.append(figure + s(asked.max_duration_s))
        return found
