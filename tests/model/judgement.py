"""Judges a life by the truth at the provider and by our own reading of the rules.

Classes of violations, the worst letter first. `run.py --mute` leaves classes out; those in
CONTRACTS_WILL never count.

    A:over      a recording counts as proven over (over_at, confirmed, already_over) while it runs
    A:told      go, proven, while a recording runs that had begun before the question and that Endtape was told of
    A:ordered   the same, where Endtape had itself sent the order to start it and never learned its name
    A:trunk     the same on a call of a trunk that Endtape was told of: nobody can stop the trunk's own recording
    A:room      a conference's recording counts as over because the leg that it is filed under hung up
    A:back      a recording that counted as over counts so no longer, and no 404 was taken back
    A:newborn   go, proven, and Endtape itself starts or resumes a recording for an order older than the question
    A:unproven  an answer that cannot be: proven on a call that nobody knows, go where the rule says hold
    B:told      a DELETE of ours ended a recording that no rule ended
    B:ordered   the same, where Endtape had sent the order to start it and not learned its name
    S:after     a start was sent although a stop, a pause or a hand-off for all had come after what asked for the start
    S:many      several starts went out for one logical recording at once
    S:stale     a start that a rule or a resume wants went out more than 60 s later
    S:race      a recording was resumed in the midst of a connected dial, because a leg of it had lost the race
    C:never     a stop is due, Endtape was told, and no DELETE went out
    C:stalls    a stop is due and unproven, the call lives, and no DELETE went out for 90 s
    C:named     by-URL stops have no effect, nothing else runs, and the whole call was never stopped
    C:ordered   a trigger came, and no DELETE goes out for what Endtape ordered and whose name it did not learn
    C:asked     a person or a hand-off asked, and no DELETE left within seconds although the recording runs unproven
    C:watch     a call that was found live is not stopped at its deadline from first sight
    C:resume    nothing was resumed although somebody resumed, or a transfer failed, and nothing else had happened
    C:nobody    for an id that was never a call: something was repeated, an alert raised, or a hand-off not held at once
    D:lost      a recording that Endtape knew of and that has a file was not archived
    E:hot       more than 60 steps of work within one simulated second, or a plan without a fixed point
    E:log       too many looks or events in a call's log, or still at work 45 days after the end of the call
    F:error     an exception
"""

from __future__ import annotations

from collections import Counter

from tests.model.application import Ask
from tests.model.ours import (
    Event,
    Kind,
    Mode,
    StopState,
    is_end,
    planner,
    timing,
    unsettled,
    views,
)
from tests.model.reading import PAUSE, RESUME, STOP
from tests.model.truth import Rec
from tests.model.workers import Work, Workers
from tests.model.world import A_LEG, Violation, s, since_start

# What the contract accepts, each with the sentence that says so.
CONTRACTS_WILL = {
    "A:late": "4, Proof: a question is proven by what it is about; one stop for all is sent before the answer all the same (it ends what "
    "nobody told us of), needing no proof",
    "A:untold": "4, Proof: where all that were known when it was asked are proven over and no start is unclear, a hand-off is go, proven",
    "A:unheard": "4, Proof: of a trunk's or a conference's recording, where nobody ever said that it is one",
    "A:lie": "4, Proof: a 404 for the call under a reported uuid is call_over; it speaks of what had begun by then, and stands until a "
    "signed sign of life takes it back",
    "B:lie": "the same sentence: what a 404 has proven over does not stand in the way of a call-wide stop",
    "B:untold": "5, What a stop ends: a call-wide stop is used when the recordings it is about are all that run, as far as anybody told",
    "B:all": "a provider whose DELETE with a URL ends all of a call: nobody can end one alone there",
    "B:beside": "5, What a stop ends: a deadline whose recording cannot be named, or is unproven after stop_tries, goes call-wide where "
    "only unclear starts run beside it, and the timeline says so",
}
_PROVEN = {StopState.CONFIRMED, StopState.ALREADY_OVER}
_SIGNS = {
    Kind.CALL_SEEN,
    Kind.RECORDING_STARTED,
    Kind.CALL_TRANSFERRED,
    Kind.CALL_REDIRECTED,
    Kind.DIAL_ANSWERED,
    Kind.DIAL_CONNECTED,
    Kind.CONFERENCE_ENTERED,
    Kind.MACHINE_DETECTED,
}


