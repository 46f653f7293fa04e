"""Puts the web process together, and serves it: `python -m webhooks.app`."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess

import structlog
from flask import Flask, Response
from granian import Granian
from werkzeug.exceptions import HTTPException

from webhooks import headers
from webhooks.api import routes
from webhooks.api.problems import TITLES, Problem
from webhooks.api.routes import Api
from webhooks.brake import Brake
from webhooks.console import routes as console
from webhooks.console.errors import Errors
from webhooks.console.streams import Streams
from webhooks.door import wsgi
from webhooks.door.asgi import AsgiDoor
from webhooks.door.receiver import Receiver
from webhooks.door.refusals import Refusals
from webhooks.server import SERVER, Serving
from worker import logs
from worker.errors import EndtapeError, LedgerUnavailable, SettingsError
from worker.in_force import Follower, InForce, exit_with
from worker.ledger import fitness
from worker.ledger.client import Ledger
from worker.ledger.news import Waiting
from worker.ledger.recorder import Recorder
from worker.ledger.store import connect
from worker.settings import Settings

log = structlog.get_logger()
WORKERS = 2
# Set for the children: one that starts after the rules file is gone must know that there was one.
_HAD_RULES = "_ENDTAPE_HAD_RULES"
_ENDS = (signal.SIGTERM, signal.SIGINT)
SHUTDOWN_S = 10  # longer than a body may take; then the answers to slow readers are cut off
Answer = Callable[[Problem], Response]
_DETAILS = {
    404: "see /v1/openapi.json for the routes",
    405: "see /v1/openapi.json for the routes",
    413: "a request has at most 64 KiB",
}


def _follow_reloads(settings: Settings, ledger: Ledger, ended: threading.Event) -> InForce:
    """The settings in force, which a thread keeps up to date until `ended` is set."""
    generation = None
    with contextlib.suppress(LedgerUnavailable):
        generation = ledger.generation()
    in_force = InForce(settings, generation=generation, on_problems=_warn_broken)
    # In a thread, so that no request waits while Redis does not answer.
    follower = Follower(ledger, "web", in_force)
    threading.Thread(target=follower.run, args=(ended,), name="reload", daemon=True).start()
    return in_force


def _warn_broken(problems: tuple[str, ...]) -> None:
    if logs.seldom("settings", *problems):
        log.warning("the new settings are broken; the old ones stay", problems=problems)


def create_app(
    settings: Settings | None = None,
    ledger: Ledger | None = None,
    ended: threading.Event | None = None,
    brake: Brake | None = None,
) -> Flask:
    """The application, with the provider's door in it: `create_web` without its quicker door."""
    return create_web(settings, ledger, ended, brake).application


@dataclass(frozen=True, slots=True)
class Web:
    """The application, and what goes before it on the event loop: the quicker door for the
    provider, and the streams of the console's open pages.
    """

    application: Flask
    door: AsgiDoor
    open_pages: Streams


def create_web(
    settings: Settings | None = None,
    ledger: Ledger | None = None,
    ended: threading.Event | None = None,
    brake: Brake | None = None,
) -> Web:
    """All that `web` serves. Without settings it reads the environment; once `ended` is set it
    follows no reload and no news any more. `brake` holds back wrong guesses.
    """
    ended = ended or threading.Event()
    settings = settings or Settings.from_env(had_rules=_HAD_RULES in os.environ)
    logs.set_up(settings.log, settings.secrets())
    ledger = ledger or Ledger(connect(settings.redis_url, timeout_s=0.2, connections=64))
    current = _follow_reloads(settings, ledger, ended).current
    app = Flask("webhooks", static_folder=None)
    # Never answer a path with a redirect, which no sender of callbacks follows.
    app.url_map.merge_slashes = False
    app.url_map.converters["rest"] = wsgi.RestOfPath
    brake = brake or Brake()
    headers.install(app, ledger, brake)
    receiver = Receiver(current, Refusals(ledger))
    app.register_blueprint(wsgi.blueprint(wsgi.WsgiDoor(receiver, ledger)))
    api = Api(ledger, current, Waiting(ledger, ended))
    app.register_blueprint(routes.blueprint(api))
    open_pages = console.install(app, api)
    answer = Errors(current).answer
    app.register_error_handler(Problem, answer)
    app.register_error_handler(HTTPException, partial(_refused, answer))
    app.register_error_handler(Exception, partial(_failed, answer))
    app.register_error_handler(EndtapeError, partial(_unavailable, answer))
    return Web(app, AsgiDoor(receiver, Recorder(ledger), brake), open_pages)


