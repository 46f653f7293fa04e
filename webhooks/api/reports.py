"""What our callers report: calls and recordings that others started, events, and recordings to try
again.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from flask import Response, jsonify, request

from webhooks.api import request_bodies
from webhooks.api.announcements import announcement
from webhooks.api.consents import consent_event, is_consent
from webhooks.api.history import enter_order
from webhooks.api.keys import caller
from webhooks.api.orders import Orders, digest_of, identity
from webhooks.api.problems import Problem
from webhooks.api.reading import Reader
from webhooks.body import read_body
from worker import wire
from worker.calls.call import Call
from worker.calls.events import Event, Kind
from worker.calls.history import Deed
from worker.calls.obligations import Duty, Obligation
from worker.calls.views import recording_view
from worker.errors import CatalogueAway, Conflict, Gone
from worker.governing import retries
from worker.ledger.recording import Recorded
from worker.vobiz import callback_fields, callbacks

_MEANWHILE = timedelta(seconds=30)
_CUSTOM = re.compile(r"custom\.[A-Za-z0-9_-]{1,60}")
_ACCOUNT = ("account", "accountid", "authid", "parentauthid")
# The fields that the provider spells in many ways, as our own callers spell them
_FIELDS = {"calluuid": "call_uuid", "recordingid": "recording_id"}


class Reports:
    def __init__(self, orders: Orders, reader: Reader) -> None:
        self.orders, self.ledger, self.settings = orders, orders.ledger, orders.settings
        self.reader = reader

    def announce(self, call_uuid: str) -> Response:
        """Makes a call known whose recording somebody else started. `recordings: []` declares that
        nothing is being recorded. 200 with the call.
        """
        body = request_bodies.read(request_bodies.CallBody)
        account, a_leg = self.orders.where(call_uuid, body.account)
        call = Event(
            id=f"told.{secrets.token_hex(6)}",
            kind=Kind.CALL_ANNOUNCED,
            call_uuid=a_leg,
            from_number=_digits(body.from_, "from"),
            to_number=_digits(body.to, "to"),
            direction=body.direction,
            labels=body.labels or None,
            started_at=request_bodies.instant(body.started_at, "started_at"),
            by=caller().who,
            claimed=caller().claimed,
        )
        events = [announcement(a_leg, r, i) for i, r in enumerate(body.recordings or [])]
        if body.recordings == []:
            events.append(
                Event(
                    id=f"nothing.{secrets.token_hex(6)}",
                    kind=Kind.NOTHING_DECLARED,
                    call_uuid=a_leg,
                    by=caller().who,
                    claimed=caller().claimed,
                )
            )
        if not _says_nothing_new(self.orders.call(account, a_leg), call):
            events.insert(0, call)
        if body.consent:
            consent = consent_event(self.orders.call(account, a_leg), body.consent)
            events += [consent] if consent else []
        for event in events:
            self._record(account, event)
        return jsonify(self.reader.with_past(self.orders.call(account, a_leg)))

    def event(self) -> Response:
        """A provider's request as the application received it, or `custom.NAME`. 200 says that the
        event is recorded, or of a kind that is not followed.
        """
        raw = read_body()
        if is_consent(raw):
            return self._consent(request_bodies.decode(raw, request_bodies.ConsentEventBody))
        order_id = f"order.{identity('e')}"
        fields, event = _reported(raw, order_id)
        if event is None:
            return jsonify({"event": fields.get("event") or None, "recorded": "ignored"})
        accounts = self.settings().accounts
        named = next(
            (fields[k] for k in _ACCOUNT if fields.get(k) in accounts), fields.get("account")
        )
        account, a_leg = self.orders.where(event.call_uuid, named)
        if event.kind is Kind.CUSTOM_REPORTED:
            event, recorded = replace(event, call_uuid=a_leg), Recorded.NEW
            self.orders.record(account, event)
        else:
            # A forwarded request counts as unsigned: the provider's signature was for another
            # address.
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

    def _consent(self, body: request_bodies.ConsentEventBody) -> Response:
        account, a_leg = self.orders.where(body.call_uuid, body.account)
        prefix = "consent." if body.consent else ""
        event = consent_event(self.orders.call(account, a_leg), body.consent or body, prefix)
        recorded = Recorded.REPEAT
        if event:
            recorded = self._record(account, event)
        return jsonify(
            {
                "event": "consent",
                "call_uuid": a_leg,
                "account": account,
                "recorded": recorded.value,
            }
        )

    def _record(self, account: str, event: Event) -> Recorded:
        """Records what is said of a call. Consent also concerns recordings of the call that only
        the catalogue knows, for which no plan is made: the archive is told of it in any case.
        """
        if event.kind not in {Kind.CONSENT_GIVEN, Kind.CONSENT_WITHDRAWN}:
            return self.ledger.record(account, event)[0]
        told = Obligation(duty=Duty.FACTS, account=account, call_uuid=event.call_uuid)
        # Before and after: this process may die in between, or a worker be quicker.
        self.ledger.owe(told, self.ledger.now() + _MEANWHILE)
        recorded, now = self.ledger.record(account, event)
        self.ledger.owe(told, now)
        return recorded

    def retry(self, recording_id: str) -> Response:
        """202: the recording is fetched again, whatever became of it. 409 if it is archived."""
        body = request_bodies.read(request_bodies.RetryBody)
        answer = jsonify(self.order_retry(recording_id, body.reason))
        answer.status_code = 202
        return answer

    def order_retry(
        self, recording_id: str, reason: str | None, account: str | None = None
    ) -> dict[str, Any]:
        """Orders another try, and returns the recording as `/v1` shows it. Raises Problem 404, 409
        if it is archived, 410, 503.
        """
        with _refusing():
            found = self._to_retry(recording_id, account)
        owed = found.owed
        order = Event(
            id=f"retry.{identity('r')}",
            kind=Kind.RETRY_ORDERED,
            call_uuid=owed.call_uuid,
            recording_id=recording_id,
            reason=reason,
            by=caller().who,
            claimed=caller().claimed,
            digest=digest_of(recording_id, reason),
        )
        enter_order(self.ledger, owed.account, Deed.RETRY, order)
        with _refusing():
            retries.restore(self.ledger, self.reader.catalogue, found)
        self.orders.record(owed.account, order)
        call = self.orders.call(owed.account, owed.call_uuid)
        recording = call.recordings[recording_id]
        return recording_view(call, recording, self.settings().rules, self.ledger.now())

    def _to_retry(self, recording_id: str, account: str | None) -> retries.ToRetry:
        """Raises Problem 404, and what `retries.find` raises."""
        accounts, catalogue = self.reader.accounts(), self.reader.catalogue
        account = account or request.args.get("account")
        found = retries.find(self.ledger, catalogue, accounts, recording_id, account)
        if found is None:
            raise Problem(404, "no such recording")
        return found


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Turns what stands in the way of a retry into a Problem."""
    try:
        yield
    except Gone as error:
        raise Problem(410, str(error)) from None
    except Conflict as error:
        raise Problem(409, str(error)) from None
    except CatalogueAway as error:
        raise Problem(
            503, f"Redis does not know it, and the catalogue does not answer: {error}"
        ) from None


