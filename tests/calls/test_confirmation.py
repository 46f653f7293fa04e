"""When the proof of an end becomes an event: once for each owed stop, and never for any other."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.calls.test_planner import (
    STOPS,
    STORY,
    accepted,
    at,
    ended,
    event,
    judge,
    plan,
    started,
)
from worker.calls.call import StopState
from worker.calls.confirmation import lacks_tail
from worker.calls.events import Kind
from worker.calls.replay import replay
from worker.calls.rules import Mode, Rules, Terms
from worker.calls.views import call_view
from worker.ledger.codec import decode, encode

OBSERVES = Rules(defaults=Terms(mode=Mode.OBSERVE, max_duration=timedelta(seconds=60)))
STOPPED = [started(0), accepted(60)]


def concluded(events, seconds, rules=STOPS):
    return [e for e in plan(events, seconds, rules).conclusions if e.kind is Kind.STOP_CONFIRMED]


def recorded(events, seconds, rules=STOPS):
    """The events with what a plan at that instant concludes of proofs."""
    found = concluded(events, seconds, rules)
    return [*events, *(replace(e, at=at(seconds)) for e in found)]


def listed(seconds, recording="r", end=None):
    return event(
        Kind.RECORDING_LISTED,
        seconds,
        recording,
        ended_at=at(seconds if end is None else end),
        duration_s=5.0,
    )


def test_the_first_proof_of_an_owed_stop_is_an_event_with_its_evidence_and_its_instants():
    (found,) = concluded([*STOPPED, ended(62, end=60.75)], 63)
    assert (found.recording_id, found.evidence) == ("r", ("callback",))
    assert (found.due_at, found.proven_at, found.ended_at) == (at(60), at(62), at(60.75))
    assert (found.trigger, found.rule, found.reason) == (
        "max_duration",
        "defaults",
        "proven by callback",
    )


@pytest.mark.parametrize(
    ("proof", "evidence"),
    [
        (ended(62), "callback"),
        (listed(62), "listed"),
        (event(Kind.CALL_ENDED, 62), "call_over"),
        (event(Kind.CALL_FOUND_OVER, 62, "r", requested_at=at(62)), "call_over"),
        (event(Kind.NOTHING_DECLARED, 62), "declared"),
    ],
)
def test_each_kind_of_proof_confirms(proof, evidence):
    assert [e.evidence for e in concluded([*STOPPED, proof], 63)] == [(evidence,)]


@pytest.mark.parametrize(
    "claim", [ended(62, signed=False), event(Kind.CALL_ENDED, 62, signed=False)]
)
def test_a_claim_confirms_nothing(claim):
    assert concluded([*STOPPED, claim], 63) == []


def test_a_promise_confirms_nothing():
    assert concluded(STOPPED, 63) == []


def test_further_evidence_is_no_second_event():
    events = recorded([*STOPPED, event(Kind.CALL_ENDED, 61)], 61)
    assert sum(e.kind is Kind.STOP_CONFIRMED for e in events) == 1
    assert concluded([*events, ended(62), listed(70, end=62)], 71) == []


def test_a_proof_at_the_very_instant_of_the_event_is_not_concluded_again():
    events = recorded([*STOPPED, ended(61)], 61)
    assert concluded(events, 61) == []


def test_planning_twice_gives_the_same_event():
    events = [*STOPPED, ended(62)]
    assert concluded(events, 63) == concluded(events, 90)


def test_two_recordings_are_confirmed_each_for_itself():
    events = [started(0), started(0, "other"), accepted(60), accepted(60, "other"), ended(61)]
    assert [e.recording_id for e in concluded(events, 62)] == ["r"]
    events = recorded(events, 62)
    assert [e.recording_id for e in concluded([*events, ended(63, "other")], 64)] == ["other"]


# What was never owed


def test_what_ended_before_anything_was_due_is_not_confirmed():
    assert concluded([started(0), ended(20)], 90) == []


def test_what_ended_with_its_call_before_the_deadline_is_not_confirmed_when_the_proof_comes_late():
    late = [started(0), event(Kind.CALL_ENDED, 65)]
    assert judge(late, 66).state is StopState.ALREADY_OVER  # as far as anybody knows by then
    assert concluded(late, 66) == []
    assert concluded([*late, listed(70, end=55)], 71) == []


def test_what_rules_only_observe_is_not_confirmed():
    assert concluded([started(0), ended(62)], 63, OBSERVES) == []


def test_an_order_is_confirmed_where_rules_only_observe():
    order = event(Kind.STOP_ORDERED, 5)
    sent = accepted(5, trigger="api", due=5)
    assert concluded([started(0), order, sent, ended(6)], 7, OBSERVES)


def test_a_trunk_recording_is_not_confirmed():
    assert concluded([replace(started(0), trunk=True), ended(62)], 63) == []


def test_a_recording_that_nobody_told_of_has_no_event_of_its_own():
    order = event(Kind.STOP_ORDERED, 5)
    sent = replace(accepted(5, trigger="api", due=5), recording_id=None)
    assert concluded([order, sent, event(Kind.CALL_ENDED, 6)], 7) == []


def test_changed_rules_make_no_stop_of_what_was_being_fetched():
    events = [started(0), ended(50), event(Kind.FETCH_FAILED, 55, "r")]
    shorter = Rules(defaults=Terms(max_duration=timedelta(seconds=30)))
    assert concluded(events, 60, shorter) == []


# What was owed, and never sent


def test_what_outlived_its_deadline_by_itself_is_confirmed_as_already_over():
    (found,) = concluded([started(0, started_at=at(0)), ended(64, end=63)], 70)
    assert found.reason == "already over before any request: proven by callback"


def test_what_ended_before_our_request_is_confirmed_as_already_over():
    (found,) = concluded([*STOPPED, ended(62, end=57)], 63)
    assert found.reason == "already over before our request: proven by callback"


# What is taken back


def test_a_proof_that_a_sign_of_life_takes_back_is_followed_by_an_event_of_its_own():
    gone = event(Kind.CALL_FOUND_OVER, 60, "r", requested_at=at(60), due_at=at(60), trigger="stop")
    events = recorded([started(0), gone], 60)
    assert [e.evidence for e in events if e.kind is Kind.STOP_CONFIRMED] == [("call_over",)]
    events.append(event(Kind.CALL_SEEN, 61))
    assert judge(events, 62).state is StopState.DUE
    assert concluded(events, 62) == []
    assert plan(events, 90).sends, "the stop is owed again"
    again = replace(gone, id="again", at=at(71), requested_at=at(71))
    (second,) = concluded([*events, again], 71)
    assert second.id not in {e.id for e in events}
    assert (second.proven_at, second.reason) == (
        at(71),
        "proven by call_over; an earlier proof was taken back",
    )


def test_a_proof_that_stands_beside_one_that_is_taken_back_is_told_with_its_own_instant():
    gone = event(Kind.CALL_FOUND_OVER, 60, "r", requested_at=at(60), due_at=at(60), trigger="stop")
    events = recorded([started(0), gone], 60)
    events += [ended(63), event(Kind.CALL_SEEN, 64)]
    assert [e.proven_at for e in concluded(events, 65)] == [at(63)]


# Logs, old and new


def test_an_archived_recording_of_an_older_log_gets_no_event():
    archived = event(Kind.MEDIA_ARCHIVED, 70, "r", archive_key="k", rule="defaults")
    assert concluded([*STOPPED, ended(62), archived], 80) == []


@given(st.permutations(STORY))
def test_the_event_changes_nothing_of_what_a_call_adds_up_to(order):
    living = [e for e in order if e.kind is not Kind.MEDIA_ARCHIVED]
    told = recorded(living, 10)
    assert len(told) == len(living) + 1
    with_it, without = replay("MA_1", "c", told), replay("MA_1", "c", living)
    assert replace(with_it, events=without.events) == without
    assert replace(plan(told, 10), conclusions=()) == replace(plan(living, 10), conclusions=())


def test_the_timeline_shows_it_with_its_evidence():
    call = replay("MA_1", "c", recorded([*STOPPED, ended(62)], 63))
    (shown,) = [
        e for e in call_view(call, STOPS, at(64))["timeline"] if e["event"] == "StopConfirmed"
    ]
    assert (shown["recording_id"], shown["reason"]) == ("r", "proven by callback")


def test_it_is_stored_and_read_back_whole():
    (found,) = [e for e in recorded([*STOPPED, ended(62)], 63) if e.kind is Kind.STOP_CONFIRMED]
    line = f"{found.id} {round(found.at.timestamp() * 1000)} {encode(found, 'MA_1')}"
    assert decode(line, "MA_1", "c") == [found]


def test_the_tail_is_lacking_only_where_the_end_was_not_known_when_the_stop_was_confirmed():
    known = recorded([*STOPPED, ended(62)], 63)
    assert not lacks_tail(replay("MA_1", "c", known), "r")
    unknown = recorded([*STOPPED, event(Kind.CALL_ENDED, 62)], 63)
    assert lacks_tail(replay("MA_1", "c", unknown), "r")
    assert not lacks_tail(replay("MA_1", "c", STOPPED), "r")
