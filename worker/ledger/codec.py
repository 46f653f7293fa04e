"""How an event is stored in Redis: compact JSON, milliseconds, and no field that the key holds
already.

A waiting stop may cost 1 KiB at most, and most of that is its events. A reader skips unknown
fields, so two neighbouring releases can run side by side. A release that changes the meaning of a
field raises SCHEMA.
"""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from worker import wire
from worker.calls.events import Event, Fault, Kind

SCHEMA = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_IMPLIED = {"id", "call_uuid", "at"}
_INSTANTS = {
    "started_at",
    "ended_at",
    "added_at",
    "requested_at",
    "proven_at",
    "due_at",
    "overdue_since",
    "retry_at",
    "first_seen_at",
    "happened_at",
    "consent_by",
    "retain_until",
}
_FORMATS = {"mp3", "wav"}  # the URL ends with it, so it is not stored twice
# False is stored too: it differs from None.
_TRI_STATE = {"first", "machine", "live", "connected", "proven"}
_FLAGS = {
    "signed",
    "trunk",
    "first",
    "machine",
    "named",
    "live",
    "connected",
    "proven",
    "enforced",
    "whole",
}
_TUPLES = {"recording_ids", "evidence", "restricted_by"}
_SHORT = {
    "kind": "k",
    "signed": "s",
    "leg": "l",
    "b_leg": "bl",
    "from_number": "f",
    "to_number": "t",
    "direction": "d",
    "trunk": "tr",
    "recording_id": "r",
    "url": "u",
    "started_at": "sa",
    "ended_at": "ea",
    "added_at": "aa",
    "duration_s": "du",
    "format": "fm",
    "reason": "re",
    "room": "ro",
    "member": "m",
    "first": "fi",
    "machine": "ma",
    "recording_ids": "rs",
    "named": "n",
    "requested_at": "rq",
    "proven_at": "pa",
    "trigger": "tg",
    "rule": "ru",
    "due_at": "da",
    "overdue_since": "os",
    "enforced": "en",
    "retry_at": "ra",
    "status": "st",
    "live": "li",
    "sha256": "sh",
    "bytes": "b",
    "archive_key": "ak",
    "first_seen_at": "fs",
    "check": "c",
    "by": "by",
    "claimed": "cl",
    "fault": "fa",
    "generation": "g",
    "whole": "wh",
    "action": "ac",
    "labels": "lb",
    "connected": "co",
    "order": "o",
    "digest": "dg",
    "wait_s": "w",
    "target": "ta",
    "body": "bo",
    "channels": "ch",
    "max_duration_s": "md",
    "segment_of": "sg",
    "verdict": "v",
    "proven": "pr",
    "evidence": "ev",
    "happened_at": "ha",
    "consent_by": "cb",
    "retain_until": "rt",
    "tail_limit_s": "tl",
    "restricted_by": "rb",
    "saved_per_month": "sm",
    "made": "mk",
    "content_type": "ct",
}
_KINDS = {kind.value for kind in Kind}
_FAULTS = {fault.value for fault in Fault}
_LONG = {short: name for name, short in _SHORT.items()}
_WITH_NUMBERS = ("from_number", "to_number", "target")
_COMPACT = json.JSONEncoder(separators=(",", ":"))
_NAMES = [f.name for f in fields(Event) if f.name not in _IMPLIED]


def to_ms(instant: datetime) -> int:
    return round((instant - _EPOCH) / timedelta(milliseconds=1))


def from_ms(milliseconds: float) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


def encode(event: Event, account: str) -> str:
    """The event as one line of ASCII, without its id, call and instant: the ledger stores those
    beside it.
    """
    out: dict[str, Any] = {}
    for name in _NAMES:
        value = getattr(event, name)
        if value is None or value == () or (value is False and name not in _TRI_STATE):
            continue
        if name == "format" and event.url and event.url.endswith(f".{value}"):
            continue
        if value is True:
            value = 1
        elif name in _INSTANTS:
            value = to_ms(value)
        elif name == "url" and event.recording_id:
            value = value.replace(event.recording_id, "{r}").replace(account, "{a}")
        out[_SHORT[name]] = value
    return _COMPACT.encode(out)


def decode(log: str, account: str, call_uuid: str) -> list[Event]:
    """The events of a call's log, which has a line `ID MILLISECONDS JSON` for each.

    Raises ValueError, KeyError, TypeError or AttributeError for a log that cannot be read.
    """
    events = (_decode(line, account, call_uuid) for line in log.splitlines())
    return [event for event in events if event is not None]


def _decode(line: str, account: str, call_uuid: str) -> Event | None:
    """None for a kind that only a newer release knows."""
    event_id, at, stored = line.split(" ", 2)
    raw: dict[str, Any] = json.loads(stored)
    if raw.get("k") not in _KINDS:
        return None
    values: dict[str, Any] = {}
    for short, value in raw.items():
        name = _LONG.get(short)
        if name is not None:
            values[name] = _value(name, value)
    if values.get("url") and values.get("recording_id"):
        url = values["url"].replace("{a}", account).replace("{r}", values["recording_id"])
        extension = url.rpartition(".")[2]
        values["url"] = url
        if extension in _FORMATS:
            values.setdefault("format", extension)
    values["kind"] = Kind(values["kind"])
    return Event(id=event_id, call_uuid=call_uuid, at=from_ms(int(at)), **values)


def without_numbers(log: str) -> str:
    """A call's log without telephone numbers: those of the call, those to which it was transferred,
    and those in what people wrote.
    """
    return "".join(f"{_numberless(line)}\n" for line in log.splitlines())


def _numberless(line: str) -> str:
    event_id, at, stored = line.split(" ", 2)
    raw: dict[str, Any] = json.loads(stored)
    for name in _WITH_NUMBERS:
        raw.pop(_SHORT[name], None)
    for name in ("reason", "claimed", "labels", "body"):
        if value := raw.get(_SHORT[name]):
            raw[_SHORT[name]] = _masked(value)
    return f"{event_id} {at} {_COMPACT.encode(raw)}"


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return wire.without_numbers(value)
    if isinstance(value, dict):
        return {name: _masked(one) for name, one in value.items()}
    return [_masked(one) for one in value] if isinstance(value, list) else value


def _value(name: str, stored: Any) -> Any:
    if name in _INSTANTS:
        return from_ms(stored)
    if name in _TUPLES:
        return tuple(stored)
    if name == "fault":
        return Fault(stored) if stored in _FAULTS else None
    return bool(stored) if name in _FLAGS else stored
