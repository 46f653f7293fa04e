"""The hand-off: before an application transfers a call, it asks, and the answer is go or hold."""

from __future__ import annotations

import hashlib
import time
from datetime import datetime, timedelta
from functools import partial

from flask import Response, jsonify, request

from webhooks.api import request_bodies
from webhooks.api.keys import caller
from webhooks.api.orders import Orders, digest_of, identity
from webhooks.api.problems import Problem
from webhooks.api.starts import Starts
from worker import tally
from worker.calls.call import Call
from worker.calls.events import Event, Kind
from worker.calls.handoffs import decided, send_by, verdict
from worker.calls.views import handoff_view, recording_view

# Both begin when the asker's own wait is over.
_TRANSFER_S = 6.0  # how long we wait for the provider's answer to a transfer
_STOP_LEAVES_S = 1.0  # how long we wait for a stop to be sent that needs no proof
_SAME_ASK = timedelta(minutes=2)  # after a go: for so long an equal question gets the same answer


class Handoffs:
    def __init__(self, orders: Orders, starts: Starts) -> None:
        self.orders, self.starts = orders, starts
        self.ledger, self.settings = orders.ledger, orders.settings

    def handoff(self, call_uuid: str) -> Response:
        """200 go, 409 hold. The stops are carried on after the answer."""
        body = request_bodies.read(request_bodies.HandoffBody)
        if body.kind == "failed":
            raise Problem(400, "kind: `failed` is told through …/handoff/failed", field="kind")
        account, a_leg = self.orders.where(call_uuid, body.account)
        digest = digest_of(body.kind, body.to, body.transfer)
        order = (
            identity("h")
            if "Idempotency-Key" in request.headers
            else self._same_ask(account, a_leg, digest)
        )
        now = self.orders.record(
            account,
            Event(
                id=f"asked.{order}",
                kind=Kind.HANDOFF_ASKED,
                call_uuid=a_leg,
                order=order,
                trigger=f"transfer.{body.kind}" if body.kind else "transfer",
                target=body.to,
                wait_s=body.wait_s,
                body=body.transfer,
                reason=body.reason,
                labels=body.labels or None,
                digest=digest,
                by=caller().who,
                claimed=caller().claimed,
            ),
        )
        began = time.monotonic()
        call = self._decision(account, a_leg, order, now)
        tally.duration("handoff_seconds", time.monotonic() - began)
        handoff = call.handoffs[order]
        decided_at = handoff.decided.at if handoff.decided else None
        view = handoff_view(call, handoff, self.settings().rules, decided_at or self.ledger.now())
        proven = "proven" if view["proven"] else "unproven"
        tally.add(f"handoffs_total|{view['verdict']}|{proven}")
        if view["verdict"] == "hold":
            return Problem(409, f"hold: {view['reason']}", **view).response()
        return jsonify(view)

    def _same_ask(self, account: str, call_uuid: str, digest: str) -> str:
        """The id of a hand-off whose request has no Idempotency-Key.

        An equal question that is still open keeps its id; so does one whose transfer we sent in the
        last two minutes without a failure. Otherwise the id is new, and the same for all who ask at
        the same time.
        """
        call = self.orders.call(account, call_uuid)
        equal = [
            h
            for h in call.handoffs.values()
            if h.asked.digest == digest and h.asked.order and h.asked.order.startswith("n")
        ]
        if not equal:
            return _new_id(digest, 0)
        now = self.ledger.now()
        failed = max(
            (e.at for e in call.triggers if e.kind is Kind.HANDOFF_FAILED and e.at), default=None
        )
        for handoff in equal:
            decided_at = handoff.decided.at if handoff.decided else None
            if decided_at is None:
                return str(handoff.asked.order)
            was_sent = handoff.transfer and handoff.transfer.kind is not Kind.TRANSFER_FAILED
            failed_since = failed is not None and failed > decided_at
            if was_sent and now < decided_at + _SAME_ASK and not failed_since:
                return str(handoff.asked.order)
        return _new_id(digest, len(equal))

    def _decision(self, account: str, call_uuid: str, order: str, now: datetime) -> Call:
        """The call once the hand-off is decided and its transfer is answered. Waits for that; when
        the time is over, this process decides.
        """
        seen = partial(self._seen, account, order)
        call = self.orders.call(account, call_uuid)
        handoff = call.handoffs[order]
        until = (
            send_by(handoff, verdict(call, self.settings().rules, handoff))
            if handoff.asked.body
            else handoff.until
        )
        settled: Call | None = self.orders.wait(
            account, call_uuid, max(0.0, (until - now).total_seconds()), seen
        )
        if settled is None and self._stop_is_on_its_way(account, call_uuid, order):
            settled = self.orders.wait(account, call_uuid, _STOP_LEAVES_S, seen)
        if settled is None:
            self._decide(account, self.orders.call(account, call_uuid), order)
            settled = self.orders.wait(account, call_uuid, _TRANSFER_S, seen)
        return settled or self.orders.call(account, call_uuid)

    def _stop_is_on_its_way(self, account: str, call_uuid: str, order: str) -> bool:
        """Whether everything is proven, and only the stop of the whole call must still be sent
        before we answer.
        """
        call = self.orders.call(account, call_uuid)
        now_known = verdict(call, self.settings().rules, call.handoffs[order])
        return now_known.proven and now_known.go is None

    def _seen(self, account: str, order: str, call: Call) -> Call | None:
        """The call if nothing is left to wait for, else None. Decides if the verdict is known and
        no transfer has to be sent.
        """
        handoff = call.handoffs[order]
        if handoff.decided is not None:
            sending = handoff.asked.body and handoff.is_ours_to_send and handoff.transfer is None
            return None if sending else call
        known = verdict(call, self.settings().rules, handoff)
        if known.go is None or (known.go and handoff.asked.body):
            return None
        return self._decide(account, call, order)

    def _decide(self, account: str, call: Call, order: str) -> Call:
        """Records a decision. Returns the call with the decision that counts: the first one."""
        handoff = call.handoffs[order]
        final = verdict(call, self.settings().rules, handoff)
        decision = decided(call, handoff, final, go=final.last_word, by="api")
        self.ledger.record(account, decision)
        return self.orders.call(account, call.call_uuid)

    def handoff_failed(self, call_uuid: str) -> Response:
        """The application reports that its transfer did not happen. 200 with the rule's action, and
        the recordings that it resumed.
        """
        body = request_bodies.read(request_bodies.FailedBody)
        account, a_leg = self.orders.where(call_uuid, body.account)
        event_id = f"order.{identity('o')}"
        self.orders.record(
            account,
            Event(
                id=event_id,
                kind=Kind.HANDOFF_FAILED,
                call_uuid=a_leg,
                reason=body.reason,
                by=caller().who,
                claimed=caller().claimed,
                digest=digest_of("failed", body.reason),
            ),
        )
        act = self.orders.act(self.orders.call(account, a_leg), event_id)
        starts = self.starts.resumed(account, a_leg, event_id, body.wait_s)
        call = self.orders.call(account, a_leg)
        rules, now = self.settings().rules, self.ledger.now()
        views = [
            recording_view(call, call.recordings[s.recording_id], rules, now)
            for s in starts
            if s.recording_id
        ]
        return jsonify(
            {
                "call_uuid": a_leg,
                "account": account,
                "action": act.action.value,
                "rule": act.rule,
                "resumed": bool(starts) and len(views) == len(starts),
                "recordings": views,
            }
        )


def _new_id(digest: str, equal: int) -> str:
    """The id of a new question after so many equal ones, the same for all who ask it now."""
    return "n" + hashlib.sha256(f"{digest}|{equal}".encode()).hexdigest()[:15]
