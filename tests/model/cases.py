"""The smallest sequences that the model found, each as a claim about the pure core. A case returns
True when the claim holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.model.ours import (
    REPEAT_AFTER,
    Action,
    Event,
    Kind,
    Match,
    Mode,
    Rule,
    Rules,
    Terms,
    callbacks,
    may_happen_again,
    planner,
    replay,
    stop_state,
    verdict,
)

T0 = datetime(2026, 9, 14, 6, 30, tzinfo=UTC)
SIGNED = {Kind.CALL_SEEN, Kind.RECORDING_STARTED, Kind.RECORDING_FINALIZED, Kind.CALL_ENDED}
ON = {
    "transfer": Action.STOP,
    "transfer.failed": Action.RESUME,
    "custom.card": Action.PAUSE,
    "custom.done": Action.RESUME,
}
HOUR = Rules(defaults=Terms(max_duration=timedelta(hours=1), on=ON))


def t(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


class Log:
    def __init__(self, rules: Rules = HOUR) -> None:
        self.events: list[Event] = []
        self.rules = rules

    def add(self, at: float, kind: Kind, **facts) -> Event:
        facts.setdefault("id", f"{kind}.{len(self.events)}")
        facts.setdefault("signed", kind in SIGNED)
        return self.record(at, Event(kind=kind, call_uuid="c", **facts))

    def record(self, at: float, event: Event) -> Event:
        """Records as the ledger does. The same event within a while is a repeat; later only where
        it can happen again.
        """
        like = [e.at for e in self.events if e.id == event.id or e.id.startswith(f"{event.id}.")]
        if like and may_happen_again(event) and t(at) - max(like) >= REPEAT_AFTER:
            event, like = replace(event, id=f"{event.id}.{at:g}"), []
        event = replace(event, at=t(at))
        if not like:
            self.events.append(event)
        return event

    def call(self):
        return replay("MA_1", "c", self.events)

    def plan(self, at: float):
        return planner.plan(self.call(), self.rules, t(at))

    def settle(self, at: float):
        """Records the planner's conclusions until there are no more. Returns the last plan."""
        while new := [
            e for e in self.plan(at).conclusions if all(e.id != o.id for o in self.events)
        ]:
            self.events += [replace(e, at=t(at)) for e in new]
        return self.plan(at)

    def stop(self, at: float, kind: Kind = Kind.STOP_ACCEPTED, **facts):
        """Sends what is due and records the answer. Returns what was sent."""
        plan = self.settle(at)
        for send in plan.sends:
            for i in send.recording_ids:
                judged = stop_state.judge(self.call(), plan.recordings[i], self.rules, t(at))
                self.add(
                    at,
                    kind,
                    recording_id=i or None,
                    named=bool(send.url),
                    requested_at=t(at),
                    trigger=judged.trigger,
                    rule=judged.rule,
                    due_at=judged.due_at,
                    **facts,
                )
        return plan.sends

    def end(self, at: float, recording: str, began: float, ended: float) -> None:
        self.add(
            at,
            Kind.RECORDING_FINALIZED,
            recording_id=recording,
            url=f"u/{recording}",
            started_at=t(began),
            ended_at=t(ended),
            duration_s=ended - began,
        )

    def ask(self, at: float) -> None:
        self.add(at, Kind.HANDOFF_ASKED, order="h", trigger="transfer.blind", wait_s=3.0)

    def proven(self) -> bool:
        call = self.call()
        return verdict(call, self.rules, call.handoffs["h"]).proven


def paused(end: float = 10.1) -> Log:
    """R1 runs from 0, is paused at 10 and proven over at 10.2. The provider reports its end at
    `end`.
    """
    log = Log()
    log.add(0, Kind.CALL_SEEN)
    log.add(0, Kind.RECORDING_STARTED, recording_id="R1", url="u/R1")
    log.add(10, Kind.PAUSE_ORDERED)
    log.stop(10.05)
    log.end(10.2, "R1", 0, end)
    return log


