"""A state machine over the pure lifecycle: a simulated provider, a ledger in memory, and workers that die anywhere.

The same outside events in any order, repeated or lost, with a crash at any point, end in the same place; no duty is
ever lost; the ledger never ends a recording twice; and what may go out once goes out once: a start, and a transfer, which
waits for the proof.
"""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from worker import lifecycle
from worker.fold import fold
from worker.policy import KEPT_BY_PROVIDER, Action, Policy, Terms
from worker.recording import Event, Kind, Phase, StopState

T0 = datetime(2026, 9, 14, 6, 30, tzinfo=UTC)
TERMS = Terms(max_duration=timedelta(seconds=10), confirm_within=timedelta(seconds=2), stop_tries=3,
              on={"transfer": Action.STOP, "transfer.failed": Action.RESUME})
PROVEN = {StopState.CONFIRMED, StopState.ALREADY_OVER}


class Provider:
    """What is true at the other end, whatever we were told."""

    def __init__(self):
        self.running, self.ended, self.call_over = {}, {}, None

    def end(self, recording, now):
        if recording in self.running:
            self.ended[recording] = (self.running.pop(recording), now)

    def end_callback(self, recording):
        started, at = self.ended[recording]
        return Event(id=f"end.{recording}", kind=Kind.RECORDING_FINALIZED, call_uuid="c", signed=True, recording_id=recording,
                     url=f"u/{recording}", started_at=started, ended_at=at, duration_s=max(1.0, (at - started).total_seconds()))


