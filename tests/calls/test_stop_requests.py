"""Which DELETEs leave, and how they name what they end."""

import pytest

from tests.calls.builders import MINUTE, at, begins, call_of, ends, event, ours, start, stopped
from worker.calls.events import Kind
from worker.calls.rules import Action, Rules, Terms
from worker.calls.stop_requests import errors_in_a_row, requests, stops_of, unknowns
from worker.calls.triggers import acts

RULES = Rules(defaults=Terms(max_duration=MINUTE, on={"transfer": Action.STOP}))
URL, WIDE = "https://m/{}".format, None


def stops(*events, seconds=60.0, horizon=0.0):
    call = call_of(*events)
    return stops_of(call, RULES, acts(call, RULES), at(seconds), at(seconds + horizon))


def sent(*events, seconds=60.0, horizon=0.0):
    sends, _ = requests(stops(*events, seconds=seconds, horizon=horizon))
    return [(set(s.recording_ids), s.url) for s in sends]


@pytest.mark.parametrize(
    ("what", "events", "expected"),
    [
        ("nothing is due yet", [begins(1)], []),
        ("it runs alone", [begins(0)], [({"r"}, WIDE)]),
        ("both are due", [begins(0), begins(0, "s")], [({"r", "s"}, WIDE)]),
        ("another must go on", [begins(0), begins(9, "s")], [({"r"}, URL("r"))]),
        ("that one is over", [begins(0), begins(9, "s"), ends(20, "s")], [({"r"}, WIDE)]),
        ("that one is a trunk's", [begins(0), begins(9, "s", trunk=True)], [({"r"}, WIDE)]),
        ("a start may have begun another", [begins(0), *start("s1", 9)], [({"r"}, URL("r"))]),
        ("nothing is known, and somebody asks", [ours(Kind.STOP_ORDERED, 60)], [({""}, WIDE)]),
        ("it is over", [begins(0), ends(59)], []),
        ("no API stops a trunk", [begins(0, trunk=True)], []),
    ],
)
def test_what_a_request_names(what, events, expected):
    assert sent(*events) == expected, what


def test_requests_that_are_due_within_the_horizon_are_named_ahead_but_each_for_its_own_moment():
    near = [begins(0), begins(0.05, "s")]
    assert sent(begins(0), seconds=59.9, horizon=0.12) == [({"r"}, WIDE)]
    assert sent(*near, seconds=59.9, horizon=0.2) == [({"r"}, URL("r"))]
    assert sent(*near, seconds=60.05) == [({"r", "s"}, WIDE)]


@pytest.mark.parametrize(
    ("what", "attempts", "again_after"),
    [
        ("a promise, and no look yet", [stopped(Kind.STOP_ACCEPTED, 60)], 11),
        ("a promise, and a look", [stopped(Kind.STOP_ACCEPTED, 60), ours(Kind.LOOKED, 70)], 10),
        ("the account is halted", [stopped(Kind.STOP_ERRED, 60, status=401, retry_at=at(65))], 5),
        ("the provider asks for a pause", [stopped(Kind.STOP_ERRED, 60, status=429, retry_at=at(90))], 30),
        ("set aside", [stopped(Kind.STOP_SET_ASIDE, 60)], None),
        ("set aside, and a person asks again", [stopped(Kind.STOP_SET_ASIDE, 60), ours(Kind.STOP_ORDERED, 61)], 1),
    ],
)  # fmt: skip
def test_when_it_is_sent_again(what, attempts, again_after):
    expected = None if again_after is None else at(60 + again_after)
    assert stops(begins(0), *attempts, seconds=62).next_at["r"] == expected, what


def test_errors_count_until_something_else_is_answered():
    kinds = [Kind.STOP_ERRED, Kind.STOP_ACCEPTED, Kind.STOP_ERRED, Kind.STOP_ERRED]
    attempts = [stopped(kind, 60 + i) for i, kind in enumerate(kinds)]
    assert errors_in_a_row(call_of(begins(0), *attempts).recordings["r"]) == 2
    assert errors_in_a_row(call_of(begins(0), *attempts[:2]).recordings["r"]) == 0


def test_when_all_tries_are_used_up_or_it_cannot_be_named_nothing_is_proven():
    promises = [stopped(Kind.STOP_ACCEPTED, 20 + 10 * i, due_at=at(20)) for i in range(4)]
    used_up = stops(begins(0), *promises, ours(Kind.LOOKED, 61), seconds=62)
    assert requests(used_up) == ((), [])
    (unknown,) = unknowns(used_up, [])
    assert (unknown.recording_id, unknown.reason) == ("r", "no proof after 4 stop requests")
    nameless = stops(event(Kind.RECORDING_STARTED, 0, recording_id="r"), begins(9, "s"))
    sends, unnamed = requests(nameless)
    assert (sends, unnamed) == ((), ["r"])
    (unknown,) = unknowns(nameless, unnamed)
    assert unknown.reason.startswith("its URL is not known")


def test_for_a_deadline_what_cannot_be_named_is_ended_with_what_a_start_may_have_begun():
    nameless = event(Kind.RECORDING_STARTED, 0, recording_id="r")
    ((send,), unnamed) = requests(stops(nameless, *start("s1", 9)))
    assert (send.recording_ids, send.url, unnamed) == (("r",), None, [])
    assert "a start without an answer" in send.note
    by_trigger = stops(nameless, *start("s1", 29), event(Kind.CALL_TRANSFERRED, 20), seconds=40)
    assert requests(by_trigger) == ((), ["r"]), "a trigger may not"
