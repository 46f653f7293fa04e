"""Stops and pauses that our callers order, and the proof that they wait for."""

from __future__ import annotations

from flask import Response, jsonify

from webhooks.api import request_bodies
from webhooks.api.announcements import announcement
from webhooks.api.history import enter_order
from webhooks.api.keys import caller
from webhooks.api.orders import Orders, digest_of, identity
from webhooks.api.problems import Problem
from worker.calls.call import Call
from worker.calls.events import Event, Kind
from worker.calls.handoffs import concerning, no_live_call, was_sent
from worker.calls.history import Deed
from worker.calls.views import judging, stops_view


class Stops:
    def __init__(self, orders: Orders) -> None:
        self.orders, self.ledger, self.settings = orders, orders.ledger, orders.settings

    def stop(self, call_uuid: str) -> Response:
        """202 with the stops as they are; 200, with `wait_s`, once all are proven or the time is
        over.
        """
        return self._stop(call_uuid, Kind.STOP_ORDERED)

    def pause(self, call_uuid: str) -> Response:
        """A stop after which `resume` goes on with a further segment; answers as `stop` does."""
        return self._stop(call_uuid, Kind.PAUSE_ORDERED)

    def _stop(self, call_uuid: str, kind: Kind) -> Response:
        body = request_bodies.read(request_bodies.StopBody)
        account, order = self.give(call_uuid, kind, body)
        a_leg, event_id = order.call_uuid, order.id
        if body.wait_s:
            self.orders.wait(
                account, a_leg, body.wait_s, lambda call: self._is_proven(call, event_id) or None
            )
        call = self.orders.call(account, a_leg)
        answer = jsonify(
            stops_view(
                call,
                concerning(call, self.orders.act(call, event_id)),
                judging(call, self.settings().rules, self.ledger.now()),
            )
        )
        answer.status_code = 200 if body.wait_s else 202
        return answer

    def give(self, call_uuid: str, kind: Kind, body: request_bodies.StopBody) -> tuple[str, Event]:
        """Gives the order, and returns its account and event. Raises Problem 400, 404 and 422."""
        account, a_leg = self.orders.where(call_uuid, body.account)
        recording_id = self._named(account, a_leg, body)
        recording = self.orders.call(account, a_leg).recordings.get(recording_id or "")
        order = Event(
            id=f"order.{identity('o')}",
            kind=kind,
            call_uuid=a_leg,
            recording_id=recording_id,
            reason=body.reason,
            by=caller().who,
            claimed=caller().claimed,
            segment_of=recording.segment_of if recording else None,
            digest=digest_of(kind, recording_id, body.reason),
        )
        enter_order(self.ledger, account, Deed.STOP, order)
        self.orders.record(account, order)
        return account, order

    def _is_proven(self, call: Call, event_id: str) -> bool:
        """Whether nothing is left to wait for: every recording that the order concerns is over, and
        its stop was sent; or there is no live call.
        """
        act = self.orders.act(call, event_id)
        recordings = concerning(call, act)
        all_over = bool(recordings) and all(r.over_at for r in recordings)
        was_done = not act.is_order or was_sent(call, act)
        return (all_over and was_done) or no_live_call(call, act)

    def _named(self, account: str, call_uuid: str, body: request_bodies.StopBody) -> str | None:
        """The id of the one recording that the body names; None means all.

        An address that the call does not know is announced with it. Raises Problem 404 for an id
        that the call does not have, 400 where id and address contradict each other.
        """
        recordings = self.orders.call(account, call_uuid).recordings
        if body.recording_id is not None:
            if body.recording_id not in recordings:
                raise Problem(
                    404, "recording_id: no such recording on this call", field="recording_id"
                )
            if body.url and any(
                r.url == body.url for i, r in recordings.items() if i != body.recording_id
            ):
                raise Problem(
                    400,
                    "url: is the address of another recording than recording_id names;"
                    " give one of the two",
                    field="url",
                )
            return body.recording_id
        if body.url is None:
            return None
        by_url = next((i for i, r in recordings.items() if r.url == body.url), None)
        if by_url is None:
            announced = request_bodies.AnnouncedRecording(url=body.url)
            event = announcement(call_uuid, announced, None)
            self.ledger.record(account, event)
            by_url = event.recording_id
        return by_url
