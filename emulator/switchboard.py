"""What happens on calls and in rooms, which callbacks tell of it, and what can be asked of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from emulator import callbacks, rows
from emulator.accounts import check_mode
from emulator.delivery import FORM, Message, Sender
from emulator.options import CallOptions
from emulator.recorder import Recorder
from emulator.signing import Nonces
from emulator.state import Book, Call, Delivery, Dial, Recording, Room, new_id, one_of


class Switchboard(Recorder):
    """The verbs of calls, beside those of recordings. Each raises KeyError for a call that is
    unknown or no longer live, ValueError for bad values.
    """

    def __init__(
        self, sender: Sender, *, callback_url: str, finalise_s: float, keeps_s: float | None
    ) -> None:
        super().__init__(sender, callback_url=callback_url, finalise_s=finalise_s, keeps_s=keeps_s)
        self.journal = sender.journal
        self._closing = threading.Event()

    def call(self, **options: Any) -> Call:
        """Makes a live call, with the fields of CallOptions as keywords. With `ringing` it is live
        only after `answer`.
        """
        wanted = CallOptions(**options)
        owner = self.accounts[wanted.account or next(iter(self.accounts))]
        one_of("direction", wanted.direction, ("inbound", "outbound"))
        check_mode(wanted.signature or owner.mode)
        now = time.time()
        made = Call(
            wanted.call_uuid or new_id(),
            owner.auth_id,
            wanted.from_number,
            wanted.to_number,
            wanted.direction,
            wanted.callback_url or self.callback_url,
            owner.parent or owner.auth_id,
            started_at=now - wanted.ring_s,
            answered_at=now,
            delivery=Delivery(wanted.callback_method),
            signature=wanted.signature,
            urls=wanted.urls or {},
            trunk=new_id() if wanted.trunk else "",
            ringing=wanted.ringing,
        )
        self.book.add_call(made)
        if made.trunk:
            self._sender.tell(made, rows.trunk_initiated(made), event="CallInitiated")
        elif made.ringing:
            self._sender.tell(made, callbacks.ring(made))
        elif wanted.announce:
            self.announce(made.call_uuid)
        return made

    def answer(self, call_uuid: str) -> None:
        """Answers a ringing call: it is live from now on, and asks what to do."""
        call = self.book.calls[call_uuid]
        if not call.ringing:
            raise KeyError(call_uuid)
        call.answered_at = time.time()
        self.book.answer(call)
        self._sender.tell(call, callbacks.start_app(call))

    def announce(self, call_uuid: str) -> None:
        """Sends the callbacks of a call's beginning: Ring for an outbound call, then StartApp."""
        call = self.book.live(call_uuid)
        if call.direction == "outbound":
            self._sender.tell(call, callbacks.ring(call))
        self._sender.tell(call, callbacks.start_app(call))

    def event(self, call_uuid: str, name: str, **fields: str) -> None:
        """Sends the callback of any voice event. The call stays as it is. `fields` replace or
        complete those that the event would have now.
        """
        call = self.book.calls[call_uuid]
        room_name = fields.get("ConferenceName") or call.room or "room"
        room = self.book.rooms.get((call.account, room_name)) or Room(room_name, new_id())
        self._sender.tell(call, callbacks.named(call, name, room) | fields)

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
        """Dials a second leg and returns its id. The leg is answered and connected, or ends at once
        when a `cause` is given.

        `loser`: a third leg rings at the same time and loses. Its DialHangup is sent `before` or
        `after` the second leg's DialAnswer and DialConnected.
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
                self._sender.tell(call, lost)
            self._sender.tell(call, callbacks.dial(call, leg, "answer"))
            self._sender.tell(call, callbacks.dial(call, leg, "connected"))
            if loser == "after":
                self._sender.tell(call, lost)
        return leg.b_leg

    def dial_end(
        self, call_uuid: str, *, cause: str = "NORMAL_CLEARING", redirect: bool = True
    ) -> None:
        """Ends the second leg: sends DialHangup, then the dial's result as `Redirect`, or as
        `DialAction` without `redirect`.
        """
        call = self.book.live(call_uuid)
        self._leg_ends(call, cause)
        self._dial_action(call, cause, redirect=redirect)

    def _leg_ends(self, call: Call, cause: str) -> None:
        if call.dial is None:
            raise KeyError(f"call {call.call_uuid} has dialled nobody")
        lasted = time.time() - call.dial.answered_at if call.dial.answered_at else 0.0
        self._sender.tell(call, callbacks.dial_hangup(call, call.dial, cause, lasted))

    def _dial_action(self, call: Call, cause: str, *, redirect: bool) -> None:
        assert call.dial is not None
        self._sender.tell(
            call,
            callbacks.dial_action(call, call.dial, cause, redirect=redirect),
            event="DialAction",
        )
        call.dial.answered_at = None

    def join_room(self, call_uuid: str, room: str) -> str:
        """Puts the call into a conference, which begins with its first member. Returns the member's
        id.
        """
        call = self.book.live(call_uuid)
        with self._once:
            entered, first = self.book.join(call, room)
        self._sender.tell(call, callbacks.entered(call, entered, first=first))
        return entered.members[call_uuid]

    def leave_room(self, call_uuid: str, *, recording_id: str | None = None) -> None:
        """Takes the call out of its conference. With a recording's id it also sends the
        conference's action, which names that recording.
        """
        call = self.book.calls[call_uuid]
        with self._once:
            room, member, last = self.book.leave(call)
        self._sender.tell(call, callbacks.left(call, room, member, last=last))
        if recording_id is not None:
            recording = self.book.recordings[recording_id]
            recording.room = room.name
            self._sender.tell(
                call,
                callbacks.conference_action(call, recording, room, member),
                event="ConferenceAction",
            )

    def transfer(self, call_uuid: str, url: str, method: str = "POST") -> None:
        """Sends `Transfer` to `url`, which says what the call does next."""
        call = self.book.live(call_uuid)
        self._sender.tell(call, callbacks.transfer(call), url=url, delivery=Delivery(method))

    def hangup(
        self, call_uuid: str, *, cause: str = "NORMAL_CLEARING", source: str = "Caller"
    ) -> None:
        """Ends the call. It leaves its room and its dial; then come `Hangup` and the end of each
        recording, in the documented order.
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
        self._sender.tell(call, rows.trunk_hangup(call) if call.trunk else callbacks.hangup(call))
        if bridged:
            self._dial_action(call, "NORMAL_CLEARING", redirect=True)
        for recording in self.book.running(call_uuid):
            self.end(recording.recording_id, "HungUp")

    # Time
    # ----------------------------------------------------------------------------------------------

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Calls `act` once, `seconds` from now."""
        self._timers.after(seconds, act)

    def hold(self, seconds: float) -> bool:
        """Waits `seconds`. Returns True at once when the emulator closes meanwhile."""
        return self._closing.wait(seconds)

    def wait_idle(self, timeout: float) -> bool:
        """Waits until no callback is on its way. False: `timeout` seconds passed first."""
        return self._sender.wait_idle(timeout)

    # What can be asked
    # ----------------------------------------------------------------------------------------------

    def authorised(self, account: str, headers: Any) -> bool:
        """Whether a request's headers carry the credentials of this account."""
        known = self.accounts.get(account)
        return (
            known is not None
            and headers.get("X-Auth-ID") == account
            and headers.get("X-Auth-Token") == known.token
        )

    def live(self, call_uuid: str) -> Call:
        """Raises KeyError unless the call is live."""
        return self.book.live(call_uuid)

    def live_of(self, account: str, call_uuid: str) -> Call | None:
        """The call, if it is live and this account's."""
        call = self.book.calls.get(call_uuid)
        if call is None or call.account != account or call.ended_at is not None or call.ringing:
            return None
        return call

    @property
    def calls(self) -> dict[str, Call]:
        return self.book.calls

    def state(self) -> dict[str, Any]:
        """Every call and recording, as the control API lists them."""
        return {
            "calls": [
                {"call_uuid": c.call_uuid, "started_at": c.started_at, "ended_at": c.ended_at}
                for c in list(self.calls.values())
            ],
            "recordings": [_listed(r) for r in list(self.recordings.values())],
            "deleted": [_listed(r) for r in list(self.book.deleted.values())],
        }

    # What only a test does
    # ----------------------------------------------------------------------------------------------

    def send(
        self, call: Call, event: str, fields: Mapping[str, Any], *, url: str | None = None
    ) -> None:
        """Sends one callback in another thread, with retries. With an `event` it also has the
        fields that most voice callbacks carry; without, it has `fields` alone.
        """
        self._sender.tell(
            call,
            {**callbacks.common(call), "Event": event, **fields} if event else dict(fields),
            event=event or "rest",
            url=url,
        )

    def raw(
        self,
        url: str,
        *,
        method: str = "POST",
        body: str = "",
        headers: Mapping[str, str] | None = None,
        account: str | None = None,
        signature: str = "none",
    ) -> tuple[int, str]:
        """Sends any request once. Returns status and text of the answer; raises OSError when none
        comes.
        """
        owner = self.accounts[account or next(iter(self.accounts))]
        check_mode(signature)
        signed = self._sender.signed(owner, signature, url, Nonces())
        message = Message(
            method,
            url,
            body.encode(),
            {"User-Agent": "Vobiz", "Content-Type": FORM, **signed, **(headers or {})},
        )
        at = time.time()
        status, answer = self._sender.exchange(message, 10)
        self.journal.write(
            "callback",
            {
                "event": "raw",
                "url": url,
                "method": method,
                "status": status,
                "at": at,
                "try": 1,
                "elapsed": time.time() - at,
                "call_uuid": None,
                "fields": {},
            },
        )
        return status, answer.decode("utf-8", "replace")

    def reset(self) -> None:
        """Forgets calls, recordings and bad days; the journal stays."""
        self.faults.clear()
        self.book = Book()


def _listed(recording: Recording) -> dict[str, Any]:
    """A recording, as the control API lists it."""
    return {
        "recording_id": recording.recording_id,
        "call_uuid": recording.call_uuid,
        "started_at": recording.started_at,
        "ended_at": recording.ended_at,
        "end_reason": recording.end_reason,
        "url": recording.url,
        "container": recording.container,
        "channels": recording.channels,
    }
