"""What every answer of `web` carries, and what a wrong guess at a token or key costs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import structlog
from flask import Flask, Response, request

from worker.errors import REMEDIES, LedgerUnavailable
from worker.ledger import Ledger

log = structlog.get_logger()
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_CALLBACKS = {"receiver.door", "receiver.below"}
_SAY_AGAIN = timedelta(minutes=1)


class Brake:
    """Holds wrong guesses back: after `free` of them, which come back one a second, each waits
    `pause_s`.

    Who has the right token or key never comes here, so no guessing delays or locks out anybody
    else. At most `at_once` threads wait; what comes beyond is answered at once, because a waiting
    room without end would be a way to stop us.
    """

    def __init__(self, *, free: float = 20, pause_s: float = 0.1, at_once: int = 32) -> None:
        self._free, self._pause_s = free, pause_s
        self._left, self._at = free, time.monotonic()
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(at_once)

    def press(self) -> None:
        if not self._spend() and self._room.acquire(blocking=False):
            try:
                time.sleep(self._pause_s)
            finally:
                self._room.release()

    def _spend(self) -> bool:
        with self._lock:
            now = time.monotonic()
            self._left, self._at = min(self._free, self._left + now - self._at), now
            if self._left < 1:
                return False
            self._left -= 1
            return True


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
    makes by itself."""

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


def _tell(ledger: Ledger) -> None:
    with contextlib.suppress(LedgerUnavailable):  # neither a count nor a line is worth an answer
        ledger.count_refusal("key")
        if ledger.my_turn("refusal", "key", every=_SAY_AGAIN):
            log.warning("request refused", reason="key", remedy=REMEDIES["key"])
