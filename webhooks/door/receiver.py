"""The provider's door: verify, parse, record, answer. 200 means that the event is written down.

The answer says what the sender should do next: 200 nothing, 503 send it again, 4xx give up.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog
from flask import Blueprint, Response, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge, RequestTimeout
from werkzeug.routing import BaseConverter

from webhooks.body import read_body
from worker import logs, wire
from worker.calls.events import Event
from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger
from worker.ledger.counters import REMEDIES
from worker.ledger.recording import Recorded
from worker.settings import Settings
from worker.vobiz import callback_fields, callbacks, signature
from worker.vobiz.account import Account

log = structlog.get_logger()
_LOG_EVERY = timedelta(minutes=1)
_EMPTY = "<Response></Response>"


class Refusal(Exception):
    """The callback is not taken. `reason` is what the answer, the counter and the log call it;
    `error` is logged with it.
    """

    def __init__(self, status: int, reason: str, error: str | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.error = status, reason, error


class NoCallback(Exception):
    """A GET without any field of the provider's: a browser, or somebody who checks the address."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Callback:
    """A callback that was verified and parsed. `event` is None for a kind that is not followed."""

    event: Event | None
    nonces: Sequence[str]
    content: bytes  # all that was sent: tells a repeat from another callback with its nonce


class Receiver:
    """Answers callbacks. Calls `settings` for each request, so that a reload takes effect."""

    def __init__(self, ledger: Ledger, settings: Callable[[], Settings]) -> None:
        self.ledger, self.settings = ledger, settings
        self._logged_at: dict[str, float] = {}  # by reason: when this process logged it last

    def receive(self, auth_id: str, token: str, rest: str) -> Response:
        settings = self.settings()
        account = settings.accounts.get(auth_id)
        if not _is_token(token, settings) or account is None:
            return self._refuse(Refusal(404, "unknown"))
        if request.method == "HEAD":
            return _ok()
        try:
            callback = _verify_and_parse(settings, account, rest)
            return self._record(auth_id, callback)
        except NoCallback:
            return _ok()
        except Refusal as refusal:
            return self._refuse(refusal, auth_id)
        except LedgerUnavailable as error:
            if logs.seldom("redis", error):
                log.warning(
                    "redis does not answer; the provider is asked to send again", error=str(error)
                )
            return Response("try again\n", 503, {"Retry-After": "2"}, mimetype="text/plain")

    def _record(self, auth_id: str, callback: _Callback) -> Response:
        """200 once the event is recorded. Raises LedgerUnavailable, and Refusal if the nonce came
        before with other content.
        """
        event = callback.event
        status, _ = self.ledger.record(
            auth_id, event, nonces=callback.nonces, body=callback.content
        )
        if status is Recorded.NONCE_REUSED:
            raise Refusal(403, "nonce")
        if event is not None and status is Recorded.NEW:
            log.info(
                event.kind.value,
                account=auth_id,
                call_uuid=event.call_uuid,
                recording_id=event.recording_id,
                by=event.by,
                signed=event.signed,
            )
        return _ok()

    def _refuse(self, refusal: Refusal, account: str = "") -> Response:
        """The answer to a refused callback. Each reason is counted, and logged once a minute."""
        reason = refusal.reason
        try:
            self.ledger.count_refusal(reason)
            is_due = self.ledger.once_per("refusal", reason, every=_LOG_EVERY)
        except LedgerUnavailable:  # without Redis the answer goes out all the same
            since_s = time.monotonic() - self._logged_at.get(reason, -60)
            is_due = since_s >= _LOG_EVERY.total_seconds()
        if is_due:
            self._logged_at[reason] = time.monotonic()
            log.warning(
                "callback refused",
                reason=reason,
                remedy=REMEDIES[reason],
                account=account,
                **({} if refusal.error is None else {"error": refusal.error}),
            )
        text = "not found\n" if refusal.status == 404 else f"{reason}\n"
        return Response(text, refusal.status, mimetype="text/plain")


def _is_token(token: str, settings: Settings) -> bool:
    return hmac.compare_digest(token.encode("utf-8", "replace"), settings.callback_token.encode())


def _verify_and_parse(settings: Settings, account: Account, rest: str) -> _Callback:
    """Verifies and parses the request. `rest` is the path below the token. Raises Refusal,
    NoCallback.
    """
    body = _body()
    try:
        said = callback_fields.read_fields(
            body=body, content_type=request.content_type or "", query=_query()
        )
        verified = _verify(settings, account, body, said)
        event = callbacks.parse(said.fields)
    except callback_fields.Nothing as error:
        if request.method == "GET":
            raise NoCallback from None
        raise Refusal(400, "unreadable", str(error)) from None
    except callback_fields.Unreadable as error:
        raise Refusal(400, "unreadable", str(error)) from None
    except signature.SignatureRejected as error:
        raise Refusal(403, error.reason) from None
    _check_call(rest, event, said)
    return _Callback(
        event=event and _as_received(event, rest, signed=verified.signed),
        nonces=verified.nonces,
        content=body + b"\0" + request.query_string,
    )


def _body() -> bytes:
    try:
        return read_body()
    except RequestEntityTooLarge:
        raise Refusal(413, "too_large") from None
    except (ClientDisconnected, RequestTimeout) as error:
        raise Refusal(error.code, "cut") from None


def _verify(
    settings: Settings, account: Account, body: bytes, said: callback_fields.ParsedRequest
) -> signature.Verified:
    """Checks the request's signature by its headers. Raises SignatureRejected."""
    headers = {
        name: value
        for name, value in request.headers.items()
        if name.lower().startswith("x-vobiz-")
    }
    if account.trunk_secrets and _is_of_trunk(headers):
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


def _is_of_trunk(headers: dict[str, str]) -> bool:
    """Whether this is a webhook of a trunk, which is signed in another way."""
    is_json = (request.content_type or "").startswith("application/json")
    return "X-Vobiz-Signature" in headers and ("X-Vobiz-Event" in headers or is_json)


def _check_call(rest: str, event: Event | None, said: callback_fields.ParsedRequest) -> None:
    """Raises Refusal if the path names a call (`call/CALL/…`) and the callback is about another
    call.
    """
    steps = rest.lstrip("/").split("/")
    if steps[0] != "call" or len(steps) < 2:
        return
    calls = {event.call_uuid} if event else callbacks.calls(said.fields)
    if calls != {steps[1]}:
        raise Refusal(403, "other_call")


def _as_received(event: Event, rest: str, *, signed: bool) -> Event:
    """The event with what the request adds to it.

    An unsigned event gets an id of its own. Under the id of the signed event it would keep that one
    from being recorded, and the signed event is the proof.
    """
    return replace(
        event,
        id=event.id if signed else f"{event.id}.u",
        signed=signed,
        order=_order(rest) if event.recording_id else None,
    )


def _order(rest: str) -> str | None:
    """The order of a start that we sent: its callback URL ends with `call/CALL/start/ORDER`."""
    steps = rest.split("/")
    if len(steps) == 4 and steps[0] == "call" and steps[2] == "start":
        return wire.identifier(steps[3])
    return None


def _ok() -> Response:
    return Response(_EMPTY, 200, mimetype="application/xml")


def _raw_path() -> str:
    """The path as it was sent, because the signature covers that."""
    sent: str = request.environ.get("RAW_URI") or request.path
    return sent.encode("latin-1", "replace").decode("utf-8", "replace")


def _query() -> str:
    return request.query_string.decode("ascii", "replace")


class RestOfPath(BaseConverter):
    """The rest of a path. It may hold slashes, and it may be empty."""

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
