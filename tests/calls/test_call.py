"""What calls, recordings, starts and hand-offs say about themselves."""

import pytest

from tests.calls.builders import T0, asked, at, call_of, decided, ends, event, ours, start
from worker.calls.call import Recording, is_no_call
from worker.calls.events import Fault, Kind


@pytest.mark.parametrize(
    ("facts", "began"),
    [
        ({}, 9),  # when it became known
        ({"ended_at": at(8), "duration_s": 6.0}, 2),
        ({"ended_at": at(8)}, 9),
        ({"ended_at": at(8), "duration_s": 6.0, "provider_started_at": at(1)}, 1),
    ],
)
def test_a_recording_began_by_the_providers_figure_else_its_end_minus_its_length(facts, began):
    assert Recording(recording_id="r", known_at=at(9), **facts).started_at == at(began)


def test_a_recording_is_over_since_its_first_proof():
    recording = Recording(
        recording_id="r", known_at=T0, evidence={"listed": at(7), "call_over": at(5)}
    )
    assert recording.over_at == at(5)
    assert Recording(recording_id="r", known_at=T0).over_at is None


@pytest.mark.parametrize(
    ("then", "fault"),
    [
        ([], None),
        ([ours(Kind.FETCH_FAILED, 2, recording_id="r", fault=Fault.MEDIA)], Fault.MEDIA),
        ([ours(Kind.FETCH_FAILED, 2, recording_id="r")], Fault.PROVIDER),
        (
            [
                ours(Kind.FETCH_FAILED, 2, recording_id="r", fault=Fault.MEDIA),
                ours(Kind.GAVE_UP, 3, recording_id="r", fault=Fault.STORAGE),
            ],
            Fault.STORAGE,
        ),
        (
            [
                ours(Kind.FETCH_FAILED, 2, recording_id="r", fault=Fault.MEDIA),
                ours(Kind.MEDIA_ARCHIVED, 3, recording_id="r"),
            ],
            None,
        ),
    ],
)
def test_the_fault_is_that_of_the_last_failure_until_it_is_archived(then, fault):
    assert call_of(ends(1), *then).recordings["r"].fault is fault


ORDERED, SENT, UNCLEAR = start()
ACCEPTED = ours(Kind.START_ACCEPTED, 5, order="s1", recording_id="r")


@pytest.mark.parametrize(
    ("what", "events", "failed", "unclear", "unsettled"),
    [
        ("ordered", [ORDERED], False, False, True),
        ("sent", [ORDERED, SENT], False, False, True),
        ("accepted", [ORDERED, SENT, ACCEPTED], False, False, False),
        ("failed", [ORDERED, ours(Kind.START_FAILED, 5, order="s1")], True, False, False),
        ("no answer", [ORDERED, SENT, UNCLEAR], False, True, True),
        (
            "its limit ran out",
            [ORDERED, SENT, UNCLEAR, ours(Kind.START_LAPSED, 9, order="s1")],
            False,
            False,
            False,
        ),
        (
            "its callback came",
            [
                ORDERED,
                SENT,
                UNCLEAR,
                event(Kind.RECORDING_STARTED, 9, order="s1", recording_id="r"),
            ],
            False,
            False,
            False,
        ),
    ],
)
def test_how_far_a_start_came(what, events, failed, unclear, unsettled):
    found = call_of(*events).starts["s1"]
    assert (found.failed, found.unclear, found.unsettled) == (failed, unclear, unsettled), what


def test_a_start_counts_as_begun_at_its_trigger_or_when_it_was_ordered():
    assert call_of(ORDERED).starts["s1"].began_at == T0
    resumed = ours(Kind.START_ORDERED, 2, order="s1", due_at=at(1))
    assert call_of(resumed).starts["s1"].began_at == at(1)


@pytest.mark.parametrize(
    ("decision", "is_ours"),
    [([], False), ([("go", "api")], False), ([("hold", "us")], False), ([("go", "us")], True)],
)
def test_only_after_the_workers_own_go_is_the_transfer_sent(decision, is_ours):
    events = [decided(5, verdict, by=by) for verdict, by in decision]
    handoff = call_of(asked(4), *events).handoffs["h1"]
    assert (handoff.until, handoff.is_ours_to_send) == (at(7), is_ours)


def test_there_is_no_call_where_only_our_callers_speak_of_it_and_a_stop_is_answered_404():
    stop, gone = ours(Kind.STOP_ORDERED, 1), ours(Kind.CALL_FOUND_OVER, 2, requested_at=at(1.5))
    unheard, reported = call_of(stop, gone), call_of(event(Kind.CALL_SEEN), stop, gone)
    assert is_no_call(unheard, unheard.attempts)
    assert not is_no_call(reported, reported.attempts)
    assert not is_no_call(unheard, [])
