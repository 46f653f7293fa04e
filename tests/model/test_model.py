"""Plays lives of the model, and its smallest cases; `python -m tests.model.run` plays more."""

import pytest
from hypothesis import settings

from tests.model import cases, further_cases
from tests.model.odd_logs import think_through
from tests.model.run import play

pytestmark = pytest.mark.hypothesis  # `make check` plays more of them, with the profile `long`
AT_ONCE = 20
LIVES = 400 if settings.default.max_examples > 100 else 30
CASES = {**cases.CASES, **further_cases.CASES}


@pytest.mark.parametrize("name", CASES)
def test_the_smallest_cases_hold(name):
    assert CASES[name](), name.replace("_", " ")


@pytest.mark.parametrize("first", range(0, LIVES, AT_ONCE))
def test_nothing_is_violated_in_a_few_hundred_lives(first):
    violated = play(range(first, first + AT_ONCE)).counted()
    assert not violated, "\n".join(
        f"{kind}, seed {seed}: {what}" for kind, found in violated.items() for seed, what in found
    )


@pytest.mark.parametrize("first", range(0, LIVES, AT_ONCE))
def test_no_odd_callback_or_order_breaks_the_planner(first):
    assert [
        (seed, wrong) for seed in range(first, first + AT_ONCE) if (wrong := think_through(seed))
    ] == []
