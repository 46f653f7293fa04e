"""How often a fetch is tried by whose fault it is, when it is abandoned and given up, and that a
person's retry always runs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from worker.calls import fetch_times, planner, stop_state
from worker.calls.call import Phase
from worker.calls.events import Event, Fault, Kind
from worker.calls.replay import replay
from worker.calls.rules import Rules
from worker.calls.timing import MOST_FAILURES_RECORDED

T0 = datetime(2026, 9, 14, 6, 30, tzinfo=UTC)
ENDED = Event(
    id="end",
    kind=Kind.RECORDING_FINALIZED,
    call_uuid="c",
    at=T0,
    signed=True,
    recording_id="r",
    ended_at=T0,
    duration_s=5.0,
)


def at(**since):
    return T0 + timedelta(**since)


def failed(instant, fault, n=0, **facts):
    return Event(
        id=f"fetch.{instant.timestamp()}.{n}",
        kind=Kind.FETCH_FAILED,
        call_uuid="c",
        at=instant,
        recording_id="r",
        reason=f"{fault} {n}",
        fault=fault,
        **facts,
    )


def event(kind, instant, **facts):
    return Event(
        id=f"{kind}.{instant.timestamp()}",
        kind=kind,
        call_uuid="c",
        at=instant,
        recording_id="r",
        **facts,
    )


def live(events, now, generation=0):
    """The plan, and the recording with what was concluded."""
    found = list(events)
    while True:
        plan = planner.plan(replay("MA_1", "c", found), Rules(), now, generation=generation)
        if not plan.conclusions:
            return plan, replay("MA_1", "c", found).recordings["r"]
        assert not {e.id for e in plan.conclusions} & {e.id for e in found}, "concluded twice"
        found += [replace(e, at=now) for e in plan.conclusions]


def phase_of(recording):
    return stop_state.phase(
        recording, stop_state.judge(replay("MA_1", "c", [ENDED]), recording, Rules(), T0)
    )


@pytest.mark.parametrize(
    ("fault", "usual", "every"),
    [
        (Fault.PROVIDER, timedelta(hours=24), timedelta(hours=6)),
        (Fault.STORAGE, timedelta(hours=1), timedelta(minutes=15)),
        (Fault.MEDIA, timedelta(hours=24), timedelta(hours=24)),
        (Fault.SETTINGS, timedelta(hours=1), timedelta(hours=1)),
        (None, timedelta(hours=24), timedelta(hours=6)),
    ],
)
def test_each_fault_is_tried_at_the_usual_pace_for_a_time_then_abandoned_and_tried_rarely(
    fault, usual, every
):
    early, late = (
        [failed(T0, fault), failed(T0 + usual - timedelta(seconds=1), fault)],
        [failed(T0, fault), failed(T0 + usual, fault)],
    )
    plan, recording = live([ENDED, *early], early[-1].at)
    assert (recording.abandoned, phase_of(recording)) == ((), Phase.FETCHING)
    assert plan.fetch_at["r"] - early[-1].at <= min(every, timedelta(hours=1))
    plan, recording = live([ENDED, *late], late[-1].at)
    told = fault or Fault.PROVIDER
    assert ([e.fault for e in recording.abandoned], recording.fault, phase_of(recording)) == (
        [told],
        told,
        Phase.ABANDONED,
    )
    assert plan.fetch_at["r"] == late[-1].at + every


def test_a_fault_of_ours_is_abandoned_after_six_tries_whenever_they_were():
    tries = [failed(at(seconds=s), Fault.OURS) for s in range(6)]
    assert live([ENDED, *tries[:5]], at(seconds=5))[1].abandoned == ()
    plan, recording = live([ENDED, *tries], at(seconds=5))
    assert (recording.fault, plan.fetch_at["r"]) == (Fault.OURS, at(seconds=5, hours=6))


def test_two_kinds_of_trouble_in_turn_do_not_hide_one_another_and_each_is_told_once():
    tries = [failed(at(hours=h), Fault.PROVIDER if h % 2 else Fault.MEDIA) for h in range(60)]
    told = []
    for n in range(1, 61):
        _, recording = live([ENDED, *tries[:n], *told], tries[n - 1].at)
        told = list(recording.abandoned)
    assert [e.fault for e in told] == [Fault.MEDIA, Fault.PROVIDER]
    assert [e.at for e in told] == [at(hours=24), at(hours=25)]


def test_a_new_kind_of_trouble_begins_its_own_usual_pace():
    tries = [failed(at(hours=h), Fault.PROVIDER) for h in range(20)] + [
        failed(at(hours=20), Fault.SETTINGS)
    ]
    plan, recording = live([ENDED, *tries], at(hours=20))
    assert (recording.abandoned, plan.fetch_at["r"] < at(hours=20, seconds=2)) == ((), True)


def test_success_archives_what_was_abandoned_and_no_fault_is_left():
    told = [
        failed(T0, Fault.STORAGE),
        failed(at(hours=2), Fault.STORAGE),
        event(Kind.ABANDONED, at(hours=2), fault=Fault.STORAGE),
    ]
    plan, recording = live(
        [ENDED, *told, event(Kind.MEDIA_ARCHIVED, at(hours=3), archive_key="k")], at(hours=3)
    )
    assert (phase_of(recording), recording.fault, plan.fetch_at["r"]) == (
        Phase.ARCHIVED,
        None,
        None,
    )


def test_a_retry_clears_it_begins_the_usual_pace_anew_and_a_second_run_is_told_again():
    first = [failed(T0, Fault.PROVIDER), failed(at(hours=24), Fault.PROVIDER)]
    _, recording = live([ENDED, *first], at(hours=24))
    events = [ENDED, *first, *recording.abandoned, event(Kind.RETRY_ORDERED, at(hours=25))]
    plan, recording = live(events, at(hours=25))
    assert (plan.fetch_at["r"], recording.fault, phase_of(recording)) == (
        at(hours=25),
        None,
        Phase.FETCHING,
    )
    events.append(failed(at(hours=25, seconds=1), Fault.PROVIDER))
    assert live(events, at(hours=25, seconds=1))[0].fetch_at["r"] < at(hours=25, seconds=3)
    events.append(failed(at(hours=50), Fault.PROVIDER))
    assert len(live(events, at(hours=50))[1].abandoned) == 1


def test_a_retry_after_thirty_days_gets_the_whole_usual_pace_before_it_is_given_up_again():
    events = [ENDED, failed(at(days=29), Fault.SETTINGS)]
    _, recording = live(events, at(days=30))
    assert (recording.gave_up.fault, phase_of(recording)) == (Fault.SETTINGS, Phase.ABANDONED)
    events += [recording.gave_up, event(Kind.RETRY_ORDERED, at(days=31))]
    assert live(events, at(days=31))[0].fetch_at["r"] == at(days=31)
    assert (
        live(events, at(days=31, hours=5))[1].gave_up is None
    )  # nobody could try yet: its account was halted, say
    events.append(failed(at(days=31, seconds=1), Fault.PROVIDER))
    plan, recording = live(events, at(days=31, seconds=1))
    assert (recording.gave_up, plan.fetch_at["r"] < at(days=31, seconds=3)) == (None, True)
    events.append(failed(at(days=32, seconds=1), Fault.PROVIDER))
    plan, recording = live(events, at(days=32, seconds=1))
    assert recording.gave_up.fault is Fault.PROVIDER
    # Then the archive has to say so, once.
    events += [recording.gave_up]
    plan, recording = live(events, at(days=32, seconds=2))
    assert plan.fetch_at["r"] == recording.gave_up.at
    events.append(event(Kind.ABSENCE_FILED, at(days=32, seconds=3)))
    assert live(events, at(days=32, seconds=4))[0].fetch_at["r"] is None


def test_what_the_provider_never_lists_is_abandoned_after_a_day_of_answered_looks_and_no_longer_once_it_is_listed():
    began = Event(
        id="start", kind=Kind.RECORDING_STARTED, call_uuid="c", at=T0, signed=True, recording_id="r"
    )
    over = Event(id="hangup", kind=Kind.CALL_ENDED, call_uuid="c", at=T0, signed=True)
    unanswered, answered = (
        Event(id=f"look.{r}", kind=Kind.LOOKED, call_uuid="c", at=at(hours=25), reason=r)
        for r in ("503", None)
    )
    assert live([began, over, unanswered], at(hours=25))[1].abandoned == ()
    plan, recording = live([began, over, answered], at(hours=25))
    assert (recording.fault, phase_of(recording), plan.look_at is not None) == (
        Fault.PROVIDER,
        Phase.ABANDONED,
        True,
    )
    listed = Event(
        id="row",
        kind=Kind.RECORDING_LISTED,
        call_uuid="c",
        at=at(hours=26),
        recording_id="r",
        ended_at=T0,
        duration_s=5.0,
    )
    plan, recording = live([began, over, answered, *recording.abandoned, listed], at(hours=26))
    assert (phase_of(recording), recording.fault, plan.fetch_at["r"]) == (
        Phase.FETCHING,
        None,
        at(hours=26),
    )
    assert (
        live([began, replace(over, signed=False), answered], at(hours=25))[1].abandoned == ()
    )  # it may still run


@pytest.mark.parametrize("fault", Fault)
def test_a_reload_after_the_last_failure_makes_settings_and_ours_due_and_nothing_else(fault):
    plan, _ = live([ENDED, failed(T0, fault, generation=3)], at(seconds=0.1), generation=4)
    assert (plan.fetch_at["r"] <= at(seconds=0.1)) is (fault in {Fault.SETTINGS, Fault.OURS})
    plan, _ = live([ENDED, failed(T0, fault, generation=4)], at(seconds=0.1), generation=4)
    assert plan.fetch_at["r"] > at(seconds=0.1)


def test_days_of_trouble_do_not_fill_redis_and_the_tries_go_on():
    many = [failed(at(minutes=15 * n), Fault.STORAGE, n) for n in range(MOST_FAILURES_RECORDED)]
    recording = replay("MA_1", "c", [ENDED, *many]).recordings["r"]
    assert fetch_times.says_nothing_new(recording, failed(at(days=2), Fault.STORAGE))
    assert not fetch_times.says_nothing_new(recording, failed(at(days=2), Fault.MEDIA))
    assert fetch_times.rarely(failed(at(days=2), Fault.STORAGE), at(days=2)) == at(
        days=2, minutes=15
    )
    # Two kinds of trouble in turn: each is told, and then neither again.
    both = replay(
        "MA_1", "c", [ENDED, *many, failed(at(days=2), Fault.MEDIA, MOST_FAILURES_RECORDED)]
    ).recordings["r"]
    assert fetch_times.says_nothing_new(both, failed(at(days=3), Fault.STORAGE))
    assert fetch_times.says_nothing_new(both, failed(at(days=3), Fault.MEDIA))


def recording_of(*events):
    return replay("MA_1", "c", [ENDED, *events]).recordings["r"]


def test_without_a_failure_it_is_fetched_once_it_is_finalized_or_at_the_retry():
    began = replace(ENDED, id="start", kind=Kind.RECORDING_STARTED, ended_at=None, duration_s=None)
    running = replay("MA_1", "c", [began]).recordings["r"]
    assert fetch_times.next_fetch(running, 0) is None
    assert fetch_times.next_fetch(recording_of(), 0) == T0
    retried = recording_of(event(Kind.RETRY_ORDERED, at(hours=1)))
    assert fetch_times.next_fetch(retried, 0) == at(hours=1)


def test_a_fetch_waits_as_long_as_the_provider_asks():
    halted = failed(T0, Fault.PROVIDER, retry_at=at(minutes=40))
    assert fetch_times.next_fetch(recording_of(halted), 0) == at(minutes=40)
    assert fetch_times.rarely(replace(halted, retry_at=at(hours=9)), T0) == at(hours=9)


@pytest.mark.parametrize(
    ("what", "events", "days", "lost"),
    [
        ("it was never tried: its account was halted, say", [], 31, False),
        ("it was tried", [failed(T0, Fault.STORAGE)], 31, True),
        ("the provider still keeps it", [failed(T0, Fault.STORAGE)], 29.9, False),
        (
            "a person wants it",
            [failed(T0, Fault.STORAGE), event(Kind.RETRY_ORDERED, at(days=30))],
            31,
            False,
        ),
    ],
)
def test_it_is_lost_when_the_provider_keeps_it_no_longer(what, events, days, lost):
    call = replay("MA_1", "c", [ENDED, *events])
    assert fetch_times.is_lost(call, call.recordings["r"], at(days=days)) is lost, what


def test_every_fault_has_its_pace():
    assert set(fetch_times.PACES) == set(Fault)


def test_the_same_bad_bytes_are_asked_for_again_when_ten_minutes_are_over_not_long_after():
    def next_try(*seconds, **facts):
        events = [failed(at(seconds=s), Fault.MEDIA, s, **facts) for s in seconds]
        recording = replay("MA_1", "c", [ENDED, *events]).recordings["r"]
        return fetch_times.next_fetch(recording, 0)

    tries = [0, 1, 3, 7, 15, 31, 63, 127, 255, 511]
    due = at(seconds=601)
    assert next_try(*tries, sha256="ab") == due
    assert next_try(*tries, sha256="ab", retry_at=at(minutes=30)) == at(minutes=30)
    assert next_try(*tries) > due + timedelta(minutes=3)  # nothing came
    assert next_try(0, sha256="ab") < at(seconds=2)
    assert next_try(*tries, 602, sha256="ab") > at(minutes=20)
