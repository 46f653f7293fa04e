"""What an erased recording still needs, by the events of its call."""

from datetime import timedelta

import pytest

from tests.calls.builders import at, begins, call_of, ends, event, ours
from worker.calls import erasure, fetch_times
from worker.calls.events import Kind
from worker.calls.rules import Match, Rule, Rules, Terms

BEGUN = ours(Kind.ERASE_BEGUN, 30, recording_id="r", id="erase.r", sha256="ab", by="anna")
ERASED = ours(Kind.RECORDING_ERASED, 31, recording_id="r", id="erased.r.1")
OVER = event(Kind.CALL_ENDED, 20)
FIRST = (begins(0), ends(10))


@pytest.mark.parametrize(
    ("more", "owed"),
    [
        ([], []),
        ([BEGUN], []),  # the obligation is there already
        ([BEGUN, ERASED], []),
        ([BEGUN, ERASED, ends(40)], ["r"]),  # told late: the provider may have a copy
        (
            [BEGUN, ERASED, ends(40), ours(Kind.RECORDING_ERASED, 41, recording_id="r", id="e.2")],
            [],
        ),
        ([BEGUN, ERASED, ours(Kind.MEDIA_ARCHIVED, 31, recording_id="r")], ["r"]),
        ([BEGUN, ERASED, event(Kind.CALL_SEEN, 32, from_number="919820055512")], ["r"]),  # a number
    ],
)
def test_an_erased_recording_is_erased_again_when_there_may_be_a_copy_or_a_number(more, owed):
    assert list(erasure.owed_again(call_of(*FIRST, OVER, *more))) == owed


def test_numbers_go_when_all_is_erased_and_the_call_is_over_or_long_silent():
    seen = event(Kind.CALL_SEEN, 0, from_number="919820055512", id="seen")
    done = (seen, *FIRST, BEGUN, ERASED)
    assert erasure.numbers_go_at(call_of(*done, OVER)) == at(20)
    assert erasure.numbers_go_at(call_of(*done)) == at(31) + timedelta(days=1)
    assert erasure.numbers_go_at(call_of(*done, OVER, begins(5, "other"))) is None
    assert erasure.numbers_go_at(call_of(*FIRST, OVER, BEGUN, ERASED)) is None


def test_nothing_is_fetched_abandoned_or_given_up_once_the_tombstone_stands():
    failed = ours(Kind.FETCH_FAILED, 15, recording_id="r")
    call = call_of(*FIRST, OVER, failed, BEGUN)
    assert fetch_times.next_fetch(call.recordings["r"], 0) is None
    assert list(fetch_times.conclusions(call, at(40 * 86400))) == []


@pytest.mark.parametrize(("numbers", "held"), [([1], True), ([1, 2], False), ([3, 1, 2], True)])
def test_of_holds_and_releases_the_highest_number_counts_whenever_it_is_told(numbers, held):
    told = [
        ours(
            Kind.RECORDING_HELD if n % 2 else Kind.RECORDING_RELEASED,
            20 + i,
            recording_id="r",
            id=f"hold.r.{n}",
        )
        for i, n in enumerate(numbers)
    ]
    assert call_of(*FIRST, *told).recordings["r"].held is held


def test_the_rule_that_matches_says_how_long_a_recording_is_kept():
    year = timedelta(days=365)
    rules = Rules(
        rules=(Rule(name="year", match=Match(to_number="91*"), terms=Terms(retain=year)),),
        defaults=Terms(),
    )
    call = call_of(begins(0, to_number="9180"), ends(10))
    kept = erasure.retention(call, call.recordings["r"], rules)
    began = call.recordings["r"].started_at
    assert kept == {"rule": "year", "for_s": 365 * 86400, "until": began + year}
    assert erasure.retention(call, call.recordings["r"], Rules()) is None
