"""When the whole call is stopped for a recording that no event names."""

from datetime import timedelta

import pytest

from tests.calls.builders import (
    MINUTE,
    RULES,
    asked,
    at,
    begins,
    call_of,
    ends,
    event,
    ours,
    start,
    stopped,
)
from worker.calls.events import Kind
from worker.calls.rules import Mode, Terms
from worker.calls.triggers import acts
from worker.calls.unseen import (
    UNSEEN,
    deadlines_of_the_unseen,
    declared_for,
    found_live,
    newer_runs,
    trunk_runs,
    unseen,
)

LIVE = ours(Kind.CALL_FOUND_LIVE, 0)
STOP = ours(Kind.STOP_ORDERED, 10)
TERMS = Terms(max_duration=MINUTE)


def hidden(*events, seconds=50, terms=TERMS):
    call = call_of(*events)
    return unseen(call, acts(call, RULES), terms, "defaults", at(seconds))


@pytest.mark.parametrize(
    ("what", "events", "due", "proof"),
    [
        ("a stop, and nothing is known", [STOP], 10, True),
        ("a hand-off, and nothing is known", [asked(10)], 10, True),
        ("a stop, and a recording is known", [begins(0), STOP], 10, False),
        ("a stop that names one", [begins(0), ours(Kind.STOP_ORDERED, 10, recording_id="r")], None, None),
        ("a stop of a call that is over", [event(Kind.CALL_ENDED, 5), STOP], None, None),
        ("a stop that would end what began later", [begins(0), begins(20, "s"), STOP], None, None),
        ("a trigger beside a start without an answer", [*start(), event(Kind.CALL_TRANSFERRED, 10)], 10, True),
        ("a trigger, and every start is known", [event(Kind.CALL_TRANSFERRED, 10)], None, None),
        ("a start without an answer", start(), 60, True),
        ("a call that nobody announced", [LIVE], 60, True),
        ("nothing", [begins(0)], None, None),
    ],
)  # fmt: skip
def test_why_the_whole_call_is_stopped(what, events, due, proof):
    recording = hidden(*events)
    found = (recording.asked.due_at, recording.asked.proof) if recording else (None, None)
    assert found == (at(due) if due else None, proof), what


def test_the_last_reason_whose_time_has_come_counts_or_else_the_next_one():
    events = [LIVE, ours(Kind.STOP_ORDERED, 80)]
    due = [hidden(*events, seconds=s).asked.due_at for s in (50, 70, 90)]
    assert due == [at(60), at(60), at(80)]


def test_only_what_came_after_the_question_counts_for_it():
    early, late = (stopped(Kind.STOP_ACCEPTED, s, None) for s in (5, 11))
    recording = hidden(early, STOP, late, ours(Kind.STOP_UNKNOWN, 40))
    assert (recording.recording_id, recording.known_at) == (UNSEEN, at(10))
    assert [a.at for a in recording.attempts] == [at(11)]
    assert (recording.unknown_at, recording.over_at) == (at(40), None)


@pytest.mark.parametrize(
    ("proof", "evidence"),
    [
        (ours(Kind.NOTHING_DECLARED, 12), {"declared": at(12)}),
        (ours(Kind.NOTHING_DECLARED, 1), {"declared": at(1)}),
        (ours(Kind.CALL_FOUND_OVER, 12, requested_at=at(11)), {}),
        (stopped(Kind.STOP_ACCEPTED, 12, None), {}),
    ],
)
def test_a_declaration_proves_it_over_and_neither_204_nor_404_does(proof, evidence):
    assert hidden(STOP, proof).evidence == evidence


@pytest.mark.parametrize(
    ("what", "events", "counts"),
    [
        ("shortly before the question", [ours(Kind.NOTHING_DECLARED, 90)], True),
        ("long before it", [ours(Kind.NOTHING_DECLARED, 89)], False),
        ("a recording became known since", [ours(Kind.NOTHING_DECLARED, 95), begins(96)], False),
        ("a start was ordered since", [ours(Kind.NOTHING_DECLARED, 95), start("s1", 96)[0]], False),
        ("nothing was declared", [], False),
    ],
)
def test_when_a_declaration_answers_a_question(what, events, counts):
    assert (declared_for(call_of(*events), at(100)) is not None) is counts, what


@pytest.mark.parametrize(
    ("what", "then", "may_record"),
    [
        ("nothing since", [], True),
        ("the recording that ran is known", [begins(3)], False),
        ("one that began later", [begins(30, started_at=at(20))], True),
        ("one that had ended before", [ends(30, started_at=at(-9), ended_at=at(-2))], True),
        ("one of ours", [ours(Kind.START_ACCEPTED, 3, recording_id="r", order="s"), start("s", 2)[0]], True),
        ("the call is over", [event(Kind.CALL_ENDED, 9)], False),
        ("somebody says so", [event(Kind.CALL_ENDED, 9, signed=False)], False),
        ("nothing is being recorded", [ours(Kind.NOTHING_DECLARED, 9)], False),
    ],
)  # fmt: skip
def test_how_long_something_may_record_on_a_call_found_live(what, then, may_record):
    assert found_live(call_of(LIVE, *then)) is may_record, what


@pytest.mark.parametrize(
    ("terms", "asked_s", "due"),
    [
        (TERMS, None, 60),
        (TERMS, 30.0, 30),
        (TERMS, 90.0, 60),
        (Terms(mode=Mode.OBSERVE, max_duration=MINUTE), None, None),
        (Terms(mode=Mode.OBSERVE, max_duration=MINUTE), 90.0, 90),
        (Terms(max_duration=None), None, None),
    ],
)
def test_a_start_without_an_answer_is_bounded_by_the_terms_and_by_what_was_asked_for(
    terms, asked_s, due
):
    call = call_of(*start(max_duration_s=asked_s))
    deadlines = deadlines_of_the_unseen(call, terms, "defaults")
    assert [a.due_at for a in deadlines] == ([at(due)] if due else [])
    assert all(a.proof and a.covers_starts for a in deadlines)


def test_what_began_after_an_act_would_be_ended_as_well():
    (act,) = acts(call_of(STOP), RULES)
    assert not newer_runs(call_of(begins(0), STOP), act)
    assert newer_runs(call_of(begins(0), begins(20, "s"), STOP), act)
    assert not newer_runs(call_of(begins(0), begins(20, "s"), ends(30, "s"), STOP), act)
    assert newer_runs(call_of(STOP, start("s1", 20)[0]), act)


@pytest.mark.parametrize(
    ("events", "runs"),
    [
        ([begins(0)], False),
        ([event(Kind.CALL_SEEN, 0, trunk=True)], True),
        ([begins(0, trunk=True)], True),
        ([begins(0, trunk=True), ends(9, trunk=True)], False),
        ([begins(0, trunk=True), event(Kind.CALL_ENDED, 9)], False),
    ],
)
def test_a_trunk_recording_runs_until_it_or_the_call_is_over(events, runs):
    assert trunk_runs(call_of(*events)) is runs


def test_a_deadline_needs_no_order():
    assert hidden(LIVE, terms=Terms(max_duration=timedelta(seconds=5))).asked.due_at == at(5)
