"""What a callback says: its fields in, an `Event` out. Pure.

Every name that a source shows is accepted, and unknown fields are skipped. Kinds that we do not
follow (transcriptions, streams, sounds, digits) give None and are answered 200.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from worker import wire
from worker.calls.events import Event, Kind
from worker.vobiz.callback_fields import Fields, Unreadable, normal_name

_KINDS = {
    "record": Kind.RECORDING_STARTED,
    "recordstop": Kind.RECORDING_FINALIZED,
    "recordingcompleted": Kind.RECORDING_FINALIZED,
    "transfer": Kind.CALL_TRANSFERRED,
    "redirect": Kind.CALL_REDIRECTED,
    "dialanswer": Kind.DIAL_ANSWERED,
    "dialconnected": Kind.DIAL_CONNECTED,
    "dialhangup": Kind.DIAL_ENDED,
    "dialaction": Kind.DIAL_ENDED,
    "conferenceenter": Kind.CONFERENCE_ENTERED,
    "conferenceexit": Kind.CONFERENCE_LEFT,
    "machinedetection": Kind.MACHINE_DETECTED,
    "ring": Kind.CALL_SEEN,
    "startapp": Kind.CALL_SEEN,
    "callinitiated": Kind.CALL_SEEN,
    "hangup": Kind.CALL_ENDED,
}
_NOT_CONNECTED = {"busy", "failed", "cancel", "timeout", "no-answer"}  # of DialStatus (documented)
_CONFERENCE = "ConferenceAction"
_LOST_RACE = "9000"  # of DialBLegHangupCauseCode (documented)
_SORTED = json.JSONEncoder(sort_keys=True)
_RECORDINGS = {Kind.RECORDING_STARTED, Kind.RECORDING_FINALIZED}


def parse(given: Fields, *, signed: bool | None = None, order: str | None = None) -> Event | None:
    """The event that the fields report, without `at`; None for a kind that we do not follow.

    `signed`: whether the callback's signature was verified; None where nobody looked. `order`: the
    order of a start in the callback's path, which counts for a recording only. Raises Unreadable
    for an id that is missing or unfit.
    """
    kind, name = _kind(given)
    if kind is None:
        return None
    found: dict[str, Any] = {"kind": kind, "by": name, **_call(given, kind)}
    if kind is Kind.CALL_ENDED and found["leg"] and not found["trunk"]:
        kind = found["kind"] = Kind.DIAL_ENDED  # another leg hung up: its A-leg may go on
    if kind in _RECORDINGS:
        found |= _recording(given, kind)
    if kind in {Kind.CONFERENCE_ENTERED, Kind.CONFERENCE_LEFT}:
        found |= _room(given)
    if name == _CONFERENCE:
        # The recording is the room's: it goes on when a leg hangs up.
        found["room"] = _room(given)["room"]
    if kind is Kind.MACHINE_DETECTED:
        found["machine"] = given.get("machine", "").lower() == "true"
    if kind in {Kind.CALL_ENDED, Kind.DIAL_ENDED}:
        found["reason"] = _word(
            given.get("dialstatus")
            or given.get("dialbleghangupcause")
            or given.get("hangupcause")
            or given.get("reason")
        )
    if kind is Kind.DIAL_ENDED:
        found |= {"connected": _connected(given), "whole": bool(given.get("dialstatus")) or None}
    if kind is Kind.CALL_ENDED:
        # The provider's console writes India's time here.
        found["ended_at"] = wire.instant(given.get("endtime"), naive=wire.INDIA)
    event_id = _identity(found)
    return Event(
        # An unsigned event gets an id of its own. Under the id of the signed event it would keep
        # that one from being recorded, and the signed event is the proof.
        id=f"{event_id}.u" if signed is False else event_id,
        signed=bool(signed),
        order=order if found.get("recording_id") else None,
        **found,
    )


def _connected(given: Fields) -> bool | None:
    """Whether a dial that ended was ever connected, as far as the provider says so itself."""
    status = given.get("dialstatus", "").lower()
    if status:
        return False if status in _NOT_CONNECTED else True if status == "completed" else None
    if (
        given.get("dialbleghangupcausecode") == _LOST_RACE
        or "race" in given.get("dialbleghangupcausename", "").lower()
    ):
        return None  # another leg of the dial answered first
    lasted = given.get("dialblegduration", "")
    return bool(wire.number(lasted)) if lasted.replace(".", "", 1).isdigit() else None


def calls(given: Mapping[str, str]) -> set[str]:
    """Each id that the fields give to the call that the callback is about. If the callback's path
    names a call, the receiver compares it with these.
    """
    return {given[k] for k in ("calluuid", "callid", "aleguuid", "dialaleguuid") if given.get(k)}


def _kind(given: Fields) -> tuple[Kind | None, str]:
    name = given.get("event", "")
    plain = normal_name(name).replace(".", "")
    kind = _KINDS.get(plain)
    if kind is Kind.CALL_REDIRECTED and given.get("dialstatus"):
        kind = Kind.DIAL_ENDED  # the final <Dial action> request, with redirect=true
    if name or "transcription" in given or "transcriptionid" in given:
        return kind, re.sub(r"[^A-Za-z0-9.]", "", name)[:40]
    if given.get("recordingid") and "conferencename" in given:
        # This callback says that a recording exists. It was never seen at a recording's end.
        return Kind.RECORDING_STARTED, _CONFERENCE
    if given.get("recordingid") and (_url(given) or _duration(given)):
        return Kind.RECORDING_FINALIZED, "rest"
    if given.get("dialstatus"):
        return Kind.DIAL_ENDED, "DialAction"
    return None, ""


def _call(given: Fields, kind: Kind) -> dict[str, Any]:
    own = _id(given, "calluuid") or _id(given, "callid")
    a_leg = (
        wire.identifier(given.get("dialaleguuid")) or wire.identifier(given.get("aleguuid")) or own
    )
    if a_leg is None:
        raise Unreadable("CallUUID: is missing")
    direction = given.get("direction", "").lower()
    trunk = "trunkid" in given or normal_name(given.get("event", "")) in {
        "recording.completed",
        "callinitiated",
    }
    b_leg = given.get("dialbleguuid") or given.get("bridgeuuid")
    found = {
        "call_uuid": a_leg,
        "leg": own if own != a_leg else None,
        "b_leg": wire.identifier(b_leg) if b_leg else None,
        **_numbers(given, kind, own == a_leg),
        "direction": direction if direction in {"inbound", "outbound"} else None,
        "trunk": trunk or None,
    }
    if kind is Kind.CALL_ENDED and trunk:
        found["leg"] = wire.identifier(given.get("sipcallid"))  # trunk recordings go by it
    return found


def _numbers(given: Fields, kind: Kind, about_a_leg: bool) -> dict[str, str | None]:
    # In callbacks about a dialled leg, From and To may be that leg's.
    if not about_a_leg or kind in {Kind.DIAL_ANSWERED, Kind.DIAL_CONNECTED, Kind.DIAL_ENDED}:
        return {"from_number": None, "to_number": None}
    return {
        "from_number": wire.digits(given.get("from") or given.get("fromnumber")),
        "to_number": wire.digits(given.get("to") or given.get("tonumber")),
    }


def _recording(given: Fields, kind: Kind) -> dict[str, Any]:
    recording_id = _id(given, "recordingid")
    if recording_id is None:
        raise Unreadable("RecordingID: is missing")
    url = _url(given)
    extension = url.rpartition(".")[2].lower() if url else ""
    found: dict[str, Any] = {
        "recording_id": recording_id,
        "url": url,
        "format": extension if extension in {"mp3", "wav"} else None,
    }
    if kind is Kind.RECORDING_FINALIZED:
        found |= {
            "started_at": wire.instant(given.get("recordingstartms")) or _started(given),
            "ended_at": wire.instant(given.get("recordingendms")),
            "duration_s": _duration(given),
            "reason": _word(given.get("recordingendreason")),
        }
    return found


def _room(given: Fields) -> dict[str, Any]:
    name = given.get("conferencename")
    room = wire.identifier(given.get("conferenceuuid")) or (
        _digest({"room": name}) if name else None
    )
    first = given.get("conferencefirstmember", "").lower()
    return {
        "room": room,
        "member": wire.identifier(given.get("conferencememberid")),
        "first": {"true": True, "false": False}.get(first),
    }


def _started(given: Fields) -> datetime | None:
    return wire.instant(given.get("startedat"))


def _duration(given: Fields) -> float | None:
    milliseconds = wire.number(given.get("recordingdurationms"))
    if milliseconds is None:
        seconds = wire.number(given.get("recordingduration")) or wire.number(
            given.get("recordingdurationsec")
        )
        milliseconds = seconds * 1000 if seconds else None
    return wire.seconds(milliseconds)


def _url(given: Fields) -> str | None:
    for name in ("recordurl", "recordingurl", "recordfile", "url"):
        value = given.get(name, "").strip()
        if value.startswith(("https://", "http://")) and len(value) <= 2000 and value.isprintable():
            return value
    return None


def _id(given: Fields, name: str) -> str | None:
    value = given.get(name, "").strip()
    if not value:
        return None
    if not wire.identifier(value):
        shown = re.sub(r"[^\x20-\x7e]", "?", value)[:60]
        raise Unreadable(f"{name}: {shown!r} is not an id of at most 128 letters, digits, _ and -")
    return value


def _word(value: str | None) -> str | None:
    return re.sub(r"[^\x20-\x7e]", "?", value)[:80] or None if value else None


def _identity(found: Mapping[str, Any]) -> str:
    return _digest({k: str(v) for k, v in found.items() if v is not None})


def _digest(found: Mapping[str, str]) -> str:
    return hashlib.sha256(_SORTED.encode(found).encode()).hexdigest()[:16]
