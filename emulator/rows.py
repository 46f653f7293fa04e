"""What the provider says about a recording and about a call that is over: callbacks of recordings,
rows of the list, CDRs. Pure.
"""

from __future__ import annotations

import time
import zlib
from typing import Any

from emulator import moments
from emulator.callbacks import CAUSES, STIR, Fields, common, pulses
from emulator.state import Call, Recording, new_id


def times(recording: Recording) -> tuple[int, int, int, int]:
    """Length in seconds and in milliseconds, then begin and end in milliseconds since 1970."""
    ms = round(recording.duration_ms)
    return (
        ms // 1000,
        ms,
        round(recording.started_at * 1000),
        round((recording.ended_at or time.time()) * 1000),
    )


def started(call: Call, recording: Recording) -> Fields:
    """The callback of `<Record action>`. Its file does not exist yet, and its durations are -1."""
    return {
        **common(call),
        "Event": "Record",
        "RecordingID": recording.recording_id,
        "RecordUrl": recording.url,
        "RecordFile": recording.url,
        "RecordingDuration": -1,
        "RecordingDurationMs": -1,
        "RecordingStartMs": -1,
        "RecordingEndMs": -1,
        "Digits": "",
    }


def finished(call: Call, recording: Recording) -> Fields:
    """The callback of a recording's end, as its source and spelling have it."""
    if recording.source == "rest":
        return from_rest(recording)
    if recording.source == "trunk":
        return trunk_finished(call, recording)
    seconds, ms, start, end = times(recording)
    ends = {"RecordingEndReason": recording.end_reason or ""}
    if recording.spelling == "floats":
        return {
            **common(call),
            "Event": "RecordStop",
            "RecordingID": recording.recording_id,
            "RecordUrl": recording.url,
            "RecordingDuration": f"{seconds:.1f}",
            "RecordingDurationMs": f"{ms:.5f}",
            "RecordingStartMs": f"{start:.5f}",
            "RecordingEndMs": f"{end:.5f}",
            **ends,
        }
    measured = {
        "RecordingDuration": seconds,
        "RecordingDurationMs": ms,
        "RecordingStartMs": start,
        "RecordingEndMs": end,
        **ends,
    }
    if recording.spelling == "file-only":
        return {
            "Event": "RecordStop",
            "CallUUID": call.call_uuid,
            "RecordingID": recording.recording_id,
            "RecordFile": recording.url,
            **measured,
        }
    return {
        **common(call),
        "Event": "RecordStop",
        "RecordingID": recording.recording_id,
        "RecordFile": recording.url,
        "RecordUrl": recording.url,
        **measured,
    }


def from_rest(recording: Recording) -> Fields:
    """The end of a recording that REST started: snake case, without Event, reason or numbers."""
    seconds, ms, start, end = times(recording)
    return {
        "api_id": new_id(),
        "record_url": recording.url,
        "call_uuid": recording.call_uuid,
        "recording_id": recording.recording_id,
        "recording_duration": seconds,
        "recording_duration_ms": ms,
        "recording_start_ms": start,
        "recording_end_ms": end,
    }


def transcription(recording: Recording, text: str) -> Fields:
    name = f"{recording.recording_id}.txt"
    place = recording.url.rsplit("/", 2)[0] + f"/Transcription/{name}"
    return {
        "transcription_charge": "0.30",
        "transcription": text,
        "duration": times(recording)[0],
        "call_uuid": recording.call_uuid,
        "transcription_rate": "0.30",
        "recording_id": recording.recording_id,
        "transcription_id": recording.recording_id,
        "transcription_url": place,
        "error": "",
    }


def _plus(number: str) -> str:
    """A telephone number with its plus; a SIP address stays as it is."""
    return f"+{number}" if number.isdigit() else number


