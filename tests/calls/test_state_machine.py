"""A state machine over the pure lifecycle: a simulated provider, a ledger in memory, and workers
that die anywhere.

The same outside events in any order, repeated or lost, with a crash at any point, end in the same
place; no duty is ever lost; the ledger never ends a recording twice; what may go out once goes out
once; nothing is told as proven that is not; whoever asks for an end gets a request, and whoever
resumes gets a recording, once, unless something came after. `tests/model` plays longer lives
against a provider with more manners; this machine shrinks what it finds.
"""

import itertools
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from worker.calls import planner, stop_state
from worker.calls.call import Phase, StopState
from worker.calls.events import Event, Kind
from worker.calls.handoffs import verdict
from worker.calls.replay import replay
from worker.calls.rules import Action, Mode, Rules, Terms
from worker.calls.timing import DECLARED_WITHIN, KEPT_BY_PROVIDER, RESUME_WITHIN
from worker.ledger.recording import REPEAT_AFTER, may_happen_again

T0 = datetime(2026, 9, 14, 6, 30, tzinfo=UTC)
TERMS = Terms(
    max_duration=timedelta(seconds=10),
    confirm_within=timedelta(seconds=2),
    stop_tries=3,
    on={"transfer": Action.STOP, "transfer.failed": Action.RESUME},
)
PROVEN = {StopState.CONFIRMED, StopState.ALREADY_OVER}
ORDERS = {Kind.STOP_ORDERED, Kind.PAUSE_ORDERED}
TELLS = {
    Kind.RECORDING_STARTED,
    Kind.RECORDING_FINALIZED,
    Kind.RECORDING_LISTED,
    Kind.START_ACCEPTED,
}
ANSWERED_WITHIN = timedelta(seconds=5)


def s(seconds):
    return timedelta(seconds=seconds)


@dataclass
class Rec:
    """What is true of a recording. `ordered_at`: of one of ours, its trigger."""

    name: str
    began: datetime
    order: str | None = None
    ordered_at: datetime | None = None
    trunk: bool = False
    ended: datetime | None = None
    listed: bool = True

    @property
    def runs(self):
        return self.ended is None

    @property
    def counts_from(self):
        return self.ordered_at or self.began


class Provider:
    """What is true at the other end, whatever we were told."""

    def __init__(self):
        self.recs: dict[str, Rec] = {}
        self.call_over: datetime | None = None
        self.writes_earlier = timedelta(
            0
        )  # so much earlier than it took place it writes an end down

    def begin(self, now, **facts):
        rec = Rec(name=f"r{len(self.recs)}", began=now, **facts)
        self.recs[rec.name] = rec
        return rec

    def running(self):
        return [r for r in self.recs.values() if r.runs]

    def end_callback(self, rec):
        ended = max(rec.began, rec.ended - self.writes_earlier)
        return Event(
            id=f"end.{rec.name}",
            kind=Kind.RECORDING_FINALIZED,
            call_uuid="c",
            signed=True,
            recording_id=rec.name,
            order=rec.order,
            url=f"u/{rec.name}",
            started_at=rec.began,
            ended_at=ended,
            duration_s=max(0.5, (ended - rec.began).total_seconds()),
        )


