"""What becomes of a request to the provider's door: the parts of the request and the settings in,
Refusal or Received out. Pure.

It is verified first, then parsed. Nothing of it is written down, counted or answered here.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from worker import wire
from worker.calls.events import Event
from worker.ledger.recording import Report
from worker.settings import Settings
from worker.vobiz import callback_fields, callbacks, signature
from worker.vobiz.account import Account

_LONGEST_WHERE = 120
BodyFault = Literal["cut", "too_large"]
_STATUSES: dict[BodyFault, int] = {"cut": 400, "too_large": 413}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """The parts of a request to `/vobiz/{auth_id}/{token}`. `rest` stands below that path."""

    method: str
    auth_id: str
    token: str
    rest: str
    raw_path: str  # the whole path as it was sent, because the signature covers that
    query: str
    headers: Mapping[str, str]  # by name in lower case: `content-type`, and all `x-vobiz-…`
    body: bytes
    body_fault: BodyFault | None = None  # why the body is not whole

    @property
    def where(self) -> str:
        """Method and path for people, without token and numbers. Whoever sends a request can write
        anything into it, so it is cut and holds nothing that a terminal obeys.
        """
        below = f"/{self.rest}" if self.rest else ""
        path = "".join(c if c.isprintable() else "?" for c in f"{self.auth_id[:40]}/…{below}")
        return f"{self.method} /vobiz/{wire.without_numbers(path)}"[:_LONGEST_WHERE]


class Refusal(Exception):
    """The callback is not taken. `reason` is what the answer, the counter and the log call it;
    `error` is logged with it.
    """

    def __init__(self, status: int, reason: str, error: str | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.error = status, reason, error


@dataclass(frozen=True, slots=True)
class Received:
    """The request is taken: 200 once `report` is recorded; at once where there is none."""

    report: Report | None = None


def receive(request: Request, settings: Settings) -> Refusal | Received:
    """What becomes of a request."""
    account = settings.accounts.get(request.auth_id)
    if not _is_token(request.token, settings) or account is None:
        return Refusal(404, "unknown")
    if request.method == "HEAD":
        return Received()
    try:
        return Received(_report(request, settings, account))
    except callback_fields.Nothing as error:
        if request.method == "GET":  # a browser, or somebody who checks the address
            return Received()
        return Refusal(400, "unreadable", str(error))
    except callback_fields.Unreadable as error:
        return Refusal(400, "unreadable", str(error))
    except signature.SignatureRejected as error:
        return Refusal(403, error.reason)
    except Refusal as refusal:
        return refusal


def _is_token(token: str, settings: Settings) -> bool:
    return hmac.compare_digest(token.encode("utf-8", "replace"), settings.callback_token.encode())


def _report(request: Request, settings: Settings, account: Account) -> Report:
    """Verifies and parses the request. Raises Refusal, Unreadable, Nothing, SignatureRejected."""
    if request.body_fault:
        raise Refusal(_STATUSES[request.body_fault], request.body_fault)
    said = callback_fields.read_fields(
        body=request.body,
        content_type=request.headers.get("content-type", ""),
        query=request.query,
    )
    verified = _verify(request, settings, account, said.form)
    event = callbacks.parse(said.fields, signed=verified.signed, order=_order(request.rest))
    _check_call(request.rest, event, said)
    return Report(
        account=request.auth_id,
        event=event,
        nonces=verified.nonces,
        # all that was sent: tells a repeat from another callback with its nonce
        body=request.body + b"\0" + request.query.encode(),
    )


def _verify(
    request: Request, settings: Settings, account: Account, form: tuple[tuple[str, str], ...]
) -> signature.Verified:
    """Checks the request's signature by its headers. Raises SignatureRejected."""
    if account.trunk_secrets and _is_of_trunk(request.headers):
        return signature.verify_trunk(
            body=request.body, headers=request.headers, secrets=account.trunk_secrets
        )
    return signature.verify(
        base_url=signature.base_url(settings.public_url, request.raw_path),
        headers=request.headers,
        tokens=account.tokens,
        parent_tokens=account.parent_tokens,
        query=request.query,
        form=form,
        required=settings.signatures_required,
    )


def _is_of_trunk(headers: Mapping[str, str]) -> bool:
    """Whether this is a webhook of a trunk, which is signed in another way."""
    is_json = headers.get("content-type", "").startswith("application/json")
    return "x-vobiz-signature" in headers and ("x-vobiz-event" in headers or is_json)


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


def _order(rest: str) -> str | None:
    """The order of a start that we sent: its callback URL ends with `call/CALL/start/ORDER`."""
    steps = rest.split("/")
    if len(steps) == 4 and steps[0] == "call" and steps[2] == "start":
        return wire.identifier(steps[3])
    return None