def case_1a_a_handoff_while_a_resume_is_under_way_is_not_proven() -> bool:
    log = paused()
    log.add(20, Kind.RESUME_ORDERED)
    order = log.plan(20).conclusions[
        0
    ]  # StartOrdered: in the planner's hand, not yet in the ledger
    log.add(
        20.01, Kind.START_SENT, order=order.order
    )  # this is written down before the request leaves
    log.ask(20.5)
    return not log.proven()


def case_1b_a_stop_while_a_resume_is_under_way_ends_what_it_started() -> bool:
    log = paused()
    log.add(20, Kind.RESUME_ORDERED)
    order = log.plan(20).conclusions[0]
    log.add(20.01, Kind.START_SENT, order=order.order)
    log.add(20.5, Kind.STOP_ORDERED)
    log.add(21, Kind.START_ACCEPTED, order=order.order, recording_id="R2", url="u/R2")
    log.events.append(replace(order, at=t(21)))  # the commit's own instant
    return any("R2" in s.recording_ids for s in log.settle(21.1).sends)


def case_2a_a_stop_that_came_after_the_resume_is_final_though_the_planner_was_late() -> bool:
    log = paused()
    log.add(20, Kind.RESUME_ORDERED)
    log.add(25, Kind.STOP_ORDERED)
    return not log.settle(30).starts


def case_2b_a_resume_is_not_sent_ten_minutes_later() -> bool:
    log = paused()
    log.add(20, Kind.RESUME_ORDERED)
    return not log.settle(620).starts


def case_2c_what_is_learned_late_starts_nothing_after_a_final_stop() -> bool:
    log = Log()
    log.add(0, Kind.CALL_SEEN)
    log.add(10, Kind.CALL_TRANSFERRED)
    log.add(12, Kind.HANDOFF_FAILED)
    log.add(20, Kind.STOP_ORDERED)
    log.stop(20.05)
    log.add(
        100,
        Kind.RECORDING_LISTED,
        recording_id="R0",
        url="u/R0",
        started_at=t(0.5),
        ended_at=t(20.1),
        duration_s=19.6,
    )
    return not log.settle(100).starts


def case_2d_pauses_of_the_past_do_not_each_start_a_recording_when_a_rule_arrives() -> bool:
    log = Log(
        Rules(
            defaults=Terms(on={}),
            rules=(Rule(name="card", match=Match(labels={"team": "card"}), terms=Terms(on=ON)),),
        )
    )
    log.add(0, Kind.RECORDING_STARTED, recording_id="R1", url="u/R1")
    for n in range(3):
        log.add(10 + 20 * n, Kind.CUSTOM_REPORTED, trigger="custom.card")
        log.add(20 + 20 * n, Kind.CUSTOM_REPORTED, trigger="custom.done")
    log.add(200, Kind.CALL_ANNOUNCED, labels={"team": "card"})
    log.stop(200.05)
    log.end(200.2, "R1", 0, 200.1)
    return len(log.settle(200.3).starts) <= 1


def case_3a_a_repeated_stop_of_the_paused_segment_does_not_end_a_resumed_one_whose_start_is_unclear() -> (
    bool
):
    log = Log()
    log.add(0, Kind.RECORDING_STARTED, recording_id="R1", url="u/R1")
    log.add(10, Kind.PAUSE_ORDERED)
    log.stop(10.05)
    log.add(15, Kind.RESUME_ORDERED)
    order = log.settle(15).starts[0].ordered.order
    log.add(15, Kind.START_SENT, order=order)
    log.add(20, Kind.START_UNCLEAR, order=order)
    log.add(20.1, Kind.LOOKED, live=True)
    return all(s.url for s in log.settle(20.2).sends)


