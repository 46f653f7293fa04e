"""Which stops the console's first page and `endtape top` call unproven."""

import pytest

from worker.catalogue.board import is_unproven


@pytest.mark.parametrize(
    ("state", "attempts", "expected"),
    [
        ("none", 0, False),
        ("due", 0, False),
        ("accepted", 1, False),  # the time for its proof is not over
        ("accepted", 2, True),
        ("due", 2, True),  # the provider answers errors
        ("unknown", 4, True),
        ("failed", 1, True),
        ("confirmed", 3, False),
        ("already_over", 2, False),
    ],
)
def test_a_stop_is_unproven_once_it_was_sent_again_or_given_up(state, attempts, expected):
    assert is_unproven({"state": state, "attempts": attempts}) is expected
