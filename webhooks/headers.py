"""The headers of every answer of `web`, and the delay after a wrong token or key."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import structlog
from flask import Flask, Response, request

from webhooks.brake import Brake
from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger
from worker.ledger.counters import REMEDIES

log = structlog.get_logger()
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_CALLBACKS = {"receiver.door", "receiver.below"}
_LOGIN = "console.login"
_LOG_EVERY = timedelta(minutes=1)


def install(app: Flask, ledger: Ledger, brake: Brake) -> None:
    """Sets HEADERS on every answer of `app`, and lets `brake` hold wrong guesses back. A route may
    set a header of HEADERS to another value.
    """
    app.wsgi_app = _with_headers(app.wsgi_app)  # type: ignore[method-assign]  # as Flask means it to be wrapped

    @app.after_request
    def _slow_guesses(response: Response) -> Response:
        if response.status_code == 404 and request.endpoint in _CALLBACKS:
            brake.wait()
        elif response.status_code == 401 and (
            "Authorization" in request.headers or request.endpoint == _LOGIN
        ):
            _count_wrong_key(ledger)
            brake.wait()
        return response


def _count_wrong_key(ledger: Ledger) -> None:
    with contextlib.suppress(LedgerUnavailable):  # without Redis the answer goes out all the same
        ledger.count_refusal("key")
        if ledger.once_per("refusal", "key", every=_LOG_EVERY):
            log.warning("request refused", reason="key", remedy=REMEDIES["key"])


def _with_headers(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Wraps the application below Flask: setting headers in Flask takes four times as long, and
    would leave out the answers that Flask makes by itself.
    """

    def wrapped(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            given = {name.lower() for name, _ in headers}
            missing = [pair for pair in HEADERS.items() if pair[0].lower() not in given]
            return start_response(status, headers + missing, exc_info)

        # A request line with a host in place of a path leaves the path empty. Flask would answer
        # that with a redirect to whatever `Host` says.
        environ["PATH_INFO"] = environ.get("PATH_INFO") or "/"
        return application(environ, start)

    return wrapped