class Life(RuleBasedStateMachine):
    recordings = Bundle("recordings")

    def __init__(self):
        super().__init__()
        self.now, self.provider = T0, Provider()
        self.log: dict[str, Event] = {}          # the ledger: an event by its id, once
        self.dues: dict[tuple[str, str], datetime] = {}
        self.mail: list[Event] = []              # callbacks on their way
        self.fence, self.deaf, self.silent, self.rules = 0, False, False, Policy()
        self.sent: list[tuple[str, str]] = []    # what went out that may go out once: starts and transfers by their order

    # The ledger: recording an event and making its call due is one step; so is a commit.

    def write(self, event):
        if event.id not in self.log:
            self.log[event.id] = replace(event, at=self.now)
            self.dues[("stop", "")] = min(self.now, self.dues.get(("stop", ""), self.now))

    def call(self):
        return fold("MA_1", "c", self.log.values())

    @initialize(bounded=st.booleans())
    def the_call_begins(self, bounded):
        terms = TERMS if bounded else replace(TERMS, max_duration=None)
        self.rules = Policy(defaults=terms)
        self.write(Event(id="seen", kind=Kind.CALL_SEEN, call_uuid="c", signed=True, to_number="91"))

    # Outside

    @rule(target=recordings, told=st.sampled_from(["now", "now", "later", "never"]))
    def a_recording_starts(self, told):
        name = f"r{len(self.provider.running) + len(self.provider.ended)}"
        if self.provider.call_over is None:
            self.provider.running[name] = self.now
            start = Event(id=f"start.{name}", kind=Kind.RECORDING_STARTED, call_uuid="c", signed=True, recording_id=name, url=f"u/{name}")
            if told == "now":
                self.write(start)
            elif told == "later":
                self.mail.append(start)
        return name

    @rule(name=recordings, told=st.booleans())
    def a_recording_ends_by_itself(self, name, told):
        if name in self.provider.running:
            self.provider.end(name, self.now)
            if told:
                self.mail.append(self.provider.end_callback(name))

    @rule(told=st.booleans())
    def somebody_hangs_up(self, told):
        ended = self.hang_up()
        if told:
            self.mail += [*map(self.provider.end_callback, ended), Event(id="hangup", kind=Kind.CALL_ENDED, call_uuid="c", signed=True)]

    def hang_up(self):
        self.provider.call_over = self.provider.call_over or self.now
        ended = list(self.provider.running)
        for name in ended:
            self.provider.end(name, self.now)
        return ended

    @rule(number=st.integers(0, 3))
    def the_call_is_transferred(self, number):
        self.write(Event(id=f"transfer.{number}", kind=Kind.CALL_TRANSFERRED, call_uuid="c", signed=True))

    @rule(kind=st.sampled_from([Kind.PAUSE_ORDERED, Kind.RESUME_ORDERED, Kind.HANDOFF_FAILED]), number=st.integers(0, 2))
    def somebody_pauses_or_resumes(self, kind, number):
        self.write(Event(id=f"{kind}.{number}", kind=kind, call_uuid="c"))

    @rule(number=st.integers(0, 2))
    def somebody_orders_a_start(self, number):
        self.write(Event(id=f"order.{number}", kind=Kind.START_ORDERED, call_uuid="c", order=f"o{number}"))

    @rule(number=st.integers(0, 2), wait_s=st.sampled_from([0.05, 3, 30]))
    def somebody_is_about_to_transfer(self, number, wait_s):
        self.write(Event(id=f"asked.{number}", kind=Kind.HANDOFF_ASKED, call_uuid="c", order=f"h{number}", trigger="transfer.blind", wait_s=wait_s, body={"to": "x"}))

    @rule(number=st.integers(0, 2))
    def the_web_answers_hold_at_the_end_of_the_wait(self, number):
        asked = self.log.get(f"asked.{number}")
        if asked and self.now >= asked.at + timedelta(seconds=asked.wait_s):
            self.write(Event(id=f"decided.h{number}", kind=Kind.HANDOFF_DECIDED, call_uuid="c", order=f"h{number}", verdict="hold", by="api"))

    @rule(silent=st.booleans())
    def the_provider_stops_answering_orders_or_answers_again(self, silent):
        self.silent = silent

    @rule(deaf=st.booleans())
    def the_provider_stops_obeying_or_obeys_again(self, deaf):
        self.deaf = deaf

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
        self.now += timedelta(seconds=seconds)

    # Ourselves: a worker does the earliest thing that is due, and may die before it sends, or before it commits.

    @rule(dies=st.sampled_from(["never", "never", "never", "before", "between", "after"]))
    def workers_do_what_is_due(self, dies):
        for _, key in sorted((at, key) for key, at in self.dues.items() if at <= self.now):
            self.work(key, dies)

    def work(self, key, dies="never"):
        self.dues[key] = self.now + timedelta(seconds=5)            # the lease
        if dies == "before":
            return
        self.fence += 1
        found = {"stop": self.stop, "look": self.look, "fetch": self.fetch}[key[0]](key[1])
        if key[0] == "stop":
            self.send_what_goes_out_once(between=dies == "between")
        if dies in {"after", "between"}:
            return
        for event in found:
            self.log.setdefault(event.id, replace(event, at=self.now))
        if key[0] == "stop":
            plan = self.plan()
            soon = [s.at for s in plan.sends] + [self.now for _ in (*plan.starts, *plan.transfers)] + ([plan.stop_at] if plan.stop_at else [])
            wanted = [("stop", "", min(soon, default=None)),
                      ("look", "", plan.look_at), *(("fetch", r, at) for r, at in plan.fetch_at.items())]
            for duty, name, at in wanted:
                self.dues.pop((duty, name), None)
                if at is not None:
                    self.dues[duty, name] = at
        else:
            self.dues[key] = self.now + timedelta(seconds=60)
            self.dues["stop", ""] = self.now

    def plan(self):
        while True:
            plan = lifecycle.plan(self.call(), self.rules, self.now)
            if not plan.conclusions:
                return plan
            for event in plan.conclusions:
                assert event.id not in self.log, "what was concluded is concluded again"
                self.log[event.id] = replace(event, at=self.now)

    def send_what_goes_out_once(self, *, between):
        plan = self.plan()
        for start in plan.starts:
            order = start.ordered.order
            if self.first(Event(id=f"sent.{order}.{len(start.errors)}", kind=Kind.START_SENT, call_uuid="c", order=order)) and not between:
                self.sent.append(("start", order))
                outcome = Event(id=f"started.{order}", kind=Kind.START_FAILED, call_uuid="c", order=order)
                if self.provider.call_over is None:
                    name = f"s{len(self.sent)}"
                    self.provider.running[name] = self.now
                    outcome = replace(outcome, kind=Kind.START_UNCLEAR if self.silent else Kind.START_ACCEPTED, recording_id=None if self.silent else name, url=f"u/{name}")
                self.first(outcome)
        for handoff in plan.transfers:
            order = handoff.asked.order
            if self.first(Event(id=f"decided.{order}", kind=Kind.HANDOFF_DECIDED, call_uuid="c", order=order, verdict="go", by="us")) and not between:
                self.check_that_it_may_be_transferred(handoff)
                self.sent.append(("transfer", order))
                self.first(Event(id=f"transfer.{order}", kind=Kind.TRANSFER_UNCLEAR if self.silent else Kind.TRANSFER_SENT, call_uuid="c", order=order))

    def first(self, event):
        """Records at once, as whoever may send only once does; True for the first."""
        return self.log.setdefault(event.id, replace(event, at=self.now)).at == self.now and self.log[event.id].kind is event.kind

    def check_that_it_may_be_transferred(self, handoff):
        assert self.now <= handoff.until
        begun = {name for name, at in self.provider.running.items() if at <= handoff.asked.at}
        assert not begun & self.call().recordings.keys(), "transferred while a known recording ran that had begun before"
        if self.provider.call_over is None:
            assert self.call().recordings, "nothing proves that a call without a known recording is not recorded"

    def stop(self, _):
        call, found, recordings = self.call(), [], self.plan().recordings
        for send in self.plan().sends:
            over = self.provider.call_over is not None
            for name in list(self.provider.running):
                if not over and not self.deaf and send.url in {None, f"u/{name}"}:
                    self.check_that_it_may_be_stopped(call, name, send)
                    self.provider.end(name, self.now)
                    self.mail.append(self.provider.end_callback(name))
            for name in send.recording_ids:
                judged = lifecycle.judge(call, recordings[name], self.rules, self.now)
                found.append(Event(id=f"stop.{self.fence}.{name}", kind=Kind.CALL_FOUND_OVER if over else Kind.STOP_ACCEPTED, call_uuid="c",
                                   recording_id=name or None, named=bool(send.url), requested_at=self.now, due_at=judged.due_at,
                                   trigger=judged.trigger, rule=judged.rule))
        return found

    def check_that_it_may_be_stopped(self, call, name, send):
        if name not in send.recording_ids and name in call.recordings:
            # A call-wide stop hits what is running besides: then its own stop must be due as well.
            due_at = lifecycle.judge(call, call.recordings[name], self.rules, self.now).due_at
            assert due_at is not None
            assert due_at <= self.now

    def look(self, _):
        found = [Event(id=f"listed.{name}", kind=Kind.RECORDING_LISTED, call_uuid="c", recording_id=name, url=f"u/{name}", started_at=started,
                       ended_at=at, duration_s=max(1.0, (at - started).total_seconds())) for name, (started, at) in self.provider.ended.items()]
        if self.provider.call_over is not None:
            found.append(Event(id="gone", kind=Kind.CALL_FOUND_OVER, call_uuid="c"))
        return [*found, Event(id=f"look.{self.fence}", kind=Kind.LOOKED, call_uuid="c", live=self.provider.call_over is None)]

    def fetch(self, name):
        if name not in self.provider.ended:
            return [Event(id=f"fetch.{self.fence}", kind=Kind.FETCH_FAILED, call_uuid="c", recording_id=name, reason="too early")]
        return [Event(id=f"archived.{name}", kind=Kind.MEDIA_ARCHIVED, call_uuid="c", recording_id=name, archive_key=name)]

    # What must hold at every moment

    @invariant()
    def no_duty_is_lost(self):
        call = self.call()
        unfinished = [r for r in call.recordings.values() if not r.archived and not r.gave_up]
        assert not unfinished or self.dues, "something is unfinished and nothing is owed"

    @invariant()
    def a_proof_is_never_taken_back_and_nothing_is_proven_that_is_not_so(self):
        call = self.call()
        for name, recording in call.recordings.items():
            stop = lifecycle.judge(call, recording, self.rules, self.now)
            if recording.over_at or stop.state in PROVEN:
                assert name not in self.provider.running, "a recording that runs was called over"
            if recording.archived:
                assert lifecycle.phase(recording, stop) is Phase.ARCHIVED

    @invariant()
    def no_recording_is_ended_twice_in_the_ledger(self):
        ends = [e.id for e in self.log.values() if e.kind in {Kind.RECORDING_FINALIZED, Kind.MEDIA_ARCHIVED, Kind.GAVE_UP}]
        assert len(ends) == len(set(ends))
        for name in self.call().recordings:
            assert sum(e.kind is Kind.MEDIA_ARCHIVED and e.recording_id == name for e in self.log.values()) <= 1

    @invariant()
    def what_may_go_out_once_went_out_once(self):
        assert len(self.sent) == len(set(self.sent))

    @invariant()
    def planning_changes_nothing(self):
        assert lifecycle.plan(self.call(), self.rules, self.now) == lifecycle.plan(self.call(), self.rules, self.now)

    def teardown(self):
        """However it went: once the provider obeys and nobody dies, every known recording is proven over and archived."""
        self.deaf = False
        asked = any(e.kind in {Kind.HANDOFF_ASKED, Kind.PAUSE_ORDERED} for e in self.log.values())
        if asked or self.rules.defaults.max_duration is None:
            self.hang_up()                     # what no rule ends, its call ends; and so does the search for what nobody told us of
        self.mail.clear()                      # and every callback still on its way is lost
        limit = self.now + timedelta(days=2)
        for turns in itertools.count():
            if not self.dues or self.now >= limit:
                break
            assert turns < 5000, ("a loop that leads nowhere", self.now, self.dues)
            at, key = min((at, key) for key, at in self.dues.items())
            self.now = max(self.now, at)
            self.work(key)
            self.mail.clear()
        call = self.call()
        assert all(h.decided for h in call.handoffs.values()), "a question was never answered"
        assert all(s.outcome for s in call.starts.values()), "nobody says what became of a start"
        for name, recording in call.recordings.items():
            assert recording.archived, (name, lifecycle.judge(call, recording, self.rules, self.now), self.dues)
            stop = lifecycle.judge(call, recording, self.rules, self.now)
            assert stop.state in {*PROVEN, StopState.NONE}
            if stop.state is StopState.CONFIRMED:
                assert stop.requested_at is not None
        assert self.now - T0 < KEPT_BY_PROVIDER
        shuffled = fold("MA_1", "c", sorted(self.log.values(), key=lambda e: e.id))
        assert shuffled == call


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
