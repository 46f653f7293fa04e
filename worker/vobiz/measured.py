"""Counts the requests to the provider: what was asked, the status, and how long the answer took.

By `provider_requests_total|WHAT|STATUS` and `provider_request_seconds|WHAT|TOP` of the tally.
STATUS is `none` where no answer came.
"""

from __future__ import annotations

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
    steps = path.split("/")
    if len(steps) > 5 and steps[5] == "Record":
        return _STOP if method == "DELETE" else _WHAT.get((method, "Record"), "other")
    word = steps[3] if len(steps) > 3 and steps[1] == "Account" else steps[1]
    return _WHAT.get((method, word), "other")


def answered(asked: str, status: int | None, seconds: float) -> None:
    """Counts one answer. `asked`: from `what`, or `media`. `status`: None where none came."""
    tally.add(f"provider_requests_total|{asked}|{status or 'none'}")
    tally.duration(f"provider_request_seconds|{asked}", seconds)
