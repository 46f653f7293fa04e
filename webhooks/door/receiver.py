"""The provider's door: verify, parse, record, answer. 200 means that the event is written down.

The answer says what the sender should do next: 200 nothing, 503 send it again, 4xx do not bother.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import structlog
from flask import Blueprint, Response, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge, RequestTimeout
from werkzeug.routing import BaseConverter

from webhooks.body import read_body
from worker import logs, wire
from worker.errors import LedgerUnavailable
from worker.ledger.calls import Recorded
from worker.ledger.client import Ledger
from worker.ledger.counters import REMEDIES
from worker.settings import Settings
from worker.vobiz import callback_fields, callbacks, signature
from worker.vobiz.account import Account

log = structlog.get_logger()
_SAY_AGAIN = timedelta(minutes=1)
_EMPTY = "<Response></Response>"


class Receiver:
    """`settings` is asked anew for each request, so that a reload is seen."""

    def __init__(self, ledger: Ledger, settings: Callable[[], Settings]) -> None:
        self.ledger, self.settings = ledger, settings
        self._said: dict[str, float] = {}

    def receive(self, auth_id: str, token: str, rest: str) -> Response:
        settings = self.settings()
        account = settings.accounts.get(auth_id)
        known = hmac.compare_digest(
            token.encode("utf-8", "replace"), settings.callback_token.encode()
        )
        if account is None or not known:
            return self._refuse(404, "unknown")
        if request.method == "HEAD":
            return _answer()
        try:
            body = read_body()
        except RequestEntityTooLarge:
            return self._refuse(413, "too_large", auth_id)
        except (ClientDisconnected, RequestTimeout) as error:
            return self._refuse(error.code, "cut", auth_id)
        try:
            said = callback_fields.read_fields(
                body=body, content_type=request.content_type or "", query=_query()
            )
            verified = self._verify(settings, account, body, said)
            event = callbacks.parse(said.fields)
            below = rest.lstrip("/")
            bound = below.removeprefix("call/").split("/")[0] if below.startswith("call/") else None
            if bound is not None and {bound} != (
                {event.call_uuid} if event else callbacks.calls(said.fields)
            ):
                return self._refuse(403, "other_call", auth_id)
        except callback_fields.Nothing as error:
            # A browser, or somebody who checks the address: no callback, so none that is refused.
            return (
                _answer()
                if request.method == "GET"
                else self._refuse(400, "unreadable", auth_id, error=str(error))
            )
        except callback_fields.Unreadable as error:
            return self._refuse(400, "unreadable", auth_id, error=str(error))
        except signature.SignatureRejected as error:
            return self._refuse(403, error.reason, auth_id)
        if event is not None:
            # Unsigned it is another event: it must not keep the signed one, which proves something,
            # from being recorded.
            event = replace(
                event,
                id=event.id if verified.signed else f"{event.id}.u",
                signed=verified.signed,
                order=_order(rest) if event.recording_id else None,
            )
        try:
            status, _ = self.ledger.record(
                auth_id, event, nonces=verified.nonces, body=body + b"\0" + request.query_string
            )
        except LedgerUnavailable as error:
            if logs.seldom("redis", error):
                log.warning(
                    "redis does not answer; the provider is asked to send again", error=str(error)
                )
            return Response("try again\n", 503, {"Retry-After": "2"}, mimetype="text/plain")
        if status is Recorded.NONCE_REUSED:
            return self._refuse(403, "nonce", auth_id)
        if event is not None and status is Recorded.NEW:
            log.info(
                event.kind.value,
                account=auth_id,
                call_uuid=event.call_uuid,
                recording_id=event.recording_id,
                by=event.by,
                signed=event.signed,
            )
        return _answer()

    @staticmethod
    def _verify(
        settings: Settings, account: Account, body: bytes, said: callback_fields.ParsedRequest
    ) -> signature.Verified:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower().startswith("x-vobiz-")
        }
        if (
            account.trunk_secrets
            and "X-Vobiz-Signature" in headers
            and (
                "X-Vobiz-Event" in headers
                or (request.content_type or "").startswith("application/json")
            )
        ):
            return signature.verify_trunk(body=body, headers=headers, secrets=account.trunk_secrets)
        return signature.verify(
            base_url=signature.base_url(settings.public_url, _raw_path()),
            headers=headers,
            tokens=account.tokens,
            parent_tokens=account.parent_tokens,
            query=_query(),
            form=said.form,
            required=settings.signatures_required,
        )

    def _refuse(self, status: int, reason: str, account: str = "", **facts: str) -> Response:
        try:
            self.ledger.count_refusal(reason)
            told = not self.ledger.once_per("refusal", reason, every=_SAY_AGAIN)
        except LedgerUnavailable:  # neither a count nor a line is worth an answer
            told = time.monotonic() - self._said.get(reason, -60) < _SAY_AGAIN.total_seconds()
        if not told:
            self._said[reason] = time.monotonic()
            log.warning(
                "callback refused", reason=reason, remedy=REMEDIES[reason], account=account, **facts
            )
        return Response(
            f"{reason}\n" if status != 404 else "not found\n", status, mimetype="text/plain"
        )


def _order(rest: str) -> str | None:
    # Recordings that we start have a callback URL of their own, `call/CALL/start/ORDER`.
    parts = rest.split("/")
    return (
        wire.identifier(parts[3])
        if len(parts) == 4 and parts[0] == "call" and parts[2] == "start"
        else None
    )


def _answer() -> Response:
    return Response(_EMPTY, 200, mimetype="application/xml")


def _raw_path() -> str:
    """The path as it was sent, which is what is signed."""
    sent: str = request.environ.get("RAW_URI") or request.path
    return sent.encode("latin-1", "replace").decode("utf-8", "replace")


def _query() -> str:
    return request.query_string.decode("ascii", "replace")


class Rest(BaseConverter):
    """Whatever follows in a path, slashes and nothing included."""

    regex = ".*?"
    part_isolating = False


def blueprint(receiver: Receiver) -> Blueprint:
    door = Blueprint("receiver", __name__)
    methods = ["GET", "POST"]
    door.add_url_rule(
        "/vobiz/<auth_id>/<token>/",
        "door",
        receiver.receive,
        methods=methods,
        defaults={"rest": ""},
        strict_slashes=False,
    )
    door.add_url_rule(
        "/vobiz/<auth_id>/<token>/<rest:rest>", "below", receiver.receive, methods=methods
    )
    return door
