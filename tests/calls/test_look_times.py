"""When the provider is asked about a call."""

import itertools
from datetime import timedelta

import pytest

from tests.calls.builders import MINUTE, at, begins, call_of, ends, event, ours, start, stopped
from worker.calls import planner
from worker.calls.events import Kind
from worker.calls.look_times import looked_since, next_look
from worker.calls.rules import Match, Rule, Rules, Terms

RULES = Rules(defaults=Terms(max_duration=MINUTE))
SEEN = event(Kind.CALL_SEEN, 0)
CLAIMED = ends(10, signed=False)


def look(seconds, **facts):
    return ours(Kind.LOOKED, seconds, **facts)


def next_at(*events, rules=RULES, stops=None):
    """In seconds; None where nothing is left to ask."""
    call = call_of(*events)
    due = {"r": at(60)} if stops is None else stops
    found = next_look(call, call.recordings, rules, due)
    return found and (found - at(0)) / timedelta(seconds=1)


@pytest.mark.parametrize(
    ("what", "events", "expected"),
    [
        ("it runs until its deadline", [begins(0)], None),
        ("somebody claims its end", [begins(0), CLAIMED], 10),
        ("and the look found nothing", [begins(0), CLAIMED, look(10)], 11),
        ("nor did the second", [begins(0), CLAIMED, look(10), look(11)], 13),
        ("the look failed", [begins(0), CLAIMED, look(10, reason="503")], 15),
        ("twice", [begins(0), CLAIMED, look(10, reason="503"), look(15, reason="503")], 25),
        ("a promise was given", [begins(0), stopped(Kind.STOP_ACCEPTED, 60)], 70),
        ("and somebody waits to transfer", [begins(0), stopped(Kind.STOP_ACCEPTED, 60), ours(Kind.HANDOFF_ASKED, 59, order="h", trigger="transfer.x", wait_s=9.0)], 61),
        ("errors follow one another", [begins(0), stopped(Kind.STOP_ERRED, 60), stopped(Kind.STOP_ERRED, 61)], 120),
        ("it was set aside", [begins(0), stopped(Kind.STOP_SET_ASIDE, 60)], 120),
        ("no proof after all tries", [begins(0), stopped(Kind.STOP_ACCEPTED, 60), ours(Kind.STOP_UNKNOWN, 70, recording_id="r")], 130),
        ("it is over, its facts are missing", [SEEN, begins(0), event(Kind.CALL_ENDED, 20)], 25),
        ("it is over and known", [SEEN, begins(0), ends(20)], None),
        ("a person wants it", [SEEN, begins(0), ours(Kind.RETRY_ORDERED, 500, recording_id="r")], 500),
        ("a start got no answer", start(), 5),
        ("a conference goes on after its call", [SEEN, begins(0, room="m"), event(Kind.CALL_ENDED, 20)], 20),
    ],
)  # fmt: skip
def test_when_to_look(what, events, expected):
    assert next_at(*events) == expected, what


def test_what_nothing_bounds_is_looked_for_once_an_hour():
    assert next_at(begins(0), stops={}) == 3600
    assert next_at(begins(0), look(3600), stops={}) == 7200


def test_once_a_series_of_looks_is_used_up_the_next_ones_are_rare():
    events = [begins(0), CLAIMED]
    moments = []
    for _ in range(20):
        moments.append(next_at(*events))
        events.append(look(moments[-1]))
    waits = [b - a for a, b in itertools.pairwise(moments)]
    assert waits[:3] == [1, 2, 2]
    assert waits[-1] == 6 * 3600
    assert max(waits) == waits[-1]


def test_a_look_150_ms_before_an_instant_counts_for_it():
    call = call_of(begins(0), look(10))
    assert [looked_since(call, at(s)) for s in (10, 10.15, 10.16)] == [True, True, False]


def test_the_provider_is_asked_for_missing_numbers_a_few_times_and_not_for_ever():
    rules = Rules(rules=(Rule(name="in", match=Match(to_number="91*"), terms=Terms()),))
    events = [
        ours(Kind.STOP_ORDERED, 0),
        ours(Kind.CALL_FOUND_OVER, 0.2, requested_at=at(0.1), named=False),
    ]
    looks = 0
    while (due := planner.plan(call_of(*events), rules, at(0.3)).look_at) and looks < 20:
        looks += 1
        events.append(look((due - at(0)) / timedelta(seconds=1) + 0.1, live=False))
    assert looks <= 4


def test_numbers_are_asked_for_where_a_rule_needs_them_and_something_may_record():
    rules = Rules(rules=(Rule(name="in", match=Match(to_number="91*"), terms=Terms()),))
    assert next_at(begins(3), rules=rules) == 3
    assert next_at(begins(3), look(3, live=True), rules=rules) is None, "it is known by now"
    known = event(Kind.CALL_SEEN, 0, to_number="918065550199")
    assert next_at(known, begins(3), rules=rules) is None
    assert next_at(event(Kind.CALL_SEEN, 0), rules=rules) is None, "nothing records"