def _reported(raw: bytes, order_id: str) -> tuple[callback_fields.Fields, Event | None]:
    """The fields of the request, and its event; None for a kind that is not followed. Raises
    Problem 400 that names the field.
    """
    try:
        fields = _forwarded(raw)
        name = fields.get("event", "")
        if name.startswith("custom."):
            return fields, _custom(fields, name, order_id)
        if name == "consent":  # as a form, or as JSON that is broken
            raise Problem(400, "event: consent is reported as JSON alone", field="event")
        return fields, callbacks.parse(fields)
    except callback_fields.Unreadable as error:
        match = re.match(r"(\w+): ", str(error))
        field = _FIELDS.get(match[1].lower(), match[1]) if match else None
        raise Problem(400, str(error), field=field) from None


def _forwarded(raw: bytes) -> callback_fields.Fields:
    """The fields that the application sends: those of its own event, or of a provider's request.
    Raises Unreadable.

    Where the provider's request was a GET, its query comes as a form or as the query of this
    request. Parameters that the application put into its own callback URL stand in it, too; only
    the provider's fields and the account are kept.
    """
    query = request.query_string.decode("ascii", "replace")
    sent = callback_fields.read_fields(
        body=raw, content_type=request.content_type or "", query=query
    )
    of_provider = callback_fields.of_provider(sent.form)
    if of_provider is None or sent.fields.get("event", "").startswith("custom."):
        return sent.fields
    return {name: sent.fields[name] for name in _ACCOUNT if name in sent.fields} | of_provider


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
    # JSON can spell half a surrogate pair; UTF-8 cannot.
    reason = fields.get("reason", "")[:200].encode("utf-8", "replace").decode() or None
    return Event(
        id=order_id,
        kind=Kind.CUSTOM_REPORTED,
        call_uuid=call_uuid,
        trigger=name,
        reason=reason,
        by=caller().who,
        claimed=caller().claimed,
        digest=digest_of(name, reason),
    )


def _says_nothing_new(call: Call, announced: Event) -> bool:
    """Whether the call is known, with everything that this event says of it."""
    pairs = (
        (announced.from_number, call.from_number),
        (announced.to_number, call.to_number),
        (announced.direction, call.direction),
        (announced.started_at, call.started_at),
    )
    same = all(new is None or new == known for new, known in pairs)
    same_labels = (announced.labels or {}).items() <= call.labels.items()
    return bool(call.events) and same and same_labels


def _digits(number: str | None, field: str) -> str | None:
    """The digits of a number that a caller sent. Raises Problem 400 where it holds none."""
    digits = wire.digits(number)
    if number is not None and digits is None:
        raise Problem(400, f"{field}: {number[:40]!r} holds no digits", field=field)
    return digits
