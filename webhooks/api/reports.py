"""What our callers tell us: calls and recordings that others started, events, and what is to be
tried again.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import replace

from flask import Response, jsonify, request

from webhooks.api import request_bodies
from webhooks.api.orders import Orders, announced, digest_of, identity
from webhooks.api.problems import Problem
from webhooks.body import read_body
from worker import wire
from worker.calls.call import Call
from worker.calls.events import Event, Kind
from worker.calls.views import call_view, recording_view
from worker.ledger.calls import Recorded
from worker.vobiz import callback_fields, callbacks

_CUSTOM = re.compile(r"custom\.[A-Za-z0-9_-]{1,60}")
_ACCOUNT = ("account", "accountid", "authid", "parentauthid")
_FIELDS = {
    "calluuid": "call_uuid",
    "recordingid": "recording_id",
}  # as our own callers spell what the provider spells in many ways


class Telling:
    def __init__(self, orders: Orders) -> None:
        self.orders, self.ledger, self.settings = orders, orders.ledger, orders.settings

    def announce(self, call_uuid: str) -> Response:
        """Makes a call known whose recording somebody else started. `recordings: []` says that
        nothing is being recorded.
        """
        body = request_bodies.read(request_bodies.CallBody)
        account, a_leg = self.orders.where(call_uuid, body.account)
        told = Event(
            id=f"told.{secrets.token_hex(6)}",
            kind=Kind.CALL_ANNOUNCED,
            call_uuid=a_leg,
            from_number=_digits(body.from_, "from"),
            to_number=_digits(body.to, "to"),
            direction=body.direction,
            labels=body.labels or None,
            started_at=request_bodies.instant(body.started_at, "started_at"),
            by="api",
        )
        events = [announced(a_leg, r, i) for i, r in enumerate(body.recordings or [])]
        if body.recordings == []:
            events.append(
                Event(
                    id=f"nothing.{secrets.token_hex(6)}",
                    kind=Kind.NOTHING_DECLARED,
                    call_uuid=a_leg,
                    by="api",
                )
            )
        if not _says_nothing_new(self.orders.call(account, a_leg), told):
            events.insert(0, told)
        for event in events:
            self.ledger.record(account, event)
        return jsonify(
            call_view(self.orders.call(account, a_leg), self.settings().rules, self.ledger.now())
        )

    def event(self) -> Response:
        """A provider's request as the application received it, or `custom.NAME`. 200 says that it
        is written down.
        """
        order_id = f"order.{identity('e')}"
        try:
            fields = _forwarded()
            name = fields.get("event", "")
            event = (
                _custom(fields, name, order_id)
                if name.startswith("custom.")
                else callbacks.parse(fields)
            )
        except callback_fields.Unreadable as error:
            place = re.match(r"(\w+): ", str(error))
            raise Problem(
                400, str(error), field=_FIELDS.get(place[1].lower(), place[1]) if place else None
            ) from None
        if event is None:
            return jsonify({"event": name or None, "recorded": "ignored"})
        accounts = self.settings().accounts
        named = next(
            (fields[k] for k in _ACCOUNT if fields.get(k) in accounts), fields.get("account")
        )
        account, a_leg = self.orders.where(event.call_uuid, named)
        if name.startswith("custom."):
            event = replace(event, call_uuid=a_leg)
            self.orders.record(account, event)
            recorded = Recorded.NEW
        else:
            # Forwarded, a request is the application's word: the provider's signature was for
            # another address.
            recorded, _ = self.ledger.record(
                account, replace(event, id=f"{event.id}.f", by=f"{event.by} (forwarded)")
            )
        return jsonify(
            {
                "event": event.trigger or event.kind.value,
                "call_uuid": event.call_uuid,
                "account": account,
                "recorded": recorded.value,
            }
        )

    def retry(self, recording_id: str) -> Response:
        """202: it is tried again, whatever became of it."""
        body = request_bodies.read(request_bodies.RetryBody)
        for account in self.settings().accounts:
            call_uuid = (
                self.ledger.call_of(account, recording_id)
                if wire.identifier(recording_id)
                else None
            )
            call = self.orders.call(account, call_uuid) if call_uuid else None
            if call and recording_id in call.recordings:
                if call.recordings[recording_id].archived:
                    raise Problem(409, "it is archived already")
                self.orders.record(
                    account,
                    Event(
                        id=f"retry.{identity('r')}",
                        kind=Kind.RETRY_ORDERED,
                        call_uuid=call.call_uuid,
                        recording_id=recording_id,
                        reason=body.reason,
                        by="api",
                        digest=digest_of(recording_id, body.reason),
                    ),
                )
                call = self.orders.call(account, call.call_uuid)
                answer = jsonify(
                    recording_view(
                        call,
                        call.recordings[recording_id],
                        self.settings().rules,
                        self.ledger.now(),
                    )
                )
                answer.status_code = 202
                return answer
        raise Problem(404, "no such recording")


def _forwarded() -> callback_fields.Fields:
    """What the application sends: its own event, or a provider's request. Raises Unreadable.

    The query of a GET that it got may come as a form or as the query of this request; what the
    application put into its own callback URL then stands in it too.
    """
    query = request.query_string.decode("ascii", "replace")
    said = callback_fields.read_fields(
        body=read_body(), content_type=request.content_type or "", query=query
    )
    found = callback_fields.of_provider(said.form)
    if found is None or said.fields.get("event", "").startswith("custom."):
        return said.fields
    return {name: said.fields[name] for name in _ACCOUNT if name in said.fields} | found


def _custom(fields: dict[str, str], name: str, order_id: str) -> Event:
    if not _CUSTOM.fullmatch(name):
        raise Problem(
            400, "event: `custom.` is followed by letters, digits, `_` and `-`", field="event"
        )
    call_uuid = wire.identifier(fields.get("calluuid"))
    if call_uuid is None:
        raise Problem(
            400, "call_uuid: is needed, an id of letters, digits, `_` and `-`", field="call_uuid"
        )
    reason = (
        fields.get("reason", "")[:200].encode("utf-8", "replace").decode() or None
    )  # JSON can spell half a character; terminals cannot
    return Event(
        id=order_id,
        kind=Kind.CUSTOM_REPORTED,
        call_uuid=call_uuid,
        trigger=name,
        reason=reason,
        by="api",
        digest=digest_of(name, reason),
    )


def _says_nothing_new(call: Call, told: Event) -> bool:
    pairs = (
        (told.from_number, call.from_number),
        (told.to_number, call.to_number),
        (told.direction, call.direction),
        (told.started_at, call.started_at),
    )
    same = (
        all(mine is None or mine == known for mine, known in pairs)
        and (told.labels or {}).items() <= call.labels.items()
    )
    return same and bool(call.events)


def _digits(number: str | None, field: str) -> str | None:
    found = wire.digits(number)
    if number is not None and found is None:
        raise Problem(400, f"{field}: {number[:40]!r} holds no digits", field=field)
    return found