def listed(call: Call, recording: Recording, *, off_s: float = 0, so_far: bool = True) -> Fields:
    """A row of the recordings list. Numbers are strings with five decimals; a running recording has
    no end.
    """
    trunk = recording.source == "trunk"
    ms = max(0.0, recording.duration_ms + off_s * 1000) if recording.ended_at or so_far else 0.0
    added = recording.listed_at or recording.started_at
    end = None if trunk or recording.ended_at is None else f"{recording.ended_at * 1000:.5f}"
    return {
        "add_time": moments.listed(added),
        "call_uuid": recording.call_uuid,
        "conference_name": recording.room,
        "from_number": f"00{call.from_number}" if trunk else _plus(call.from_number),
        "monthly_recording_storage_amount": 0,
        "recording_duration_ms": f"{ms:.5f}",
        "recording_end_ms": end,
        "recording_format": recording.container,
        "recording_id": recording.recording_id,
        "recording_start_ms": None if trunk else f"{recording.started_at * 1000:.5f}",
        "recording_storage_duration": int((time.time() - added) // 86400),
        "recording_storage_rate": 0.005,
        "recording_type": "trunk" if trunk else "call",
        "recording_url": recording.url,
        "resource_uri": f"/v1/Account/{recording.account}/Recording/{recording.recording_id}/",
        "rounded_recording_duration": -(-int(ms) // 60000) * 60,
        "to_number": f"00{call.to_number}" if trunk else call.to_number,
    }


def got(call: Call, recording: Recording, *, off_s: float = 0) -> Fields:
    """The answer about one recording: flat, with the time in UTC."""
    added = moments.got(recording.listed_at or recording.started_at)
    return {**listed(call, recording, off_s=off_s), "add_time": added, "api_id": new_id()}


def live_call(call: Call) -> Fields:
    return {
        "api_id": new_id(),
        "call_status": "in-progress",
        "call_uuid": call.call_uuid,
        "caller_name": "",
        "direction": call.direction,
        "from": call.from_number,
        "request_uuid": call.call_uuid,
        "session_start": moments.session(call.started_at),
        "stir_attestation": STIR,
        "stir_verification": STIR,
        "to": call.to_number,
    }


def cdr(call: Call) -> dict[str, Any]:
    """The CDR of a call that is over; it does not mention recordings."""
    data = {
        "account_id": call.account,
        "uuid": call.call_uuid,
        "id": zlib.crc32(call.call_uuid.encode()),
        "call_direction": call.direction,
        "caller_id_name": call.from_number,
        "caller_id_number": f"+{call.from_number}",
        "destination_number": call.to_number,
        **_cdr_times(call),
        **_cdr_cost(call),
        **_cdr_hangup(call),
        "bridge_uuid": call.dial.b_leg if call.dial else None,
        "sip_call_id": call.sip_call_id,
        "sip_user_agent": "Vobiz",
        "codec": "PCMU",
        "mos": 4.5,
        "jitter": 0,
        "packet_loss": 0,
        "network_addr": "203.0.113.20",
        "carrier_ip": None,
        "context": "voice-api",
        "region": "ap-south-1",
        "origination_region": "mumbai",
        "campaign_id": None,
        "customer_endpoint": None,
        "trunk_id": call.trunk or None,
        "terminated_to": None,
    }
    return {"data": data, "success": True}


def _billed_s(call: Call) -> int:
    ended = call.ended_at or call.answered_at
    return round(ended - call.answered_at) if CAUSES[call.cause][2] == "completed" else 0


def _cdr_times(call: Call) -> Fields:
    ended = call.ended_at or call.answered_at
    return {
        "duration": round(ended - call.started_at),
        "billsec": _billed_s(call),
        "ring_time": round(call.answered_at - call.started_at),
        "start_time": moments.zulu(call.started_at),
        "answer_time": moments.zulu(call.answered_at),
        "end_time": moments.zulu(ended),
        "progress_time": moments.zulu(call.started_at),
        "created_at": moments.zulu(ended),
        "updated_at": moments.zulu(ended),
    }


def _cdr_cost(call: Call) -> Fields:
    cost = round(pulses(_billed_s(call)) / 60 * 0.45, 2)
    return {"cost": cost, "total_cost": cost, "streaming_cost": 0, "currency": "INR"}


def _cdr_hangup(call: Call) -> Fields:
    code, name, _ = CAUSES[call.cause]
    return {
        "hangup_cause": call.cause,
        "hangup_cause_code": code,
        "hangup_cause_name": name,
        "hangup_disposition": "send_bye",
        "hangup_source": call.hung_up_by,
        "failure_code": None,
        "failure_reason": None,
    }


def _trunk(call: Call, event: str, at: float, status: str) -> Fields:
    return {
        "Event": event,
        "CallUUID": call.call_uuid,
        "RequestID": call.call_uuid,
        "Timestamp": moments.zulu(at),
        "From": f"+{call.from_number}",
        "To": f"+{call.to_number}",
        "Direction": call.direction,
        "Status": status,
        "TrunkID": call.trunk,
        "Domain": f"{call.trunk[:8]}.sip.vobiz.ai",
        "SourceIP": "203.0.113.10",
        "SIPCallID": call.sip_call_id,
    }


def trunk_initiated(call: Call) -> Fields:
    return {
        **_trunk(call, "CallInitiated", call.started_at, "initiated"),
        "auth_id": call.account,
        "Allowed": True,
        "Reason": "",
    }


def trunk_hangup(call: Call) -> Fields:
    """The trunk's Hangup. Its Duration includes the ringing, and its account has another name than
    in CallInitiated, as documented.
    """
    data, ended = cdr(call)["data"], call.ended_at or call.answered_at
    return {
        **_trunk(call, "Hangup", ended, CAUSES[call.cause][2]),
        "AccountId": call.account,
        "BridgeUUID": data["bridge_uuid"] or "",
        "Reason": call.cause,
        "StartTime": data["start_time"],
        "EndTime": data["end_time"],
        "Duration": data["duration"],
        "Billsec": data["billsec"],
        "RingTime": data["ring_time"],
        "Cost": data["cost"],
        "Currency": "INR",
        "MOS": 4.4,
        "HangupCauseName": data["hangup_cause_name"],
        "HangupCauseCode": data["hangup_cause_code"],
        "HangupSource": call.hung_up_by,
    }


def trunk_finished(call: Call, recording: Recording) -> Fields:
    return {
        "event": "recording.completed",
        "Event": "recording.completed",
        "account_id": call.account,
        "call_uuid": call.call_uuid,
        "recording_id": recording.recording_id,
        "recording_url": recording.url,
        "recording_duration_sec": times(recording)[0],
        "from_number": f"00{call.from_number}",
        "to_number": f"00{call.to_number}",
        "Direction": call.direction.capitalize(),
        "TrunkID": call.trunk,
        "Domain": f"{call.trunk[:8]}.sip.vobiz.ai",
        "started_at": moments.trunk_start(recording.started_at),
    }
