"""What proves the end of a call, what only claims it, and what takes a proof back."""

import pytest

from tests.calls.builders import at, begins, call_of, ends, event, ours
from worker.calls.events import Kind

SEEN = event(Kind.CALL_SEEN, 0)
HANG_UP = event(Kind.CALL_ENDED, 50)


def gone(seconds, **facts):
    return ours(Kind.CALL_FOUND_OVER, seconds + 0.2, requested_at=at(seconds), **facts)


def looked(seconds, **facts):
    return ours(Kind.LOOKED, seconds, **facts)


@pytest.mark.parametrize(
    ("what", "events", "over", "claimed"),
    [
        ("a signed hang-up", [SEEN, HANG_UP], 50, None),
        ("an unsigned one", [SEEN, event(Kind.CALL_ENDED, 50, signed=False)], None, 50),
        ("a 404 for a call that the provider reported", [SEEN, gone(50)], 50.2, None),
        ("a 404 for a call that it never reported", [gone(50)], None, 50.2),
        ("a 404 to the stop of one recording", [SEEN, gone(50, named=True)], None, None),
        ("a look that finds no live call", [SEEN, looked(50, live=False)], 50, None),
        ("a look that failed", [SEEN, looked(50, live=False, reason="503")], None, None),
        ("a look so early that a new call may be missing", [SEEN, looked(2, live=False)], None, 2),
        ("a 404, and a sign of life after it", [SEEN, gone(50), event(Kind.DIAL_CONNECTED, 51)], None, 50.2),
        ("a 404, and the late start of what is over", [SEEN, gone(50), begins(51), ends(52)], 50.2, None),
        ("a 404, and a recording that began after it", [SEEN, gone(50), ends(70, started_at=at(60))], None, 50.2),
        ("a claim that a look refuted", [SEEN, event(Kind.CALL_ENDED, 50, signed=False), looked(55, live=True)], None, None),
        ("a claim after that look", [SEEN, looked(45, live=True), event(Kind.CALL_ENDED, 50, signed=False)], None, 50),
    ],
)  # fmt: skip
def test_the_end_of_a_call(what, events, over, claimed):
    call = call_of(*events)
    expected = (at(over) if over else None, at(claimed) if claimed else None)
    assert (call.over_at, call.claimed_over_at) == expected, what


@pytest.mark.parametrize(
    ("what", "recording", "end", "proven"),
    [
        ("known before the hang-up", begins(10), HANG_UP, True),
        ("known after it, begun before", begins(60, started_at=at(40)), HANG_UP, True),
        ("begun after it", begins(60, started_at=at(55)), HANG_UP, False),
        ("known before a 404", begins(10), gone(50), True),
        ("known after a 404, begun well before", ends(60, started_at=at(40)), gone(50), True),
        ("begun about then", ends(60, started_at=at(46)), gone(50), False),
        ("in a conference, which goes on", begins(10, room="m"), HANG_UP, False),
    ],
)
def test_the_end_of_a_call_proves_that_what_began_before_is_over(what, recording, end, proven):
    evidence = call_of(SEEN, recording, end).recordings["r"].evidence
    assert ("call_over" in evidence) is proven, what
