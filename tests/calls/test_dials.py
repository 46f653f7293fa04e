"""Which dials failed, where the callbacks of several legs overtake each other."""

import pytest

from tests.calls.builders import call_of, event
from worker.calls.dials import failed_dials
from worker.calls.events import Kind


def answer(seconds, leg=None):
    return event(Kind.DIAL_ANSWERED, seconds, b_leg=leg, id=f"answer.{leg}.{seconds}")


def end(seconds, leg=None, **facts):
    return event(Kind.DIAL_ENDED, seconds, b_leg=leg, id=f"end.{leg}.{seconds}", **facts)


@pytest.mark.parametrize(
    ("what", "events", "failed"),
    [
        ("nobody was reached", [end(10, connected=False)], [10]),
        ("nobody says whether anybody was", [end(10)], []),
        ("somebody was connected", [end(10, connected=True)], []),
        (
            "the leg itself was connected before",
            [event(Kind.DIAL_CONNECTED, 5, b_leg="a"), end(10, "a", connected=False)],
            [],
        ),
        ("another leg won the race", [answer(9, "a"), end(10, "b", connected=False)], []),
        ("it won it a moment later", [end(10, "b", connected=False), answer(14, "a")], []),
        ("it was answered too late to explain this", [end(10, "b", connected=False), answer(16, "a")], [10]),
        ("it had ended by then", [answer(5, "a"), end(8, "a"), end(10, "b", connected=False)], [10]),
        (
            "its dial completed",
            [end(10, "b", connected=False), end(12, whole=True, connected=True)],
            [],
        ),
        (
            "the answer was another dial's, which is over",
            [answer(3, "a"), end(6, whole=True), end(10, "b", connected=False)],
            [10],
        ),
        (
            "an older dial's callback is repeated",
            [answer(5, "a"), end(10, whole=True, connected=False)],
            [],
        ),
        (
            "that dial is not so old",
            [answer(5, "a"), end(21, whole=True, connected=False)],
            [21],
        ),
    ],
)  # fmt: skip
def test_a_dial_failed_where_no_other_leg_explains_its_end(what, events, failed):
    assert [e.at.second for e in failed_dials(call_of(*events))] == failed, what
