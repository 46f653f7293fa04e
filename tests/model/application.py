"""The application that drives the call: its starts, stops, pauses, hand-offs and transfers, and our
answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tests.model.ours import Event, Kind, acts, decided, is_paused, send_by, verdict
from tests.model.reading import Reading
from tests.model.truth import Dial, Provider, Rec
from tests.model.world import A_LEG, s

# The web process waits so much longer where all is proven, and the one stop for all has not left
# yet.
_STOP_LEAVES = s(1)


@dataclass
class Ask:
    """A hand-off request that waits for its answer."""

    order: str
    until: datetime
    again: int
    done: bool = False
    answer: Event | None = None
    proven_at: datetime | None = None


class Application(Reading, Provider):
    def begin(self) -> None:
        super().begin()
        self.asks: dict[str, Ask] = {}
        self.orders: dict[str, Event] = {}  # START_ORDERED of each order

    def app(self, kind: Kind, **facts: object) -> Event:
        event = Event(id=f"order.{next(self.count)}", kind=kind, call_uuid=A_LEG, by="api", **facts)
        self.say("APP", kind.value, facts)
        self.record(event)
        return self.log[event.id]

    # Starts
    # --------------------------------------------------------------------------------------------

    def app_starts(self) -> None:
        order = f"s{next(self.count)}"
        self.say("APP start", order)
        self.record(
            Event(
                id=f"start.{order}",
                kind=Kind.START_ORDERED,
                call_uuid=A_LEG,
                order=order,
                max_duration_s=self.rng.choice([None, 30.0, 600.0]),
                by="api",
            )
        )
        self.after(10, self.app_gives_up, order)

    def app_gives_up(self, order: str) -> None:
        start = self.call().starts[order]
        if not start.recording_id and not start.outcome:
            self.record(
                Event(
                    id=f"sent.{order}.{len(start.errors)}",
                    kind=Kind.START_FAILED,
                    call_uuid=A_LEG,
                    order=order,
                    reason="it could not be sent in time",
                )
            )

    def stored(self, event: Event) -> None:
        super().stored(event)
        if event.kind is Kind.START_ORDERED:
            self.orders[event.order] = event

    # Hand-offs
    # --------------------------------------------------------------------------------------------

    def app_asks(self, *, again: int = 0) -> None:
        order, wait = f"h{next(self.count)}", self.rng.choice([0.0, 3.0, 3.0, 10.0])
        body = {"aleg_url": "https://app/x"} if self.rng.random() < 0.3 else None
        kind = self.rng.choice(["transfer", "transfer.blind"])
        self.say("APP asks", order, kind, wait, body)
        self.asks[order] = Ask(order=order, until=self.now + s(wait), again=again)
        self.record(
            Event(
                id=f"asked.{order}",
                kind=Kind.HANDOFF_ASKED,
                call_uuid=A_LEG,
                order=order,
                trigger=kind,
                wait_s=wait,
                body=body,
                by="api",
            )
        )
        until = self.asks[order].until
        if body is not None:
            call = self.call()
            until = max(
                until,
                send_by(call.handoffs[order], verdict(call, self.rules, call.handoffs[order])),
            )
        self.at(until + s(0.001), self.web_at_the_end, order)

    def news(self) -> None:
        for ask in list(self.asks.values()):
            if not ask.done and f"asked.{ask.order}" in self.log:
                self.web_looks(ask)

    def web_looks(self, ask: Ask) -> None:
        call = self.call()
        handoff = call.handoffs[ask.order]
        if handoff.decided is not None:
            self.answered(ask, handoff.decided)
            return
        found = verdict(call, self.rules, handoff)
        if found.go is not None and not (found.go and handoff.asked.body):
            self.web_decides(ask)

    def web_at_the_end(self, order: str) -> None:
        ask, call = self.asks[order], self.call()
        if ask.done:
            return
        found = verdict(call, self.rules, call.handoffs[order])
        if (
            found.go is None
            and found.proven
            and not call.handoffs[order].asked.body
            and self.now < ask.until + _STOP_LEAVES
        ):
            self.at(ask.until + _STOP_LEAVES, self.web_at_the_end, order)
        else:
            self.web_decides(ask)

    def web_decides(self, ask: Ask) -> None:
        call = self.call()
        handoff = call.handoffs[ask.order]
        found = verdict(call, self.rules, handoff)
        self.record(
            decided(
                call,
                handoff,
                found,
                go=found.at_the_end if found.go is None else found.go,
                by="api",
            )
        )

    def answered(self, ask: Ask, said: Event) -> None:
        ask.done, ask.answer = True, said
        self.say("ANSWER", ask.order, said.verdict, said.proven, said.evidence, said.reason)
        self.judge_answer(ask, said)
        if said.verdict == "hold" and ask.again < 2 and self.live and not self.nobody:
            self.after(self.rng.uniform(1, 20), self.app_asks_again, ask.again + 1)
        if said.verdict == "go" and self.live:
            self.after(self.rng.uniform(0.1, 3), self.transfers)

    def app_asks_again(self, again: int) -> None:
        if self.live:
            self.app_asks(again=again)

    # The transfer itself
    # --------------------------------------------------------------------------------------------

    def transfers(self) -> None:
        if not self.live:
            return
        rng = self.rng
        self.say("APP transfers")
        if rng.random() < 0.3:
            self.mail({**self.base(), "Event": "Transfer"}, forwarded=True)
        else:
            self.dials(connects=rng.random() < 0.6)

    def dials(self, *, connects: bool, after: float | None = None) -> Dial:
        """One or two legs ring. One is connected and the other loses the race, or none is."""
        rng = self.rng
        legs = [f"b{next(self.count)}" for _ in range(rng.choice([1, 1, 2]))]
        dial, rang = (
            Dial(legs=legs, connected=connects),
            after if after is not None else rng.uniform(1, 30),
        )
        told = {"CallUUID": A_LEG, "DialALegUUID": A_LEG}
        if (
            self.dialled and self.dialled[-1].connected
        ):  # one dial after the other: the one before is over
            before = self.dialled[-1]
            self.mail_of_dial(
                before,
                {
                    **told,
                    "Event": "DialHangup",
                    "DialAction": "hangup",
                    "DialBLegUUID": before.legs[0],
                    "DialBLegDuration": "12",
                },
            )
        self.dialled.append(dial)
        self.legs_ring(legs)
        for i, leg in enumerate(legs):
            mine = {**told, "DialBLegUUID": leg}
            if connects and i == 0:
                self.after(
                    rang,
                    self.mail_of_dial,
                    dial,
                    {**mine, "Event": "DialAnswer", "DialAction": "answer"},
                )
                self.after(
                    rang + 0.1,
                    self.mail_of_dial,
                    dial,
                    {**mine, "Event": "DialConnected", "DialAction": "connected"},
                )
                continue
            lost = connects and rng.random() < 0.6
            cause = (
                {"DialBLegHangupCause": "LOSE_RACE", "DialBLegHangupCauseCode": "9000"}
                if lost
                else {"DialBLegHangupCause": "NO_ANSWER"}
            )
            self.after(
                rang + rng.choice([-0.2, 0, 0.2, 0.5]),
                self.mail_of_dial,
                dial,
                {
                    **mine,
                    "Event": "DialHangup",
                    "DialAction": "hangup",
                    "DialBLegDuration": "0",
                    **cause,
                },
            )
        if not connects and rng.random() < 0.6:
            # The whole dial: no leg is named, so a second one that fails looks just like the first.
            self.after(
                rang + 0.3,
                self.mail_of_dial,
                dial,
                {
                    **told,
                    "Event": "DialAction",
                    "DialStatus": rng.choice(["busy", "no-answer"]),
                    "DialRingStatus": "true",
                    "DialBLegUUID": "",
                },
            )
        return dial

    def mail_of_dial(self, dial: Dial, fields: dict[str, str]) -> None:
        if self.live:
            self.mail(fields, forwarded=self.signs == 1 and self.rng.random() < 0.1, dial=dial)

    def legs_ring(self, legs: Sequence[str]) -> None:
        """Callbacks with a dialled leg's own uuid: with the A-leg's uuid beside it, or as a call of
        its own in our ledger.
        """
        for leg in legs:
            if self.rng.random() < 0.25:
                fields = {**self.base(leg), "Event": "Ring", "CallStatus": "ringing"}
                if self.rng.random() < 0.5:
                    fields.pop("ALegUUID", None)
                self.mail(fields)
                hang_up = {k: v for k, v in fields.items() if k != "CallStatus"} | {
                    "Event": "Hangup",
                    "HangupCause": "NORMAL_CLEARING",
                }
                self.after(self.rng.uniform(1, 60), self.mail, hang_up)

    # Pauses
    # --------------------------------------------------------------------------------------------

    def app_resumes(self) -> Event | None:
        """Resumes. Returns None when the answer is 409: nothing is paused."""
        call = self.call()
        if not is_paused(call, acts(call, self.rules)):
            self.say("APP resumes: 409")
            return None
        return self.app(Kind.RESUME_ORDERED)

    def app_pauses_and_resumes(self) -> None:
        running = [r for r in self.recs if r.runs and r.told_at and r.told_at < self.now - s(1)]
        if any(
            (due := self.due_at(r, self.events(), by_truth=True)) and due <= self.now
            for r in running
        ):
            running = []  # they are to end anyway, perhaps for good
        acts_before = len(self.acts(self.events()))
        pause = self.app(Kind.PAUSE_ORDERED)

        def resume() -> None:
            if not self.live:
                return
            quiet = len(self.acts(self.events())) == acts_before + 1
            begun = [r for r in self.recs if r.begun > pause.at]
            event = self.app_resumes()
            if running and quiet and not begun and all(r.how == "stop" for r in running):
                self.after(10, self.judge_resume, event, running)

        self.after(self.rng.choice([0.002, 0.5, 5, 20, 40]), resume)

    def declares(self) -> None:
        running: list[Rec] = [r for r in self.recs if r.runs]
        if not running and not any(k[0] == "stop" for k in self.held):
            self.app(Kind.NOTHING_DECLARED)
