"""The legs of a call, as its events name them."""

from tests.calls.builders import begins, call_of, event
from worker.calls.events import Kind
from worker.calls.legs import legs_view


def test_each_leg_has_the_instants_at_which_it_was_heard_of():
    call = call_of(
        begins(0),
        event(Kind.DIAL_ANSWERED, 2, leg="b1", b_leg="b1"),
        event(Kind.DIAL_CONNECTED, 3, b_leg="b2"),
        event(Kind.DIAL_ENDED, 8, b_leg="b2"),
        event(Kind.CALL_ENDED, 9),
    )
    a, b1, b2 = legs_view(call)
    assert (a["leg"], a["side"], a["ended_at"][17:22]) == ("c", "A", "09.00")
    assert (b1["leg"], b1["side"], b1["answered_at"][17:22]) == ("b1", "B", "02.00")
    assert (b2["connected_at"][17:22], b2["ended_at"][17:22]) == ("03.00", "08.00")
    assert (b1["connected_at"], b1["ended_at"], b2["answered_at"]) == (None, None, None)


def test_a_call_of_which_nothing_is_known_has_its_own_leg():
    assert [one["first_at"] for one in legs_view(call_of())] == [None]
