"""What each callback says: the provider's field names and values. Pure.

Numbers are numbers here; encoding turns them into text. Which events carry the call's common fields
follows the captures in tests/fixtures.
"""

from __future__ import annotations

from typing import Any

from emulator import moments
from emulator.state import Call, Dial, Recording, Room, new_id

Fields = dict[str, Any]
STIR = "Not Applicable"
CAUSES = {
    "NORMAL_CLEARING": (4000, "Normal Hangup", "completed"),
    "END_OF_XML": (4010, "End Of XML Instructions", "completed"),
    "SCHEDULED_HANGUP": (6000, "Scheduled Hangup", "completed"),
    "NO_ANSWER": (6010, "Ring Timeout Reached", "no-answer"),
    "USER_BUSY": (3010, "Busy Line", "busy"),
    "LOST_RACE": (9000, "Lost Race", "no-answer"),
}
"""By hang-up cause: its code, its name, and the CallStatus of the call then."""


def numbers(call: Call) -> Fields:
    status = CAUSES[call.cause][2] if call.ended_at else "in-progress"
    return {
        "CallUUID": call.call_uuid,
        "From": call.from_number,
        "To": call.to_number,
        "Direction": call.direction,
        "CallStatus": status,
    }


def common(call: Call) -> Fields:
    """The fields that most voice callbacks carry."""
    return {
        **numbers(call),
        "RequestUUID": call.call_uuid,
        "ALegUUID": call.call_uuid,
        "ALegRequestUUID": call.call_uuid,
        "SessionStart": moments.session(call.started_at),
        "ParentAuthID": call.parent,
        "BillRate": "0.00000",
    }


def ring(call: Call) -> Fields:
    return {
        **numbers(call),
        "CallStatus": "ringing",
        "RequestUUID": call.call_uuid,
        "ALegRequestUUID": call.call_uuid,
        "Event": "Ring",
        "SessionStart": moments.session(call.started_at),
        "STIRAttestation": STIR,
    }


def start_app(call: Call) -> Fields:
    """StartApp asks what to do with the call. An inbound call is still ringing then; an outbound
    one has been answered.
    """
    if call.direction == "inbound":
        return {
            **numbers(call),
            "CallStatus": "ringing",
            "Event": "StartApp",
            "ParentAuthID": call.parent,
            "TotalCost": "0.00000",
            "SessionStart": moments.session(call.started_at),
            "BillRate": "0.00000",
            "CountryCode": "",
            "RouteType": "Not_Domestic",
        }
    return {
        **common(call),
        "Event": "StartApp",
        "CallerName": call.from_number,
        "STIRVerification": STIR,
        "STIRAttestation": STIR,
    }


def hangup(call: Call) -> Fields:
    """Raises KeyError for a cause that is not in CAUSES."""
    ended = call.ended_at or call.answered_at
    code, name, _ = CAUSES[call.cause]
    seconds = 0 if call.cause in {"NO_ANSWER", "USER_BUSY"} else round(ended - call.answered_at)
    return {
        **common(call),
        "Event": "Hangup",
        "StartTime": moments.console(call.started_at),
        "AnswerTime": moments.console(call.answered_at),
        "EndTime": moments.console(ended),
        "Duration": seconds,
        "BillDuration": pulses(seconds),
        "TotalCost": "0.00000",
        "HangupCause": call.cause,
        "HangupCauseCode": code,
        "HangupCauseName": name,
        "HangupSource": call.hung_up_by,
        "stir_verification": STIR,
        "STIRAttestation": STIR,
        "CountryCode": "",
        "RouteType": "Not_Domestic",
    }


