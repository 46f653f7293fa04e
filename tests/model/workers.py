"""Our workers in simulated time: what the modules of `worker/duties` do, step by step.

They call the real planner and record its conclusions. They die or stop for a while at any moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tests.model.application import Application
from tests.model.ours import (
    HORIZON,
    LEAD,
    MOST_ERRORS_TOLD,
    Action,
    Event,
    Fault,
    Kind,
    StopState,
    acts,
    ceiling_s,
    decided,
    errors_in_a_row,
    found_live,
    is_end,
    is_lost,
    planner,
    rarely,
    replay,
    says_nothing_new,
    send_by,
    stop_state,
    unseen,
    unsettled,
    verdict,
)
from tests.model.world import A_LEG, ACCOUNT, Book, Key, Violation, s

_LEASE, _LOOK_LEASE, _SAFETY_DUE = s(3), s(5), s(60)


@dataclass
class Work:
    """One claimed call that a worker works on."""

    key: Key
    fence: int
    began: datetime
    size: int
    snapshot: list[Event]
    generation: int
    found: list[Event] = field(default_factory=list)
    call: object = None
    plan: object = None
    left: int = 0
    retry_at: datetime | None = None
    dead: bool = False

    @property
    def call_uuid(self) -> str:
        return self.key[1]


class Workers(Application):
    def begin(self) -> None:
        super().begin()
        rng = self.rng
        self.wide: list[datetime] = []  # DELETEs for the whole call
        self.sent_starts: dict[str, datetime] = {}
        self.deletes = 0
        self.generation = 0
        self.reloaded_at: datetime | None = None
        self.dies = rng.choice([0, 0, 0.05])
        self.down: list[tuple[datetime, datetime]] = []  # the planner stands still
        if rng.random() < 0.25:
            at = self.now + s(rng.uniform(5, 100))
            self.down.append((at, at + s(rng.uniform(2, 60))))

    def book(self, work: Work) -> Book:
        return self.books[work.call_uuid]

    def not_down(self, at: datetime) -> datetime:
        for a, b in self.down:
            if a <= at < b:
                at = b
        return at

    def next_work(self) -> tuple[datetime, Key] | None:
        """The obligation that is due next. It is claimed a little early."""
        ready = [
            (self.not_down(max(at - LEAD, self.now)), key)
            for key, at in self.dues.items()
            if key not in self.held
        ]
        return min(ready, default=None)

    def work(self, key: Key) -> None:
        self.fence += 1
        book = self.books[key[1]]
        work = Work(
            key=key,
            fence=self.fence,
            began=self.ms(),
            size=book.size,
            snapshot=list(book.events.values()),
            generation=self.generation,
        )
        second = int(self.now.timestamp())
        self.steps[second] += 1
        if self.steps[second] > 60:
            raise Violation("E:hot")
        if self.rng.random() < self.dies:
            self.say("a worker dies at once", key)
            self.dues[key] = self.now + _LEASE
            return
        self.held.add(key)
        self.dues.pop(key, None)
        {"stop": self.stop, "look": self.look, "fetch": self.fetch}[key[0]](work)

    # Planning, and what is sent
    # -----------------------------------------------------------------------------------------

    def seen(self, work: Work):
        """The call as this worker has read it."""
        if not work.found and self.book(work).size == work.size:
            return self.book(work).call()
        return replay(ACCOUNT, work.call_uuid, [*work.snapshot, *work.found])

    def think(self, work: Work, horizon: timedelta) -> None:
        for _ in range(50):
            work.call = self.seen(work)
            work.plan = planner.plan(
                work.call, self.rules, self.ms(), horizon=horizon, generation=self.generation
            )
            new = [
                replace(e, at=self.ms())
                for e in work.plan.conclusions
                if all(e.id != other.id for other in work.found)
            ]
            if not new:
                return
            work.found.extend(new)
        raise Violation("E:hot")

    def stop(self, work: Work) -> None:
        self.think(work, HORIZON)
        plan = work.plan
        requests = [*plan.sends, *plan.starts, *plan.transfers]
        self.say(
            "plan",
            [(x.recording_ids, x.url and "url") for x in plan.sends],
            "starts",
            [x.ordered.order for x in plan.starts],
            [c.kind.value for c in work.found],
        )
        self.judge_plan(plan)
        work.left = len(requests)
        for send in plan.sends:
            self.at(
                max(send.at, self.now) + s(self.rng.uniform(0.001, 0.03)), self.send, work, send
            )
        for start in plan.starts:
            self.after(self.rng.uniform(0.001, 0.03), self.start, work, start)
        for handoff in plan.transfers:
            self.after(self.rng.uniform(0.001, 0.03), self.transfer, work, handoff)
        if not requests:
            self.after(0.002, self.commit, work)

    def answer(self, work: Work, events: list[Event]) -> None:
        work.found.extend(replace(e, at=self.ms()) for e in events)
        work.left -= 1
        if work.left == 0:
            self.commit(work)

    def answer_once(self, work: Work, came: list[Event]) -> None:
        """Records the answer of a request that is sent at most once. Nothing was sent when anything
        was reported since the plan.
        """
        if not came:
            work.retry_at = self.now
        self.answer(work, came)

    def send(self, work: Work, send) -> None:
        if send.url is None and self.book(work).size != work.size:
            work.retry_at = self.now
            self.answer(work, [])
            return
        requested = self.ms()
        self.deletes += 1
        if work.call_uuid == A_LEG:
            self.note_delete(send.url)
            self.judge_delete(send, work)
        self.say("DELETE", send.recording_ids, send.url and "by url", send.note or "")
        kind, wait, status, effect = self.answers_delete(work.call_uuid, send.url)
        if effect:
            self.after(min(wait, 0.1) * self.rng.uniform(0.1, 1), self.takes_effect, send, work)
        self.after(wait, self.stopped, work, send, kind, requested, status)

    def note_delete(self, url: str | None) -> None:
        if url is None:
            self.wide.append(self.now)
        for rec in self.recs:
            if url is None or url == rec.address:
                rec.deleted.append(self.now)
                rec.named += url is not None

    def takes_effect(self, send, work: Work) -> None:
        for rec in self.hit_by_delete(work.call_uuid, send.url):
            if work.call_uuid == A_LEG:
                self.judge_end(rec, send, work)
            if self.tail:
                self.after(self.rng.uniform(0, self.tail), self.ends, rec, "stop")
            else:
                self.ends(rec, "stop")

    def stopped(
        self, work: Work, send, kind: Kind, requested: datetime, status: int | None
    ) -> None:
        events = []
        for i in send.recording_ids:
            recording = work.plan.recordings[i]
            if kind is Kind.STOP_ERRED and errors_in_a_row(recording) >= MOST_ERRORS_TOLD:
                work.retry_at = self.now + s(15)
                continue
            judged = stop_state.judge(work.call, recording, self.rules, requested)
            events.append(
                Event(
                    id=f"stop.{work.fence}.{i}",
                    kind=kind,
                    call_uuid=work.call_uuid,
                    recording_id=i or None,
                    named=bool(send.url),
                    requested_at=requested,
                    status=status,
                    trigger=judged.trigger,
                    rule=judged.rule,
                    due_at=judged.due_at,
                    action=judged.action if judged.action != Action.STOP else None,
                    reason=f"{status}" if status else send.note,
                )
            )
        self.answer(work, events)

    # What goes out once
    # --------------------------------------------------------------------------------------------

    def start(self, work: Work, start) -> None:
        o, rng = start.ordered, self.rng
        limit = ceiling_s(work.call, start, self.rules, self.ms())
        sent = Event(
            id=f"sent.{o.order}.{len(start.errors)}",
            kind=Kind.START_SENT,
            call_uuid=work.call_uuid,
            order=o.order,
            max_duration_s=float(limit),
        )
        if not self.record_together(work.call_uuid, [o, sent], seen=work.size):
            self.answer_once(work, [])
            return
        self.judge_start(start)
        self.sent_starts[o.order] = self.now
        if self.rng.random() < self.dies:
            self.say("a worker dies before a start")
            self.dies_at_work(work)
            return
        kind, wait, facts = Kind.START_ACCEPTED, rng.uniform(0.02, 0.3), {}
        if not self.lives() or work.call_uuid != A_LEG:
            kind, facts = Kind.START_FAILED, {"status": 404}
        elif rng.random() < self.start_fails:
            kind, wait = rng.choice(
                [
                    (Kind.START_UNCLEAR, 5.0),
                    (Kind.START_UNCLEAR, 5.0),
                    (Kind.START_ERRED, 0.05),
                    (Kind.START_FAILED, 0.05),
                ]
            )
            if kind is Kind.START_UNCLEAR and rng.random() < 0.8:
                self.begins(xml=False, order=o.order, length=limit)
        else:
            rec = self.begins(xml=False, order=o.order, length=limit)
            facts = {"recording_id": rec.rid, "url": rec.url}
        self.after(wait, self.started, work, start, kind, facts)

    def started(self, work: Work, start, kind: Kind, facts: dict) -> None:
        order = start.ordered.order
        name = (
            f"erred.{order}.{len(start.errors)}" if kind is Kind.START_ERRED else f"started.{order}"
        )
        if self.rng.random() < self.dies:
            self.say("a worker dies after a start")
            self.dies_at_work(work)
            return
        self.record(Event(id=name, kind=kind, call_uuid=work.call_uuid, order=order, **facts))
        self.answer_once(
            work,
            [
                self.book(work).events[f"sent.{order}.{len(start.errors)}"],
                self.book(work).events[name],
            ],
        )

    def transfer(self, work: Work, handoff) -> None:
        found = verdict(work.call, self.rules, handoff)
        go = decided(work.call, handoff, found, go=True, by="us")
        if self.ms() > send_by(handoff, found) or not self.record_together(
            work.call_uuid, [go], seen=work.size
        ):
            self.answer_once(work, [])
            return
        event = Event(
            id=f"transfer.{handoff.asked.order}",
            kind=Kind.TRANSFER_SENT if self.lives() else Kind.TRANSFER_FAILED,
            call_uuid=work.call_uuid,
            order=handoff.asked.order,
        )
        self.record(event)
        self.answer_once(work, [self.book(work).events[go.id], self.book(work).events[event.id]])

    # Ending a piece of work
    # --------------------------------------------------------------------------------------------

    def dies_at_work(self, work: Work) -> None:
        work.dead, work.left = True, -99
        self.held.discard(work.key)
        self.dues[work.key] = self.now + _LEASE

    def commit(self, work: Work) -> None:
        if work.dead:
            return
        if self.rng.random() < self.dies:
            self.say("a worker dies before it commits", work.key)
            self.dies_at_work(work)
            return
        if work.plan.sends or work.plan.starts or work.plan.transfers:
            self.think(work, timedelta(0))
        plan = work.plan
        left = (
            []
            if work.retry_at
            else [*(x.at for x in plan.sends), *(self.now for _ in (*plan.starts, *plan.transfers))]
        )
        stop_at = min((t for t in (plan.plan_at, work.retry_at, *left) if t), default=None)
        newer = self.book(work).size != work.size or work.generation != self.generation
        fresh = self._write(work, work.found)
        dues = {("stop", work.call_uuid, ""): stop_at, ("look", work.call_uuid, ""): plan.look_at}
        dues |= {("fetch", work.call_uuid, r): t for r, t in plan.fetch_at.items()}
        for key, instant in dues.items():
            if key in self.held:
                continue
            self.dues.pop(key, None)
            if instant is not None:
                self.dues[key] = instant
        if newer:
            self.dues["stop", work.call_uuid, ""] = self.now
        self.judge_moment()
        if fresh:
            self.news()

    def _write(self, work: Work, found: list[Event]) -> int:
        self.held.discard(work.key)
        new = [e for e in found if e.id not in self.book(work).events]
        for event in new:
            self.store(event)
        return len(new)

    def commit_and_plan(self, work: Work, found: list[Event]) -> None:
        self.held.discard(work.key)
        if self.rng.random() < self.dies:
            self.dues[work.key] = self.now + _LOOK_LEASE
            return
        self.dues[work.key] = self.now + _SAFETY_DUE
        self._write(work, found)
        self.make_due_now(("stop", work.call_uuid, ""))
        self.judge_moment()
        self.news()

    # Looks
    # --------------------------------------------------------------------------------------------

    def look(self, work: Work) -> None:
        self.after(self.rng.uniform(0.05, 0.5), self.looked, work)

    def looked(self, work: Work) -> None:
        call, found = self.seen(work), []
        looked = Event(
            id=f"look.{work.fence}",
            kind=Kind.LOOKED,
            call_uuid=work.call_uuid,
            requested_at=work.began,
        )
        if self.rng.random() < self.fails / 2:
            looked = replace(looked, reason="500")
        else:
            found = self.rows(work.call_uuid)
            ended = {e.recording_id for e in found if is_end(e)}
            all_over = bool(call.recordings) and all(
                r.over_at or r.recording_id in ended for r in call.recordings.values()
            )
            if call.over_at is None and not (all_over and not self._may_be_more(call, work.began)):
                live = self.is_seen_live() if work.call_uuid == A_LEG else self.lives()
                looked = replace(looked, live=live)
                if live:
                    looked = replace(
                        looked,
                        from_number="918065550101",
                        to_number="919820055512",
                        direction="outbound",
                    )
        self.commit_and_plan(work, [*found, looked])

    def _may_be_more(self, call, now: datetime) -> bool:
        rule, terms = self.rules.choose(call)
        hidden = unseen(call, acts(call, self.rules), terms, rule, now)
        return bool(unsettled(call)) or (hidden is not None and hidden.over_at is None)

    # Fetching
    # --------------------------------------------------------------------------------------------

    def fetch(self, work: Work) -> None:
        self.after(self.rng.uniform(0.05, 2), self.fetched, work)

    def fetched(self, work: Work) -> None:
        call, rid = self.seen(work), work.key[2]
        recording = call.recordings.get(rid)
        if recording is None or recording.archived:
            self.held.discard(work.key)
            return
        if recording.gave_up:
            filed = Event(
                id=f"absence.{rid}",
                kind=Kind.ABSENCE_FILED,
                call_uuid=work.call_uuid,
                recording_id=rid,
            )
            self.commit_and_plan(work, [filed])
            return
        rec = next((r for r in self.recs if r.rid == rid), None)
        is_here = rec is not None and rec.lists_at is not None and rec.lists_at <= self.now
        # A callback named it under a call that it does not belong to.
        elsewhere = (
            work.call_uuid != A_LEG
            and is_here
            and any(e.recording_id == rid for e in self.log.values())
        )
        if not is_here or elsewhere:
            failure = Event(
                id=f"fetch.{work.fence}",
                kind=Kind.FETCH_FAILED,
                call_uuid=work.call_uuid,
                recording_id=rid,
                reason="404",
                fault=Fault.MEDIA if elsewhere else Fault.PROVIDER,
                generation=self.generation,
            )
            if says_nothing_new(recording, failure) and not is_lost(call, recording, self.now):
                self.held.discard(work.key)
                self.dues[work.key] = rarely(failure, self.now)
            else:
                self.commit_and_plan(work, [failure])
            return
        listed = replace(
            next(e for e in self.rows() if e.recording_id == rid), call_uuid=work.call_uuid
        )
        stop = stop_state.judge(call, recording, self.rules, self.now)
        self.commit_and_plan(
            work,
            [
                listed,
                Event(
                    id=f"archived.{rid}",
                    kind=Kind.MEDIA_ARCHIVED,
                    call_uuid=work.call_uuid,
                    recording_id=rid,
                    archive_key=rid,
                    rule=stop.rule,
                    due_at=stop.due_at,
                    trigger=stop.trigger if stop.due_at else None,
                    enforced=stop.state is not StopState.NONE,
                ),
            ],
        )

    # Surveys
    # --------------------------------------------------------------------------------------------

    def survey(self, every: float) -> None:
        for event in self.rows():
            known = [e for e in self.log.values() if e.recording_id == event.recording_id]
            if not any(
                e.id == event.id
                or e.kind in {Kind.MEDIA_ARCHIVED, Kind.GAVE_UP}
                or (is_end(e) and (e.signed or e.kind is Kind.RECORDING_LISTED))
                for e in known
            ):
                self.record(event)
        if self.lives() and not self.log and self.rules.watches:
            self.record(
                Event(
                    id="found-live",
                    kind=Kind.CALL_FOUND_LIVE,
                    call_uuid=A_LEG,
                    from_number="918065550101",
                    to_number="919820055512",
                    direction="outbound",
                )
            )
        if (
            not self.lives()
            and self.log
            and min(e.at for e in self.log.values()) <= self.now - s(60)
        ):
            call = self.call()
            if found_live(call) or (
                call.claimed_over_at is None
                and any(
                    not (r.over_at or r.archived or r.gave_up or r.trunk)
                    for r in call.recordings.values()
                )
            ):
                self.make_due_now(("look", A_LEG, ""))
        if self.live or self.now < self.hung_up_at + timedelta(hours=6):
            self.after(
                every,
                self.survey,
                every if self.live or self.now < self.hung_up_at + s(900) else 3600,
            )

    def reload(self) -> None:
        self.say("RELOAD")
        self.generation += 1
        self.reloaded_at = self.now
        self.rules, self.later_rules = self.later_rules, self.rules
        self.make_due_now(("stop", A_LEG, ""))
