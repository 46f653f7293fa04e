"""What the processes tell one another."""

from datetime import timedelta

import pytest

from tests import redis_view
from worker.errors import SettingsError
from worker.ledger.codec import SCHEMA

SOON = timedelta(seconds=15)


def test_a_process_is_alive_until_it_says_that_it_ends(ledger):
    ledger.seen("slots.stops", "a:1", 4)
    ledger.seen("slots.stops", "b:1", 2)
    ledger.seen("clock", "a:2")
    alive = {role: sorted(slots) for role, slots in ledger.alive(SOON).items()}
    assert alive == {"slots.stops": [2, 4], "clock": [0]}
    assert set(ledger.last_seen("slots.stops")) == {"a:1", "b:1"}
    ledger.gone("slots.stops", "a:1")
    assert ledger.alive(SOON)["slots.stops"] == [2]


def test_a_process_that_was_killed_is_remembered_for_an_hour(ledger):
    redis_view.seen_earlier(ledger, "clock", "a:1", seconds=60)
    redis_view.seen_earlier(ledger, "clock", "b:1", seconds=2 * 3600)
    assert ledger.alive(SOON) == {}
    assert set(ledger.last_seen("clock")) == {"a:1"}


def test_each_reload_has_a_number_and_answers_of_its_own(ledger):
    ledger.answer(ledger.generation(), "web a:1", "at the start")
    assert [ledger.generation(), ledger.reload(), ledger.generation()] == [0, 1, 1]
    ledger.answer(1, "web a:1", "taken")
    assert ledger.answers(1) == {"web a:1": "taken"}
    assert ledger.answers(0) == {"web a:1": "at the start"}


def test_the_rules_file_that_was_read_last_is_remembered(ledger):
    assert ledger.had_rules(None) is None
    assert ledger.had_rules("endtape.toml") == "endtape.toml"
    assert ledger.had_rules(None) == "endtape.toml"


def test_what_does_not_work_is_listed_until_it_works_again(ledger):
    ledger.degrade("archive", "no | room")
    assert ledger.degraded() == {"archive": "no | room"}
    assert [ledger.restore("archive"), ledger.restore("archive")] == [True, False]
    assert ledger.degraded() == {}


def test_the_first_start_is_remembered_and_can_only_be_corrected_by_hand(ledger):
    first = ledger.prepare()
    assert ledger.prepare() == first == ledger.first_start()
    earlier = first - timedelta(days=1)
    ledger.set_first_start(earlier)
    assert ledger.prepare() == earlier
    redis_view.erase(ledger)
    assert ledger.first_start() is None


def test_data_of_the_next_release_is_read_and_of_the_one_after_refused(ledger):
    redis_view.set_schema(ledger, SCHEMA + 1)
    ledger.prepare()
    redis_view.set_schema(ledger, SCHEMA + 2)
    with pytest.raises(SettingsError, match="upgrade Endtape"):
        ledger.prepare()
