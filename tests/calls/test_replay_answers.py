"""Events added to a replayed call give what a replay of all of them gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.calls.builders import at, begins, call_of, ends, event, ours, start, stopped
from worker.calls import replay_answers
from worker.calls.events import Kind
from worker.calls.replay_answers import replay_on

_ANSWERS = [Kind.STOP_ACCEPTED, Kind.STOP_ERRED, Kind.STOP_SET_ASIDE, Kind.CALL_FOUND_OVER]
_BEFORE = [
    begins(0),
    begins(1, "s", started_at=at(-60)),
    *start("s1", 2),
    event(Kind.CALL_SEEN, 3, to_number="92"),
    stopped(Kind.STOP_ERRED, 4, "r"),
    stopped(Kind.STOP_ACCEPTED, 5, None),
    ends(6, "s", ended_at=at(5.5), duration_s=5),
    ours(Kind.RECORDING_LISTED, 7, recording_id="t", started_at=at(1), ended_at=at(5)),
    ours(Kind.STOP_ORDERED, 8),
]


@st.composite
def answers(draw):
    """Answers of the provider to one or two requests, told for each recording."""
    found = []
    for number in range(draw(st.integers(1, 2))):
        answered = draw(st.sampled_from([3.5, 9, 10, 12])) + number
        requested_at = at(draw(st.sampled_from([4.9, 5, answered - 0.5])))
        kind, named = draw(st.sampled_from(_ANSWERS)), draw(st.booleans())
        found += [
            stopped(kind, answered, recording, named=named, requested_at=requested_at)
            for recording in draw(st.sets(st.sampled_from(["r", "s", "t", "u", None]), min_size=1))
        ]
    return found


@given(st.sets(st.sampled_from(range(len(_BEFORE)))), answers())
def test_answers_add_to_a_replayed_call_what_a_replay_from_the_beginning_gives(chosen, found):
    before = [_BEFORE[i] for i in sorted(chosen)]
    assert replay_on(call_of(*before), found) == call_of(*before, *found)


@pytest.mark.parametrize("recording", ["r", None])
def test_the_answer_to_an_ordinary_stop_needs_no_second_replay(monkeypatch, recording):
    before = call_of(begins(0))
    answer = stopped(Kind.STOP_ACCEPTED, 5, recording)
    wanted = call_of(begins(0), answer)
    monkeypatch.setattr(replay_answers, "replay", None)
    assert replay_on(before, [answer]) == wanted
