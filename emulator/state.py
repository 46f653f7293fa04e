"""Calls and recordings as the provider keeps them."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from emulator.audio import Audio

INDIA = timezone(timedelta(hours=5, minutes=30))


@dataclass(slots=True)
class Recording:
    recording_id: str
    call_uuid: str
    account: str
    url: str
    container: str
    channels: int
    source: str                      # "xml" or "rest"
    callback_url: str
    started_at: float
    max_length_s: float
    ended_at: float | None = None
    end_reason: str | None = None
    listed_at: float | None = None   # when list and media have it

    @property
    def duration_ms(self) -> float:
        return ((self.ended_at or time.time()) - self.started_at) * 1000

    def audio(self) -> Audio:
        return Audio(self.container, self.channels, self.duration_ms, self.recording_id)

    def row(self) -> dict[str, Any]:
        """The row of the recordings list, spelled as the provider does: numbers as strings with five decimals."""
        added = datetime.fromtimestamp(self.listed_at or time.time(), INDIA)
        return {
            "add_time": added.strftime("%Y-%m-%d %H:%M:%S.%f")[:-1] + "+05:30", "call_uuid": self.call_uuid,
            "conference_name": None, "from_number": None, "to_number": None, "monthly_recording_storage_amount": 0,
            "recording_duration_ms": f"{self.duration_ms:.5f}", "recording_end_ms": f"{(self.ended_at or 0) * 1000:.5f}",
            "recording_format": self.container, "recording_id": self.recording_id,
            "recording_start_ms": f"{self.started_at * 1000:.5f}", "recording_storage_duration": 0,
            "recording_storage_rate": 0.005, "recording_type": "call", "recording_url": self.url,
            "resource_uri": f"/v1/Account/{self.account}/Recording/{self.recording_id}/",
            "rounded_recording_duration": -(-int(self.duration_ms) // 60000) * 60,
        }


@dataclass(slots=True)
class Call:
    call_uuid: str
    account: str
    from_number: str
    to_number: str
    direction: str
    callback_url: str
    started_at: float = field(default_factory=time.time)
    ended_at: float | None = None

    def common(self) -> dict[str, str]:
        """The fields that most voice callbacks carry."""
        start = datetime.fromtimestamp(self.started_at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        return {
            "CallUUID": self.call_uuid, "From": self.from_number, "To": self.to_number, "Direction": self.direction,
            "CallStatus": "completed" if self.ended_at else "in-progress", "RequestUUID": self.call_uuid,
            "ALegUUID": self.call_uuid, "ALegRequestUUID": self.call_uuid, "SessionStart": start,
            "ParentAuthID": self.account, "BillRate": "0.00000",
        }


def new_id() -> str:
    return str(uuid.uuid4())
