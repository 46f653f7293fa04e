"""How the provider spells an instant: differently in every place. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

INDIA = timezone(timedelta(hours=5, minutes=30))


def session(at: float) -> str:
    """SessionStart and session_start: UTC, without an offset."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def console(at: float) -> str:
    """StartTime, AnswerTime, EndTime of a hang-up: India's time, without an offset."""
    return datetime.fromtimestamp(at, INDIA).strftime("%Y-%m-%d %H:%M:%S")


def zulu(at: float) -> str:
    """CDRs and trunk webhooks."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def listed(at: float) -> str:
    """add_time in a list: India's time with five decimals."""
    return datetime.fromtimestamp(at, INDIA).strftime("%Y-%m-%d %H:%M:%S.%f")[:-1] + "+05:30"


def got(at: float) -> str:
    """add_time of a single recording."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f") + "+00:00"


def trunk_start(at: float) -> str:
    return datetime.fromtimestamp(at, INDIA).strftime("%Y-%m-%d %H:%M:%S.%f") + "+05:30"