class Life(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now, self.provider = T0, Provider()
        self.log: dict[str, Event] = {}  # the ledger: an event by its id, once
        self.dues: dict[tuple[str, str], datetime] = {}
        self.mail: list[Event] = []  # callbacks on their way
        self.under_way: list[
            tuple[datetime, Event]
        ] = []  # starts whose answer has not come: since when, and what it will be
        self.numbers = itertools.count()
        self.fence, self.rules = 0, Rules()
        self.deaf = self.silent = self.rejects = self.refuses = False
        self.sent: list[
            tuple[str, str]
        ] = []  # what went out that may go out once: starts and transfers by their order
        self.requests: list[tuple[datetime, str | None, tuple[str, ...]]] = []

    # The ledger: recording an event and making its call due is one step; so is a commit.

    def write(self, event):
        """The event as it stands; None for a repeat."""
        like = [
            e.at for i, e in self.log.items() if i == event.id or i.startswith(f"{event.id}.again")
        ]
        if like and not (may_happen_again(event) and self.now - max(like) >= REPEAT_AFTER):
            return None
        event = replace(event, id=f"{event.id}.again{len(like)}" if like else event.id, at=self.now)
        self.log[event.id] = event
        self.dues[("stop", "")] = min(self.now, self.dues.get(("stop", ""), self.now))
        return event

    def order(self, kind, **facts):
        return self.write(
            Event(id=f"{kind}.{next(self.numbers)}", kind=kind, call_uuid="c", **facts)
        )

    def call(self):
        return replay("MA_1", "c", self.log.values())

    @initialize(
        bounded=st.booleans(),
        known_by=st.sampled_from(["its start", "its start", "a survey", "an announcement"]),
        earlier_ms=st.sampled_from([0, 50]),
    )
    def the_call_begins(self, bounded, known_by, earlier_ms):
        watched, self.provider.writes_earlier = (
            known_by == "a survey",
            timedelta(milliseconds=earlier_ms),
        )
        self.rules = Rules(
            defaults=replace(
                TERMS,
                max_duration=TERMS.max_duration if bounded or watched else None,
                watch=watched,
            )
        )
        if known_by == "its start":
            self.write(
                Event(id="seen", kind=Kind.CALL_SEEN, call_uuid="c", signed=True, to_number="91")
            )
        elif known_by == "a survey":
            older = self.provider.begin(self.now - s(30))  # nobody announced anything
            older.ended = self.now - s(20)
            self.provider.begin(self.now - s(10))
            self.write(Event(id="found-live", kind=Kind.CALL_FOUND_LIVE, call_uuid="c"))
        else:
            rec = self.provider.begin(self.now, listed=False)
            self.write(
                Event(
                    id="announced",
                    kind=Kind.RECORDING_ANNOUNCED,
                    call_uuid="c",
                    recording_id=rec.name,
                    url=f"u/{rec.name}",
                )
            )

    # Outside

    @rule(told=st.sampled_from(["now", "now", "later", "never"]))
    def a_recording_starts(self, told):
        if self.provider.call_over is None:
            self.begins(told)

    def begins(self, told="now"):
        rec = self.provider.begin(self.now)
        start = Event(
            id=f"start.{rec.name}",
            kind=Kind.RECORDING_STARTED,
            call_uuid="c",
            signed=True,
            recording_id=rec.name,
            url=f"u/{rec.name}",
        )
        if told == "now":
            self.write(start)
        elif told == "later":
            self.mail.append(start)
        return rec

    @rule()
    def the_trunk_records(self):
        if self.provider.call_over is None and not any(
            r.trunk for r in self.provider.recs.values()
        ):
            self.provider.begin(self.now, trunk=True)
            self.write(
                Event(id="trunk", kind=Kind.CALL_SEEN, call_uuid="c", signed=True, trunk=True)
            )

    @rule(data=st.data(), told=st.booleans(), listed=st.sampled_from([True, True, False]))
    def a_recording_ends_by_itself(self, data, told, listed):
        running = [r for r in self.provider.running() if not r.trunk]
        if running:
            rec = data.draw(st.sampled_from(running))
            rec.ended, rec.listed = self.now, listed or told
            if told:
                self.mail.append(self.provider.end_callback(rec))

    @rule(told=st.booleans())
    def somebody_hangs_up(self, told):
        ended = self.hang_up()
        if told:
            self.mail += [
                *map(self.provider.end_callback, ended),
                Event(id="hangup", kind=Kind.CALL_ENDED, call_uuid="c", signed=True),
            ]

    def hang_up(self):
        self.provider.call_over = self.provider.call_over or self.now
        ended = self.provider.running()
        for rec in ended:
            rec.ended = self.now
        return ended

    @rule()
    def somebody_claims_a_hang_up(self):
        self.write(Event(id="hangup.u", kind=Kind.CALL_ENDED, call_uuid="c"))

    @rule()
    def the_call_is_transferred(self):
        self.order(Kind.CALL_TRANSFERRED, signed=True)

    @rule(
        kind=st.sampled_from(
            [Kind.PAUSE_ORDERED, Kind.RESUME_ORDERED, Kind.HANDOFF_FAILED, Kind.STOP_ORDERED]
        )
    )
    def somebody_orders(self, kind):
        self.order(kind)

    @rule(data=st.data())
    def somebody_stops_one(self, data):
        known = sorted(self.call().recordings)
        if known:
            self.order(Kind.STOP_ORDERED, recording_id=data.draw(st.sampled_from(known)))

    @rule()
    def somebody_orders_a_start(self):
        number = next(self.numbers)
        self.write(
            Event(id=f"start.o{number}", kind=Kind.START_ORDERED, call_uuid="c", order=f"o{number}")
        )

    @rule()
    def the_application_says_that_nothing_is_recorded(self):
        if not self.provider.running() and not self.under_way:
            self.order(Kind.NOTHING_DECLARED)

    @rule(wait_s=st.sampled_from([0.05, 3, 30]), body=st.sampled_from([None, {"to": "x"}]))
    def somebody_is_about_to_transfer(self, wait_s, body):
        number = next(self.numbers)
        self.write(
            Event(
                id=f"asked.{number}",
                kind=Kind.HANDOFF_ASKED,
                call_uuid="c",
                order=f"h{number}",
                trigger="transfer.blind",
                wait_s=wait_s,
                body=body,
            )
        )

    @rule()
    def the_web_answers(self):
        """At once where it is proven, with hold at the end of the wait."""
        for handoff in self.call().handoffs.values():
            found = verdict(self.call(), self.rules, handoff)
            goes = found.go and not handoff.asked.body
            if not handoff.decided and (goes or self.now >= handoff.until):
                self.write(
                    Event(
                        id=f"decided.{handoff.asked.order}",
                        kind=Kind.HANDOFF_DECIDED,
                        call_uuid="c",
                        order=handoff.asked.order,
                        verdict="go" if goes else "hold",
                        by="api",
                    )
                )

    @rule(answers=st.sampled_from(["yes", "nothing", "no"]))
    def the_provider_answers_orders_otherwise(self, answers):
        self.silent, self.rejects = answers == "nothing", answers == "no"

    @rule()
    def a_survey_reads_the_list(self):
        for event in self.rows():
            self.write(event)

    @rule(deaf=st.booleans(), refuses=st.sampled_from([False, False, True]))
    def the_provider_stops_obeying_or_obeys_again(self, deaf, refuses):
        self.deaf, self.refuses = deaf, refuses

    @rule(data=st.data(), again=st.booleans())
    def a_callback_arrives_in_any_order_and_perhaps_twice(self, data, again):
        if self.mail:
            event = self.mail.pop(data.draw(st.integers(0, len(self.mail) - 1)))
            self.write(event)
            if again:
                self.mail.append(event)

    @rule(data=st.data())
    def a_callback_is_lost(self, data):
        if self.mail:
            self.mail.pop(data.draw(st.integers(0, len(self.mail) - 1)))

    @rule(seconds=st.sampled_from([0.1, 1, 2.1, 4, 4, 7, 61, 4000]))
    def time_passes(self, seconds):
        self.now += s(seconds)
        for since, answer in list(self.under_way):
            if self.now - since >= ANSWERED_WITHIN:
                self.is_answered(
                    (since, replace(answer, kind=Kind.START_UNCLEAR, recording_id=None, url=None))
                )

    @rule()
    def the_provider_answers_a_start(self):
        if self.under_way:
            self.is_answered()

    def is_answered(self, answer=None):
        found = answer or self.under_way[0]
        self.under_way = [u for u in self.under_way if u[0] != found[0] or u[1].id != found[1].id]
        self.write(found[1])

    # Short stories that chance alone would seldom find

    def quiet(self):
        """One known recording runs, and nothing else is going on."""
        call, running = self.call(), self.provider.running()
        limit = self.rules.defaults.max_duration
        if limit and running and self.now > running[0].began + limit / 2:
            return False  # its deadline would end it for good
        return (
            len(running) == 1
            and not running[0].trunk
            and running[0].name in call.recordings
            and not call.recordings[running[0].name].attempts
            and self.provider.call_over is None
            and not (call.over_at or call.claimed_over_at or self.under_way or call.trunk)
            and all(
                r.over_at or r.recording_id == running[0].name for r in call.recordings.values()
            )
            and not any(st_.recording_id is None for st_ in call.starts.values())
            and not any(h.decided is None for h in call.handoffs.values())
        )

    def works(self):
        """Workers do all that is due now, and nobody dies; end callbacks arrive."""
        for _ in range(4):
            self.workers_do_what_is_due("never")
            while self.mail:
                self.write(self.mail.pop(0))

    def is_untouched(self):
        """Nobody has ordered or asked anything yet, so nothing else interrupts or ends a
        recording."""
        said = {
            *ORDERS,
            Kind.RESUME_ORDERED,
            Kind.HANDOFF_FAILED,
            Kind.HANDOFF_ASKED,
            Kind.CALL_TRANSFERRED,
            Kind.START_ORDERED,
            Kind.DIAL_ENDED,
        }
        return not any(e.kind in said for e in self.log.values())

    def ends_by(self, kind):
        """A fresh recording, and an order that ends it; the name of the recording that is
        interrupted."""
        self.deaf = self.refuses = self.silent = self.rejects = False
        if not self.quiet():
            return None
        name = self.provider.running()[0].name
        self.now += s(1)
        self.order(kind, signed=kind is Kind.CALL_TRANSFERRED)
        self.works()
        return name if not self.provider.running() else None

    def goes_on(self, said):
        """Whether a resumption is ordered, dated by what said so."""
        return any(e.kind is Kind.START_ORDERED and e.due_at == said.at for e in self.log.values())

    @rule(
        meanwhile=st.sampled_from(
            [
                "nothing",
                "nothing",
                "the rules only observe",
                "it is stopped",
                "it is late",
                "one is stopped",
            ]
        ),
        wait=st.sampled_from([0.1, 5, 70]),
    )
    def somebody_pauses_and_resumes(self, meanwhile, wait):
        untouched, rules = self.is_untouched(), self.rules
        name = self.ends_by(Kind.PAUSE_ORDERED)
        if name is None:
            return
        self.now += s(wait)
        if meanwhile == "the rules only observe":
            self.rules = Rules(defaults=replace(rules.defaults, mode=Mode.OBSERVE))
        elif meanwhile == "one is stopped":
            self.order(Kind.STOP_ORDERED, recording_id=name)
            self.works()
        said = self.order(Kind.RESUME_ORDERED)
        self.now += s({"it is stopped": 1, "it is late": 620}.get(meanwhile, 0))
        if meanwhile == "it is stopped":
            self.order(Kind.STOP_ORDERED)
        self.workers_do_what_is_due("never")
        goes_on = self.goes_on(said)
        self.rules = rules
        assert meanwhile != "nothing" or goes_on or not untouched, (
            "nobody goes on with what was paused"
        )
        assert meanwhile != "the rules only observe" or goes_on or not untouched, (
            "the rules changed, and the pause is forgotten"
        )
        assert meanwhile != "one is stopped" or not goes_on, (
            "a stop by id is final, also during a pause"
        )

    @rule()
    def a_dial_fails_and_the_next_one_does_too(self):
        if not self.is_untouched():
            return
        for _ in range(2):
            if self.ends_by(Kind.CALL_TRANSFERRED) is None:
                return
            self.now += s(2)
            failed = self.write(
                Event(
                    id="busy",
                    kind=Kind.DIAL_ENDED,
                    call_uuid="c",
                    signed=True,
                    connected=False,
                    whole=True,
                )
            )
            assert failed, "a dial that fails later is no repeat of the one before"
            self.works()
            assert self.goes_on(failed), (
                "a dial failed, and nobody goes on with what the transfer had ended"
            )
            self.now += s(0.5)
            while self.under_way:
                self.is_answered()
            self.now += s(16)

    @rule(another=st.booleans())
    def nobody_answers_the_start_of_a_resume(self, another):
        """The pause was not proven, and its stop is sent again; or another recording comes and goes
        just then."""
        if not self.quiet():
            return
        self.deaf, self.refuses, self.silent, self.rejects = not another, False, True, False
        self.order(Kind.PAUSE_ORDERED)
        self.works()
        self.now += s(1)
        self.order(Kind.RESUME_ORDERED)
        self.workers_do_what_is_due("never")
        other = self.begins("never") if another else None
        self.time_passes(5.1)
        if other:
            other.ended = self.now
        self.deaf = False
        for _ in range(3):
            self.time_passes(4)
            self.workers_do_what_is_due("never")

    @rule(kind=st.sampled_from([Kind.STOP_ORDERED, Kind.PAUSE_ORDERED, Kind.CALL_TRANSFERRED]))
    def whoever_asks_for_the_end_gets_a_request(self, kind):
        call = self.call()
        unnamed = any(
            r.order and r.runs and r.name not in call.recordings
            for r in self.provider.recs.values()
        )
        if self.under_way or call.over_at or self.provider.call_over or call.trunk:
            return
        if call.declared_at and call.declared_at >= self.now - DECLARED_WITHIN:
            return  # that answers it
        lapsed = not any(
            start.unsettled for start in call.starts.values()
        )  # its time limit is over: it counts as running no longer
        if kind is Kind.CALL_TRANSFERRED and (
            not unnamed or lapsed or call.handoffs or call.claimed_over_at
        ):
            return
        said = self.order(kind, signed=kind is Kind.CALL_TRANSFERRED)
        self.workers_do_what_is_due("never")
        left = any(at >= said.at for at, _, _ in self.requests)
        aside = any(
            r.attempts and r.attempts[-1].kind is Kind.STOP_SET_ASIDE
            for r in call.recordings.values()
        )
        older = bool(call.recordings) and all(r.over_at for r in call.recordings.values())
        assert kind is not Kind.CALL_TRANSFERRED or left, (
            "a transfer, and nothing ends what a start without an answer may have begun"
        )
        assert not aside or left, "a stop was set aside, and a new order sends nothing"
        assert not older or left, "older recordings are over, and an order for all sends nothing"
        assert left, "an order, and no request leaves"

    # Ourselves: a worker does the earliest thing that is due, and may die before it sends, or
    # before it commits.

    @rule(dies=st.sampled_from(["never", "never", "never", "before", "between", "after"]))
    def workers_do_what_is_due(self, dies):
        for _, key in sorted((at, key) for key, at in self.dues.items() if at <= self.now):
            self.work(key, dies)
        if dies == "never":
            self.check_that_a_watched_call_is_stopped()

    def work(self, key, dies="never"):
        if key[0] == "stop" and self.under_way:
            return  # whoever waits for the answer holds the call
        self.dues[key] = self.now + s(5)  # the lease
        if dies == "before":
            return
        self.fence += 1
        found = {"stop": self.stop, "look": self.look, "fetch": self.fetch}[key[0]](key[1])
        if key[0] == "stop":
            self.send_what_goes_out_once(between=dies == "between")
        if dies in {"after", "between"}:
            self.under_way.clear()
            return
        for event in found:
            self.log.setdefault(event.id, replace(event, at=self.now))
        if key[0] == "stop":
            plan = self.plan()
            soon = (
                [x.at for x in plan.sends]
                + [self.now for _ in (*plan.starts, *plan.transfers) if not self.under_way]
                + ([plan.plan_at] if plan.plan_at else [])
            )
            wanted = [
                ("stop", "", min(soon, default=None)),
                ("look", "", plan.look_at),
                *(("fetch", r, at) for r, at in plan.fetch_at.items()),
            ]
            for duty, name, at in wanted:
                self.dues.pop((duty, name), None)
                if at is not None:
                    self.dues[duty, name] = at
            if self.under_way:
                self.dues["stop", ""] = self.now + s(5)
        else:
            self.dues[key] = self.now + s(60)
            self.dues["stop", ""] = self.now

    def plan(self):
        while True:
            plan = planner.plan(self.call(), self.rules, self.now)
            # A start whose answer is under way is no start whose sender died.
            waiting = {e.order for _, e in self.under_way}
            new = [
                e
                for e in plan.conclusions
                if not (e.kind is Kind.START_UNCLEAR and e.order in waiting)
            ]
            if not new:
                return plan
            for event in new:
                assert event.id not in self.log, "what was concluded is concluded again"
                self.log[event.id] = replace(event, at=self.now)

    def send_what_goes_out_once(self, *, between):
        plan = self.plan()
        for start in plan.starts:
            order = start.ordered.order
            if not self.first(
                start.ordered,
                Event(
                    id=f"sent.{order}.{len(start.errors)}",
                    kind=Kind.START_SENT,
                    call_uuid="c",
                    order=order,
                ),
            ):
                continue
            self.check_that_it_may_be_started(start)
            if not between:
                self.sent.append(("start", order))
                self.starts(start.ordered)
        for handoff in plan.transfers:
            order = handoff.asked.order
            if (
                self.first(
                    Event(
                        id=f"decided.{order}",
                        kind=Kind.HANDOFF_DECIDED,
                        call_uuid="c",
                        order=order,
                        verdict="go",
                        by="us",
                    )
                )
                and not between
            ):
                assert self.now <= handoff.until
                self.check_proof(self.call(), handoff)
                self.sent.append(("transfer", order))
                self.first(
                    Event(
                        id=f"transfer.{order}",
                        kind=Kind.TRANSFER_UNCLEAR if self.silent else Kind.TRANSFER_SENT,
                        call_uuid="c",
                        order=order,
                    )
                )

    def starts(self, ordered):
        answer = Event(
            id=f"started.{ordered.order}",
            kind=Kind.START_FAILED,
            call_uuid="c",
            order=ordered.order,
        )
        if self.provider.call_over is None and not self.rejects:
            rec = self.provider.begin(
                self.now, order=ordered.order, ordered_at=ordered.due_at or ordered.at
            )
            answer = replace(
                answer, kind=Kind.START_ACCEPTED, recording_id=rec.name, url=f"u/{rec.name}"
            )
            if self.silent:
                answer = replace(answer, kind=Kind.START_UNCLEAR, recording_id=None, url=None)
        self.under_way.append((self.now, answer))

    def first(self, *events):
        """Records together at once, as whoever may send only once does; True where the last of them
        is new."""
        if events[-1].id in self.log:
            return False
        for event in events:
            self.log.setdefault(event.id, replace(event, at=self.now))
        return True

    def stop(self, _):
        call, found, recordings = self.call(), [], self.plan().recordings
        for send in self.plan().sends:
            over = self.provider.call_over is not None
            self.requests.append((self.now, send.url, send.recording_ids))
            for rec in self.provider.running():
                if (
                    not over
                    and not self.deaf
                    and not self.refuses
                    and not rec.trunk
                    and send.url in {None, f"u/{rec.name}"}
                ):
                    self.check_that_it_may_be_stopped(call, rec, send)
                    rec.ended = self.now
                    self.mail.append(self.provider.end_callback(rec))
            kind = (
                Kind.CALL_FOUND_OVER
                if over
                else Kind.STOP_SET_ASIDE
                if self.refuses
                else Kind.STOP_ACCEPTED
            )
            for name in send.recording_ids:
                judged = stop_state.judge(call, recordings[name], self.rules, self.now)
                found.append(
                    Event(
                        id=f"stop.{self.fence}.{name}",
                        kind=kind,
                        call_uuid="c",
                        recording_id=name or None,
                        named=bool(send.url),
                        requested_at=self.now,
                        due_at=judged.due_at,
                        trigger=judged.trigger,
                        rule=judged.rule,
                        action=judged.action if judged.action != Action.STOP else None,
                    )
                )
        return found

    def rows(self):
        return [
            Event(
                id=f"listed.{r.name}",
                kind=Kind.RECORDING_LISTED,
                call_uuid="c",
                recording_id=r.name,
                url=f"u/{r.name}",
                started_at=r.began,
                ended_at=r.ended,
                duration_s=max(0.5, (r.ended - r.began).total_seconds()),
                trunk=r.trunk or None,
            )
            for r in self.provider.recs.values()
            if r.ended and r.listed
        ]

    def look(self, _):
        live = self.provider.call_over is None
        return [
            *self.rows(),
            Event(
                id=f"look.{self.fence}",
                kind=Kind.LOOKED,
                call_uuid="c",
                live=live,
                requested_at=self.now,
            ),
        ]

    def fetch(self, name):
        rec = self.provider.recs[name]
        if rec.runs or not rec.listed:
            return [
                Event(
                    id=f"fetch.{self.fence}",
                    kind=Kind.FETCH_FAILED,
                    call_uuid="c",
                    recording_id=name,
                    reason="too early",
                )
            ]
        return [
            Event(
                id=f"archived.{name}",
                kind=Kind.MEDIA_ARCHIVED,
                call_uuid="c",
                recording_id=name,
                archive_key=name,
            )
        ]

    # What must hold when something is sent

    def check_that_it_may_be_started(self, start):
        o = start.ordered
        if not o.segment_of:
            return
        assert self.now <= o.due_at + RESUME_WITHIN, "a resume is sent long after it was asked for"
        events = list(self.log.values())
        resumed = max(
            (
                e.at
                for e in events
                if e.kind in {Kind.RESUME_ORDERED, Kind.HANDOFF_FAILED, Kind.DIAL_ENDED}
            ),
            default=T0,
        )
        ends = [
            e
            for e in events
            if e.kind in {*ORDERS, Kind.HANDOFF_ASKED}
            and not e.recording_id
            and e.at > max(o.due_at, resumed)
        ]
        assert not ends, "what was asked for later is to end everything"
        segments = {
            r.recording_id for r in self.call().recordings.values() if r.root == o.segment_of
        }
        assert not [
            e for e in events if e.kind is Kind.STOP_ORDERED and e.recording_id in segments
        ], "a stop by id is final for its logical recording"
        again = [
            x
            for x in self.call().starts.values()
            if x.ordered.segment_of == o.segment_of and x.unclear and x.ordered.order != o.order
        ]
        assert not again, "two at once go on with one logical recording"

    def check_that_it_may_be_stopped(self, call, rec, send):
        if rec.name in call.recordings:
            # A call-wide stop hits what is running besides: then its own stop must be due as well.
            due_at = stop_state.judge(call, call.recordings[rec.name], self.rules, self.now).due_at
            assert due_at is not None
            assert due_at <= self.now
        elif rec.order:
            # Nobody knows that it runs, but that we sent its start is known: it must be meant, or
            # there was no other way.
            ends = [
                e
                for e in self.log.values()
                if e.kind in {*ORDERS, Kind.HANDOFF_ASKED, Kind.CALL_TRANSFERRED}
                and e.at >= rec.counts_from
            ]
            assert ends or getattr(send, "note", None), (
                "a stop of something else ended what a start without an answer had begun"
            )

    def check_proof(self, call, handoff):
        """Whether go, proven, may be said: nothing runs that had begun before the question and was
        told of, or was our own order."""
        found = verdict(call, self.rules, handoff)
        if not (found.go and found.proven):
            return
        asked_at = handoff.asked.at
        runs = [
            r
            for r in self.provider.running()
            if r.counts_from <= asked_at
            and (r.order or r.name in call.recordings or (r.trunk and call.trunk))
        ]
        assert not [r for r in runs if r.trunk], "proven while a trunk records"
        assert not [r for r in runs if r.order and r.name not in call.recordings], (
            "proven while our own start may have begun something"
        )
        assert not runs, f"proven while {runs} runs"
        told = {}
        for event in self.log.values():
            if event.recording_id and event.kind in TELLS:
                told.setdefault(event.recording_id, event.at)
        about = [
            r
            for i, r in self.provider.recs.items()
            if i in told
            and (told[i] <= asked_at or r.ended is None or r.ended >= asked_at - s(0.1))
        ]
        declared = any(
            e.kind is Kind.NOTHING_DECLARED and e.at >= asked_at - DECLARED_WITHIN
            for e in self.log.values()
        )
        assert about or declared or call.over_at or not call.declared_at, (
            "what was declared long ago proves it"
        )
        assert about or declared or call.over_at, (
            "proven by recordings that the question is not about"
        )

    def check_that_a_watched_call_is_stopped(self):
        call = self.call()
        seen, limit = call.found_live_at, self.rules.defaults.max_duration
        hidden = [
            r
            for r in self.provider.running()
            if r.name not in call.recordings
            and not r.order
            and not r.trunk
            and seen
            and r.began < seen
        ]
        others = [r for r in call.recordings.values() if not r.over_at] or [
            x for x in call.starts.values() if x.recording_id is None
        ]
        if (
            not hidden
            or others
            or limit is None
            or self.provider.call_over
            or call.over_at
            or call.claimed_over_at
            or call.trunk
            or self.under_way
        ):
            return
        if call.declared_at is None and self.now > seen + limit + s(40):
            assert any(at >= seen + limit for at, url, _ in self.requests if url is None), (
                "a call that was found live is not stopped at its deadline"
            )

    # What must hold at every moment

    @invariant()
    def nothing_is_told_as_proven_that_is_not(self):
        call = self.call()
        for handoff in call.handoffs.values():
            if handoff.decided is None:
                self.check_proof(call, handoff)

    @invariant()
    def no_duty_is_lost(self):
        call = self.call()
        unfinished = [r for r in call.recordings.values() if not r.archived and not r.gave_up]
        assert not unfinished or self.dues, "something is unfinished and nothing is owed"

    @invariant()
    def a_proof_is_never_taken_back_and_nothing_is_proven_that_is_not_so(self):
        call = self.call()
        for name, recording in call.recordings.items():
            stop = stop_state.judge(call, recording, self.rules, self.now)
            if recording.over_at or stop.state in PROVEN:
                assert not self.provider.recs[name].runs, "a recording that runs was called over"
            if recording.archived:
                assert stop_state.phase(recording, stop) is Phase.ARCHIVED

    @invariant()
    def no_recording_is_ended_twice_in_the_ledger(self):
        for name in self.call().recordings:
            assert (
                sum(
                    e.kind is Kind.MEDIA_ARCHIVED and e.recording_id == name
                    for e in self.log.values()
                )
                <= 1
            )

    @invariant()
    def what_may_go_out_once_went_out_once(self):
        assert len(self.sent) == len(set(self.sent))

    @invariant()
    def planning_changes_nothing(self):
        assert planner.plan(self.call(), self.rules, self.now) == planner.plan(
            self.call(), self.rules, self.now
        )

    def play(self, until):
        """Everybody does what is due, and nobody dies, up to an instant."""
        for turns in itertools.count():
            while self.under_way:
                self.is_answered()
            if not self.dues or min(self.dues.values()) > until:
                return
            assert turns < 500, ("a loop that leads nowhere", self.now, self.dues)
            at, key = min((at, key) for key, at in self.dues.items())
            self.now = max(self.now, at)
            self.work(key)
            self.mail.clear()  # and every callback still on its way is lost

    def check_that_the_tries_go_on(self):
        """While nobody obeys and the call lives, what is due is asked for again and again, whatever
        somebody claims."""
        self.deaf, self.refuses, until = True, False, self.now + s(400)
        self.play(until)
        self.now = max(self.now, until)
        call = self.call()
        for rec in self.provider.running():
            known = call.recordings.get(rec.name)
            if known is None or rec.trunk or self.provider.call_over or call.over_at:
                continue
            stop = stop_state.judge(call, known, self.rules, self.now)
            if (
                stop.due_at
                and stop.due_at < self.now - s(300)
                and known.attempts[-1].kind is not Kind.STOP_SET_ASIDE
            ):
                assert any(
                    at > self.now - s(150) and rec.name in names for at, _, names in self.requests
                ), "nobody tries any more"

    def check_that_the_proof_is_an_event(self, name, recording, stop):
        """Each owed stop that is proven was recorded so, once unless a proof was taken back; no
        other stop was."""
        confirmed = [
            e
            for e in sorted(self.log.values(), key=lambda e: e.at)
            if e.kind is Kind.STOP_CONFIRMED and e.recording_id == name
        ]
        if recording.over_at and stop.requested_at:
            assert confirmed, "a proof that nobody recorded"
            assert confirmed[-1].at >= recording.over_at
        if stop.state is StopState.NONE:
            assert not confirmed, "a stop that was never owed"
        for before, after in itertools.pairwise(confirmed):
            assert after.proven_at > before.at

    def teardown(self):
        """However it went: once the provider obeys and nobody dies, every known recording is proven
        over and archived."""
        self.check_that_the_tries_go_on()
        self.deaf = self.silent = False
        asked = any(
            e.kind in {Kind.HANDOFF_ASKED, *ORDERS, Kind.CALL_FOUND_LIVE, Kind.STOP_SET_ASIDE}
            for e in self.log.values()
        )
        unlisted = any(
            not rec.listed for rec in self.provider.recs.values()
        )  # nothing but the end of the call can prove its end
        if asked or unlisted or self.rules.defaults.max_duration is None or self.call().trunk:
            # what no rule ends, its call ends; and so does the search for what nobody told us of
            self.hang_up()
        looked = sum(e.kind is Kind.LOOKED for e in self.log.values())
        self.play(self.now + timedelta(days=2))
        call = self.call()
        assert len(call.looks) - looked < 80, "nobody stops looking"
        assert all(h.decided for h in call.handoffs.values()), "a question was never answered"
        assert all(x.outcome for x in call.starts.values()), "nobody says what became of a start"
        for name, recording in call.recordings.items():
            stop = stop_state.judge(call, recording, self.rules, self.now)
            if self.provider.recs[name].listed:
                assert recording.archived, (name, stop, self.dues)
            if recording.over_at:
                assert stop.state in {*PROVEN, StopState.NONE}
            if stop.state is StopState.CONFIRMED:
                assert stop.requested_at is not None
            self.check_that_the_proof_is_an_event(name, recording, stop)
        assert self.now - T0 < KEPT_BY_PROVIDER
        shuffled = replay("MA_1", "c", sorted(self.log.values(), key=lambda e: e.id))
        assert shuffled == call


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=min(250, settings.default.max_examples), stateful_step_count=30, deadline=None
)
