"""Tests wait for conditions, never for time."""

import time


def until(condition, within_s=20):
    """Waits for a condition, and gives its value."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not true within {within_s} s"
        time.sleep(0.02)
    return value