def _refused(answer_of: Answer, error: HTTPException) -> Response:
    """The answer where the framework refuses a request: no such route, a body that is too large."""
    status = error.code if error.code in TITLES else 400
    answer = answer_of(Problem(status, _DETAILS.get(status, error.name)))
    for name, value in error.get_headers():
        if name in {"Allow", "Content-Range"}:
            answer.headers[name] = value
    return answer


def _failed(answer_of: Answer, error: Exception) -> Response:
    # The framework's own log line would name the path, and with it the callback token.
    log.error("a request failed by a fault of ours", exc_info=error)
    return answer_of(Problem(500, "this is a fault of Endtape; its log says more"))


def _unavailable(answer_of: Answer, error: EndtapeError) -> Response:
    if logs.seldom("unanswered", error):
        log.warning("a request could not be answered", error=str(error))
    return answer_of(Problem(503, "the state store does not answer"))


def serving() -> Serving:
    """What the server runs in each of its processes. Each ends with its parent: an orphan would go
    on answering beside the service that is started next, perhaps of a newer version.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()
    web = create_web()
    return Serving(web.application, web.door, web.open_pages)


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _prepare_forks(forked: Callable[[], None]) -> None:
    """`forked` is called in the parent after each fork."""

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)
        forked()

    os.register_at_fork(
        before=_before_fork, after_in_parent=in_parent, after_in_child=_end_by_signals
    )


def _before_fork() -> None:
    # Frozen, for a collection of garbage would give each child a copy of all that it shares.
    gc.freeze()
    # A child forgets what comes while it has its parent's handlers, so until then nothing comes.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)


def _end_by_signals() -> None:
    """A child begins with its parent's handlers, which note a signal where nobody reads it. Until
    it has its own, a signal ends it: it has taken no request yet.
    """
    for number in _ENDS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)


def main() -> None:
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        exit_with(error.problems)
    logs.set_up(settings.log, settings.secrets())
    if settings.rules.from_file:
        os.environ[_HAD_RULES] = "1"
    for warning in settings.warnings:
        log.warning("settings", detail=warning)
    unfit, ended = list[str](), threading.Event()
    forked = threading.Semaphore(0)
    _prepare_forks(forked.release)

    def check_fitness() -> None:
        # First wait until all workers are forked: a lock that this thread held at a fork would stay
        # locked in the child for ever. (The time-out is for systems that do not fork.)
        for _ in range(WORKERS):
            forked.acquire(timeout=2)
        # Beside the server: without Redis callbacks are answered 503 at once, so that the provider
        # sends them again.
        try:
            fitness.wait(
                settings.redis_url,
                settings.broker_url,
                allow_no_aof=settings.allow_no_aof,
                rules_file=settings.config.name if settings.config else None,
                given_up=ended.is_set,
            )
        except SettingsError as error:
            unfit.extend(error.problems)
            os.kill(os.getpid(), signal.SIGTERM)

    server = Granian(
        "webhooks.app:serving",
        factory=True,
        address=settings.host,
        port=settings.port,
        workers=WORKERS,
        respawn_failed_workers=True,
        workers_kill_timeout=SHUTDOWN_S,
        **SERVER,
    )
    # Not earlier: only from the start-up on does a signal end the server.
    server.on_startup(threading.Thread(target=check_fitness, name="fitness", daemon=True).start)
    server.serve()
    ended.set()
    if unfit:
        exit_with(unfit)


if __name__ == "__main__":
    main()
