"""The state of one recording's stop, its phase, and what an operator should know about it."""

from datetime import timedelta

import pytest

from tests.calls.builders import (
    MINUTE,
    RULES,
    T0,
    at,
    begins,
    call_of,
    ends,
    event,
    ours,
    stopped,
)
from worker.calls.call import Phase, StopState
from worker.calls.events import Fault, Kind
from worker.calls.rules import Action, Mode, Rules, Terms
from worker.calls.stop_state import judge, phase, problem
from worker.calls.triggers import acts

OBSERVES = Rules(defaults=Terms(mode=Mode.OBSERVE, max_duration=MINUTE))
ACCEPTED = stopped(Kind.STOP_ACCEPTED, 60)


def judged(*events, seconds=65, rules=RULES):
    call = call_of(begins(0), *events)
    return judge(call, call.recordings["r"], rules, at(seconds))


@pytest.mark.parametrize(
    ("what", "events", "state"),
    [
        ("due", [], StopState.DUE),
        ("ended before", [ends(50)], StopState.NONE),
        ("ended after it was due, and nothing was sent", [ends(62, duration_s=62.0)], StopState.ALREADY_OVER),
        ("an error", [stopped(Kind.STOP_ERRED, 60)], StopState.DUE),
        ("a promise", [ACCEPTED], StopState.ACCEPTED),
        ("no proof after all tries", [ACCEPTED, ours(Kind.STOP_UNKNOWN, 64, recording_id="r")], StopState.UNKNOWN),
        ("set aside", [stopped(Kind.STOP_SET_ASIDE, 60)], StopState.FAILED),
        ("set aside, and proven", [stopped(Kind.STOP_SET_ASIDE, 60), ends(64)], StopState.CONFIRMED),
        ("ended 2 s before our request", [ACCEPTED, ends(64, ended_at=at(57.9))], StopState.ALREADY_OVER),
        ("ended a little before it", [ACCEPTED, ends(64, ended_at=at(58.1))], StopState.CONFIRMED),
    ],
)  # fmt: skip
def test_the_state(what, events, state):
    assert judged(*events).state is state, what


def test_before_it_is_due_no_state_is_shown_but_its_deadline_is():
    stop = judged(seconds=5)
    assert (stop.state, stop.trigger, stop.due_at) == (StopState.NONE, "max_duration", at(60))


@pytest.mark.parametrize(
    ("what", "events", "trigger", "due"),
    [
        ("the first of several", [event(Kind.CALL_TRANSFERRED, 10), ours(Kind.STOP_ORDERED, 20)], "transfer", 10),
        ("as the first request fixed it", [stopped(Kind.STOP_ACCEPTED, 30, due_at=at(30), trigger="api"), event(Kind.CALL_TRANSFERRED, 10)], "api", 30),
        ("as the receipt fixed it", [ACCEPTED, ends(61), ours(Kind.MEDIA_ARCHIVED, 62, recording_id="r", rule="old", trigger="stop_at", due_at=at(59), enforced=True)], "stop_at", 59),
    ],
)  # fmt: skip
def test_why_it_is_stopped(what, events, trigger, due):
    stop = judged(*events)
    assert (stop.trigger, stop.due_at) == (trigger, at(due)), what


def test_an_enforced_reason_goes_before_an_earlier_one_that_is_only_observed():
    stop = judged(event(Kind.CALL_TRANSFERRED, 10), ours(Kind.STOP_ORDERED, 40), rules=OBSERVES)
    assert (stop.trigger, stop.state) == ("api", StopState.DUE)
    assert judged(rules=OBSERVES).state is StopState.NONE


def test_no_stop_is_owed_to_a_trunk_recording():
    call = call_of(begins(0, trunk=True))
    assert judge(call, call.recordings["r"], RULES, at(65)).due_at is None


def test_a_pause_is_a_stop_that_says_so():
    assert judged(ours(Kind.PAUSE_ORDERED, 10)).action is Action.PAUSE


def test_tries_are_counted_and_the_first_promise_and_proof_are_dated():
    stop = judged(
        stopped(Kind.STOP_ERRED, 60),
        stopped(Kind.STOP_ACCEPTED, 61),
        stopped(Kind.STOP_ACCEPTED, 71),
        ends(72),
        seconds=75,
    )
    assert (stop.attempts, stop.requested_at, stop.accepted_at) == (3, at(60), at(61))
    assert (stop.confirmed_at, stop.evidence, stop.tail_ms) == (at(72), ("callback",), 12_000)


@pytest.mark.parametrize(
    ("reason", "hung_up_at", "trigger"),
    [("Hungup", None, "hangup"), ("MaxLength", 9, None), (None, 9, "hangup"), (None, None, None)],
)
def test_a_recording_that_needed_no_stop_ended_by_hangup_if_the_provider_or_the_call_says_so(
    reason, hung_up_at, trigger
):
    hang_up = [event(Kind.CALL_ENDED, hung_up_at)] if hung_up_at else []
    stop = judged(ends(10, reason=reason), *hang_up)
    assert (stop.state, stop.trigger, stop.tail_ms) == (StopState.NONE, trigger, None)


