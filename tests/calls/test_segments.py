"""Pause, resume, failed transfers and starts, as tables: which event interrupts what, and what
takes it back."""

from datetime import UTC, datetime, timedelta

import pytest

from worker.calls import planner
from worker.calls.events import Event, Kind
from worker.calls.replay import replay
from worker.calls.rules import Action, Rules, Terms
from worker.calls.segments import gaps
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
