"""The provider's calls, recordings and rooms, and the book that finds them without a search."""

from __future__ import annotations

import itertools
import time
import uuid
from dataclasses import dataclass, field

from emulator.audio import Audio

ENCODINGS = ("form", "json", "wrapped", "multipart")
SPELLINGS = ("full", "file-only", "floats")
SOURCES = ("xml", "rest", "trunk")
METHODS = ("POST", "GET")


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError unless the value is allowed."""
    if value not in allowed:
        raise ValueError(f"{name} {value!r} is none of {', '.join(allowed)}")


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a callback is sent: by POST or GET; as a form, multipart, JSON, or JSON in the form field
    `response`.
    """

    method: str = "POST"
    encoding: str = "form"

    def __post_init__(self) -> None:
        one_of("callback_method", self.method, METHODS)
        one_of("encoding", self.encoding, ENCODINGS)
        if self.method == "GET" and self.encoding in {"json", "multipart"}:
            raise ValueError(f"encoding {self.encoding!r} needs a body, which a GET has not")


@dataclass(slots=True)
class Recording:
    recording_id: str
    call_uuid: str
    account: str
    url: str
    container: str
    channels: int
    source: str  # one of SOURCES
    callback_url: str
    started_at: float
    max_length_s: float
    ended_at: float | None = None
    end_reason: str | None = None
    listed_at: float | None = None  # when its file can be found
    action_url: str = ""
    delivery: Delivery = Delivery()
    spelling: str = "full"  # one of SPELLINGS
    transcription_url: str = ""
    room: str | None = None

    @property
    def duration_ms(self) -> float:
        return ((self.ended_at or time.time()) - self.started_at) * 1000

    def facts(self) -> dict[str, str]:
        """The facts that a bad day can be limited to."""
        return {
            "call_uuid": self.call_uuid,
            "recording_id": self.recording_id,
            "account": self.account,
        }

    def audio(self) -> Audio:
        return Audio(self.container, self.channels, self.duration_ms, self.recording_id)


@dataclass(slots=True)
class Dial:
    """A second leg of a call."""

    b_leg: str
    to_number: str
    answered_at: float | None = None


@dataclass(slots=True)
class Call:
    call_uuid: str
    account: str
    from_number: str
    to_number: str
    direction: str
    callback_url: str
    parent: str  # the account's parent, or the account itself
    started_at: float = field(default_factory=time.time)
    answered_at: float = field(default_factory=time.time)
    ended_at: float | None = None
    cause: str = "NORMAL_CLEARING"
    hung_up_by: str = "Caller"
    delivery: Delivery = Delivery()
    signature: str = ""  # the account's mode if empty
    urls: dict[str, str] = field(
        default_factory=dict
    )  # event → address, for events that go elsewhere
    trunk: str = ""  # the trunk's id
    dial: Dial | None = None
    ringing: bool = False  # not live yet: REST does not know it
    room: str | None = None

    @property
    def sip_call_id(self) -> str:
        return f"{self.call_uuid[:6]}@203.0.113.10"


@dataclass(slots=True)
class Room:
    """A conference. It begins with its first member and ends with its last."""

    name: str
    room_uuid: str
    members: dict[str, str] = field(default_factory=dict)  # call_uuid → member id


class Book:
    """All calls and recordings. Each change is a single dict operation, so readers need no lock."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self.recordings: dict[str, Recording] = {}
        self.deleted: dict[str, Recording] = {}  # of these the provider's API knows nothing
        self.rooms: dict[tuple[str, str], Room] = {}
        self._live: dict[str, dict[str, Call]] = {}
        self._running: dict[str, dict[str, Recording]] = {}
        self._of_call: dict[str, dict[str, Recording]] = {}
        self._of_account: dict[str, dict[str, Recording]] = {}
        self._members = itertools.count(1)

    def add_call(self, call: Call) -> None:
        self.calls[call.call_uuid] = call
        if not call.ringing:
            self.answer(call)

    def answer(self, call: Call) -> None:
        call.ringing = False
        self._live.setdefault(call.account, {})[call.call_uuid] = call

    def end_call(self, call: Call) -> None:
        self._live.get(call.account, {}).pop(call.call_uuid, None)

    def live_calls(self, account: str) -> list[Call]:
        return list(self._live.get(account, {}).values())

    def live(self, call_uuid: str) -> Call:
        """Raises KeyError unless the call is live."""
        call = self.calls[call_uuid]
        if call.ended_at is not None or call.ringing:
            raise KeyError(call_uuid)
        return call

    def add_recording(self, recording: Recording) -> None:
        rid = recording.recording_id
        self.recordings[rid] = recording
        self._of_call.setdefault(recording.call_uuid, {})[rid] = recording
        self._of_account.setdefault(recording.account, {})[rid] = recording
        if recording.ended_at is None:
            self._running.setdefault(recording.call_uuid, {})[rid] = recording

    def end_recording(self, recording: Recording) -> None:
        running = self._running.get(recording.call_uuid, {})
        running.pop(recording.recording_id, None)
        if not running:
            self._running.pop(recording.call_uuid, None)

    def running(self, call_uuid: str) -> list[Recording]:
        return list(self._running.get(call_uuid, {}).values())

    def recordings_of(self, account: str, call_uuid: str | None) -> list[Recording]:
        """The account's recordings, or those of one of its calls, oldest first."""
        if call_uuid is None:
            return list(self._of_account.get(account, {}).values())
        return [r for r in self._of_call.get(call_uuid, {}).values() if r.account == account]

    def delete_recording(self, recording: Recording) -> None:
        """Does nothing when it is deleted already."""
        rid = recording.recording_id
        self.deleted[rid] = recording
        self.recordings.pop(rid, None)
        self._of_call[recording.call_uuid].pop(rid, None)
        self._of_account[recording.account].pop(rid, None)

    def join(self, call: Call, name: str) -> tuple[Room, bool]:
        """Adds the call to the room. Returns the room, and whether the call is its first member."""
        room = self.rooms.setdefault((call.account, name), Room(name, new_id()))
        first = not room.members
        room.members[call.call_uuid] = str(next(self._members))
        call.room = name
        return room, first

    def leave(self, call: Call) -> tuple[Room, str, bool]:
        """Takes the call out of its room. Returns the room, the member's id there, and whether the
        room is empty now. Raises KeyError for a call in no room.
        """
        if call.room is None:
            raise KeyError(f"call {call.call_uuid} is in no room")
        room = self.rooms[call.account, call.room]
        member = room.members.pop(call.call_uuid)
        if not room.members:
            del self.rooms[call.account, call.room]
        call.room = None
        return room, member, not room.members


def new_id() -> str:
    """A random id. It is never seeded: a receiver that remembers ids would take a repeated one for
    an old call.
    """
    return str(uuid.uuid4())
