"""What every answer of `web` carries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response, request

from webhooks.brake import Brake, _tell
from worker.ledger.client import Ledger

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_CALLBACKS = {"receiver.door", "receiver.below"}


def attach(app: Flask, ledger: Ledger) -> None:
    """Guards every route of `app`. A route may set a header of HEADERS to another value."""
    brake = Brake()
    app.wsgi_app = _guarded(app.wsgi_app)  # type: ignore[method-assign]  # as Flask means it to be wrapped

    @app.after_request
    def _guard(response: Response) -> Response:
        if response.status_code == 404 and request.endpoint in _CALLBACKS:
            brake.press()
        elif response.status_code == 401 and "Authorization" in request.headers:
            _tell(ledger)
            brake.press()
        return response


def _guarded(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Below Flask, whose own headers take four times as long to set, and so also on answers that it
    makes by itself.
    """

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            given = {name.lower() for name, _ in headers}
            return start_response(
                status,
                headers + [pair for pair in HEADERS.items() if pair[0].lower() not in given],
                exc_info,
            )

        # A request line with a host for a path leaves none, which would be answered with a redirect
        # to wherever `Host` says.
        environ["PATH_INFO"] = environ.get("PATH_INFO") or "/"
        return application(environ, start)

    return guarded
