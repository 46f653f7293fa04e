"""One life: a call from its first ring to the last obligation about it, as a seed determines."""

from __future__ import annotations

import heapq
import traceback
from collections import Counter
from datetime import timedelta
from zoneinfo import ZoneInfo

from tests.model.judgement import Judgement
from tests.model.ours import Event, Kind
from tests.model.reading import policies
from tests.model.truth import Dial
from tests.model.world import A_LEG, T0, Violation, s

_DEEDS = [
    "start",
    "ask",
    "ask",
    "stop",
    "stop one",
    "pause",
    "pause",
    "resume",
    "failed",
    "card",
    "done",
    "xml",
    "labels",
    "announce",
    "transfer",
    "dial",
    "declare",
    "reload",
    "redirect",
    "room",
    "leg",
    "redial",
]
_BURST = ["pause", "resume", "ask", "stop", "card", "done", "failed"]


class Life(Judgement):
    def __init__(self, seed: int, *, trace: bool = False) -> None:
        super().__init__(seed, trace=trace)
        self.begun_at, self.died, self.alone_since = T0, 0, {}
        self.nobody, self.silent_until = self.rng.random() < 0.03, None
        self.begin()
        noon = (T0 + s(self.rng.choice([40, 120, 300]))).astimezone(ZoneInfo("Europe/Berlin"))
        self.rules, self.later_rules = policies(self.rng, noon)
        if self.rules.watches and self.rng.random() < 0.6:
            self.silent_until = T0 + s(70)  # nobody announces anything before the first survey
        self.trunk = self.rng.random() < 0.04

    # The script
    # --------------------------------------------------------------------------------------------

    def script(self) -> None:
        rng = self.rng
        if self.nobody:
            self.script_of_nobody()
            return
        length = rng.choice([60, 200, 400])
        if self.answered_at > T0:
            self.at(T0, self.rings)
            self.at(self.answered_at, self.picks_up)
        else:
            self.mail(
                {**self.base(), "Event": "StartApp"} | ({"TrunkID": "t1"} if self.trunk else {})
            )
        self.after(rng.uniform(5, 60), self.survey, 60)
        self.at(T0 + s(length), self.hang_up)
        if rng.random() < 0.8:
            self.at(self.answered_at + s(0.5), self.records)
        if self.trunk:
            self.at(self.answered_at + s(0.1), self.trunk_records)
        if rng.random() < 0.35:  # a short one early, as a voice menu makes it
            self.at(self.answered_at + s(1), self.records, rng.uniform(2, 10), rng.random() < 0.5)
        for _ in range(rng.randrange(1, 7)):
            self.at(T0 + s(rng.uniform(3, length - 1)), self.act, rng.choice(_DEEDS))
        if rng.random() < 0.15:  # a burst: everything within moments
            at = rng.uniform(5, length - 1)
            for what in rng.sample(_BURST, 4):
                self.at(T0 + s(at), self.act, what)
                at += rng.choice([0.001, 0.01, 0.3, 2])

    def script_of_nobody(self) -> None:
        """Plays orders for an id that was never a call. It may become one within moments."""
        rng = self.rng
        self.live, self.hung_up_at = False, T0
        for _ in range(rng.randrange(1, 4)):
            self.at(
                T0 + s(rng.uniform(0, 60)),
                rng.choice(
                    [
                        self.app_asks,
                        lambda: self.app(Kind.STOP_ORDERED),
                        lambda: self.app(Kind.PAUSE_ORDERED),
                    ]
                ),
            )

    def records(self, length: float | None = None, told: bool = True) -> None:
        if self.live:
            self.begins(xml=True, length=length, told=told)

    def trunk_records(self) -> None:
        self.begins(xml=True, told=False).kind = "trunk"

    def room_records(self) -> None:
        """Plays a conference's recording, which the vendor documents and advises against."""
        rec = self.begins(xml=True, told=False)
        rec.kind = "room"
        self.mail(
            {
                **self.base(),
                "ConferenceName": "room-1",
                "ConferenceUUID": "ab3d",
                "RecordingID": rec.rid,
                "RecordUrl": rec.address,
            }
        )

    def leg_records(self) -> None:
        """Plays a recording of a dialled leg. Its callbacks carry that leg's uuid, alone or with
        the A-leg's beside it.
        """
        self.begins(xml=True, length=self.rng.choice([None, 15]), leg=f"b{next(self.count)}")

    def base(self, leg: str = A_LEG) -> dict[str, str]:
        found = super().base(leg)
        if leg != A_LEG and int(leg[1:]) % 2:
            del found["ALegUUID"]
        return found

    def redials(self) -> None:
        """Plays a transfer whose dial fails, twice. The callbacks of both look the same."""
        if not self.live:
            return
        self.mail({**self.base(), "Event": "Transfer"}, forwarded=True)
        self.dials(connects=False, after=self.rng.uniform(1, 5))

    def told_of_dial(self, event: Event, dial: Dial) -> None:
        super().told_of_dial(event, dial)
        if event.kind is Kind.DIAL_ENDED and event.connected is False and not dial.connected:
            self.after(10, self.judge_redial, event)

    def act(self, what: str) -> None:
        if not self.live:
            return
        rng = self.rng
        running = [r for r in self.recs if r.runs]
        if what == "stop one":
            known = list(self.call().recordings)
            if known:
                self.app(Kind.STOP_ORDERED, recording_id=rng.choice(known))
        elif what == "announce":
            if running:
                rec = rng.choice(running)
                self.app(
                    Kind.RECORDING_ANNOUNCED,
                    recording_id=rec.rid,
                    url=rec.url,
                    started_at=rec.begun + s(rng.uniform(-0.2, 0.2)),
                )
        elif what in ("xml", "room", "leg") and not self.lives():
            return  # nothing records while it rings
        elif what == "redial":
            self.redials()
            if rng.random() < 0.7:
                self.after(rng.uniform(20, 60), self.redials)
        elif what == "room":
            if rng.random() < 0.3:
                self.room_records()
            else:
                self.mail(
                    {
                        **self.base(),
                        "Event": "ConferenceEnter",
                        "ConferenceName": "room-2",
                        "ConferenceUUID": "ab3e",
                        "ConferenceMemberID": "7",
                        "ConferenceFirstMember": rng.choice(["true", "false", "false"]),
                    }
                )
        else:
            self.simple_deeds()[what]()

    def simple_deeds(self) -> dict:
        return {
            "start": self.app_starts,
            "ask": self.app_asks,
            "stop": lambda: self.app(Kind.STOP_ORDERED),
            "pause": self.app_pauses_and_resumes,
            "resume": self.app_resumes,
            "failed": lambda: self.app(Kind.HANDOFF_FAILED),
            "card": lambda: self.app(Kind.CUSTOM_REPORTED, trigger="custom.card"),
            "done": lambda: self.app(Kind.CUSTOM_REPORTED, trigger="custom.done"),
            "xml": lambda: self.records(self.rng.choice([None, 15])),
            "leg": self.leg_records,
            "labels": lambda: self.app(Kind.CALL_ANNOUNCED, labels={"team": "card"}),
            "transfer": lambda: self.mail(
                {**self.base(), "Event": "Transfer"}, forwarded=self.rng.random() < 0.5
            ),
            "redirect": lambda: self.mail({**self.base(), "Event": "Redirect"}, forwarded=True),
            "dial": self.transfers,
            "declare": self.declares,
            "reload": self.reload,
        }

    # Living it
    # --------------------------------------------------------------------------------------------

    def dies_at_work(self, work) -> None:
        self.died += len(work.plan.sends)
        super().dies_at_work(work)

    def run(self) -> list[tuple[str, str]]:
        """Plays the life. Returns its violations, each as its class and a sentence."""
        self.script()
        try:
            self.goes_on()
        except Violation as found:
            kinds = Counter(e.kind.value for e in self.log.values())
            self.violation(
                str(found),
                f"{len(self.log)} events, {kinds.most_common(3)}, steps "
                f"{self.steps.most_common(1)}",
            )
        except Exception:
            self.violation("F:error", traceback.format_exc(limit=-4))
        else:
            self.judge_life()
        return self.found

    def goes_on(self) -> None:
        limit = T0 + timedelta(days=45)
        while True:
            work = self.next_work()
            heap_at = self.heap[0][0] if self.heap else None
            if work is None and heap_at is None:
                return
            if work is None or (heap_at is not None and heap_at <= work[0]):
                at, _, does, args = heapq.heappop(self.heap)
                self.now = max(self.now, at)
                does(*args)
                continue
            self.now = max(self.now, work[0])
            if self.now > limit:
                self.violation(
                    "E:log", f"still at work after 45 days: {work[1]}, {len(self.log)} events"
                )
                return
            self.work(work[1])
