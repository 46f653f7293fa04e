"""Pause, resume, failed transfers and starts, as tables: which event interrupts what, and what
takes it back."""

from datetime import UTC, datetime, timedelta

import pytest

from worker.calls import planner, stop_state
from worker.calls.events import Event, Kind
from worker.calls.replay import replay
from worker.calls.rules import Action, Mode, Rules, Terms
from worker.calls.segments import gaps
from worker.calls.starts import ceiling_s
from worker.calls.triggers import acts

T0 = datetime(2026, 9, 14, 6, 30, tzinfo=UTC)
URL = "https://media.vobiz.ai/v1/Account/MA_1/Recording/{}.mp3"
ON = {
    "transfer": Action.STOP,
    "transfer.failed": Action.RESUME,
    "custom.card": Action.PAUSE,
    "custom.done": Action.RESUME,
    "machine": Action.STOP,
}
RULES = Rules(defaults=Terms(max_duration=None, on=ON))


def at(seconds):
    return T0 + timedelta(seconds=seconds)


def event(kind, seconds, **facts):
    facts = {"signed": True, "id": f"{kind.value}.{seconds}.{facts.get('recording_id')}", **facts}
    return Event(kind=kind, call_uuid="c", at=at(seconds), **facts)


def begins(seconds, recording="r", **facts):
    return event(
        Kind.RECORDING_STARTED, seconds, recording_id=recording, url=URL.format(recording), **facts
    )


def ends(seconds, recording="r"):
    return event(
        Kind.RECORDING_FINALIZED,
        seconds,
        recording_id=recording,
        ended_at=at(seconds),
        duration_s=5.0,
    )


def custom(name, seconds):
    return event(Kind.CUSTOM_REPORTED, seconds, trigger=f"custom.{name}", signed=False)


def starts(events, seconds=100, rules=RULES):
    """The segments that are to be started, by the first of their logical recording."""
    plan = planner.plan(replay("MA_1", "c", events), rules, at(seconds))
    return [(e.segment_of, e.trigger) for e in plan.conclusions if e.kind is Kind.START_ORDERED]


PAUSE, RESUME, FAILED = Kind.PAUSE_ORDERED, Kind.RESUME_ORDERED, Kind.HANDOFF_FAILED


@pytest.mark.parametrize(
    ("what", "events", "owed"),
    [
        ("a pause alone resumes nothing", [event(PAUSE, 10), ends(11)], []),
        (
            "a pause and a resume",
            [event(PAUSE, 10), ends(11), event(RESUME, 60)],
            [("r", "resume")],
        ),
        (
            "by custom events",
            [custom("card", 10), ends(11), custom("done", 60)],
            [("r", "custom.done")],
        ),
        ("a resume of what runs", [event(RESUME, 60)], []),
        (
            "a transfer that failed",
            [event(Kind.CALL_TRANSFERRED, 10), ends(11), event(FAILED, 60)],
            [("r", "transfer.failed")],
        ),
        (
            "a transfer that failed during a pause",
            [custom("card", 10), ends(11), event(Kind.CALL_TRANSFERRED, 20), event(FAILED, 60)],
            [],
        ),
        (
            "and is resumed by its own event",
            [
                custom("card", 10),
                ends(11),
                event(Kind.CALL_TRANSFERRED, 20),
                event(FAILED, 30),
                custom("done", 60),
            ],
            [("r", "custom.done")],
        ),
        (
            "a pause after a transfer, which fails",
            [event(Kind.CALL_TRANSFERRED, 10), ends(11), custom("card", 20), event(FAILED, 60)],
            [],
        ),
        (
            "a stop is final",
            [
                event(PAUSE, 10),
                ends(11),
                event(Kind.STOP_ORDERED, 20, signed=False),
                event(RESUME, 60),
            ],
            [],
        ),
        (
            "so is one by a rule",
            [event(Kind.MACHINE_DETECTED, 10, machine=True), ends(11), event(RESUME, 60)],
            [],
        ),
        ("nothing that ended before", [ends(5), event(PAUSE, 10), event(RESUME, 60)], []),
        (
            "not when somebody started anew",
            [event(PAUSE, 10), ends(11), begins(20, "other"), event(RESUME, 60)],
            [],
        ),
        (
            "not on a call that is over",
            [event(PAUSE, 10), ends(11), event(RESUME, 60), event(Kind.CALL_ENDED, 61)],
            [],
        ),
        (
            "a dial that the provider calls busy",
            [
                event(Kind.CALL_TRANSFERRED, 10),
                ends(11),
                event(Kind.DIAL_ENDED, 60, connected=False),
            ],
            [("r", "transfer.failed")],
        ),
        (
            "a dial that was connected",
            [
                event(Kind.DIAL_CONNECTED, 10, b_leg="b"),
                ends(11),
                event(Kind.DIAL_ENDED, 60, b_leg="b", connected=False),
            ],
            [],
        ),
        (
            "a dial of which nobody says anything",
            [event(Kind.CALL_TRANSFERRED, 10), ends(11), event(Kind.DIAL_ENDED, 60)],
            [],
        ),
        (
            "failing twice is failing once",
            [event(Kind.CALL_TRANSFERRED, 10), ends(11), event(FAILED, 60), event(FAILED, 61)],
            [("r", "transfer.failed")],
        ),
    ],
)
def test_what_is_resumed(what, events, owed):
    assert starts([begins(0), *events]) == owed, what


