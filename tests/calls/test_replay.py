"""What the events of one call add up to, in whatever order they came."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.calls.builders import (
    T0,
    asked,
    at,
    begins,
    call_of,
    decided,
    ends,
    event,
    ours,
    start,
    stopped,
)
from worker.calls.events import Kind


def listed(seconds, recording="r", **facts):
    return ours(Kind.RECORDING_LISTED, seconds, recording_id=recording, **facts)


STORY = [
    event(Kind.CALL_SEEN, 0, from_number="91", to_number="92"),
    begins(0),
    *start("s1", 3, segment_of="r"),
    listed(9, "s", started_at=at(5)),
    asked(10),
    stopped(Kind.STOP_ACCEPTED, 11, "r"),
    ours(Kind.CALL_FOUND_OVER, 12, requested_at=at(11.5)),
    event(Kind.DIAL_CONNECTED, 13),
    decided(13),
    ends(14),
    listed(15, "s", ended_at=at(12)),
    ours(Kind.NOTHING_DECLARED, 16),
    event(Kind.CALL_ENDED, 17),
]


@given(st.permutations(STORY))
def test_the_order_in_which_events_come_changes_nothing(shuffled):
    assert call_of(*shuffled) == call_of(*STORY)


@pytest.mark.parametrize(
    ("what", "events", "field", "value"),
    [
        ("a signature before none", [event(Kind.CALL_SEEN, 0, to_number="91"), event(Kind.CALL_SEEN, 1, to_number="92", signed=False)], "to_number", "91"),
        ("a signature before a caller", [event(Kind.CALL_SEEN, 0, to_number="91"), ours(Kind.CALL_ANNOUNCED, 1, to_number="92")], "to_number", "91"),
        ("a caller's last word", [ours(Kind.CALL_ANNOUNCED, 0, to_number="91"), ours(Kind.CALL_ANNOUNCED, 1, to_number="92")], "to_number", "92"),
        ("labels of several", [ours(Kind.CALL_ANNOUNCED, 0, labels={"a": "1", "b": "1"}), ours(Kind.CALL_ANNOUNCED, 1, labels={"b": "2"})], "labels", {"a": "1", "b": "2"}),
        ("when it began, as announced last", [ours(Kind.CALL_ANNOUNCED, 0, started_at=at(-9)), ours(Kind.CALL_ANNOUNCED, 1, started_at=at(-5))], "started_at", at(-5)),
        ("nobody but our callers' orders", [ours(Kind.STOP_ORDERED, 0)], "known", False),
        ("a look that saw it", [ours(Kind.STOP_ORDERED, 0), ours(Kind.LOOKED, 1, live=True)], "known", True),
        ("reported by the provider", [begins(0)], "reported", True),
        ("by somebody without a signature", [begins(0, signed=False)], "reported", False),
        ("the last declaration", [ours(Kind.NOTHING_DECLARED, 1), ours(Kind.NOTHING_DECLARED, 5)], "declared_at", at(5)),
        ("seen live first", [ours(Kind.CALL_FOUND_LIVE, 1), ours(Kind.CALL_FOUND_LIVE, 5)], "found_live_at", at(1)),
    ],
)  # fmt: skip
def test_facts_of_a_call(what, events, field, value):
    assert getattr(call_of(*events), field) == value, what


@pytest.mark.parametrize(
    ("what", "events", "evidence"),
    [
        ("a signed end", [ends(10)], {"callback": 10}),
        ("the list", [begins(0), listed(10, duration_s=4.0)], {"listed": 10}),
        ("both", [ends(10), listed(12, duration_s=4.0)], {"callback": 10, "listed": 12}),
        ("the first of each", [ends(10), ends(11)], {"callback": 10}),
        ("nothing is being recorded", [begins(0), ours(Kind.NOTHING_DECLARED, 9)], {"declared": 9}),
        ("it was known only after that", [begins(9), ours(Kind.NOTHING_DECLARED, 9)], {}),
        ("its call is over", [begins(0), event(Kind.CALL_ENDED, 9)], {"call_over": 9}),
        ("an unsigned end", [begins(0), ends(10, signed=False)], {}),
        ("Event=Record", [begins(0, ended_at=at(5), duration_s=5.0)], {}),
        ("a promise", [begins(0), stopped(Kind.STOP_ACCEPTED, 5)], {}),
    ],
)
def test_proofs_of_an_end(what, events, evidence):
    found = call_of(*events).recordings["r"].evidence
    assert found == {name: at(seconds) for name, seconds in evidence.items()}, what


def test_the_list_decides_when_it_began_and_ended():
    call = call_of(begins(2, started_at=at(1)), ends(10), listed(12, started_at=T0, ended_at=at(9)))
    recording = call.recordings["r"]
    assert (recording.provider_started_at, recording.ended_at) == (T0, at(9))


def test_an_unsigned_end_and_a_404_to_its_stop_are_claims():
    gone = ours(Kind.CALL_FOUND_OVER, 5, recording_id="r", requested_at=at(4.9), named=True)
    assert call_of(begins(0), gone).recordings["r"].claimed_at == at(5)
    assert call_of(begins(0), ends(7, signed=False)).recordings["r"].claimed_at == at(7)


def test_a_stop_of_the_whole_call_counts_once_and_also_for_what_ran_unknown_then():
    wide = [stopped(Kind.STOP_ACCEPTED, 20, i, id=f"stop.{i}") for i in ("r", "s")]
    late = ends(40, "t", started_at=at(10), ended_at=at(20.5))
    call = call_of(begins(0), begins(1, "s"), *wide, late)
    assert len(call.attempts) == 1
    assert [len(r.attempts) for r in call.recordings.values()] == [1, 1, 1]
    later = ends(40, "t", started_at=at(25), ended_at=at(30))
    assert call_of(begins(0), *wide, later).recordings["t"].attempts == ()


def test_an_attempt_alone_makes_no_recording():
    assert call_of(stopped(Kind.STOP_ACCEPTED, 20)).recordings == {}


def test_a_retry_of_a_person_begins_anew():
    failure, retry = (
        ours(kind, s, recording_id="r")
        for kind, s in ((Kind.FETCH_FAILED, 12), (Kind.RETRY_ORDERED, 30))
    )
    gave_up = ours(Kind.GAVE_UP, 20, recording_id="r")
    before, after = (call_of(ends(10), failure, gave_up, *more) for more in ([], [retry]))
    assert (len(before.recordings["r"].failures), before.recordings["r"].gave_up) == (1, gave_up)
    assert (after.recordings["r"].failures, after.recordings["r"].gave_up) == ((), None)


def test_the_later_segments_name_the_first_one():
    first = start("s1", 10, segment_of="r")[:2]
    second = start("s2", 20, segment_of="a")[:2]
    accepted = [
        ours(Kind.START_ACCEPTED, s, order=o, recording_id=r, id=f"started.{o}")
        for s, o, r in ((12, "s1", "a"), (22, "s2", "b"))
    ]
    call = call_of(begins(0), *first, *second, *accepted)
    assert {i: r.root for i, r in call.recordings.items()} == {"r": "r", "a": "r", "b": "r"}


@pytest.mark.parametrize(
    ("what", "rows", "begun"),
    [
        ("it runs", [listed(20, "a", started_at=at(3))], "a"),
        ("it ended by itself", [listed(20, "a", started_at=at(3), ended_at=at(9))], None),
        ("it began before", [listed(20, "a", started_at=at(-5))], None),
        ("it began long after", [listed(20, "a", started_at=at(8))], None),
        ("two of them", [listed(20, i, started_at=at(3)) for i in "ab"], None),
        ("somebody reports it", [listed(20, "a", started_at=at(3)), begins(5, "a")], None),
    ],
)
def test_which_recording_a_start_without_an_answer_began(what, rows, begun):
    assert call_of(*start(), *rows).starts["s1"].recording_id == begun, what


def test_a_hand_off_has_its_decision_and_what_came_of_its_transfer():
    sent = ours(Kind.TRANSFER_SENT, 6, order="h1")
    handoff = call_of(asked(4), decided(5), sent).handoffs["h1"]
    assert (handoff.decided.verdict, handoff.transfer) == ("go", sent)
    assert call_of(decided(5)).handoffs == {}
