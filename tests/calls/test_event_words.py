"""What a timeline says of each event."""

from tests.calls.builders import RULES, at, begins, call_of, event, ours, stopped
from worker.calls.event_words import looked, means, what
from worker.calls.events import Kind
from worker.calls.views import call_view


def test_every_kind_of_event_says_something():
    for kind in Kind:
        assert means(kind), kind
        assert len(what(event(kind))) > 5, kind
    assert means("Unheard") == ""


def test_a_stop_says_what_was_sent_which_try_it_was_and_what_the_provider_answered():
    call = call_of(
        begins(0),
        stopped(Kind.STOP_ERRED, 60, status=503, reason="busy", retry_at=at(62)),
        stopped(Kind.STOP_ACCEPTED, 63, named=True),
        ours(Kind.LOOKED, 64, live=True),
        stopped(Kind.CALL_FOUND_OVER, 65),
        ours(Kind.START_SENT, 66, order="s", max_duration_s=60.0),
    )
    said = [one["what"] for one in call_view(call, RULES, at(70))["timeline"]]
    assert said == [
        "it records",
        "max_duration; DELETE failed, so it is sent again; for the whole call; try 1; HTTP 503; "
        "busy; asked to wait until 06:31:02",
        "max_duration; DELETE accepted (2xx): a promise, no proof; for one recording; try 2",
        looked(live=True, reason=None),
        "max_duration; DELETE answered 404: no such live call; for the whole call; try 3",
        "the start was sent, with a limit of 60 s",
    ]


def test_within_one_millisecond_the_timeline_keeps_the_order_of_the_log():
    ordered = ours(Kind.START_ORDERED, 1, order="s", id="start.s")
    sent = ours(Kind.START_SENT, 1, order="s", id="sent.s.0")
    call = call_of(begins(0), ordered, sent)
    assert [e.kind for e in call.events[1:]] == [Kind.START_ORDERED, Kind.START_SENT]
    assert call == call_of(sent, begins(0), ordered)
