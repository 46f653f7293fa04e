"""How calls and recordings look from outside: plain values, times in RFC 3339 UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from worker import lifecycle
from worker.policy import Policy
from worker.recording import Call, Recording, Stop


def recording_view(call: Call, recording: Recording, rules: Policy, now: datetime) -> dict[str, Any]:
    stop = lifecycle.judge(call, recording, rules, now)
    done = recording.archived
    return {
        "recording_id": recording.recording_id, "account": call.account, "call_uuid": call.call_uuid,
        "phase": lifecycle.phase(recording, stop).value, "labels": call.labels, "started_at": rfc3339(recording.started_at),
        "ended_at": rfc3339(recording.ended_at), "duration_ms": round(recording.duration_s * 1000) if recording.duration_s else None,
        "format": done.format if done else recording.format, "bytes": done.bytes if done else None,
        "sha256": done.sha256 if done else None, "archive_key": done.archive_key if done else None, "segment_of": None,
        "stop": stop_view(stop), "problem": lifecycle.problem(recording, stop),
    }


def stop_view(stop: Stop) -> dict[str, Any]:
    return {"state": stop.state.value, "trigger": stop.trigger, "rule": stop.rule, "due_at": rfc3339(stop.due_at),
            "requested_at": rfc3339(stop.requested_at), "accepted_at": rfc3339(stop.accepted_at),
            "confirmed_at": rfc3339(stop.confirmed_at), "evidence": list(stop.evidence), "attempts": stop.attempts,
            "tail_ms": stop.tail_ms}


def call_view(call: Call, rules: Policy, now: datetime) -> dict[str, Any]:
    return {
        "call_uuid": call.call_uuid, "account": call.account, "from": call.from_number, "to": call.to_number,
        "direction": call.direction, "labels": call.labels, "over_at": rfc3339(call.over_at),
        "recordings": [recording_view(call, r, rules, now) for r in call.recordings.values()],
        "timeline": [{"at": rfc3339(e.at), "event": e.kind.value, "recording_id": e.recording_id, "by": e.by, "signed": e.signed,
                      "trigger": e.trigger, "reason": e.reason} for e in call.events],
    }


def rfc3339(instant: datetime | None) -> str | None:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if instant else None
