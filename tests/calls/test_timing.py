"""How long after an error something is tried again."""

from datetime import timedelta

import pytest

from worker.calls.timing import fetch_backoff, stop_backoff


def seconds(wait):
    return wait / timedelta(seconds=1)


@pytest.mark.parametrize(
    ("errors", "about_s"), [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 8), (6, 12), (40, 12)]
)
def test_a_stop_is_tried_again_within_a_second_at_first_and_within_fifteen_later(errors, about_s):
    for seed in "abcdefgh":
        assert 0.8 * about_s <= seconds(stop_backoff(errors, seed)) <= 1.2 * about_s


@pytest.mark.parametrize(("failures", "about_s"), [(1, 1), (2, 2), (5, 16), (12, 2048), (13, 3000)])
def test_the_wait_for_a_fetch_doubles_from_a_second_to_an_hour(failures, about_s):
    for seed in "abcdefgh":
        assert 0.8 * about_s <= seconds(fetch_backoff(failures, seed)) <= min(1.2 * about_s, 3600)


@pytest.mark.parametrize("backoff", [stop_backoff, fetch_backoff])
def test_every_process_computes_the_same_wait_and_recordings_do_not_wait_in_step(backoff):
    assert backoff(3, "r") == backoff(3, "r")
    assert len({backoff(3, f"r{i}") for i in range(20)}) > 10
