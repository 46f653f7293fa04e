"""Starts of ours: which are owed, when they are sent, and what becomes of one without an answer."""

from datetime import timedelta

import pytest

from tests.calls.builders import T0, asked, at, begins, call_of, event, ours, start
from worker.calls import planner, stop_state
from worker.calls.events import Kind
from worker.calls.replay import replay
from worker.calls.rules import Action, Mode, Rules, Terms
from worker.calls.starts import (
    ceiling_s,
    is_about,
    lapses_at,
    lost,
    owed,
    owed_at,
    start_at,
    unsettled,
    unsettled_by,
)
from worker.calls.triggers import acts

RULES = Rules(
    defaults=Terms(
        max_duration=None, on={"transfer": Action.STOP, "transfer.failed": Action.RESUME}
    )
)

ORDER = event(Kind.START_ORDERED, 0, order="s1", id="start.s1", signed=False)
SENT = event(Kind.START_SENT, 1, order="s1", id="sent.s1.0", signed=False)


def test_a_start_is_sent_once_and_one_whose_sender_died_is_unclear():
    assert [
        s.ordered.order for s in planner.plan(replay("MA_1", "c", [ORDER]), RULES, at(1)).starts
    ] == ["s1"]
    plan = planner.plan(replay("MA_1", "c", [ORDER, SENT]), RULES, at(2))
    assert plan.starts == ()
    assert [e.kind for e in plan.conclusions] == [Kind.START_UNCLEAR]


def test_a_start_that_was_refused_for_the_moment_is_sent_again_at_the_providers_wish():
    erred = event(Kind.START_ERRED, 1.1, order="s1", id="erred.s1.0", retry_at=at(4), signed=False)
    events = [ORDER, SENT, erred]
    assert planner.plan(replay("MA_1", "c", events), RULES, at(2)).starts == ()
    assert planner.plan(replay("MA_1", "c", events), RULES, at(2)).plan_at == at(4)
    assert len(planner.plan(replay("MA_1", "c", events), RULES, at(4)).starts) == 1


UNCLEAR = event(Kind.START_UNCLEAR, 5, order="s1", id="started.s1", signed=False)


def test_an_unclear_start_is_looked_for_and_its_callback_or_its_row_settles_it():
    unsettled = replay("MA_1", "c", [ORDER, SENT, UNCLEAR])
    assert unsettled.starts["s1"].unclear
    assert planner.plan(unsettled, RULES, at(5)).look_at == at(5)
    by_callback = event(Kind.RECORDING_FINALIZED, 50, recording_id="r", order="s1", duration_s=4.0)
    by_row = event(
        Kind.RECORDING_LISTED,
        50,
        recording_id="r",
        started_at=at(2),
        ended_at=at(40),
        duration_s=38.0,
        signed=False,
    )
    stopped = event(Kind.STOP_ACCEPTED, 40, requested_at=at(39.9), signed=False)
    for proof in ([by_callback], [by_row, event(Kind.CALL_ENDED, 41)], [by_row, stopped]):
        call = replay("MA_1", "c", [ORDER, SENT, UNCLEAR, *proof])
        assert (call.starts["s1"].recording_id, call.starts["s1"].unclear) == ("r", False)
    assert replay("MA_1", "c", [ORDER, SENT, UNCLEAR, by_row]).starts["s1"].unclear, (
        "it ended by itself, as ours would not"
    )
    of_another = event(
        Kind.RECORDING_LISTED,
        50,
        recording_id="r",
        started_at=at(-60),
        ended_at=at(40),
        duration_s=38.0,
        signed=False,
    )
    assert replay("MA_1", "c", [ORDER, SENT, UNCLEAR, of_another]).starts["s1"].unclear


def test_a_hand_off_after_an_unclear_start_stops_the_whole_call_and_is_not_proven_by_the_known_recordings():
    asked = event(
        Kind.HANDOFF_ASKED,
        20,
        order="h1",
        trigger="transfer.blind",
        wait_s=3,
        id="asked.h1",
        signed=False,
    )
    call = replay("MA_1", "c", [begins(0), ORDER, SENT, UNCLEAR, asked])
    plan = planner.plan(call, RULES, at(20))
    assert [(set(s.recording_ids), s.url) for s in plan.sends] == [({"r", ""}, None)]


