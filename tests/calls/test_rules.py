"""Which rule decides, what it says about a trigger, and which rules can never apply."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.calls.builders import MINUTE, T0, at
from worker.calls.call import Call
from worker.calls.rules import Action, Match, Rule, Rules, Terms, deadline, fits

CALL = Call(
    account="MA_1",
    call_uuid="c",
    from_number="919820055512",
    to_number="918065550199",
    direction="inbound",
    labels={"team": "billing"},
)


@pytest.mark.parametrize(
    ("pattern", "value", "is_fit"),
    [
        ("9180", "9180", True),
        ("9180", "91804", False),
        ("9180*", "91804", True),
        ("*0199", "918065550199", True),
        ("*655*", "918065550199", True),
        ("*", "", True),
        ("*", None, False),
    ],
)
def test_a_pattern_may_begin_or_end_with_a_star(pattern, value, is_fit):
    assert fits(pattern, value) is is_fit


@pytest.mark.parametrize(
    ("match", "misfit"),
    [
        (Match(), None),
        (Match(to_number="9180*", labels={"team": "b*"}), None),
        (Match(to_number="44*"), "to is '918065550199', wanted '44*'"),
        (Match(labels={"queue": "vip"}), "labels.queue is not known, wanted 'vip'"),
        (Match(account="MA_2", direction="outbound"), "direction is 'inbound', wanted 'outbound'"),
    ],
)
def test_the_first_field_that_does_not_fit_is_named(match, misfit):
    assert match.misfit(CALL) == misfit
    assert match.fits(CALL) is (misfit is None)


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        (Match(), Match(to_number="9180*"), True),
        (Match(to_number="9180*"), Match(), False),
        (Match(to_number="91*"), Match(to_number="9180*"), True),
        (Match(to_number="9180*"), Match(to_number="91*"), False),
        (Match(to_number="91*"), Match(to_number="*0199"), False),
        (Match(to_number="*0199"), Match(to_number="*550199"), True),
        (Match(labels={"team": "b*"}), Match(labels={"team": "billing", "vip": "yes"}), True),
        (Match(labels={"team": "b*"}), Match(labels={"vip": "yes"}), False),
        (Match(direction="inbound"), Match(direction="outbound"), False),
    ],
)
def test_one_match_covers_another_if_it_fits_every_call_that_the_other_fits(wide, narrow, covered):
    assert wide.covers(narrow) is covered


def test_facts_are_lacking_where_a_rule_might_decide_if_we_knew_them():
    by_number = Rule(name="in", match=Match(to_number="91*"), terms=Terms())
    by_label = Rule(name="vip", match=Match(labels={"vip": "yes"}), terms=Terms())
    unnamed = replace(CALL, to_number=None)
    assert Rules(rules=(by_number,)).lacks_facts(unnamed)
    assert not Rules(rules=(by_number,)).lacks_facts(CALL)
    assert not Rules(rules=(by_label,)).lacks_facts(unnamed), "the provider knows no labels"
    fits_all = Rule(name="all", match=Match(), terms=Terms())
    assert not Rules(rules=(fits_all, by_number)).lacks_facts(unnamed), "an earlier rule decides"


@pytest.mark.parametrize(
    ("trigger", "asked", "action"),
    [
        ("api", False, Action.STOP),
        ("pause", False, Action.PAUSE),
        ("resume", False, Action.RESUME),
        ("transfer.blind", True, Action.STOP),  # asking is the trigger
        ("transfer.blind", False, Action.KEEP),
        ("machine", False, Action.KEEP),
    ],
)
def test_without_a_key_an_order_is_carried_out_and_any_other_trigger_keeps(trigger, asked, action):
    assert Terms().action(trigger, asked=asked) is action


def test_the_rule_keeps_a_hand_off_where_its_key_says_so():
    assert Terms(on={"transfer": Action.KEEP}).action("transfer.blind", asked=True) is Action.KEEP


def test_nothing_bounds_a_recording_where_neither_deadline_is_set():
    assert deadline(Terms(max_duration=None), T0) is None
    assert deadline(Terms(max_duration=MINUTE), at(5)) == (at(65), "max_duration")


def test_without_a_file_everything_is_only_observed_and_a_rule_that_watches_is_enough():
    assert Rules().choose(CALL) == ("defaults", Rules().defaults)
    assert not Rules().watches
    watching = Rule(name="w", match=Match(), terms=Terms(watch=True, max_duration=timedelta(1)))
    assert Rules(rules=(watching,)).watches
