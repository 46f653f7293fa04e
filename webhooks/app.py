"""Puts the web process together, and serves it: `python -m webhooks.app`."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.process import BaseProcess

import structlog
from flask import Flask, Response
from granian import Granian
from granian.constants import Interfaces
from granian.http import HTTP1Settings

from webhooks import api, receiver
from worker import logs
from worker.errors import EndtapeError, LedgerUnavailable, SettingsError
from worker.ledger import Ledger, connect
from worker.settings import Settings

log = structlog.get_logger()
RELOAD_CHECK_S = 1.0


class Current:
    """The settings in force. A reload that finds them broken keeps the old ones."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings, self._ledger = settings, ledger
        self._generation: int | None = None      # not known: whatever is found counts as a reload
        with contextlib.suppress(LedgerUnavailable):
            self._generation = ledger.generation()
        # Aside, so that no request waits for it when Redis does not answer.
        threading.Thread(target=self._watch, name="reload", daemon=True).start()

    def __call__(self) -> Settings:
        return self._settings

    def _watch(self) -> None:
        while True:
            time.sleep(RELOAD_CHECK_S)
            with contextlib.suppress(LedgerUnavailable):
                self._follow(self._ledger.generation())

    def _follow(self, generation: int) -> None:
        if generation != self._generation:
            try:
                self._settings = Settings.from_env()
            except SettingsError as error:
                log.warning("the new settings are broken; the old ones stay", problems=error.problems)
        self._generation = generation


def create_app(settings: Settings | None = None, ledger: Ledger | None = None) -> Flask:
    """The application. Reads the environment when it is not given settings."""
    settings = settings or Settings.from_env()
    logs.set_up(settings.log)
    ledger = ledger or Ledger(connect(settings.redis_url, timeout_s=0.2, connections=64))
    current = Current(settings, ledger)
    app = Flask("webhooks", static_folder=None)
    app.register_blueprint(receiver.blueprint(receiver.Receiver(ledger, current)))
    app.register_blueprint(api.blueprint(api.Api(ledger, current)))

    @app.errorhandler(api.Problem)
    def _problem(error: api.Problem) -> Response:
        return error.response()

    @app.errorhandler(404)
    @app.errorhandler(405)
    def _nothing(error: object) -> Response:
        status = getattr(error, "code", 404)
        return api.Problem(status, "Not Found" if status == 404 else "Method Not Allowed", "see README.md for the routes").response()

    @app.errorhandler(Exception)
    def _fault(error: Exception) -> Response:
        # The framework's own line would name the path, and with it the callback token.
        log.error("a request failed by a fault of ours", exc_info=error)
        return api.Problem(500, "Internal Server Error", "this is a fault of Endtape; its log says more").response()

    @app.errorhandler(EndtapeError)
    def _unavailable(error: EndtapeError) -> Response:
        log.warning("a request could not be answered", error=str(error))
        return api.Problem(503, "Service Unavailable", "the state store does not answer").response()

    return app


def serve_app() -> Flask:
    """The application in a child of `main`, which ends with its parent: an orphan would go on answering beside whatever is
    started instead, also after an upgrade.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), name="parent", daemon=True).start()
    return create_app()


def _follow(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        sys.stderr.write("\n".join(error.problems) + "\n")
        raise SystemExit(2) from None
    Granian(
        "webhooks.app:serve_app", factory=True, address=settings.host, port=settings.port, interface=Interfaces.WSGI, workers=2,
        # A thread waits for each body that is on its way, so there are more of them than an ill-behaved sender has connections.
        blocking_threads=640, backlog=2048, log_access=False, respawn_failed_workers=True,
        http1_settings=HTTP1Settings(header_read_timeout=5000),
    ).serve()


if __name__ == "__main__":
    main()
