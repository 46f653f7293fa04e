"""What a caller may choose for a call and for a recording. The names are those of the control API
and of scenario files.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class CallOptions:
    """How a call is, who hears of it and when."""

    call_uuid: str | None = None  # default: a new one
    account: str | None = None  # default: the first account
    from_number: str = "919820055512"
    to_number: str = "918065550101"
    direction: str = "inbound"
    callback_url: str | None = None  # default: the emulator's
    ring_s: float = 0  # how long the call rang before it was answered
    callback_method: str = "POST"
    signature: str = ""  # default: the account's mode
    urls: dict[str, str] | None = None  # event → address, for events that go elsewhere
    trunk: bool = False  # a SIP trunk's call; it announces itself
    announce: bool = False  # send Ring and StartApp at once
    ringing: bool = False  # send Ring; the call is not live, and REST knows none, until `answer`


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordingOptions:
    """How a recording is, and where its callbacks go."""

    recording_id: str | None = None  # default: a new one
    container: str = "mp3"
    channels: int = 1
    max_length_s: float = 3600
    source: str | None = None  # default: `trunk` for a trunk's call, else `xml`
    callback_url: str | None = None  # default: the call's
    announce: bool = True  # an XML recording sends `Event=Record` when it starts
    action_url: str | None = None  # where `Event=Record` goes
    callback_method: str | None = None  # default: the call's
    encoding: str = "form"
    spelling: str = "full"
    transcription_url: str = ""
    age_s: float = 0  # how long it has been running already: the way to a long file