class Judgement(Workers):
    def begin(self) -> None:
        super().begin()
        self.over: set[str] = set()

    # Whether the provider misled everybody
    # --------------------------------------------------------------------------------

    def deceived(self, since) -> bool:
        """Whether a wrong 404 for the call came after that instant and has not been corrected."""
        lie = self.deceived_at(since)
        if lie is None:
            return False
        return not any(at > lie + s(4) for at in self.signs_of_life())

    def signs_of_life(self) -> list:
        """The instants at which events showed that the call lives. Late reports about a recording
        that is over do not count.
        """
        over = {e.recording_id for e in self.log.values() if is_end(e)}
        return [
            e.at
            for e in self.log.values()
            if _is_sign(e) and not (e.kind is Kind.RECORDING_STARTED and e.recording_id in over)
        ]

    # Stops
    # --------------------------------------------------------------------------------------------

    def judge_plan(self, plan) -> None:
        roots = Counter(x.ordered.segment_of for x in plan.starts if x.ordered.segment_of)
        if any(n > 1 for n in roots.values()):
            self.violation("S:many", f"{roots} at once", str(roots))

    def judge_delete(self, send, work: Work) -> None:
        """Judges a DELETE for an id that was never a call: each order sends once, and an error is
        tried again.
        """
        if self.nobody:
            asked = [
                e
                for e in self.log.values()
                if e.kind in {Kind.STOP_ORDERED, Kind.PAUSE_ORDERED, Kind.HANDOFF_ASKED}
            ]
            erred = [e for e in self.log.values() if e.kind is Kind.STOP_ERRED]
            if self.deletes > len(asked) + len(erred) + self.died:
                self.violation(
                    "C:nobody", f"{self.deletes} DELETEs for {len(asked)} orders", "repeated"
                )

    def may_be_ended(self, rec: Rec, work: Work) -> bool:
        known = work.snapshot + [e for e in work.found if e.at <= self.now]
        due = self.due_at(rec, known, by_truth=True)
        decided_before = [
            e
            for e in self.log.values()
            if e.recording_id == rec.rid and e.requested_at and e.due_at
        ]  # the rules may have changed since
        planned_before = (
            self.reloaded_at is not None and work.began <= self.reloaded_at
        )  # by the rules of then
        return bool(decided_before) or planned_before or (due is not None and due <= self.now)

    def judge_end(self, rec: Rec, send, work: Work) -> None:
        """Judges the end of a recording by our DELETE."""
        if self.may_be_ended(rec, work):
            return
        if send.url is not None and send.url != rec.address:
            kind = "B:all"
        elif self.deceived(rec.begun):
            kind = "B:lie"
        elif rec.told_at and rec.told_at <= work.began:
            kind = "B:told"
        elif rec.order and rec.order in self.sent_starts:
            kind = "B:beside" if self._goes_beside(send, work) else "B:ordered"
        else:
            kind = "B:untold"
        self.violation(
            kind,
            f"{self.told(rec)} ended by a DELETE {'call-wide' if send.url is None else 'by URL'} "
            f"for {send.recording_ids}",
            rec.rid,
        )

    def _goes_beside(self, send, work: Work) -> bool:
        """Whether a deadline went call-wide because its recording could not be ended by name."""
        if not send.note:
            return False
        tries = self.terms(work.snapshot).stop_tries
        for i in send.recording_ids:
            if not i:
                continue  # what nobody told us of has no name
            rec = next((r for r in self.recs if r.rid == i), None)
            told_url = any(e.recording_id == i and e.url for e in work.snapshot)
            if rec is None or (told_url and len(rec.deleted) <= tries):
                return False
        return True

    # Starts
    # --------------------------------------------------------------------------------------------

    def judge_start(self, start) -> None:
        """Judges a start that is sent now."""
        o = start.ordered
        if not o.segment_of:
            return
        acts = self.acts(self.events())
        if self.now - o.due_at > timing.RESUME_WITHIN + s(1) and not start.errors:
            self.violation("S:stale", f"a resume of {since_start(o.due_at)} is sent now", o.order)
        later = [a for a in acts if a.ends_all and a.at > o.due_at]
        if later and not any(a.action is RESUME and a.at > later[-1].at for a in acts):
            self.violation(
                "S:after",
                f"resumed at {since_start(o.due_at)} by {o.trigger}, ended for all at "
                f"{since_start(later[-1].at)} by {later[-1].trigger}",
                o.order,
            )
        for ask in self.asks.values():
            asked = self.log[f"asked.{ask.order}"]
            if (
                ask.proven_at
                and asked.at > o.due_at
                and ask.proven_at > o.due_at
                and self.now - ask.proven_at < s(120)
            ):
                self.violation(
                    "A:newborn",
                    f"resumed at {since_start(o.due_at)}, {ask.order} asked at "
                    f"{since_start(asked.at)} and told go, proven",
                    o.order,
                )
        self._judge_race(o)

    def _judge_race(self, o: Event) -> None:
        if o.trigger != "transfer.failed":
            return
        ended = [
            e
            for e in self.log.values()
            if e.kind is Kind.DIAL_ENDED and e.at == o.due_at and e.id in self.dial_of
        ]
        for event in ended:
            dial = self.dial_of[event.id]
            if (
                dial.connected
                and dial.told_at
                and dial.told_at < self.now - s(0.2)
                and not any(
                    e.kind is Kind.HANDOFF_FAILED and e.at == o.due_at for e in self.log.values()
                )
            ):
                self.violation(
                    "S:race",
                    f"resumed by a leg's end at {since_start(event.at)}, the dial was connected, "
                    f"told {since_start(dial.told_at)}",
                    o.order,
                )

    # Answers
    # --------------------------------------------------------------------------------------------

    def judge_answer(self, ask: Ask, said: Event) -> None:
        if said.verdict == "go" and said.proven:
            self.judge_proven(ask, said)
        if self.nobody and not any(r.told_at for r in self.recs):
            terms = self.terms(self.events())
            asked = self.log[f"asked.{ask.order}"]
            ends = terms.mode is Mode.ENFORCE and terms.action(asked.trigger, asked=True) in (
                STOP,
                PAUSE,
            )
            if (
                said.proven
                and ends
                and not any(e.kind is Kind.NOTHING_DECLARED for e in self.log.values())
            ):
                self.violation(
                    "A:unproven",
                    f"{ask.order}: proven by {said.evidence} on a call that nobody knows",
                    ask.order,
                )
            late = s(4 + (20 if self.fails else 0) + (12 if self.dies else 0))
            if (
                ends
                and said.verdict == "hold"
                and said.at > max(asked.at, self.healthy_since()) + late
            ):
                self.violation(
                    "C:nobody",
                    f"{ask.order} was held only after {(said.at - asked.at).total_seconds()} s",
                    "late",
                )

    def judge_proven(self, ask: Ask, said: Event) -> None:
        asked = self.log[f"asked.{ask.order}"]
        for rec in self.recs:
            begun = rec.ordered_at if rec.order else rec.begun
            if (
                not rec.runs
                or begun is None
                or begun > asked.at
                or rec.kind == "room"
                or rec.leg != A_LEG
            ):
                continue
            kind = self._unproven(rec, asked, said)
            self.violation(
                kind,
                f"{self.told(rec)} runs, asked {since_start(asked.at)}, evidence {said.evidence}",
                ask.order,
            )
        ask.proven_at = self.now

    def _unproven(self, rec: Rec, asked: Event, said: Event) -> str:
        if "call_over" in said.evidence and self.deceived(rec.begun):
            return "A:lie"
        if rec.kind == "trunk":
            heard = any(e.trunk and e.at <= said.at for e in self.log.values())
            return "A:trunk" if heard else "A:unheard"
        if rec.told_at is not None and rec.told_at <= said.at:
            return "A:told"
        if rec.order and rec.order in self.sent_starts:
            return "A:ordered"
        return "A:late" if any(w >= asked.at for w in self.wide) else "A:untold"

    # Every moment
    # --------------------------------------------------------------------------------------------

    def healthy_since(self):
        """The instant since which our workers have run with the present rules and no wrong 404 has
        misled them.
        """
        since = [b for a, b in self.down if a <= self.now]
        if self.reloaded_at:
            since.append(self.reloaded_at)
        if self.lied_at:
            since += self.signs_of_life()
        return max(since, default=self.begun_at)

    def judge_moment(self) -> None:
        for book in self.books.values():
            call = book.call()
            if self.fence % 8 == 0:
                views.call_view(call, self.rules, self.now)
            for rid, recording in call.recordings.items():
                self._judge_recording(call, rid, recording)
            if book.size > 2000:
                raise Violation("E:log")
        call = self.call()
        if self.nobody and call.unknowns:
            self.violation("C:nobody", "an alert was raised", "alert")
        if not any(a <= self.now <= b for a, b in self.down):
            self.judge_watch(call)
            for rec in self.recs:
                self.judge_due(rec)

    def _judge_recording(self, call, rid: str, recording) -> None:
        rec = next((r for r in self.recs if r.rid == rid), None)
        stop = planner.judge(call, recording, self.rules, self.now)
        planner.phase(recording, stop)
        planner.problem(recording, stop)
        about = f"{call.call_uuid} {rid}"
        if recording.over_at:
            if set(recording.evidence) != {"call_over"} or call.hung_up_at:
                self.over.add(about)  # a 404 alone may be taken back
        elif about in self.over:
            self.violation("A:back", about, about)
        if rec and rec.runs and (recording.over_at or stop.state in _PROVEN):
            lie = set(recording.evidence) == {"call_over"} and self.deceived(rec.begun)
            heard = any(e.room for e in call.events if e.recording_id == rid)
            kind = (
                "A:lie"
                if lie
                else "A:over"
                if rec.kind != "room"
                else "A:room"
                if heard
                else "A:unheard"
            )
            self.violation(
                kind,
                f"{self.told(rec)} runs and counts as {stop.state} by {recording.evidence}",
                rid,
            )

    def waits(self):
        """How long things may take in this life."""
        return s(8 + (20 if self.fails else 0) + (12 if self.dies else 0))

    def judge_due(self, rec: Rec) -> None:
        if (
            not rec.runs
            or not self.lives()
            or rec.kind
            or rec.leg != A_LEG
            or self.deceived(rec.begun)
        ):
            return
        events = self.events()
        if rec.told_at is None:
            self._judge_ordered(rec, events)
            return
        named_at = min((e.at for e in events if e.recording_id == rec.rid and e.url), default=None)
        due = self.due_at(rec, events, by_truth=False)
        if due is None or named_at is None:  # nothing to name it by
            return
        since = max(due, rec.told_at, named_at, self.healthy_since())
        sent = [d for d in rec.deleted if d >= due - s(90)]
        if not sent and self.now > since + self.waits():
            self.violation(
                "C:never", f"{self.told(rec)} due {since_start(due)} and no DELETE", rec.rid
            )
        elif sent and self.now > max(sent[-1], self.healthy_since()) + s(90) + self.waits():
            self.violation(
                "C:stalls",
                f"{self.told(rec)} due {since_start(due)}, last DELETE {since_start(sent[-1])}",
                rec.rid,
            )
        self._judge_named(rec, due)
        self._judge_asked(rec, events, named_at)

    def _judge_named(self, rec: Rec, due) -> None:
        """Judges that the whole call is stopped where a stop by name fails, unless something else
        runs that must go on.
        """
        if self.by_url not in ("does nothing", "is answered 404") or rec.named < 3:
            return
        wide = [d for d in self.wide if d >= due - s(1)]
        call = self.call()
        alone = (
            all(r is rec or not r.runs for r in self.recs)
            and not unsettled(call)
            and all(r.over_at for i, r in call.recordings.items() if i != rec.rid)
        )
        self.alone_since[rec.rid] = self.alone_since.get(rec.rid, self.now) if alone else self.now
        if (
            alone
            and not wide
            and self.now
            > max(self.alone_since[rec.rid], self.healthy_since()) + s(90) + self.waits()
        ):
            self.violation("C:named", f"{self.told(rec)} was named {rec.named} times", rec.rid)

    def _judge_asked(self, rec: Rec, events: list[Event], named_at) -> None:
        """Judges that a person's stop or a hand-off always sends at once, whatever was tried
        before.
        """
        asked = [
            a
            for a in self.acts(events)
            if a.ends
            and a.event.kind in {Kind.STOP_ORDERED, Kind.PAUSE_ORDERED, Kind.HANDOFF_ASKED}
            and self.is_about(a, rec)
            and (rec.ordered_at or rec.told_at) <= a.at
            and rec.told_at <= a.at
        ]
        if not asked:
            return
        at = max(a.at for a in asked)
        if (
            not any(d >= at for d in rec.deleted)
            and self.now > max(at, named_at, self.healthy_since()) + self.waits()
        ):
            self.violation(
                "C:asked",
                f"{self.told(rec)} was to end at {since_start(at)}, last DELETE "
                f"{[since_start(d) for d in rec.deleted[-1:]]}",
                rec.rid,
            )

    def _judge_ordered(self, rec: Rec, events: list[Event]) -> None:
        if not rec.order or f"started.{rec.order}" not in self.log:
            return
        if any(not r.over_at for r in self.call().recordings.values()):
            return  # it has no name, and what else runs must not be ended: unknown, with an alert
        acts = [a for a in self.acts(events) if a.ends_all and a.at >= rec.ordered_at]
        if not acts or any(d >= acts[0].at for d in self.wide):
            return
        if (
            self.now
            > max(acts[0].at, self.log[f"started.{rec.order}"].at, self.healthy_since())
            + self.waits()
        ):
            self.violation(
                "C:ordered",
                f"{rec.rid} was ordered, {acts[0].trigger} came at {since_start(acts[0].at)}, and "
                "nothing was sent",
                rec.rid,
            )

    def judge_watch(self, call) -> None:
        """Judges that a call that was found live is stopped at its deadline from first sight, if
        something runs that nobody reported.
        """
        seen = call.found_live_at
        if (
            not seen
            or not self.lives()
            or self.generation
            or self.deceived(seen)
            or not any(
                r.runs and r.told_at is None and not r.kind and r.begun < seen for r in self.recs
            )
        ):
            return
        if any(
            r.ours_at is None
            and r.started_at <= seen + s(5)
            and (r.ended_at or r.over_at or seen) >= seen
            for r in call.recordings.values()
        ):
            return  # a recording that ran at first sight is known: the call is announced
        terms = self.terms(self.events())
        if terms.max_duration is None or terms.mode is Mode.OBSERVE or not terms.watch:
            return
        due = seen + terms.max_duration
        if any(
            not r.over_at and not r.trunk and r.known_at <= self.now
            for r in call.recordings.values()
        ) or unsettled(call):
            # It cannot be named, and what else runs must not be ended: unknown, with an alert,
            # until it runs alone.
            self.alone_since["watch"] = self.now + s(60)
        due = max(due, self.alone_since.get("watch", due))
        if self.now > max(due, self.healthy_since()) + s(4) + self.waits() and not any(
            d >= seen + terms.max_duration - s(1) for d in self.wide
        ):
            self.violation(
                "C:watch",
                f"found live at {since_start(seen)}, due {since_start(due)}, and nothing was sent",
                "watch",
            )

    def undisturbed(self, since) -> bool:
        return (
            self.lives()
            and not (self.dies or self.start_fails or self.fails or self.lied_at)
            and not any(a <= self.now and b >= since - s(1) for a, b in self.down)
        )

    def judge_resume(self, resume: Event | None, paused: list[Rec]) -> None:
        """Judges the state ten seconds after a resume that should have worked."""
        names = [r.rid for r in paused]
        if resume is None:
            if self.undisturbed(self.now - s(30)):
                self.violation(
                    "C:resume",
                    f"resumed 10 s ago after a pause that ended {names}: 409, nothing is paused",
                    "409",
                )
            return
        if not self.undisturbed(resume.at) or any(
            a.at > resume.at for a in self.acts(self.events())
        ):
            return
        if not any(
            e.kind is Kind.START_ORDERED and e.segment_of and e.due_at == resume.at
            for e in self.log.values()
        ):
            self.violation(
                "C:resume",
                f"resumed at {since_start(resume.at)} after a pause that ended {names}, and "
                "nothing started",
                resume.id,
            )

    def judge_redial(self, failed: Event) -> None:
        """Judges the state ten seconds after a failed dial: recordings that the transfer ended must
        have been resumed.
        """
        acts = self.acts(self.events())
        mine = next((a for a in acts if a.event.id == failed.id), None)
        if (
            mine is None
            or mine.action is not RESUME
            or not mine.enforced
            or not self.undisturbed(failed.at)
        ):
            return
        before = [a for a in acts if a.at < failed.at and (a.ends or a.action is RESUME)]
        if (
            any(a.at > failed.at for a in acts)
            or not before
            or not before[-1].ends
            or any(a.action is PAUSE or a.recording_id for a in acts)
            or not before[-1].trigger.startswith("transfer")
            or self.generation
        ):
            return
        since = before[-1].at
        ended = [
            r
            for r in self.recs
            if r.how == "stop"
            and r.told_at
            and r.told_at < since
            and since <= r.ended < failed.at
            and r.leg == A_LEG
            and not r.kind
        ]
        if not ended or any(r.begun >= since or r.runs for r in self.recs):
            return
        if not any(
            e.kind is Kind.START_ORDERED and e.due_at == failed.at for e in self.log.values()
        ):
            self.violation(
                "C:resume",
                f"a dial failed at {since_start(failed.at)} after a transfer that ended "
                f"{[r.rid for r in ended]}, and nothing started",
                failed.id,
            )

    # The end
    # --------------------------------------------------------------------------------------------

    def judge_life(self) -> None:
        call = self.call()
        for rec in self.recs:
            known = call.recordings.get(rec.rid)
            if rec.told_at and rec.lists_at and (known is None or not known.archived):
                self.violation(
                    "D:lost",
                    f"{rec.rid}: "
                    f"{known and (known.evidence, known.gave_up and known.gave_up.reason)}",
                    rec.rid,
                )
        if any(not h.decided for h in call.handoffs.values()):
            self.violation("C:never", "a question was never answered", "ask")
        for book in self.books.values():
            shuffled = list(book.events.values())
            self.rng.shuffle(shuffled)
            if book.call() != type(book).call(_with(book, shuffled)):
                self.violation("F:error", "the order of the events makes a difference")
        looks = sum(e.kind is Kind.LOOKED for e in self.log.values())
        if looks > 400:
            self.violation("E:log", f"{looks} looks, {len(self.log)} events in all")


def _is_sign(event: Event) -> bool:
    """Whether the event shows that the call lives."""
    return (
        (event.signed and event.kind in _SIGNS)
        or event.kind is Kind.START_ACCEPTED
        or (event.kind is Kind.LOOKED and bool(event.live))
    )


def _with(book, events: list[Event]):
    other = type(book)(book.call_uuid)
    other.events = {e.id: e for e in events}
    return other
