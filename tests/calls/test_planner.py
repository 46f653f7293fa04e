"""The pure lifecycle: tables of cases, and the law that order, repetition and crashes change
nothing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.calls import planner, stop_state
from worker.calls.call import Phase, StopState
from worker.calls.events import Event, Kind
from worker.calls.replay import replay
from worker.calls.rules import Action, Mode, Rules, Terms
from worker.calls.stop_requests import Send

T0 = datetime(2026, 9, 14, 6, 30, tzinfo=UTC)
STOPS = Rules(defaults=Terms(max_duration=timedelta(seconds=60), on={"transfer": Action.STOP}))
URL = "https://media.vobiz.ai/v1/Account/MA_1/Recording/{}.mp3"


def at(seconds):
    return T0 + timedelta(seconds=seconds)


def event(kind, seconds, recording=None, **facts):
    return Event(
        id=f"{kind.value}.{recording}.{facts.get('reason', '')}.{facts.get('requested_at', '')}",
        kind=kind,
        call_uuid="c",
        at=at(seconds),
        signed=facts.pop("signed", True),
        recording_id=recording,
        **facts,
    )


def started(seconds, recording="r", **facts):
    return event(Kind.RECORDING_STARTED, seconds, recording, url=URL.format(recording), **facts)


def ended(seconds, recording="r", end=None, **facts):
    return event(
        Kind.RECORDING_FINALIZED,
        seconds,
        recording,
        ended_at=at(seconds if end is None else end),
        duration_s=5.0,
        **facts,
    )


def accepted(seconds, recording="r", trigger="max_duration", due=60, **facts):
    return event(
        Kind.STOP_ACCEPTED,
        seconds,
        recording,
        requested_at=at(seconds),
        due_at=at(due),
        trigger=trigger,
        rule="defaults",
        **facts,
    )


def looked(seconds):
    return event(Kind.LOOKED, seconds, reason=str(seconds))


def plan(events, seconds, rules=STOPS):
    return planner.plan(replay("MA_1", "c", events), rules, at(seconds))


def judge(events, seconds, recording="r", rules=STOPS):
    call = replay("MA_1", "c", events)
    return stop_state.judge(call, call.recordings[recording], rules, at(seconds))


def test_a_running_recording_waits_for_its_deadline():
    found = plan([started(0)], 1)
    assert (found.sends, found.plan_at) == ((), at(60))


def test_at_the_deadline_the_stop_is_call_wide_when_nothing_else_runs():
    assert plan([started(0)], 60).sends == (Send(at=at(60), recording_ids=("r",), url=None),)


def test_a_stop_names_the_recording_by_its_url_while_another_runs():
    (send,) = plan([started(0), started(30, "other")], 60).sends
    assert (send.recording_ids, send.url) == (("r",), URL.format("r"))


def test_what_cannot_be_named_is_not_touched_and_becomes_unknown():
    nameless = replace(started(0), url=None)
    found = plan([nameless, started(30, "other")], 60)
    assert found.sends == ()
    assert [(e.kind, e.recording_id) for e in found.conclusions] == [(Kind.STOP_UNKNOWN, "r")]


def test_after_two_stops_by_url_without_proof_the_call_wide_stop_is_used():
    events = [started(0), accepted(60, named=True), looked(70)]
    assert plan(events, 70).sends[0].url == URL.format("r")
    events += [accepted(70, named=True), looked(80)]
    assert plan(events, 80).sends[0].url is None


def test_without_proof_the_look_goes_first_and_then_the_stop_is_sent_again():
    events = [started(0), accepted(60)]
    assert plan(events, 61).look_at == at(70)
    assert plan(events, 61).plan_at == at(71)
    assert plan([*events, looked(70)], 70).sends


def test_after_all_tries_it_is_unknown_and_repeated_every_minute_until_a_proof_comes():
    events = [started(0)]
    for i in range(4):
        events += [accepted(60 + 10 * i), looked(70 + 10 * i)]
    (verdict,) = plan(events, 100).conclusions
    events.append(replace(verdict, at=at(100)))
    assert judge(events, 100).state is StopState.UNKNOWN
    assert plan(events, 101).plan_at == at(150)
    assert judge([*events, ended(130)], 131).state is StopState.CONFIRMED


def test_errors_are_tried_again_soon_and_not_counted():
    events = [
        started(0),
        event(Kind.STOP_ERRED, 60, "r", requested_at=at(60), due_at=at(60), trigger="max_duration"),
    ]
    assert at(60) < plan(events, 60).plan_at <= at(61)
    assert judge(events, 61).state is StopState.DUE


def test_an_unsigned_end_proves_nothing_and_makes_us_look():
    events = [started(0), ended(10, signed=False)]
    assert judge(events, 11).evidence == ()
    assert plan(events, 11).look_at == at(10)


def test_a_404_proves_the_end_only_for_a_call_that_the_provider_reported():
    gone = event(
        Kind.CALL_FOUND_OVER, 60, "r", requested_at=at(60), due_at=at(60), trigger="max_duration"
    )
    assert judge([started(0), gone], 61).evidence == ("call_over",)
    assert judge([started(0, signed=False), gone], 61).evidence == ()


def test_event_record_is_never_an_end():
    call = replay("MA_1", "c", [replace(started(0), ended_at=at(5), duration_s=5.0)])
    assert call.recordings["r"].over_at is None


def test_observe_sends_nothing_but_obeys_an_order():
    rules = Rules(defaults=Terms(mode=Mode.OBSERVE, max_duration=timedelta(seconds=1)))
    assert plan([started(0)], 10, rules).sends == ()
    assert plan([started(0), event(Kind.STOP_ORDERED, 9)], 10, rules).sends


def test_a_refused_stop_is_failed_and_nothing_more_is_sent():
    events = [
        started(0),
        event(
            Kind.STOP_SET_ASIDE, 60, "r", requested_at=at(60), due_at=at(60), trigger="max_duration"
        ),
    ]
    assert judge(events, 61).state is StopState.FAILED
    assert plan(events, 600).sends == ()
    assert plan(events, 61).look_at is not None


STORY = [
    started(0),
    event(Kind.CALL_SEEN, 0, from_number="91", to_number="92"),
    event(Kind.DIAL_CONNECTED, 3),
    accepted(3, trigger="dial.connected", due=3),
    event(Kind.CALL_ENDED, 8),
    ended(9, end=8),
    event(Kind.MEDIA_ARCHIVED, 12, "r", archive_key="k"),
]


@given(st.permutations(STORY), st.lists(st.sampled_from(STORY), max_size=6))
def test_any_order_and_repetition_of_the_same_events_ends_in_the_same_place(order, again):
    unique = list({e.id: e for e in [*order, *again]}.values())
    call = replay("MA_1", "c", unique)
    same = replay("MA_1", "c", STORY)
    assert call == same
    stop = stop_state.judge(call, call.recordings["r"], STOPS, at(20))
    assert (stop_state.phase(call.recordings["r"], stop), stop.state) == (
        Phase.ARCHIVED,
        StopState.CONFIRMED,
    )


@given(st.sets(st.sampled_from(range(len(STORY)))), st.integers(0, 4000))
def test_whatever_is_lost_an_open_recording_never_loses_its_duty(kept, seconds):
    call = replay("MA_1", "c", [STORY[i] for i in sorted(kept)])
    found = planner.plan(call, STOPS, at(seconds))
    for recording in call.recordings.values():
        owed = [
            found.plan_at,
            found.look_at,
            found.fetch_at[recording.recording_id],
            *[s.at for s in found.sends],
        ]
        assert recording.archived or any(owed)


def test_a_look_without_an_answer_uses_up_nothing_and_is_repeated_soon():
    failed = [replace(looked(s), id=f"look.{s}", reason="503") for s in (65, 70, 80)]
    events = [started(0), event(Kind.CALL_ENDED, 60), *failed]
    assert at(80) < plan(events, 80).look_at <= at(141)
    answered = replace(looked(100), id="look.100", reason=None)
    assert plan([*events, answered], 100).look_at <= at(
        100
    )  # the second of the series is overdue by now


# A call that nobody announced and a survey saw live
# ------------------------------------------------------------------

SEEN = event(Kind.CALL_FOUND_LIVE, 0, signed=False)
BLIND = Send(at=at(60), recording_ids=("",), url=None)


def blind(kind, seconds, **facts):
    return event(
        kind,
        seconds,
        requested_at=at(seconds),
        due_at=at(60),
        trigger="max_duration",
        rule="defaults",
        signed=False,
        **facts,
    )


def test_a_call_found_live_is_stopped_as_a_whole_at_its_deadline_from_first_sight():
    assert (plan([SEEN], 1).plan_at, plan([SEEN], 1).sends) == (at(60), ())
    assert plan([SEEN], 60).sends == (BLIND,)


@pytest.mark.parametrize(
    "then",
    [
        [started(30)],
        [event(Kind.CALL_ENDED, 30)],
        [event(Kind.CALL_ENDED, 30, signed=False)],
        [event(Kind.CALL_FOUND_OVER, 30, signed=False)],
        [event(Kind.NOTHING_DECLARED, 30, signed=False)],
    ],
)
def test_once_its_recording_is_known_or_the_call_is_over_or_nothing_runs_there_is_no_blind_stop(
    then,
):
    assert BLIND not in plan([SEEN, *then], 60).sends
    assert plan([SEEN, *then], 600).conclusions == ()


def test_where_rules_only_observe_or_nothing_bounds_it_a_call_found_live_is_not_stopped():
    for terms in (Terms(mode=Mode.OBSERVE), Terms(max_duration=None)):
        assert plan([SEEN], 86400, Rules(defaults=terms)).sends == ()


def test_a_blind_stop_without_proof_is_repeated_then_unknown_and_sent_no_more():
    tries = [blind(Kind.STOP_ACCEPTED, s) for s in (60, 71, 82, 93)]
    assert plan([SEEN, *tries[:1]], 61).look_at == at(70)
    assert plan([SEEN, *tries[:1], looked(70)], 71).sends != ()
    (unknown,) = plan([SEEN, *tries, looked(103)], 104).conclusions
    assert unknown.kind is Kind.STOP_UNKNOWN
    late = [SEEN, *tries, looked(103), replace(unknown, at=at(104))]
    assert plan(late, 104).plan_at is None
    assert plan(late, 4000).sends == ()


def test_a_stop_that_somebody_orders_does_not_wait_for_the_deadline_of_first_sight():
    assert plan([SEEN, event(Kind.STOP_ORDERED, 5, signed=False)], 5).sends == (
        replace(BLIND, at=at(5)),
    )


@pytest.mark.parametrize(
    ("events", "moment"),
    [
        (
            [
                event(Kind.CALL_FOUND_LIVE, 0, signed=False),
                event(Kind.START_ORDERED, 50, order="s", signed=False),
                event(
                    Kind.START_ACCEPTED, 51, "ours", order="s", url=URL.format("ours"), signed=False
                ),
            ],
            60,
        ),  # due, and nothing to name it by
        (
            [event(Kind.HANDOFF_ASKED, 0, order="h", trigger="transfer", wait_s=3.0, signed=False)],
            4,
        ),  # nobody decided it
    ],
    ids=["a stop that cannot be sent", "a question that is left open"],
)
def test_who_comes_a_little_early_and_can_do_nothing_does_not_come_again_until_the_moment_is_there(
    events, moment
):
    early, lead = at(moment - 0.09), timedelta(milliseconds=120)
    rules = Rules(defaults=Terms(max_duration=timedelta(seconds=60), watch=True))
    events = (
        [*events, event(Kind.STOP_ACCEPTED, 0.1, None, requested_at=at(0.1), signed=False)]
        if moment == 4
        else events
    )
    found = planner.plan(replay("MA_1", "c", events), rules, early, horizon=lead)
    assert found.sends == ()
    assert found.plan_at - lead >= at(moment - 0.02)
