"""How far one event is trusted."""

import pytest

from tests.calls.builders import at, begins, ends, event, ours
from worker.calls.events import Kind
from worker.calls.trust import by_worth, is_end, is_proven_end, is_start


def listed(**facts):
    return ours(Kind.RECORDING_LISTED, 20, recording_id="r", **facts)


@pytest.mark.parametrize(
    ("what", "reported", "is_over", "is_proven"),
    [
        ("a signed end", ends(10), True, True),
        ("an unsigned one", ends(10, signed=False), True, False),
        ("Event=Record, whatever it carries", begins(10, ended_at=at(5), duration_s=5.0), False, False),
        ("a row with an end", listed(ended_at=at(5)), True, True),
        ("a row with a duration", listed(duration_s=4.0), True, True),
        ("a row of what runs", listed(duration_s=0.0), False, False),
        ("the end of the call", event(Kind.CALL_ENDED, 10), False, False),
    ],
)  # fmt: skip
def test_what_says_and_what_proves_that_a_recording_is_over(what, reported, is_over, is_proven):
    assert (is_end(reported), is_proven_end(reported)) == (is_over, is_proven), what


@pytest.mark.parametrize(
    ("what", "reported", "believed"),
    [
        ("a signed callback", begins(10, started_at=at(8)), True),
        ("an unsigned one", begins(10, started_at=at(8), signed=False), False),
        ("a row", listed(started_at=at(8)), True),
        ("an application", ours(Kind.RECORDING_ANNOUNCED, 10, started_at=at(8)), True),
        ("clocks that differ a little", begins(10, started_at=at(12)), True),
        ("a wrong clock", begins(10, started_at=at(12.1)), False),
        ("no figure", begins(10), False),
    ],
)
def test_whose_figure_for_a_start_is_believed(what, reported, believed):
    assert is_start(reported) is believed, what


def test_the_list_is_trusted_most_then_signatures_then_the_callers_last_word():
    in_order = [
        begins(40, signed=False),
        ours(Kind.CALL_ANNOUNCED, 10),
        ours(Kind.RECORDING_ANNOUNCED, 30),
        begins(5),
        listed(),
    ]
    shuffled = [in_order[i] for i in (3, 1, 4, 0, 2)]
    assert sorted(shuffled, key=by_worth) == in_order
