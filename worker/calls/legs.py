"""The legs of a call, as its events name them. Pure."""

from __future__ import annotations

from typing import Any

from worker.calls.call import Call
from worker.calls.events import Event, Kind
from worker.calls.views import rfc3339

_FIELDS = {
    Kind.DIAL_ANSWERED: "answered_at",
    Kind.DIAL_CONNECTED: "connected_at",
    Kind.DIAL_ENDED: "ended_at",
    Kind.CALL_ENDED: "ended_at",
}


def legs_view(call: Call) -> list[dict[str, Any]]:
    """Each leg with the instants at which we heard of it, the A-leg first; times in RFC 3339."""
    legs = {call.call_uuid: _leg(call.call_uuid, "A", call.events[0] if call.events else None)}
    for event in call.events:
        # A transfer names its other leg, too; what happens to a dial, happens to the leg dialled.
        named = event.b_leg or event.leg or call.call_uuid
        for leg in {event.leg, event.b_leg} - {None, *legs}:
            legs[str(leg)] = _leg(str(leg), "B", event)
        field = _FIELDS.get(event.kind)
        if field and not legs[named][field]:
            legs[named][field] = rfc3339(event.at)
    legs[call.call_uuid]["ended_at"] = rfc3339(call.over_at)
    return list(legs.values())


def _leg(leg: str, side: str, first: Event | None) -> dict[str, Any]:
    return {
        "leg": leg,
        "side": side,
        "first_at": rfc3339(first.at if first else None),
        "answered_at": None,
        "connected_at": None,
        "ended_at": None,
    }
