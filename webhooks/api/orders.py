"""What our callers order through `/v1`: each order is one event in the ledger, and the answer is
what came of it.

The web process sends nothing to the provider. It records the order and waits until a worker has
carried it out. The worker does so whether or not the caller still waits. Two requests with one
`Idempotency-Key` are one order.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

from flask import Response, jsonify, request, url_for

from webhooks.api import request_bodies
from webhooks.api.problems import Problem
from worker import wire
from worker.calls.call import Call, Start
from worker.calls.events import Event, Kind
from worker.calls.handoffs import concerning, no_live_call, was_sent
from worker.calls.look_times import looked_since
from worker.calls.replay import replay
from worker.calls.segments import interrupted, is_paused, order_of
from worker.calls.triggers import Act, acts
from worker.calls.views import judging, recording_view, rfc3339, stops_view
from worker.ledger.calls import Recorded
from worker.ledger.client import Ledger
from worker.ledger.news import Waiting
from worker.settings import Settings

_ANSWER_S = 10.0  # of the provider, to a start


class Orders:
    """`settings` is asked anew for each request, so that a reload is seen."""

    def __init__(self, ledger: Ledger, settings: Callable[[], Settings], waiting: Waiting) -> None:
        self.ledger, self.settings, self.waiting = ledger, settings, waiting

    # What every order needs
    # ---------------------------------------------------------------------------------------

    def where(self, call_uuid: str, account: str | None) -> tuple[str, str]:
        """The account and the A-leg that a call's id means. Raises Problem 400."""
        if not wire.identifier(call_uuid) or wire.identifier(call_uuid) != call_uuid:
            raise Problem(
                400,
                "call_uuid: must be an id of at most 128 letters, digits, `_` and `-`",
                field="call_uuid",
            )
        accounts = self.settings().accounts
        named = account or request.args.get("account")
        if named is not None and named not in accounts:
            raise Problem(400, "account: no such account here", field="account")
        for candidate in [named] if named else accounts:
            for a_leg in dict.fromkeys((self.ledger.a_leg(candidate, call_uuid), call_uuid)):
                if self.ledger.size(candidate, a_leg):
                    return candidate, a_leg
        if named is None and len(accounts) > 1:
            raise Problem(
                400,
                f"account: name one of {', '.join(accounts)}; none of them knows this call",
                field="account",
            )
        return named or next(iter(accounts)), call_uuid

    def record(self, account: str, event: Event) -> None:
        """Records an order. Raises Problem 422 if its Idempotency-Key came with another order
        before.
        """
        status, _ = self.ledger.record(account, event)
        if status is not Recorded.REPEAT:
            return
        before = next(e for e in self.ledger.events(account, event.call_uuid) if e.id == event.id)
        if before.digest != event.digest:
            raise Problem(
                422,
                "Idempotency-Key: it came with another request before; use a new one",
                field="Idempotency-Key",
            )

    def call(self, account: str, call_uuid: str) -> Call:
        return replay(account, call_uuid, self.ledger.events(account, call_uuid))

    def wait(self, account: str, call_uuid: str, wait_s: float, seen: Callable[[Call], Any]) -> Any:
        return self.waiting.until(account, call_uuid, time.monotonic() + wait_s, seen)

    # Starting
    # ---------------------------------------------------------------------------------------------------------

    def start(self, call_uuid: str) -> Response:
        """201 with the recording; a repeated Idempotency-Key gives what came of the first
        request.
        """
        body = request_bodies.read(request_bodies.StartBody)
        max_duration_s = request_bodies.seconds(body.max_duration, "max_duration")
        account, a_leg = self.where(call_uuid, body.account)
        order = identity("s")
        self.record(
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
                by="api",
                digest=digest_of(body.format, body.channels, body.labels, max_duration_s),
            ),
        )
        start = self._come_of(account, a_leg, order)
        view = self.started(account, a_leg, start)
        answer: Response = jsonify(view)
        answer.status_code = 201
        answer.headers["Location"] = url_for("api.recording", recording_id=start.recording_id)
        return answer

    def _come_of(self, account: str, call_uuid: str, order: str) -> Start:
        def seen(call: Call) -> Start | None:
            start = call.starts[order]
            if start.recording_id:
                return start
            if start.outcome is None or start.outcome.at is None:
                return None
            return start if not start.unclear or looked_since(call, start.outcome.at) else None

        answered: Start | None = self.wait(account, call_uuid, _ANSWER_S, seen)
        if answered is not None:
            return answered
        # No worker answered in time. This event has the id of START_SENT: if it is recorded first,
        # the start is never sent.
        start = self.call(account, call_uuid).starts[order]
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
        return self.call(account, call_uuid).starts[order]

    def started(self, account: str, call_uuid: str, start: Start) -> dict[str, Any]:
        """The recording that a start led to. Raises Problem if it led to none, or if nobody
        knows.
        """
        call = self.call(account, call_uuid)
        if start.recording_id is not None:
            return recording_view(
                call, call.recordings[start.recording_id], self.settings().rules, self.ledger.now()
            )
        reason = start.outcome.reason if start.outcome else "no answer yet"
        if start.outcome is None or not start.failed:
            raise Problem(
                504,
                f"nobody knows whether it was started: {reason}. It is looked for, and never sent again by itself;"
                " repeat the request with the same Idempotency-Key to learn what came of it",
                start="unknown",
            )
        if start.outcome.status == 404 or call.over_at:
            raise Problem(404, f"not started: {reason}", start="failed")
        if start.outcome.status == 409:
            raise Problem(409, f"not started: {reason}", start="failed")
        if start.outcome.status is None:
            raise Problem(503, f"not started: {reason}", start="failed")
        raise Problem(
            502, f"not started: {reason}", start="failed", provider_status=start.outcome.status
        )

    # Stopping
    # -----------------------------------------------------------------------------------------------------

    def stop(self, call_uuid: str) -> Response:
        return self._end(call_uuid, Kind.STOP_ORDERED)

    def pause(self, call_uuid: str) -> Response:
        """A stop after which `resume` goes on with a further segment."""
        return self._end(call_uuid, Kind.PAUSE_ORDERED)

    def _end(self, call_uuid: str, kind: Kind) -> Response:
        body = request_bodies.read(request_bodies.StopBody)
        account, a_leg = self.where(call_uuid, body.account)
        recording_id = self._one(account, a_leg, body)
        named = self.call(account, a_leg).recordings.get(recording_id or "")
        event_id = f"order.{identity('o')}"
        self.record(
            account,
            Event(
                id=event_id,
                kind=kind,
                call_uuid=a_leg,
                recording_id=recording_id,
                reason=body.reason,
                by="api",
                segment_of=named.segment_of if named else None,
                digest=digest_of(kind, recording_id, body.reason),
            ),
        )

        def answered(call: Call) -> bool | None:
            act = self.act(call, event_id)
            recordings = concerning(call, act)
            proven = (
                bool(recordings)
                and all(r.over_at for r in recordings)
                and (not act.is_order or was_sent(call, act))
            )
            return proven or no_live_call(call, act) or None

        if body.wait_s:
            self.wait(account, a_leg, body.wait_s, answered)
        call = self.call(account, a_leg)
        answer = jsonify(
            stops_view(
                call,
                concerning(call, self.act(call, event_id)),
                judging(call, self.settings().rules, self.ledger.now()),
            )
        )
        answer.status_code = 200 if body.wait_s else 202
        return answer

    def _one(self, account: str, call_uuid: str, body: request_bodies.StopBody) -> str | None:
        """The id of the one recording that is meant; None means all. Raises Problem 404 for an id
        that the call does not have.
        """
        known = self.call(account, call_uuid).recordings
        if body.recording_id is not None and body.recording_id not in known:
            raise Problem(404, "recording_id: no such recording on this call", field="recording_id")
        if (
            body.recording_id is not None
            and body.url
            and any(r.url == body.url for i, r in known.items() if i != body.recording_id)
        ):
            raise Problem(
                400,
                "url: is the address of another recording than recording_id names; give one of the two",
                field="url",
            )
        if body.url is None or body.recording_id is not None:
            return body.recording_id
        by_url = next((i for i, r in known.items() if r.url == body.url), None)
        if by_url is None:
            announcement = announced(
                call_uuid, request_bodies.AnnouncedRecording(url=body.url), None
            )
            self.ledger.record(account, announcement)
            by_url = announcement.recording_id
        return by_url

    def act(self, call: Call, event_id: str) -> Act:
        return next(a for a in acts(call, self.settings().rules) if a.event.id == event_id)

    def resume(self, call_uuid: str) -> Response:
        """201 with the new segments; 409 where nothing is paused."""
        body = request_bodies.read(request_bodies.ResumeBody)
        account, a_leg = self.where(call_uuid, body.account)
        event_id = f"order.{identity('o')}"
        call = self.call(account, a_leg)
        again = any(e.id == event_id for e in call.events)
        if not again and not is_paused(call, acts(call, self.settings().rules)):
            raise Problem(
                409,
                "nothing is paused on this call, so there is nothing to resume; `POST …/recordings` starts a recording",
            )
        self.record(
            account,
            Event(
                id=event_id,
                kind=Kind.RESUME_ORDERED,
                call_uuid=a_leg,
                reason=body.reason,
                by="api",
                digest=digest_of("resume", body.reason),
            ),
        )
        views = [
            self.started(account, a_leg, start)
            for start in self.resumed(account, a_leg, event_id, body.wait_s)
        ]
        if not views:
            raise Problem(
                409,
                "the recording was stopped for good, so it is not resumed; `POST …/recordings` starts one",
            )
        answer = jsonify({"call_uuid": a_leg, "account": account, "recordings": views})
        answer.status_code = 201
        return answer

    def resumed(self, account: str, call_uuid: str, event_id: str, wait_s: float) -> list[Start]:
        """The starts that a resume leads to, each as far as it has come when `wait_s` is over."""

        def orders(call: Call) -> list[str]:
            _, resumptions = interrupted(call, acts(call, self.settings().rules))
            return [order_of(r) for r in resumptions if r.act.event.id == event_id]

        def seen(call: Call) -> bool | None:
            starts = [call.starts.get(order) for order in orders(call)]
            return all(start and (start.recording_id or start.outcome) for start in starts) or None

        def not_ordered_yet(order: str) -> Start:
            return Start(
                ordered=Event(id=order, kind=Kind.START_ORDERED, call_uuid=call_uuid, order=order)
            )

        self.wait(account, call_uuid, wait_s, seen)
        call = self.call(account, call_uuid)
        return [call.starts.get(order) or not_ordered_yet(order) for order in orders(call)]


