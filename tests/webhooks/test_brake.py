"""What a wrong guess costs."""

import inspect
import threading
import time

from webhooks.app import create_app
from webhooks.brake import Brake


def took(deed):
    begun = time.monotonic()
    deed()
    return time.monotonic() - begun


def test_the_first_wrong_guesses_are_free_and_the_next_ones_wait():
    brake = Brake(free=3, pause_s=0.3, at_once=2)
    assert took(lambda: [brake.wait() for _ in range(3)]) < 0.3
    assert took(lambda: [brake.wait() for _ in range(2)]) >= 0.6


def test_no_more_than_so_many_wait_and_the_others_are_not_kept():
    brake = Brake(free=0, pause_s=0.6, at_once=2)
    times = []
    threads = [threading.Thread(target=lambda: times.append(took(brake.wait))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == 12
    assert sum(t >= 0.6 for t in times) == 2


def test_free_guesses_come_back_with_time():
    brake = Brake(free=1, pause_s=0.5, at_once=1)
    brake.wait()
    brake._at -= 1
    assert took(brake.wait) < 0.5


def test_in_production_twenty_guesses_are_free_and_each_further_one_costs_a_tenth_of_a_second():
    held = inspect.signature(Brake).parameters
    assert [held[name].default for name in ("free", "pause_s", "at_once")] == [20, 0.1, 32]
    assert inspect.signature(create_app).parameters["brake"].default is None
