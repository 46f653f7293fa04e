"""The provider's door in the Flask application: any WSGI server can run it.

The server that we ship has a quicker one for the same requests, asgi.py. Both answer alike.
"""

from __future__ import annotations

from flask import Blueprint, Response, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.routing import BaseConverter

from webhooks.body import read_body
from webhooks.door.callback import BodyFault, Request
from webhooks.door.receiver import Answer, Receiver, unrecorded
from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger
from worker.ledger.recording import Report


class WsgiDoor:
    """Answers a callback in the thread that it came in."""

    def __init__(self, receiver: Receiver, ledger: Ledger) -> None:
        self._receiver, self._ledger = receiver, ledger

    def answer(self, auth_id: str, token: str, rest: str) -> Response:
        found = self._receiver.judge(_request(auth_id, token, rest))
        if isinstance(found, Report):
            found = self._record(found)
        return Response(found.body, found.status, found.headers())

    def _record(self, report: Report) -> Answer:
        try:
            status, _ = self._ledger.record(
                report.account, report.event, nonces=report.nonces, body=report.body
            )
        except LedgerUnavailable as error:
            return unrecorded(error)
        return self._receiver.recorded(report, status)


def _request(auth_id: str, token: str, rest: str) -> Request:
    body, fault = _body()
    return Request(
        method=request.method,
        auth_id=auth_id,
        token=token,
        rest=rest,
        raw_path=_raw_path(),
        query=request.query_string.decode("ascii", "replace"),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=body,
        body_fault=fault,
    )


def _body() -> tuple[bytes, BodyFault | None]:
    try:
        return read_body(), None
    except RequestEntityTooLarge:
        return b"", "too_large"
    except ClientDisconnected:
        return b"", "cut"


def _raw_path() -> str:
    """The path as it was sent, because the signature covers that."""
    sent: str = request.environ.get("RAW_URI") or request.path
    return sent.encode("latin-1", "replace").decode("utf-8", "replace")


class RestOfPath(BaseConverter):
    """The rest of a path. It may hold slashes, and it may be empty."""

    regex = ".*?"
    part_isolating = False


def blueprint(door: WsgiDoor) -> Blueprint:
    routes = Blueprint("receiver", __name__)
    methods = ["GET", "POST"]
    routes.add_url_rule(
        "/vobiz/<auth_id>/<token>/",
        "door",
        door.answer,
        methods=methods,
        defaults={"rest": ""},
        strict_slashes=False,
    )
    routes.add_url_rule(
        "/vobiz/<auth_id>/<token>/<rest:rest>", "below", door.answer, methods=methods
    )
    return routes