def test_the_same_stop_is_judged_with_the_acts_that_the_caller_computed():
    call = call_of(begins(0), event(Kind.CALL_TRANSFERRED, 10))
    recording = call.recordings["r"]
    with_acts = judge(call, recording, RULES, at(20), acts(call, RULES))
    assert with_acts == judge(call, recording, RULES, at(20))


FAILED = ours(Kind.FETCH_FAILED, 70, recording_id="r", reason="503", fault=Fault.PROVIDER)
ABANDONED = ours(Kind.ABANDONED, 71, recording_id="r", reason="tried 9 times")


@pytest.mark.parametrize(
    ("events", "expected", "trouble"),
    [
        ([], Phase.RECORDING, None),
        ([ACCEPTED], Phase.STOPPING, None),
        ([stopped(Kind.STOP_ERRED, 60, reason="timeout")], Phase.STOPPING, "timeout"),
        (
            [ACCEPTED, ours(Kind.STOP_UNKNOWN, 64, recording_id="r")],
            Phase.STOPPING,
            "no proof that the recording ended",
        ),
        ([event(Kind.CALL_ENDED, 62)], Phase.FINALIZING, None),
        ([ends(62)], Phase.FETCHING, None),
        ([ends(62), FAILED], Phase.FETCHING, "503"),
        ([ends(62), ABANDONED], Phase.ABANDONED, "tried 9 times"),
        ([ends(62), ABANDONED, FAILED], Phase.ABANDONED, "503"),
        (
            [ends(62), ours(Kind.GAVE_UP, 71, recording_id="r", reason="too old")],
            Phase.ABANDONED,
            "too old",
        ),
        ([ends(62), FAILED, ours(Kind.MEDIA_ARCHIVED, 72, recording_id="r")], Phase.ARCHIVED, None),
    ],
)
def test_the_phase_and_the_problem(events, expected, trouble):
    call = call_of(begins(0), *events)
    recording = call.recordings["r"]
    stop = judge(call, recording, RULES, at(65))
    assert (phase(recording, stop), problem(recording, stop)) == (expected, trouble)


def test_a_limit_that_was_asked_for_holds_before_a_later_deadline_of_the_rules():
    order = ours(Kind.START_ORDERED, 0, order="s1", max_duration_s=30.0)
    accepted = ours(Kind.START_ACCEPTED, 1, order="s1", recording_id="r")
    stop = judge((call := call_of(order, accepted)), call.recordings["r"], RULES, at(2))
    assert stop.due_at - call.recordings["r"].started_at == timedelta(seconds=30)


def by_a_person(*known, rules=RULES):
    """The stop of a recording that ran from 0 to 64.2 s, which a person stopped at 64 s."""
    call = call_of(
        ours(Kind.STOP_ORDERED, 64, by="cli:ops"),
        stopped(Kind.STOP_ACCEPTED, 64, None, due_at=at(64), trigger="api"),
        *known,
    )
    return judge(call, call.recordings["r"], rules, at(80))


LISTED = {"recording_id": "r", "started_at": T0, "ended_at": at(64.2), "duration_s": 64.2}


@pytest.mark.parametrize(
    ("what", "stop", "since"),
    [
        ("first known from the list", by_a_person(event(Kind.RECORDING_LISTED, 75, **LISTED)), 60),
        ("its end was told, nothing else", by_a_person(ends(65, ended_at=at(64.2), duration_s=64.2)), 60),
        ("by rules that only observe", by_a_person(event(Kind.RECORDING_LISTED, 75, **LISTED), rules=OBSERVES), None),
        ("its receipt says so", by_a_person(event(Kind.RECORDING_LISTED, 75, **LISTED), ours(Kind.MEDIA_ARCHIVED, 76, recording_id="r", rule="defaults", due_at=at(64), trigger="api", enforced=True, overdue_since=at(10))), 10),
        ("the deadline itself stopped it", judged(ACCEPTED), None),
        ("a person stopped it before its deadline", judged(ours(Kind.STOP_ORDERED, 20), stopped(Kind.STOP_ACCEPTED, 20, due_at=at(20), trigger="api")), None),
    ],
)  # fmt: skip
def test_a_deadline_that_passed_before_somebody_stopped_it_is_told_beside_the_stop(
    what, stop, since
):
    assert stop.overdue_since == (None if since is None else at(since)), what
    if since:
        assert (stop.trigger, stop.due_at, stop.tail_ms) == ("api", at(64), 200)


def test_rules_of_later_make_no_stop_by_a_deadline_overdue():
    shorter = Rules(defaults=Terms(max_duration=timedelta(seconds=5)))
    assert judged(ACCEPTED, rules=shorter).overdue_since is None
