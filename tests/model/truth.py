"""The truth at the provider, whoever was told of it: which recordings run, which legs ring, how it
answers.

Its habits differ from life to life, because its documentation leaves them open: the effect of a
DELETE with a URL, the answer to a DELETE while the call rings, whether a 404 can be trusted, how
late and how often callbacks come.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import urlencode

from tests.model.ours import Event, Kind, callbacks, to_ms
from tests.model.world import A_LEG, ACCOUNT, TELLS, World, s, since_start


@dataclass
class Rec:
    rid: str
    url: str | None  # as callbacks tell it; None where none does
    begun: datetime
    xml: bool
    kind: str = ""  # trunk, room: no DELETE for the call ends it
    leg: str = A_LEG  # whose uuid its callbacks carry
    order: str | None = None  # ours: the order that started it
    ordered_at: datetime | None = None  # when that counts as begun: at its trigger
    ended: datetime | None = None
    row: tuple[datetime, datetime] | None = None  # begin and end as the provider writes them down
    how: str = ""
    lists_at: datetime | None = None  # from when on the list shows it; None: there is no file
    told_at: datetime | None = None
    deleted: list[datetime] = field(default_factory=list)  # DELETEs that were sent for it
    named: int = 0  # how many of them named it

    @property
    def runs(self) -> bool:
        return self.ended is None

    @property
    def address(self) -> str:
        return f"https://media.vobiz.ai/v1/Account/{ACCOUNT}/Recording/{self.rid}.mp3"


@dataclass
class Dial:
    """One dial of the call, and whether any of its legs was connected. `told_at`, `end_told_at`:
    when callbacks said so."""

    legs: list[str]
    connected: bool
    told_at: datetime | None = None
    end_told_at: datetime | None = None


class Provider(World):
    def begin(self) -> None:
        """Draws the habits of this life's provider."""
        rng = self.rng
        self.recs: list[Rec] = []
        self.dial_of: dict[str, Dial] = {}  # by the id of the event that told of its end
        self.dialled: list[Dial] = []
        self.live, self.hung_up_at = True, None
        self.skew = s(rng.choice([0, 0, 0, 0.2, -0.2, 3, -3]))
        self.loss = rng.choice([0, 0, 0.1, 0.3])
        self.start_loss = rng.choice([0, 0, 0, 0.3])
        self.double = rng.choice([0, 0.3])
        self.slow = rng.choice([0, 0, 0.2])
        self.signs = rng.choice(
            [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0.5]
        )  # the share of its callbacks that it signs
        self.deaf_until = self.now + s(rng.choice([0, 0, 0, 0, 60, 200]))
        self.fails = rng.choice([0, 0, 0.1, 0.4])
        self.start_fails = rng.choice([0, 0, 0.4])
        self.lag = rng.choice([1, 30, 120])
        self.tail = rng.choice([0, 0, 0, 0, 2, 8])  # what is accepted takes so long to end
        self.shows_running = rng.random() < 0.2
        self.tells_url = rng.random() < 0.85
        self.by_url = rng.choice(
            [
                "ends it",
                "ends it",
                "ends it",
                "ends it",
                "ends all",
                "does nothing",
                "is answered 404",
            ]
        )
        self.answered_at = self.now + s(
            rng.choice([0, 0, 0, 0, 0, 8, 25])
        )  # it rings until then: every request is a 404
        self.lies = rng.choice(
            [0, 0, 0, 0, 0, 0.1, 0.4]
        )  # how often it answers 404 for a call or recording that lives
        self.lied_at: list[datetime] = []  # such answers, and those that came while it rang
        self.signs_trunk = True

    def lives(self) -> bool:
        """Whether the API knows the call as live."""
        return self.live and self.now >= self.answered_at

    # Callbacks
    # --------------------------------------------------------------------------------------------

    def base(self, leg: str = A_LEG) -> dict[str, str]:
        return {
            "CallUUID": leg,
            "From": "918065550101",
            "To": "919820055512",
            "Direction": "outbound",
            "CallStatus": "in-progress",
            "ALegUUID": A_LEG,
        }

    def mail(
        self,
        fields: dict[str, str],
        *,
        order: str | None = None,
        loss: float | None = None,
        forwarded: bool = False,
        dial: Dial | None = None,
    ) -> None:
        rng = self.rng
        if self.silent_until and self.now < self.silent_until:
            return
        if rng.random() < (self.loss if loss is None else loss):
            return
        for _ in range(2 if rng.random() < self.double else 1):
            delay = rng.uniform(0.02, 0.6) if rng.random() >= self.slow else rng.uniform(1, 40)
            signed = rng.random() < self.signs and not forwarded
            self.after(delay, self.deliver, fields, order, signed, forwarded, dial)

    def deliver(
        self,
        fields: dict[str, str],
        order: str | None,
        signed: bool,
        forwarded: bool,
        dial: Dial | None,
    ) -> None:
        said = callbacks.read(
            body=urlencode(fields).encode(),
            content_type="application/x-www-form-urlencoded",
            query="",
        )
        event = callbacks.parse(said.fields)
        if event is None:
            return
        mark = "" if signed else ".f" if forwarded else ".u"
        event = replace(
            event, id=event.id + mark, signed=signed, order=order if event.recording_id else None
        )
        new = self.record(event)
        if new and new.kind is Kind.CONFERENCE_ENTERED and new.first is False:
            # Somebody was in the room already, so two calls are joined.
            self.record(
                Event(
                    id=f"join:{new.id}",
                    kind=Kind.CONFERENCE_JOINED,
                    call_uuid=new.call_uuid,
                    signed=new.signed,
                    reason=new.room,
                )
            )
        if new and dial:
            self.told_of_dial(new, dial)

    def told_of_dial(self, event: Event, dial: Dial) -> None:
        if event.kind is Kind.DIAL_ENDED:
            self.dial_of[event.id] = dial
            if dial.connected and event.connected:
                dial.end_told_at = event.at
        else:
            dial.told_at = dial.told_at or event.at

    # Recordings
    # --------------------------------------------------------------------------------------------

    def begins(
        self,
        *,
        xml: bool,
        order: str | None = None,
        length: float | None = None,
        told: bool = True,
        leg: str = A_LEG,
    ) -> Rec:
        rid = f"r{len(self.recs)}-{self.rng.randrange(10**6):06d}"
        o = self.orders[order] if order else None
        rec = Rec(
            rid=rid,
            url=None,
            begun=self.now,
            xml=xml,
            leg=leg,
            order=order,
            ordered_at=(o.due_at or o.at) if o else None,
        )
        rec.url = rec.address if self.tells_url else None
        self.recs.append(rec)
        self.say(
            "PROVIDER begins", rid, "xml" if xml else "rest", f"on {leg}" if leg != A_LEG else ""
        )
        if xml and told:
            unknown = dict.fromkeys(
                ("RecordingDuration", "RecordingDurationMs", "RecordingStartMs", "RecordingEndMs"),
                "-1",
            )
            fields = {
                **self.base(leg),
                "Event": "Record",
                "RecordingID": rid,
                **unknown,
                **({"RecordUrl": rec.url} if rec.url else {}),
            }
            self.mail(fields, loss=max(self.loss, self.start_loss))
        if length is not None:
            self.after(length, self.ends, rec, "itself")
        return rec

    def ends(self, rec: Rec, how: str) -> None:
        if not rec.runs:
            return
        rng = self.rng
        rec.ended, rec.how = self.now, how
        self.say("PROVIDER ends", rec.rid, how)
        rec.lists_at = None if rng.random() < 0.03 else self.now + s(rng.uniform(0, self.lag))
        if rec.lists_at is None:
            return
        begun, ended = (
            rec.begun + self.skew,
            rec.ended + self.skew - s(rng.choice([0, 0, 0.05, 0.3])),
        )
        rec.row = (begun, max(begun + s(0.1), ended))
        self._tell_end(rec, how)

    def _tell_end(self, rec: Rec, how: str) -> None:
        begun, ended = rec.row
        facts = {
            "duration_ms": f"{(ended - begun).total_seconds() * 1000:.5f}",
            "start_ms": str(to_ms(begun)),
            "end_ms": str(to_ms(ended)),
        }
        snake = {f"recording_{name}": value for name, value in facts.items()}
        if rec.kind == "trunk":
            self.mail(
                {
                    "event": "recording.completed",
                    "call_uuid": A_LEG,
                    "recording_id": rec.rid,
                    "recording_url": rec.address,
                    "TrunkID": "t1",
                    **snake,
                }
            )
        elif rec.xml:
            leg = {"CallUUID": "b-leg-1"} if rec.leg == A_LEG and self.rng.random() < 0.05 else {}
            self.mail(
                {
                    **self.base(rec.leg),
                    **leg,
                    "Event": "RecordStop",
                    "RecordingID": rec.rid,
                    "RecordUrl": rec.address,
                    "RecordingDurationMs": facts["duration_ms"],
                    "RecordingStartMs": facts["start_ms"],
                    "RecordingEndMs": facts["end_ms"],
                    "RecordingEndReason": "HungUp" if how == "hangup" else "maxLength",
                }
            )
        else:
            self.mail(
                {
                    "api_id": "7e1a",
                    "record_url": rec.address,
                    "call_uuid": A_LEG,
                    "recording_id": rec.rid,
                    "recording_duration": "1",
                    **snake,
                },
                order=rec.order,
            )

    def rows(self, leg: str = A_LEG) -> list[Event]:
        """The rows of the call in its list."""
        found = []
        for rec in self.recs:
            if leg != A_LEG:
                continue  # it files all under the A-leg
            event = Event(
                id="",
                kind=Kind.RECORDING_LISTED,
                call_uuid=A_LEG,
                recording_id=rec.rid,
                url=rec.address,
                format="mp3",
                room="conference" if rec.kind == "room" else None,
                trunk=True if rec.kind == "trunk" else None,
            )
            if rec.lists_at and rec.lists_at <= self.now:
                begun, ended = rec.row
                found.append(
                    replace(
                        event,
                        id=f"listed.end.{rec.rid}",
                        started_at=begun,
                        ended_at=ended,
                        duration_s=(ended - begun).total_seconds(),
                        added_at=ended,
                    )
                )
            elif rec.runs and self.shows_running:
                found.append(
                    replace(event, id=f"listed.row.{rec.rid}", started_at=rec.begun + self.skew)
                )
        return found

    def stored(self, event: Event) -> None:
        if event.recording_id and event.kind in TELLS:
            for rec in self.recs:
                if (
                    rec.rid == event.recording_id
                    and rec.told_at is None
                    and event.call_uuid == A_LEG
                ):
                    rec.told_at = event.at

    # The call
    # --------------------------------------------------------------------------------------------

    def rings(self) -> None:
        self.mail({**self.base(), "Event": "Ring", "CallStatus": "ringing"})

    def picks_up(self) -> None:
        if self.live:
            self.say("PROVIDER picks up")
            if self.rng.random() < 0.7:
                self.mail({**self.base(), "Event": "StartApp"})

    def hang_up(self) -> None:
        if not self.live:
            return
        self.live, self.hung_up_at = False, self.now
        self.say("PROVIDER hang-up")
        for rec in self.recs:
            if rec.kind == "room":
                self.after(30, self.ends, rec, "itself")  # the others stay in the room
            else:
                self.ends(rec, "hangup")
        self.mail(
            {
                **self.base(),
                "Event": "Hangup",
                "CallStatus": "completed",
                "HangupCause": "NORMAL_CLEARING",
            }
        )

    # What it answers
    # --------------------------------------------------------------------------------------------

    def lied(self, what: str) -> None:
        self.lied_at.append(self.now)
        self.say("PROVIDER", what)

    def answers_delete(self, leg: str, url: str | None) -> tuple[Kind, float, int | None, bool]:
        """The answer to a DELETE: after how long, with which status, and whether it takes
        effect.
        """
        rng = self.rng
        quick = rng.uniform(0.01, 0.2)
        if leg != A_LEG:
            return (
                (Kind.STOP_ACCEPTED if self.lives() else Kind.CALL_FOUND_OVER),
                quick,
                None,
                self.lives(),
            )
        if not self.lives():
            if self.live:
                self.lied("rings, and answers 404")
            return Kind.CALL_FOUND_OVER, quick, None, False
        if url is not None and self.by_url == "is answered 404":
            return Kind.CALL_FOUND_OVER, quick, None, False
        if rng.random() < self.fails:
            return (
                Kind.STOP_ERRED,
                *rng.choice(
                    [(3.0, None, True), (3.0, None, False), (0.05, 500, False), (0.05, 429, False)]
                ),
            )
        if (
            url is not None
            and not any(r.runs and r.address == url for r in self.recs)
            and rng.random() < 0.5
        ):
            return (
                Kind.CALL_FOUND_OVER,
                quick,
                None,
                False,
            )  # that recording is over, the call is not
        if rng.random() < self.lies:
            if url is None:
                self.lied("answers 404 for a call that lives")
            return Kind.CALL_FOUND_OVER, quick, None, False
        return Kind.STOP_ACCEPTED, quick, None, url is None or self.by_url != "does nothing"

    def hit_by_delete(self, leg: str, url: str | None) -> list[Rec]:
        """The recordings that a DELETE ends when it takes effect now."""
        if self.now < self.deaf_until:
            return []
        return [
            r
            for r in self.recs
            if r.runs
            and not r.kind
            and r.leg == leg
            and (url is None or self.by_url == "ends all" or r.address == url)
        ]

    def is_seen_live(self) -> bool:
        """Whether a request about the live call finds it."""
        if not self.lives():
            if self.live:
                self.lied("rings, and is not found live")
            return False
        if self.rng.random() < self.lies:
            self.lied("does not find a call that lives")
            return False
        return True

    def deceived_at(self, begun: datetime) -> datetime | None:
        """When the last 404 for the call came although the call lived and a recording had begun
        before it.
        """
        lies = [at for at in self.lied_at if at >= begun]
        return lies[-1] if lies else None

    def told(self, rec: Rec) -> str:
        told = since_start(rec.told_at) if rec.told_at else "never"
        return f"{rec.rid} (began {since_start(rec.begun)}, told {told})"
