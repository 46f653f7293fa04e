"""Logs of odd callbacks and orders, planned at odd moments: nothing may raise, and order must not
matter.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tests.model.ours import (
    Event,
    Fault,
    Kind,
    Rules,
    callbacks,
    decode,
    encode,
    planner,
    replay,
    to_ms,
    verdict,
    views,
)
from tests.model.reading import policies
from tests.model.world import A_LEG, ACCOUNT, T0, s

_IDS = ["r1", "r2", "R", "0", "-", "a" * 128]
_URLS = [*(f"https://media.vobiz.ai/{i}.mp3" for i in _IDS), "x.mp3", "https://x/y.wav"]
_INSTANTS = [
    "-1",
    "0",
    "",
    "nan",
    "1e30",
    "1789367412900",
    "1789367412900.55555",
    "1789367412",
    "4102444800000",
    "7226582399000",
    "946684800000",
    "2026-09-14 06:30:05.412903",
    "2026-09-14 12:05:27.79276+05:30",
    "2026-09-14T06:30:05Z",
    "2199-12-31T23:59:59+00:00",
    "2000-01-01",
    "20260914",
]
_NUMBERS = [
    "-1",
    "0",
    "",
    "311",
    "311.480",
    "60040.00000",
    "1e5",
    "nan",
    "inf",
    "2592000000",
    "2592001000",
    "9" * 20,
    "x",
    "0x10",
    "½",
]
_WORDS = [
    "",
    "HungUp",
    "true",
    "false",
    "busy",
    "completed",
    "no-answer",
    "é\u2028x",
    "a" * 500,
    "{r}",
    "{a}",
    "\ud800",
]
_EVENTS = [
    "Record",
    "RecordStop",
    "recording.completed",
    "Transfer",
    "Redirect",
    "DialAnswer",
    "DialConnected",
    "DialHangup",
    "DialAction",
    "ConferenceEnter",
    "ConferenceExit",
    "MachineDetection",
    "Ring",
    "StartApp",
    "CallInitiated",
    "Hangup",
    "",
    "record_stop",
    "Weird",
]
_FIELDS = {
    "recordingid": _IDS,
    "recordurl": _URLS,
    "recordingdurationms": _NUMBERS,
    "recordingduration": _NUMBERS,
    "recordingstartms": _INSTANTS,
    "recordingendms": _INSTANTS,
    "startedat": _INSTANTS,
    "endtime": _INSTANTS,
    "recordingendreason": _WORDS,
    "dialstatus": _WORDS,
    "dialbleguuid": ["", "b1", "b2", "!"],
    "dialaleguuid": ["", A_LEG],
    "aleguuid": ["", A_LEG, "other"],
    "dialblegduration": _NUMBERS,
    "dialbleghangupcausecode": ["9000", "3010", ""],
    "machine": _WORDS,
    "from": _NUMBERS + _WORDS,
    "to": _NUMBERS + _WORDS,
    "direction": ["inbound", "x"],
    "trunkid": ["t"],
    "conferencename": _WORDS,
    "conferenceuuid": _IDS,
    "conferencememberid": _IDS,
    "conferencefirstmember": _WORDS,
    "hangupcause": _WORDS,
    "sipcallid": _IDS,
}
_ORDERS = [
    Kind.STOP_ORDERED,
    Kind.PAUSE_ORDERED,
    Kind.RESUME_ORDERED,
    Kind.HANDOFF_ASKED,
    Kind.HANDOFF_FAILED,
    Kind.CUSTOM_REPORTED,
    Kind.START_ORDERED,
    Kind.START_SENT,
    Kind.START_ACCEPTED,
    Kind.START_UNCLEAR,
    Kind.START_ERRED,
    Kind.START_LAPSED,
    Kind.RETRY_ORDERED,
    Kind.NOTHING_DECLARED,
    Kind.CALL_ANNOUNCED,
    Kind.RECORDING_ANNOUNCED,
    Kind.CALL_FOUND_LIVE,
    Kind.LOOKED,
    Kind.STOP_ACCEPTED,
    Kind.STOP_ERRED,
    Kind.CALL_FOUND_OVER,
    Kind.FETCH_FAILED,
    Kind.RECORDING_LISTED,
    Kind.MEDIA_ARCHIVED,
    Kind.CONFERENCE_JOINED,
]
_OF_RECORDINGS = {
    Kind.RETRY_ORDERED,
    Kind.RECORDING_ANNOUNCED,
    Kind.FETCH_FAILED,
    Kind.RECORDING_LISTED,
    Kind.MEDIA_ARCHIVED,
}
_ATTEMPTS = {Kind.STOP_ACCEPTED, Kind.STOP_ERRED, Kind.CALL_FOUND_OVER}


def _callback(rng: random.Random) -> Event | None:
    given = {"event": rng.choice(_EVENTS), "calluuid": A_LEG}
    for name, values in _FIELDS.items():
        if rng.random() < 0.45:
            given[name] = rng.choice(values)
    try:
        event = callbacks.parse(given)
    except callbacks.Unreadable:
        return None
    if event is None or event.call_uuid != A_LEG:
        return None
    return replace(
        event,
        signed=rng.random() < 0.7,
        order=rng.choice([None, "s1", "s2"]) if event.recording_id else None,
    )


def _order(rng: random.Random, number: int, now: datetime) -> Event:
    kind, rid = rng.choice(_ORDERS), rng.choice([*_IDS, None])
    event = Event(id=f"o{number}", kind=kind, call_uuid=A_LEG)
    if kind is Kind.HANDOFF_ASKED:
        return replace(
            event,
            order=f"h{number}",
            trigger=rng.choice(["transfer", "transfer.blind"]),
            wait_s=rng.choice([0.0, 3.0, 30.0]),
            body=rng.choice([None, {"a": 1}]),
        )
    if kind.value.startswith("Start"):
        return replace(
            event,
            order=rng.choice(["s1", "s2"]),
            recording_id=rid if kind is Kind.START_ACCEPTED else None,
            segment_of=rng.choice([None, *_IDS]) if kind is Kind.START_ORDERED else None,
            max_duration_s=rng.choice([None, 1.0, 3e9]),
        )
    if kind is Kind.CUSTOM_REPORTED:
        return replace(event, trigger=rng.choice(["custom.card", "custom.done", "custom.x"]))
    if kind in _OF_RECORDINGS:
        listed, ended = (
            kind is Kind.RECORDING_LISTED,
            rng.choice([None, now - s(5), now - timedelta(days=40), now + timedelta(days=40)]),
        )
        return replace(
            event,
            recording_id=rid or "r1",
            started_at=rng.choice([None, now - s(60), now + s(3600)]),
            ended_at=ended if listed else None,
            duration_s=rng.choice([None, 0.001, 2592000.0]) if listed else None,
            room=rng.choice([None, "conference"]) if listed else None,
            fault=rng.choice([None, *Fault]) if kind is Kind.FETCH_FAILED else None,
            reason="x",
        )
    if kind in _ATTEMPTS:
        return replace(
            event,
            recording_id=rid,
            requested_at=now,
            named=rng.choice([True, False]),
            due_at=rng.choice([None, now]),
            trigger=rng.choice([None, "api", "pause"]),
            action=rng.choice([None, "pause"]),
            retry_at=rng.choice([None, now + s(5)]),
            status=rng.choice([None, 401, 500]),
        )
    if kind is Kind.LOOKED:
        return replace(
            event,
            live=rng.choice([True, False, None]),
            requested_at=rng.choice([None, now]),
            reason=rng.choice([None, "500"]),
        )
    return replace(event, labels={"team": "card"}) if kind is Kind.CALL_ANNOUNCED else event


def think_through(seed: int) -> str | None:
    """Plans the log of a seed. Returns what went wrong, or None."""
    rng, log, now = random.Random(seed), [], T0
    for number in range(rng.choice([3, 10, 40])):
        now += s(rng.choice([0, 0.001, 0.5, 3, 60, 4000, 86400 * 3]))
        event = _callback(rng) if rng.random() < 0.6 else _order(rng, number, now)
        if event is None or any(e.id == event.id for e in log):
            continue
        log.append(decode(f"{event.id} {to_ms(now)} {encode(event, ACCOUNT)}", ACCOUNT, A_LEG)[0])
        rounded = dict.fromkeys(
            (
                "at",
                "started_at",
                "ended_at",
                "requested_at",
                "due_at",
                "retry_at",
                "format",
                "named",
            )
        )
        if replace(log[-1], **rounded) != replace(event, **rounded):
            return f"the codec changes an event: {event} {log[-1]}"
    try:
        return _plan(rng, log, policies(rng, T0)[0], now)
    except Exception:
        return traceback.format_exc(limit=-4)


def _plan(rng: random.Random, log: list[Event], rules: Rules, now: datetime) -> str | None:
    for _ in range(3):
        now += s(rng.choice([0, 1, 60, 86400 * 35]))
        if not _comes_to_rest(log, rules, now):
            return "a plan without a fixed point"
        _look(log, rules, now)
    shuffled = list(log)
    rng.shuffle(shuffled)
    same = replay(ACCOUNT, A_LEG, shuffled) == replay(ACCOUNT, A_LEG, log)
    return None if same else "the order of the events makes a difference"


def _comes_to_rest(log: list[Event], rules: Rules, now: datetime) -> bool:
    for _ in range(30):
        plan = planner.plan(replay(ACCOUNT, A_LEG, log), rules, now)
        new = [e for e in plan.conclusions if all(e.id != o.id for o in log)]
        if not new:
            return True
        log.extend(replace(e, at=now) for e in new)
    return False


def _look(log: Sequence[Event], rules: Rules, now: datetime) -> None:
    call = replay(ACCOUNT, A_LEG, log)
    for recording in call.recordings.values():
        stop = planner.judge(call, recording, rules, now)
        planner.phase(recording, stop)
        planner.problem(recording, stop)
    for handoff in call.handoffs.values():
        verdict(call, rules, handoff)
    views.call_view(call, rules, now)