def resumed(order_at=60, started_at=61):
    """A pause and its resume, with the second segment running."""
    events = [
        begins(0, format="wav"),
        event(PAUSE, 10, reason="card"),
        ends(11),
        event(RESUME, order_at),
    ]
    (order,) = (
        e
        for e in planner.plan(replay("MA_1", "c", events), RULES, at(order_at)).conclusions
        if e.kind is Kind.START_ORDERED
    )
    sent = event(Kind.START_SENT, started_at, order=order.order, id="sent", signed=False)
    accepted = event(
        Kind.START_ACCEPTED,
        started_at,
        order=order.order,
        recording_id="r2",
        url=URL.format("r2"),
        id="started",
        signed=False,
    )
    return [*events, order, sent, accepted]


def test_a_segment_has_the_parameters_of_the_first_and_knows_it():
    call = replay("MA_1", "c", resumed())
    assert (
        call.recordings["r2"].segment_of,
        call.recordings["r2"].format,
        call.recordings["r2"].root,
    ) == ("r", "wav", "r")
    assert starts(resumed()) == []


def test_a_late_or_repeated_stop_of_the_first_segment_never_ends_the_second():
    events = [
        e for e in resumed() if e.kind is not Kind.RECORDING_FINALIZED
    ]  # the end of the first is not proven
    tried = event(
        Kind.STOP_ACCEPTED,
        10.1,
        recording_id="r",
        requested_at=at(10),
        due_at=at(10),
        trigger="pause",
        rule="defaults",
        signed=False,
    )
    sends = planner.plan(replay("MA_1", "c", [*events, tried]), RULES, at(70)).sends
    assert [(s.recording_ids, s.url) for s in sends] == [(("r",), URL.format("r"))]


def test_a_transfer_after_the_resume_ends_the_second_segment_and_a_second_resume_starts_a_third():
    events = [*resumed(), event(Kind.CALL_TRANSFERRED, 80)]
    plan = planner.plan(replay("MA_1", "c", events), RULES, at(80))
    assert [(s.recording_ids, s.url) for s in plan.sends] == [(("r2",), None)]
    assert starts([*events, ends(81, "r2"), event(FAILED, 90)]) == [("r", "transfer.failed")]