def case_3b_a_deadline_does_not_end_what_another_start_may_have_begun() -> bool:
    log = Log(Rules(defaults=Terms(max_duration=timedelta(seconds=60))))
    log.add(0, Kind.RECORDING_STARTED, recording_id="R1", url="u/R1")
    log.add(30, Kind.START_ORDERED, order="s", max_duration_s=600.0)
    log.add(30, Kind.START_SENT, order="s")
    log.add(35, Kind.START_UNCLEAR, order="s")
    return all(s.url for s in log.settle(60).sends)


def case_4_a_pause_is_a_pause_though_the_providers_end_lies_50_ms_before_it() -> bool:
    log = paused(end=9.95)
    log.add(20, Kind.RESUME_ORDERED)
    return bool(log.settle(20).starts)


def case_5a_an_older_recording_does_not_prove_a_stop_for_all() -> bool:
    log = Log()
    log.add(0, Kind.CALL_SEEN)
    log.ask(60)
    log.stop(60.05)  # no recording is known: the stop for all
    log.add(
        61,
        Kind.RECORDING_LISTED,
        recording_id="old",
        url="u/old",
        started_at=t(5),
        ended_at=t(10),
        duration_s=5.0,
    )
    return not log.proven()


def case_5b_a_stop_for_all_is_sent_though_an_older_recording_is_over() -> bool:
    log = Log()
    log.add(0, Kind.CALL_SEEN)
    log.end(10, "old", 0, 10)
    log.add(60, Kind.STOP_ORDERED)
    return bool(log.settle(60).sends)


def case_6_a_trunk_call_is_held_though_another_recording_of_it_is_proven() -> bool:
    log = Log()
    log.add(0, Kind.CALL_SEEN, trunk=True)
    log.add(1, Kind.RECORDING_STARTED, recording_id="R1", url="u/R1")
    log.ask(60)
    log.stop(60.05)
    log.end(60.5, "R1", 1, 60.1)
    return not log.proven()


def case_7_a_failed_start_does_not_take_the_deadline_from_a_watched_call() -> bool:
    log = Log(Rules(defaults=Terms(max_duration=timedelta(seconds=60), watch=True)))
    log.add(0, Kind.CALL_FOUND_LIVE)
    log.add(10, Kind.START_ORDERED, order="s")
    log.add(10, Kind.START_SENT, order="s")
    log.add(11, Kind.START_FAILED, order="s", status=400)
    return bool(log.settle(61).sends)


def case_8_a_trigger_on_the_wire_stops_what_an_unclear_start_may_have_begun() -> bool:
    log = Log()
    log.add(0, Kind.CALL_SEEN)
    log.add(5, Kind.START_ORDERED, order="s")
    log.add(5, Kind.START_SENT, order="s")
    log.add(10, Kind.START_UNCLEAR, order="s")
    log.add(20, Kind.CALL_TRANSFERRED)
    return bool(log.settle(20).sends)


def case_9_a_stop_by_id_during_a_pause_is_final() -> bool:
    log = paused()
    log.add(15, Kind.STOP_ORDERED, recording_id="R1")
    log.settle(15)
    log.add(20, Kind.RESUME_ORDERED)
    return not log.settle(20).starts


_BUSY = {
    "event": "DialAction",
    "calluuid": "c",
    "dialstatus": "busy",
    "dialringstatus": "true",
    "dialhangupcause": "USER_BUSY",
    "dialaleguuid": "c",
    "dialbleguuid": "",
}


def _transferred_and_failed(again_at: float) -> Log:
    """A transfer whose dial was busy at 12; R2 continues what it ended. Then the same again."""
    log = Log()
    log.add(0, Kind.RECORDING_STARTED, recording_id="R1", url="u/R1")
    log.add(10, Kind.CALL_TRANSFERRED)
    log.stop(10.05)
    log.end(10.2, "R1", 0, 10.1)
    busy = replace(callbacks.parse(_BUSY), signed=True)
    log.record(12, busy)
    order = log.settle(12).starts[0].ordered.order
    log.add(12.1, Kind.START_SENT, order=order)
    log.add(12.2, Kind.START_ACCEPTED, order=order, recording_id="R2", url="u/R2")
    log.add(again_at - 2, Kind.CALL_TRANSFERRED)
    log.stop(again_at - 1.9)
    log.end(again_at - 1, "R2", 12.2, again_at - 1.8)
    log.record(again_at, busy)
    return log


