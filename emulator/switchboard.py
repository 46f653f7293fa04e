"""What happens on calls, and which callbacks tell of it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from emulator import callbacks, rows
from emulator.accounts import check_mode
from emulator.delivery import Callback
from emulator.state import (
    SOURCES,
    SPELLINGS,
    Book,
    Call,
    Delivery,
    Dial,
    Recording,
    Room,
    new_id,
    one_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.accounts import Account
    from emulator.delivery import Sender
    from emulator.faults import Faults
    from emulator.timers import Timers

_TRUNK = Delivery(encoding="json")


class Switchboard:
    """The verbs of the stand-in. Each raises KeyError for what is not known or no longer live,
    ValueError for bad values.
    """

    def __init__(
        self,
        accounts: Mapping[str, Account],
        faults: Faults,
        timers: Timers,
        sender: Sender,
        callback_url: str,
        finalise_s: float,
    ) -> None:
        self.accounts, self.faults, self.callback_url, self.finalise_s = (
            accounts,
            faults,
            callback_url,
            finalise_s,
        )
        self.book = Book()
        self.media_host = ""
        self._timers, self._sender = timers, sender
        self._once = threading.Lock()

    def call(
        self,
        *,
        call_uuid: str | None = None,
        account: str | None = None,
        from_number: str = "919820055512",
        to_number: str = "918065550101",
        direction: str = "inbound",
        callback_url: str | None = None,
        ring_s: float = 0,
        callback_method: str = "POST",
        signature: str = "",
        urls: dict[str, str] | None = None,
        trunk: bool = False,
        announce: bool = False,
        ringing: bool = False,
    ) -> Call:
        """A live call that rang for `ring_s` before; `urls` sends single events elsewhere. A trunk
        call announces itself.

        With `ringing` it sends `Ring` and is not live until `answer`: REST knows no such call
        meanwhile.
        """
        owner = self.accounts[account or next(iter(self.accounts))]
        one_of("direction", direction, ("inbound", "outbound"))
        check_mode(signature or owner.mode)
        now = time.time()
        made = Call(
            call_uuid or new_id(),
            owner.auth_id,
            from_number,
            to_number,
            direction,
            callback_url or self.callback_url,
            owner.parent or owner.auth_id,
            started_at=now - ring_s,
            answered_at=now,
            delivery=Delivery(callback_method),
            signature=signature,
            urls=urls or {},
            trunk=new_id() if trunk else "",
            ringing=ringing,
        )
        self.book.add_call(made)
        if trunk:
            self._tell(made, rows.trunk_initiated(made), event="CallInitiated")
        elif ringing:
            self._tell(made, callbacks.ring(made))
        elif announce:
            self.announce(made.call_uuid)
        return made

    def answer(self, call_uuid: str) -> None:
        """A ringing call is answered: it is live, and asks what to do."""
        call = self.book.calls[call_uuid]
        if not call.ringing:
            raise KeyError(call_uuid)
        call.answered_at = time.time()
        self.book.answer(call)
        self._tell(call, callbacks.start_app(call))

    def announce(self, call_uuid: str) -> None:
        """What an application hears of a call's beginning: Ring, if it is outbound, and
        StartApp.
        """
        call = self.book.live(call_uuid)
        if call.direction == "outbound":
            self._tell(call, callbacks.ring(call))
        self._tell(call, callbacks.start_app(call))

    def record(
        self,
        call_uuid: str,
        *,
        recording_id: str | None = None,
        container: str = "mp3",
        channels: int = 1,
        max_length_s: float = 3600,
        source: str | None = None,
        callback_url: str | None = None,
        announce: bool = True,
        action_url: str | None = None,
        callback_method: str | None = None,
        encoding: str = "form",
        spelling: str = "full",
        transcription_url: str = "",
        age_s: float = 0,
    ) -> Recording:
        """Starts a recording: by `xml` (which announces itself with `Event=Record`) or `rest`; a
        trunk call's is its trunk's.

        With `age_s` it has been running for so long already, which is how to get a long file soon.
        """
        call = self.book.live(call_uuid)
        source = source or ("trunk" if call.trunk else "xml")
        one_of("container", container, ("mp3", "wav"))
        one_of("spelling", spelling, SPELLINGS)
        one_of("source", source, SOURCES)
        rid = recording_id or new_id()
        if bool(call.trunk) != (source == "trunk"):
            raise ValueError("a trunk call, and only a trunk call, is recorded with source 'trunk'")
        if call.trunk:
            # A trunk has one recording of a call, it is a WAV, and it bears the call's own id.
            rid, container = call_uuid, "wav"
        if rid in self.book.recordings:
            raise ValueError(f"recording {rid} exists")
        made = Recording(
            recording_id=rid,
            call_uuid=call_uuid,
            account=call.account,
            container=container,
            channels=channels,
            source=source,
            url=f"http://{self.media_host}/v1/Account/{call.account}/Recording/{rid}.{container}",
            callback_url=callback_url or call.urls.get("RecordStop") or call.callback_url,
            started_at=time.time() - age_s,
            max_length_s=max_length_s,
            spelling=spelling,
            transcription_url=transcription_url,
            action_url=action_url or call.urls.get("Record") or callback_url or call.callback_url,
            delivery=Delivery(callback_method or call.delivery.method, encoding),
        )
        self.book.add_recording(made)
        self._timers.after(max_length_s, lambda: self.end(rid, "maxLength"))
        if source == "xml" and announce:
            self._tell(call, rows.started(call, made), recording=made, url=made.action_url)
        return made

    def event(self, call_uuid: str, name: str, **fields: str) -> None:
        """Sends any voice event with the fields it has now, and `fields` as they are. Nothing else
        happens.
        """
        call = self.book.calls[call_uuid]
        room_name = fields.get("ConferenceName") or call.room or "room"
        room = self.book.rooms.get((call.account, room_name)) or Room(room_name, new_id())
        self._tell(call, callbacks.named(call, name, room) | fields)

    def dial(
        self,
        call_uuid: str,
        to_number: str,
        *,
        cause: str = "",
        redirect: bool = True,
        loser: str = "",
        loser_cause: str = "LOST_RACE",
    ) -> str:
        """Dials a second leg, whose id it returns: it is answered and connected, or ends at once
        for a `cause`.

        `loser`: a third leg rings with it, loses the race, and its end is told `before` or `after`
        the other is connected.
        """
        one_of("loser", loser, ("", "before", "after"))
        if loser_cause not in callbacks.CAUSES:
            raise ValueError(
                f"loser_cause {loser_cause!r} is none of {', '.join(callbacks.CAUSES)}"
            )
        call = self.book.live(call_uuid)
        if cause and cause not in callbacks.CAUSES:
            raise ValueError(f"cause {cause!r} is none of {', '.join(callbacks.CAUSES)}")
        leg = call.dial = Dial(new_id(), to_number, None if cause else time.time())
        if cause:
            self.dial_end(call_uuid, cause=cause, redirect=redirect)
        else:
            lost = callbacks.dial_hangup(call, Dial(new_id(), to_number), loser_cause, 0.0)
            if loser == "before":
                self._tell(call, lost)
            self._tell(call, callbacks.dial(call, leg, "answer"))
            self._tell(call, callbacks.dial(call, leg, "connected"))
            if loser == "after":
                self._tell(call, lost)
        return leg.b_leg

    def dial_end(
        self, call_uuid: str, *, cause: str = "NORMAL_CLEARING", redirect: bool = True
    ) -> None:
        """The second leg ends: DialHangup, and the dial's action as `Redirect` or, without, as
        `DialAction`.
        """
        call = self.book.live(call_uuid)
        self._leg_ends(call, cause)
        self._dial_action(call, cause, redirect=redirect)

    def _leg_ends(self, call: Call, cause: str) -> None:
        if call.dial is None:
            raise KeyError(f"call {call.call_uuid} has dialled nobody")
        lasted = time.time() - call.dial.answered_at if call.dial.answered_at else 0.0
        self._tell(call, callbacks.dial_hangup(call, call.dial, cause, lasted))

    def _dial_action(self, call: Call, cause: str, *, redirect: bool) -> None:
        assert call.dial is not None
        self._tell(
            call,
            callbacks.dial_action(call, call.dial, cause, redirect=redirect),
            event="DialAction",
        )
        call.dial.answered_at = None

    def join_room(self, call_uuid: str, room: str) -> str:
        """The call enters a conference, which begins with it or goes on; returns its member id."""
        call = self.book.live(call_uuid)
        with self._once:
            entered, first = self.book.join(call, room)
        self._tell(call, callbacks.entered(call, entered, first=first))
        return entered.members[call_uuid]

    def leave_room(self, call_uuid: str, *, recording_id: str | None = None) -> None:
        """The call leaves its conference; with a recording, the conference's action names that
        too.
        """
        call = self.book.calls[call_uuid]
        with self._once:
            room, member, last = self.book.leave(call)
        self._tell(call, callbacks.left(call, room, member, last=last))
        if recording_id is not None:
            recording = self.book.recordings[recording_id]
            recording.room = room.name
            self._tell(
                call,
                callbacks.conference_action(call, recording, room, member),
                event="ConferenceAction",
            )

    def transfer(self, call_uuid: str, url: str, method: str = "POST") -> None:
        """The call asks `url` what to do next."""
        call = self.book.live(call_uuid)
        self._tell(call, callbacks.transfer(call), url=url, delivery=Delivery(method))

    def hangup(
        self, call_uuid: str, *, cause: str = "NORMAL_CLEARING", source: str = "Caller"
    ) -> None:
        """The call ends: it leaves its room and its dial, `Hangup`, then the end of each recording,
        as documented.
        """
        if cause not in callbacks.CAUSES:
            raise ValueError(f"cause {cause!r} is none of {', '.join(callbacks.CAUSES)}")
        with self._once:
            call = self.book.live(call_uuid)
            call.ended_at, call.cause, call.hung_up_by = time.time(), cause, source
            self.book.end_call(call)
        if call.room is not None:
            self.leave_room(call_uuid)
        bridged = call.dial is not None and call.dial.answered_at is not None
        if bridged:
            self._leg_ends(call, "NORMAL_CLEARING")
        self._tell(call, rows.trunk_hangup(call) if call.trunk else callbacks.hangup(call))
        if bridged:
            self._dial_action(call, "NORMAL_CLEARING", redirect=True)
        for recording in self.book.running(call_uuid):
            self.end(recording.recording_id, "HungUp")

    def stop(self, call_uuid: str, url: str | None) -> None:
        """What a stop request does to a live call. An address that fits nothing stops nothing, nor
        is a trunk's recording.
        """
        for recording in self.book.running(call_uuid):
            if url in {None, recording.url} and recording.source != "trunk":
                self.end(recording.recording_id, "StoppedByAPI")

    def end(self, recording_id: str, reason: str) -> None:
        """Ends a recording, once; its file and its callback follow when it is finalised."""
        with self._once:
            recording = self.book.recordings.get(recording_id)
            if recording is None or recording.ended_at is not None:
                return
            recording.ended_at, recording.end_reason = time.time(), reason
            self.book.end_recording(recording)
        slow = self.faults.hit(
            "slow-finalise",
            call_uuid=recording.call_uuid,
            recording_id=recording_id,
            account=recording.account,
        )
        self._timers.after(
            float(slow["seconds"]) if slow else self.finalise_s, lambda: self._finalise(recording)
        )

    def _finalise(self, recording: Recording) -> None:
        recording.listed_at = time.time()
        call = self.book.calls.get(recording.call_uuid)
        if call is None:
            return  # the book was closed meanwhile
        self._tell(
            call, rows.finished(call, recording), recording=recording, url=recording.callback_url
        )
        if recording.transcription_url:
            self.transcribed(recording.recording_id, url=recording.transcription_url)

    def transcribed(
        self, recording_id: str, text: str = "hello this is a test call", *, url: str | None = None
    ) -> None:
        """The separate callback about a recording's transcription."""
        recording = self.book.recordings[recording_id]
        self._tell(
            self.book.calls[recording.call_uuid],
            rows.transcription(recording, text),
            event="transcription",
            url=url,
        )

    def insert_row(self, like: Recording) -> Recording:
        """One more finished recording of the same call, newer than all others, of which no callback
        tells.
        """
        now, rid = time.time(), new_id()
        made = Recording(
            recording_id=rid,
            call_uuid=like.call_uuid,
            account=like.account,
            container="mp3",
            channels=1,
            source="rest",
            url=f"http://{self.media_host}/v1/Account/{like.account}/Recording/{rid}.mp3",
            callback_url="",
            started_at=now - 1,
            max_length_s=60,
            ended_at=now,
            end_reason="maxLength",
            listed_at=now,
        )
        made.started_at = max(made.started_at, like.started_at + 0.001)
        self.book.add_recording(made)
        return made

    # Telling
    # ------------------------------------------------------------------------------------------------------

    def send(
        self, call: Call, event: str, fields: Mapping[str, Any], *, url: str | None = None
    ) -> None:
        """Sends one callback from another thread, with retries; without an `event` it has these
        fields and no others.
        """
        self._tell(
            call,
            {**callbacks.common(call), "Event": event, **fields} if event else dict(fields),
            event=event or "rest",
            url=url,
        )

    def _tell(
        self,
        call: Call,
        fields: dict[str, Any],
        *,
        event: str = "",
        url: str | None = None,
        delivery: Delivery | None = None,
        recording: Recording | None = None,
    ) -> None:
        event = event or fields.get("Event") or "rest"
        if url is None:
            url = call.urls.get(event) or call.callback_url
        if call.trunk:
            delivery = _TRUNK
        elif delivery is None:
            delivery = recording.delivery if recording else call.delivery
        self._sender.send(
            Callback(
                event,
                call,
                url,
                fields,
                delivery,
                trunk=bool(call.trunk),
                recording_id=recording.recording_id if recording else None,
            )
        )