@pytest.mark.parametrize(
    ("terms", "asked_s", "seconds"),
    [
        (Terms(max_duration=timedelta(seconds=60)), None, 65),
        (Terms(max_duration=timedelta(hours=1)), 30, 35),
        (Terms(max_duration=timedelta(seconds=10)), 30, 15),
        (Terms(max_duration=None), None, 14400),
        (Terms(mode=Mode.OBSERVE, max_duration=timedelta(seconds=60)), None, 14400),
        (Terms(mode=Mode.OBSERVE), 60, 65),
        (Terms(max_duration=timedelta(days=3)), None, 28800),
    ],
)
def test_the_carriers_own_limit_is_just_above_our_deadline(terms, asked_s, seconds):
    order = event(Kind.START_ORDERED, 0, order="s1", max_duration_s=asked_s, signed=False)
    call = replay("MA_1", "c", [order])
    assert ceiling_s(call, call.starts["s1"], Rules(defaults=terms), T0) == seconds


def test_a_duration_asked_for_holds_even_where_rules_only_observe():
    order = event(Kind.START_ORDERED, 0, order="s1", max_duration_s=30, id="start.s1", signed=False)
    accepted = event(
        Kind.START_ACCEPTED, 1, order="s1", recording_id="r", id="started.s1", signed=False
    )
    call = replay("MA_1", "c", [order, SENT, accepted])
    stop = stop_state.judge(call, call.recordings["r"], Rules(), at(2))
    assert (stop.trigger, stop.due_at) == ("max_duration", at(31))
    assert planner.plan(call, Rules(), at(31)).sends


def test_a_start_without_an_answer_is_stopped_at_its_deadline_with_the_whole_call_where_nothing_else_runs():
    order = event(
        Kind.START_ORDERED, 0, order="s1", max_duration_s=10.0, id="start.s1", signed=False
    )
    sent = event(
        Kind.START_SENT, 0.1, order="s1", id="sent.s1.0", max_duration_s=15.0, signed=False
    )
    plan = planner.plan(replay("MA_1", "c", [order, sent, UNCLEAR]), RULES, at(6))
    assert (plan.sends, plan.plan_at) == ((), at(10))
    (send,) = planner.plan(replay("MA_1", "c", [order, sent, UNCLEAR]), RULES, at(10)).sends
    assert (send.at, send.recording_ids, send.url) == (at(10), ("",), None)
    beside = planner.plan(replay("MA_1", "c", [begins(0), order, sent, UNCLEAR]), RULES, at(10))
    assert beside.sends == ()
    assert [e.kind for e in beside.conclusions] == [Kind.STOP_UNKNOWN]


PAUSED = [
    event(Kind.RECORDING_STARTED, 0, recording_id="r", format="wav"),
    ours(Kind.PAUSE_ORDERED, 10),
    event(Kind.RECORDING_FINALIZED, 11, recording_id="r", ended_at=at(11), duration_s=11.0),
]
RESUME = ours(Kind.RESUME_ORDERED, 20)


def ordered(*events, seconds=20.0):
    call = call_of(*PAUSED, *events)
    return list(owed(call, acts(call, RULES), at(seconds)))


def test_a_resumption_is_ordered_with_the_parameters_of_the_first_segment():
    (order,) = ordered(RESUME)
    assert (order.segment_of, order.format, order.trigger) == ("r", "wav", "resume")
    assert (order.due_at, order.at, order.id) == (at(20), at(20), f"start.{order.order}")
    assert ordered(RESUME, seconds=60)[0].id == order.id, "every process computes the same order"


@pytest.mark.parametrize(
    ("what", "events", "seconds"),
    [
        ("it was ordered already", [RESUME, *ordered(RESUME)], 21),
        ("it comes too late", [RESUME], 80.1),
        ("the call is over", [RESUME, event(Kind.CALL_ENDED, 21)], 22),
    ],
)  # fmt: skip
def test_a_resumption_is_not_ordered_where(what, events, seconds):
    assert ordered(*events, seconds=seconds) == [], what


@pytest.mark.parametrize(("asked_at", "goes_on"), [(21, False), (19, True)])
def test_what_was_to_go_on_before_a_proven_go_stays_ended_whatever_the_rules_say_since(
    asked_at, goes_on
):
    keeps = Rules(defaults=Terms(on={"transfer": Action.KEEP}))
    go = ours(Kind.HANDOFF_DECIDED, 22, order="h1", verdict="go", proven=True)
    call = call_of(*PAUSED, RESUME, asked(asked_at), go)
    assert bool(list(owed(call, acts(call, keeps), at(23)))) is goes_on