def pulses(seconds: float) -> int:
    """The billed seconds: whole minutes."""
    return -(-round(seconds) // 60) * 60


def dial(call: Call, leg: Dial, action: str) -> Fields:
    """DialAnswer, DialConnected, DialDigitsMatch or DialHangup, by the `DialAction`."""
    event = {
        "answer": "DialAnswer",
        "connected": "DialConnected",
        "digits": "DialDigitsMatch",
        "hangup": "DialHangup",
    }[action]
    fields = {
        "Event": event,
        "DialAction": action,
        "CallUUID": call.call_uuid,
        "DialALegUUID": call.call_uuid,
        "DialBLegUUID": leg.b_leg,
        "DialBLegStatus": action,
        "DialBLegFrom": call.from_number,
        "DialBLegTo": leg.to_number,
        "DialBLegPosition": 1,
    }
    return fields | {
        "answer": {"STIRVerification": STIR},
        "connected": {"X-VH-Reason": "handoff"},
    }.get(action, {})


def dial_hangup(call: Call, leg: Dial, cause: str, seconds: float) -> Fields:
    code, name, _ = CAUSES[cause]
    source = "Vobiz" if cause == "NO_ANSWER" else "Callee"
    return {
        **dial(call, leg, "hangup"),
        "DialBLegDuration": round(seconds),
        "DialBLegBillDuration": pulses(seconds),
        "DialBLegHangupCause": cause,
        "DialBLegHangupCauseCode": code,
        "DialBLegHangupCauseName": name,
        "DialBLegHangupSource": source,
    }


def dial_action(call: Call, leg: Dial, cause: str, *, redirect: bool) -> Fields:
    """The result of a dial: as `Redirect` with the common fields, or as `DialAction` with few."""
    status = CAUSES[cause][2]
    result = {
        "DialStatus": status,
        "DialRingStatus": "true",
        "DialHangupCause": cause,
        "DialALegUUID": call.call_uuid,
        "DialBLegUUID": leg.b_leg if status == "completed" else "",
    }
    return (
        {**common(call), "Event": "Redirect", **result}
        if redirect
        else {"Event": "DialAction", "CallUUID": call.call_uuid, **result}
    )


def entered(call: Call, room: Room, *, first: bool) -> Fields:
    return {
        **common(call),
        "Event": "ConferenceEnter",
        "ConferenceAction": "enter",
        "ConferenceUUID": room.room_uuid,
        "ConferenceName": room.name,
        "ConferenceMemberID": room.members.get(call.call_uuid, "0"),
        "ConferenceFirstMember": _flag(first),
    }


def left(call: Call, room: Room, member: str, *, last: bool) -> Fields:
    return {
        "Event": "ConferenceExit",
        "ConferenceAction": "exit",
        "ConferenceUUID": room.room_uuid,
        "ConferenceName": room.name,
        "ConferenceMemberID": member,
        "ConferenceLastMember": _flag(last),
        "CallUUID": call.call_uuid,
    }


def conference_action(call: Call, recording: Recording, room: Room, member: str) -> Fields:
    """What a `<Conference action>` receives; it names a recording and has no Event."""
    return {
        **numbers(call),
        "ConferenceName": room.name,
        "ConferenceUUID": room.room_uuid,
        "ConferenceMemberID": member,
        "RecordingID": recording.recording_id,
        "RecordUrl": recording.url,
        "RecordFile": recording.url.rsplit("/", 1)[-1],
    }


def redirect(call: Call) -> Fields:
    return {**numbers(call), "Event": "Redirect", "CallerName": call.from_number}


def transfer(call: Call) -> Fields:
    return {**common(call), "Event": "Transfer", "CallerName": call.from_number}


def machine(call: Call) -> Fields:
    return {
        **numbers(call),
        "Event": "MachineDetection",
        "Machine": "true",
        "IfMachine": "continue",
        "RequestUUID": call.call_uuid,
        "ALegRequestUUID": call.call_uuid,
        "ALegUUID": call.call_uuid,
    }


def named(call: Call, name: str, room: Room) -> Fields:
    """The fields of any voice event as if it happened now; the call stays as it is. An unknown
    event gets the common fields.
    """
    leg = call.dial or Dial(new_id(), call.to_number)
    spelled = {
        "Ring": lambda: ring(call),
        "StartApp": lambda: start_app(call),
        "Hangup": lambda: hangup(call),
        "DialAnswer": lambda: dial(call, leg, "answer"),
        "DialConnected": lambda: dial(call, leg, "connected"),
        "DialDigitsMatch": lambda: dial(call, leg, "digits"),
        "DialHangup": lambda: dial_hangup(call, leg, "NORMAL_CLEARING", 0),
        "DialAction": lambda: dial_action(call, leg, "NORMAL_CLEARING", redirect=False),
        "Redirect": lambda: redirect(call),
        "Transfer": lambda: transfer(call),
        "MachineDetection": lambda: machine(call),
        "ConferenceEnter": lambda: entered(call, room, first=not room.members),
        "ConferenceExit": lambda: left(
            call, room, room.members.get(call.call_uuid, "0"), last=len(room.members) < 2
        ),
    }
    return spelled[name]() if name in spelled else {**common(call), "Event": name}


def _flag(value: bool) -> str:
    return "true" if value else "false"