def case_10a_a_second_failed_dial_is_no_repeat_of_the_first() -> bool:
    return bool(_transferred_and_failed(60).settle(60).starts)


def case_10b_the_providers_retry_of_a_failed_dial_is_one() -> bool:
    return not _transferred_and_failed(20).settle(20).starts


def case_11_a_pause_is_remembered_though_the_rules_change_meanwhile() -> bool:
    log = Log()
    log.add(0, Kind.RECORDING_STARTED, recording_id="R1", url="u/R1")
    log.add(10, Kind.CUSTOM_REPORTED, trigger="custom.card")
    log.stop(10.05)
    log.end(10.2, "R1", 0, 10.1)
    log.rules = Rules(defaults=Terms(mode=Mode.OBSERVE, on=ON))
    log.add(20, Kind.RESUME_ORDERED)
    return bool(log.settle(20).starts)


def case_12_a_person_who_orders_a_stop_that_was_set_aside_gets_a_request() -> bool:
    log = Log()
    log.add(0, Kind.RECORDING_STARTED, recording_id="R1", url="u/R1")
    log.add(10, Kind.STOP_ORDERED)
    log.stop(10.05, Kind.STOP_SET_ASIDE, status=403)
    log.add(600, Kind.STOP_ORDERED)
    return bool(log.settle(600).sends)


def case_13_an_unsigned_hang_up_does_not_end_the_tries_while_looks_see_the_call_live() -> bool:
    log = Log()
    log.add(0, Kind.RECORDING_STARTED, recording_id="R1", url="u/R1")
    log.add(5, Kind.CALL_ENDED, signed=False)
    log.add(10, Kind.STOP_ORDERED)
    at = 10.0
    for _ in range(4):
        log.stop(at)
        log.add(at + 10.5, Kind.LOOKED, live=True)
        at += 11
    log.settle(at)
    log.add(at + 65, Kind.LOOKED, live=True)
    return bool(log.settle(at + 66).sends)


def case_14_another_recording_does_not_pass_for_what_an_unclear_start_began() -> bool:
    log = Log()
    log.add(0, Kind.CALL_SEEN)
    log.add(5, Kind.START_ORDERED, order="s")
    log.add(5, Kind.START_SENT, order="s")
    log.add(10, Kind.START_UNCLEAR, order="s")
    log.ask(60)
    log.stop(60.05)
    log.end(
        61, "X", 15, 40
    )  # a short <Record> of the call's own flow, whose `action` goes elsewhere
    return not log.proven()


def case_15_looks_become_rare_where_nothing_is_ever_listed() -> bool:
    log = Log(Rules(defaults=Terms(max_duration=timedelta(seconds=60))))
    log.add(0, Kind.RECORDING_ANNOUNCED, recording_id="R", url="u/R")
    at, looks = 0.0, 0
    while at < 86400 and looks < 1000:
        if log.stop(at, Kind.STOP_ACCEPTED if at < 70 else Kind.CALL_FOUND_OVER):
            at += 0.1
            continue
        plan = log.plan(at)
        at = max(at, min((x - T0).total_seconds() for x in (plan.plan_at, plan.look_at) if x))
        if plan.look_at and t(at) >= plan.look_at:
            looks, at = looks + 1, at + 0.3
            if at > 70:
                log.add(at, Kind.CALL_FOUND_OVER, id="gone")
            log.add(at, Kind.LOOKED, id=f"look.{looks}", live=at < 70)
    return looks < 200


CASES: dict[str, Callable[[], bool]] = {
    name.removeprefix("case_"): case
    for name, case in list(globals().items())
    if name.startswith("case_")
}
