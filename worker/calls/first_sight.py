"""How a recording became known where callbacks about it were lost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from worker import wire
from worker.calls.events import Kind

_TOLD = {Kind.RECORDING_STARTED, Kind.RECORDING_FINALIZED}


def told_late(view: Mapping[str, Any], timeline: Iterable[Mapping[str, Any]]) -> str | None:
    """A sentence where the provider's list told first of a recording; None where anybody else did.

    `view` and `timeline`: as `/v1` shows the recording and its call.
    """
    own = [event for event in timeline if event["recording_id"] == view["recording_id"]]
    if not own or own[0]["event"] != Kind.RECORDING_LISTED:
        return None
    listed_at = wire.parse_rfc3339(own[0]["at"])
    if listed_at is None:
        return None
    told = next((event for event in own if event["event"] in _TOLD), None)
    callback = (
        f"no callback told of it until {told['at'][11:19]}" if told else "no callback told of it"
    )
    known = f"first known from the provider's list at {listed_at:%H:%M:%S}"
    return f"{callback}; {known}{_how_late(view, listed_at)}"


def _how_late(view: Mapping[str, Any], listed_at: datetime) -> str:
    ended_at, stop = wire.parse_rfc3339(view["ended_at"]), view["stop"]
    due_at = wire.parse_rfc3339(stop.get("overdue_since") or stop["due_at"])
    for since, what in ((ended_at, "its end"), (due_at, "it was to end")):
        if since and listed_at > since:
            return f", {wire.length((listed_at - since) / timedelta(milliseconds=1))} after {what}"
    return ""