def test_a_leg_that_failed_is_waited_upon_before_the_recording_goes_on():
    transfer, failed = event(Kind.CALL_TRANSFERRED, 5), event(Kind.DIAL_ENDED, 20, connected=False)
    over = event(Kind.RECORDING_FINALIZED, 6, recording_id="r", ended_at=at(6), duration_s=6.0)
    call = call_of(begins(0), transfer, over, failed)
    call_acts = acts(call, RULES)
    assert list(owed(call, call_acts, at(20))) == []
    assert list(owed_at(call, call_acts, at(20))) == [at(22)]
    assert [e.trigger for e in owed(call, call_acts, at(22))] == ["transfer.failed"]


def test_a_start_leaves_at_once_and_after_a_429_when_the_provider_wishes():
    call = call_of(ORDER)
    assert start_at(call.starts["s1"]) == T0
    erred = ours(Kind.START_ERRED, 2, order="s1", retry_at=at(9))
    assert start_at(call_of(ORDER, SENT, erred).starts["s1"]) == at(9)


@pytest.mark.parametrize(
    ("what", "events", "seconds", "expected"),
    [
        ("it may still be sent", [ORDER], 10, []),
        ("nobody sent it in time", [ORDER], 10.1, [(Kind.START_FAILED, None)]),
        ("it was stopped before", [ORDER, ours(Kind.STOP_ORDERED, 1)], 2, [(Kind.START_FAILED, 409)]),
        ("the call is over", [ORDER, event(Kind.CALL_ENDED, 1)], 2, [(Kind.START_FAILED, None)]),
        ("its sender died", [ORDER, SENT], 2, [(Kind.START_UNCLEAR, None)]),
        ("it is settled", [ORDER, SENT, ours(Kind.START_ACCEPTED, 2, order="s1", recording_id="r")], 99, []),
        ("its limit has not run out", start(), 5 + 14400 + 59, []),
        ("its limit has run out", start(), 5 + 14400 + 60, [(Kind.START_LAPSED, None)]),
    ],
)  # fmt: skip
def test_the_outcomes_that_no_sender_records(what, events, seconds, expected):
    call = call_of(*events)
    outcomes = lost(call, acts(call, RULES), at(seconds))
    assert [(e.kind, e.status) for e in outcomes] == expected, what


def test_after_five_refusals_it_is_not_sent_again():
    refusals = []
    for n in range(5):
        refusals.append(ours(Kind.START_SENT, n, order="s1", id=f"sent.s1.{n}"))
        refusals.append(ours(Kind.START_ERRED, n, order="s1", id=f"erred.s1.{n}", reason="429"))
    for so_many, reasons in ((8, []), (10, ["429"])):
        call = call_of(ORDER, *refusals[:so_many])
        assert [e.reason for e in lost(call, acts(call, RULES), at(6))] == reasons


def test_a_start_without_an_answer_lapses_after_the_limit_that_was_sent_with_it():
    order, _, unclear = start()
    sent = ours(Kind.START_SENT, 1, order="s1", max_duration_s=30.0)
    call = call_of(order, sent, unclear)
    assert lapses_at(call, call.starts["s1"]) == at(5 + 30 + 60)
    over = call_of(order, sent, unclear, event(Kind.CALL_ENDED, 9))
    assert lapses_at(over, over.starts["s1"]) is None


def test_a_start_is_unsettled_until_its_outcome_or_the_end_of_its_call():
    call = call_of(*start(), *start("s2", 20))
    assert [s.ordered.order for s in unsettled(call)] == ["s1", "s2"]
    assert [s.ordered.order for s in unsettled(call, at(10))] == ["s1"]
    assert unsettled(call_of(*start(), event(Kind.CALL_ENDED, 9))) == []


def test_an_act_that_names_a_recording_is_about_the_segments_that_continue_it():
    continued, other = start("s1", 5, segment_of="r"), start("s2", 6)
    stop = ours(Kind.STOP_ORDERED, 20, recording_id="r")
    call = call_of(begins(0), *continued, *other, stop)
    (act,) = acts(call, RULES)
    assert [is_about(call, act, s) for s in call.starts.values()] == [True, False]
    assert [s.ordered.order for s in unsettled_by(call, act)] == ["s1"]
