"""Tests wait for conditions, never for time."""

import time


def until(condition, within_s=20):
    """Waits for a condition, and gives its value."""
    deadline, pause_s = time.monotonic() + within_s, 0.01
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not true within {within_s} s"
        time.sleep(pause_s)
        pause_s = min(
            1.25 * pause_s, 0.08
        )  # what takes long is asked seldom: asking is most of what waiting tests compute
    return value
