"""How `/v1` says no: RFC 9457 answers; and who may ask for what."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

from flask import Response, jsonify, request

from worker.settings import Settings

TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Problem(Exception):
    """An RFC 9457 answer. `field` names what is wrong in the request; `more` are further
    members.
    """

    def __init__(self, status: int, detail: str, *, field: str | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.field, self.more = status, detail, field, more

    def response(self) -> Response:
        body = {
            "type": "about:blank",
            "title": TITLES[self.status],
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        if self.field:
            body["field"] = self.field
        answer = jsonify(body)
        answer.status_code, answer.mimetype = self.status, "application/problem+json"
        if self.status == 401:
            answer.headers["WWW-Authenticate"] = "Bearer"
        if self.status == 503:
            answer.headers["Retry-After"] = "2"
        return answer


def need_key(settings: Callable[[], Settings], *, app_key_too: bool = False) -> None:
    """Raises Problem 401 without a good key, 403 where the lesser key is not enough."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    offered = given.strip().encode("utf-8", "replace") if scheme.lower() == "bearer" else b""
    now = settings()
    if any([hmac.compare_digest(offered, k.encode()) for k in now.api_keys]):  # noqa: C419 - all are compared
        return
    if now.app_key and hmac.compare_digest(offered, now.app_key.encode()):
        if app_key_too:
            return
        raise Problem(403, "the application key may not do this; use ENDTAPE_API_KEY")
    raise Problem(401, "send `Authorization: Bearer` with ENDTAPE_API_KEY")
