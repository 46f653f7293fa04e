"""With this folder on the path, a Python process believes that it is FAULTS_SKEW_S seconds later
than it is.

Only the wall clock is wrong, as on a machine without NTP: what measures and sleeps stays right.
(libfaketime also breaks Python's own sleep.)
"""

from __future__ import annotations

import datetime as dt
import os
import time
from typing import Any, Self

_SKEW_S = float(os.environ.get("FAULTS_SKEW_S", "0"))
_time, _time_ns = time.time, time.time_ns


class SkewedDatetime(dt.datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Self:
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Self:
        return cls.now(dt.UTC).replace(tzinfo=None)


time.time = lambda: _time() + _SKEW_S
time.time_ns = lambda: _time_ns() + int(_SKEW_S * 1e9)
dt.datetime = SkewedDatetime  # type: ignore[misc]
