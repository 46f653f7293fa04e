"""How `/v1` refuses a request: RFC 9457 answers."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify

TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    413: "Content Too Large",
    412: "Precondition Failed",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Problem(Exception):
    """An RFC 9457 answer, raised by a view. `field` names the wrong field of the request; `more`
    are further members of the answer.
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
