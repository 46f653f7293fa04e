"""The settings in force in the worker processes and the clock, and the `Worker` that each process
makes from them. Reads the environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import structlog

from worker import logs
from worker.catalogue.database import Catalogue
from worker.duties.worker import Worker
from worker.errors import SettingsError
from worker.in_force import InForce, exit_with, read_again
from worker.ledger import fitness
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.processes import broker, draining
from worker.processes.composition import make_worker
from worker.settings import Settings

log = structlog.get_logger()
_THREADS = 128  # of one process, for requests side by side

_last_good: Settings | None = None  # a child that is forked anew inherits it


def settings_or_exit() -> Settings:
    """The settings as they are set now. If they are broken: the last good ones. A process that had
    none ends with exit status 2 and a line for each mistake.
    """
    global _last_good  # noqa: PLW0603 - it has to survive the fork
    if _last_good is None:
        try:
            _last_good = Settings.from_env()
        except SettingsError as error:
            exit_with(error.problems)
    else:
        _last_good, problems = read_again(_last_good)
        if problems:
            warn_broken(problems)
    return _last_good


def last_good_settings() -> Settings:
    """The last good settings, without reading them again."""
    return _last_good or settings_or_exit()


def keep_for_children(settings: Settings) -> None:
    """From now on children are forked with these settings."""
    global _last_good  # noqa: PLW0603
    _last_good = settings


def warn_broken(problems: tuple[str, ...]) -> None:
    if logs.seldom("settings", *problems):
        log.warning("the settings are broken; the last good ones stay", problems=problems)


def warn_redis_is_away(error: Exception, **facts: object) -> None:
    if logs.seldom("redis", error):
        log.warning("redis does not answer", error=str(error), **facts)


def fit_redis_or_exit(settings: Settings) -> None:
    """Logs the settings' warnings and returns once Redis answers. Ends the process with status 2
    and every reason where that server is unfit, or where RabbitMQ refuses us.
    """
    for warning in settings.warnings:
        log.warning("settings", detail=warning)
    try:
        fitness.wait(
            settings.redis_url,
            settings.broker_url,
            allow_no_aof=settings.allow_no_aof,
            rules_file=settings.config.name if settings.config else None,
        )
        if settings.broker_url.startswith(broker.RABBIT):
            # Celery keeps trying a RabbitMQ that does not answer, and the clock works without it.
            with contextlib.suppress(OSError):
                refusal = broker.try_rabbit(settings.broker_url)
                if refusal:
                    raise SettingsError([f"CELERY_BROKER_URL = (secret): {refusal}"])
    except SettingsError as error:
        exit_with(error.problems)


class FollowingWorker:
    """The worker of one process. It is made after the fork, and anew for each reload."""

    def __init__(self, settings: Settings) -> None:
        """Raises LedgerUnavailable."""
        self.pid = os.getpid()
        self.ledger = Ledger(connect(settings.redis_url))
        self.threads = ThreadPoolExecutor(max_workers=_THREADS)
        self.in_force = InForce(settings, on_problems=self._alert)
        # One for good: only a start can change where it is.
        self.catalogue = Catalogue(settings.catalog)
        self._first_start = self.ledger.prepare()
        self._worker = self._made_with(settings)
        self._making = threading.Lock()

    def current(self, generation: int | None = None) -> Worker:
        """The worker with the settings of the last reload. A reload that finds mistakes raises an
        alert and keeps the old settings. `generation`: how many reloads were ordered, where the
        caller has just asked.
        """
        if generation is None:
            generation = self.ledger.generation()
        settings = self.in_force.follow(generation)
        with self._making:
            if settings is not self._worker.settings:
                self._worker = self._made_with(settings)
                log.info("settings read", generation=generation)
            # Not the one in force: a reload may have come since, and is not in these settings.
            self._worker.generation = generation
            return self._worker

    def _made_with(self, settings: Settings) -> Worker:
        return make_worker(
            settings,
            self.ledger,
            self.threads,
            catalogue=self.catalogue,
            first_start=self._first_start,
            ending=draining.let_go,
        )

    def _alert(self, problems: tuple[str, ...]) -> None:
        """One process of each machine raises the alert, once a minute for the same mistakes."""
        what = hashlib.sha256("\n".join([socket.gethostname(), *problems]).encode()).hexdigest()
        if self.ledger.once_per("settings", what, every=timedelta(minutes=1)):
            self._worker.alert("settings_broken", problems=problems)


_following: FollowingWorker | None = None
_making = threading.Lock()


def following_worker() -> FollowingWorker:
    """The worker of this process, made at the first call after the fork.

    Raises LedgerUnavailable.
    """
    global _following  # noqa: PLW0603 - one per process
    with _making:
        if _following is None or _following.pid != os.getpid():
            _following = FollowingWorker(settings_or_exit())
        return _following


def finish_requests() -> None:
    """Waits for requests that the provider keeps waiting: their outcome is worth recording."""
    if _following is not None and _following.pid == os.getpid():
        _following.threads.shutdown(wait=True)
