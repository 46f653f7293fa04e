"""Counts the requests to the provider: what was asked, the status, and how long the answer took.

By `provider_requests_total|WHAT|STATUS` and `provider_request_seconds|WHAT|TOP` of the tally.
STATUS is `none` where no answer came.
"""

from __future__ import annotations

from functools import lru_cache

from worker import tally

# What is asked, by method and path below the account (vobiz-api: Call, Recording, CDR).
_STOP = "stop"
_WHAT = {
    ("POST", "Record"): "start",
    ("POST", "Call"): "transfer",
    ("GET", "Call"): "live_calls",
    ("GET", "Recording"): "recordings",
    ("DELETE", "Recording"): "delete",
    ("GET", "cdr"): "call_records",
    ("GET", "auth"): "credentials",
}


def what(method: str, path: str) -> str:
    """One of ten words for a request. `path` begins behind the API's base address."""
    if path.endswith("/Record/"):
        return _STOP if method == "DELETE" else _WHAT.get((method, "Record"), "other")
    steps = path.split("/")
    word = steps[3] if len(steps) > 3 and steps[1] == "Account" else steps[1]
    return _WHAT.get((method, word), "other")


def answered(asked: str, status: int | None, seconds: float) -> None:
    """Counts one answer. `asked`: from `what`, or `media`. `status`: None where none came."""
    tally.duration(f"provider_request_seconds|{asked}", seconds, _counter(asked, status))


@lru_cache(maxsize=256)
def _counter(asked: str, status: int | None) -> str:
    return f"provider_requests_total|{asked}|{status or 'none'}"
