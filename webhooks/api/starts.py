"""Starts and resumes that our callers order, and the recordings that come of them."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify, url_for

from webhooks.api import request_bodies
from webhooks.api.keys import caller
from webhooks.api.orders import Orders, digest_of, identity
from webhooks.api.problems import Problem
from worker.calls.call import Call, Start
from worker.calls.events import Event, Kind
from worker.calls.look_times import looked_since
from worker.calls.segments import interrupted, is_paused, order_of
from worker.calls.triggers import acts
from worker.calls.views import recording_view

_ANSWER_S = 10.0  # how long a caller waits for the provider's answer to a start


class Starts:
    def __init__(self, orders: Orders) -> None:
        self.orders, self.ledger, self.settings = orders, orders.ledger, orders.settings

    def start(self, call_uuid: str) -> Response:
        """201 with the recording. A repeated Idempotency-Key gets the outcome of the first request.

        Raises Problem where no recording was started, or nobody knows whether one was.
        """
        body = request_bodies.read(request_bodies.StartBody)
        max_duration_s = request_bodies.seconds(body.max_duration, "max_duration")
        account, a_leg = self.orders.where(call_uuid, body.account)
        order = identity("s")
        self.orders.record(
            account,
            Event(
                id=f"start.{order}",
                kind=Kind.START_ORDERED,
                call_uuid=a_leg,
                order=order,
                format=body.format,
                channels=body.channels,
                labels=body.labels or None,
                max_duration_s=max_duration_s,
                by=caller().who,
                claimed=caller().claimed,
                digest=digest_of(body.format, body.channels, body.labels, max_duration_s),
            ),
        )
        start = self._outcome(account, a_leg, order)
        answer: Response = jsonify(self._recording(account, a_leg, start))
        answer.status_code = 201
        answer.headers["Location"] = url_for("api.recording", recording_id=start.recording_id)
        return answer

    def resume(self, call_uuid: str) -> Response:
        """201 with the new segments; 409 where nothing is paused."""
        body = request_bodies.read(request_bodies.ResumeBody)
        account, a_leg = self.orders.where(call_uuid, body.account)
        event_id = f"order.{identity('o')}"
        call = self.orders.call(account, a_leg)
        is_repeat = any(e.id == event_id for e in call.events)
        if not is_repeat and not is_paused(call, acts(call, self.settings().rules)):
            raise Problem(
                409,
                "nothing is paused on this call, so there is nothing to resume;"
                " `POST …/recordings` starts a recording",
            )
        self.orders.record(
            account,
            Event(
                id=event_id,
                kind=Kind.RESUME_ORDERED,
                call_uuid=a_leg,
                reason=body.reason,
                by=caller().who,
                claimed=caller().claimed,
                digest=digest_of("resume", body.reason),
            ),
        )
        views = [
            self._recording(account, a_leg, start)
            for start in self.resumed(account, a_leg, event_id, body.wait_s)
        ]
        if not views:
            raise Problem(
                409,
                "the recording was stopped for good, so it is not resumed;"
                " `POST …/recordings` starts one",
            )
        answer = jsonify({"call_uuid": a_leg, "account": account, "recordings": views})
        answer.status_code = 201
        return answer

    def resumed(self, account: str, call_uuid: str, event_id: str, wait_s: float) -> list[Start]:
        """The starts that a resume leads to, each as far as it has come when `wait_s` is over."""

        def orders(call: Call) -> list[str]:
            _, resumptions = interrupted(call, acts(call, self.settings().rules))
            return [order_of(r) for r in resumptions if r.act.event.id == event_id]

        def all_answered(call: Call) -> bool | None:
            starts = [call.starts.get(order) for order in orders(call)]
            return all(start and (start.recording_id or start.outcome) for start in starts) or None

        def not_ordered_yet(order: str) -> Start:
            return Start(
                ordered=Event(id=order, kind=Kind.START_ORDERED, call_uuid=call_uuid, order=order)
            )

        self.orders.wait(account, call_uuid, wait_s, all_answered)
        call = self.orders.call(account, call_uuid)
        return [call.starts.get(order) or not_ordered_yet(order) for order in orders(call)]

    def _outcome(self, account: str, call_uuid: str, order: str) -> Start:
        """The start once the provider has answered it. If no worker sent it in time, it is called
        off.
        """

        def answered(call: Call) -> Start | None:
            start = call.starts[order]
            if start.recording_id:
                return start
            if start.outcome is None or start.outcome.at is None:
                return None
            return start if not start.unclear or looked_since(call, start.outcome.at) else None

        start: Start | None = self.orders.wait(account, call_uuid, _ANSWER_S, answered)
        if start is not None:
            return start
        # No worker answered in time. This event has the id of START_SENT: if it is recorded first,
        # the start is never sent.
        start = self.orders.call(account, call_uuid).starts[order]
        self.ledger.record(
            account,
            Event(
                id=f"sent.{order}.{len(start.errors)}",
                kind=Kind.START_FAILED,
                call_uuid=call_uuid,
                order=order,
                reason="it could not be sent in time",
            ),
        )
        return self.orders.call(account, call_uuid).starts[order]

    def _recording(self, account: str, call_uuid: str, start: Start) -> dict[str, Any]:
        """The view of the recording that a start led to. Raises Problem if it led to none, or if
        nobody knows.
        """
        call = self.orders.call(account, call_uuid)
        if start.recording_id is None:
            raise _no_recording(call, start)
        recording = call.recordings[start.recording_id]
        return recording_view(call, recording, self.settings().rules, self.ledger.now())


def _no_recording(call: Call, start: Start) -> Problem:
    """Why there is no recording; the status says whether to try again, and how."""
    reason = start.outcome.reason if start.outcome else "no answer yet"
    if start.outcome is None or not start.failed:
        return Problem(
            504,
            f"nobody knows whether it was started: {reason}. It is looked for, and never sent again"
            " by itself; repeat the request with the same Idempotency-Key to learn what came of it",
            start="unknown",
        )
    detail, status = f"not started: {reason}", start.outcome.status
    if status == 404 or call.over_at:
        return Problem(404, detail, start="failed")
    if status == 409:
        return Problem(409, detail, start="failed")
    if status is None:
        return Problem(503, detail, start="failed")
    return Problem(502, detail, start="failed", provider_status=status)