def identity(letter: str) -> str:
    """The id of an order: the same for the same Idempotency-Key; without one, a new one each
    time.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return letter + secrets.token_hex(8)
    if not re.fullmatch(r"[!-~]{1,255}", key):
        raise Problem(
            400,
            "Idempotency-Key: must have 1 to 255 visible ASCII characters",
            field="Idempotency-Key",
        )
    return (
        letter
        + "k"
        + hashlib.sha256(f"{request.path}|{key}".encode("utf-8", "replace")).hexdigest()[:24]
    )


def digest_of(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def announced(call_uuid: str, told: request_bodies.AnnouncedRecording, number: int | None) -> Event:
    field = "url" if number is None else f"recordings[{number}]"
    recording_id = told.recording_id or _id_in(told.url)
    if recording_id is None:
        raise Problem(
            400, f"{field}: recording_id is needed, or an address that ends with it", field=field
        )
    started_at = request_bodies.instant(told.started_at, f"{field}.started_at")
    extension = (told.url or "").rpartition(".")[2]
    return Event(
        id=f"announced.{recording_id}.{digest_of(told.url, rfc3339(started_at))}",
        kind=Kind.RECORDING_ANNOUNCED,
        call_uuid=call_uuid,
        recording_id=recording_id,
        url=told.url,
        started_at=started_at,
        format=extension if extension in {"mp3", "wav"} else None,
        by="api",
    )


def _id_in(url: str | None) -> str | None:
    found = re.search(r"/([A-Za-z0-9_-]{1,128})\.(?:mp3|wav)$", url or "")
    return found[1] if found else None