def test_gaps_say_when_and_why_nothing_was_recorded():
    call = replay("MA_1", "c", resumed())
    (gap,) = gaps(call, "r", acts(call, RULES))
    assert (gap.began_at, gap.ended_at, gap.trigger, gap.reason, gap.resumed_by) == (
        at(11),
        at(61),
        "pause",
        "card",
        "resume",
    )
    call = replay("MA_1", "c", [*resumed(), event(PAUSE, 80), ends(82, "r2")])
    assert [(g.began_at, g.ended_at is None) for g in gaps(call, "r", acts(call, RULES))] == [
        (at(11), False),
        (at(82), True),
    ]


def test_a_recording_that_simply_ended_has_no_gap():
    call = replay("MA_1", "c", [begins(0), ends(10)])
    assert gaps(call, "r", acts(call, RULES)) == []


def test_a_stop_that_is_due_goes_before_a_start():
    plan = planner.plan(
        replay("MA_1", "c", [begins(0), event(PAUSE, 10), event(RESUME, 10.1)]), RULES, at(10.2)
    )
    assert plan.sends
    assert plan.starts == ()


# Starts
# -------------------------------------------------------------------------------------------------------------

ORDER = event(Kind.START_ORDERED, 0, order="s1", id="start.s1", signed=False)
SENT = event(Kind.START_SENT, 1, order="s1", id="sent.s1.0", signed=False)


def test_a_start_is_sent_once_and_one_whose_sender_died_is_unclear():
    assert [
        s.ordered.order for s in planner.plan(replay("MA_1", "c", [ORDER]), RULES, at(1)).starts
    ] == ["s1"]
    plan = planner.plan(replay("MA_1", "c", [ORDER, SENT]), RULES, at(2))
    assert plan.starts == ()
    assert [e.kind for e in plan.conclusions] == [Kind.START_UNCLEAR]


def test_a_start_that_nobody_sent_in_time_is_not_sent_later():
    plan = planner.plan(replay("MA_1", "c", [ORDER]), RULES, at(11))
    assert [e.kind for e in plan.conclusions] == [Kind.START_FAILED]


def test_a_start_that_was_refused_for_the_moment_is_sent_again_at_the_providers_wish():
    erred = event(Kind.START_ERRED, 1.1, order="s1", id="erred.s1.0", retry_at=at(4), signed=False)
    events = [ORDER, SENT, erred]
    assert planner.plan(replay("MA_1", "c", events), RULES, at(2)).starts == ()
    assert planner.plan(replay("MA_1", "c", events), RULES, at(2)).stop_at == at(4)
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
    assert (plan.sends, plan.stop_at) == ((), at(10))
    (send,) = planner.plan(replay("MA_1", "c", [order, sent, UNCLEAR]), RULES, at(10)).sends
    assert (send.at, send.recording_ids, send.url) == (at(10), ("",), None)
    beside = planner.plan(replay("MA_1", "c", [begins(0), order, sent, UNCLEAR]), RULES, at(10))
    assert beside.sends == ()
    assert [e.kind for e in beside.conclusions] == [Kind.STOP_UNKNOWN]


def test_a_stop_that_names_a_later_segment_also_ends_the_one_whose_start_is_under_way():
    second = Event(
        id="started.s1",
        kind=Kind.START_ACCEPTED,
        call_uuid="c",
        at=at(20),
        order="s1",
        recording_id="b",
        url="u/b",
    )
    third = Event(
        id="started.s2",
        kind=Kind.START_ACCEPTED,
        call_uuid="c",
        at=at(41),
        order="s2",
        recording_id="c3",
        url="u/c3",
    )
    orders = [
        event(
            Kind.START_ORDERED,
            s,
            order=o,
            segment_of="r",
            due_at=at(s),
            id=f"start.{o}",
            signed=False,
        )
        for o, s in (("s1", 19), ("s2", 39))
    ]
    stop = event(
        Kind.STOP_ORDERED, 40, recording_id="b", segment_of="r", id="order.1", signed=False
    )
    call = replay("MA_1", "c", [begins(0), *orders, second, third, stop])
    (act,) = (a for a in acts(call, RULES) if a.event.id == "order.1")
    assert act.covers(call.recordings["c3"])
