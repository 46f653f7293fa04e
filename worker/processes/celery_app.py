"""Puts the worker processes together: the Celery app, and what a worker needs. Reads the
environment.

A worker is a parent, which takes messages, and its children, which do the work. Each follows
reloads by itself, busy or not: a child that read the rules only when it has work to do might find a
file that was broken since.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, NoReturn

import structlog
from celery import Celery
from celery.signals import (
    setup_logging,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutting_down,
)
from kombu.entity import Exchange, Queue

from worker import logs
from worker.archive.directory import Archive
from worker.duties.trials import Trials
from worker.duties.worker import Worker
from worker.errors import EndtapeError, SettingsError
from worker.in_force import Follower, Outcome, problems_of
from worker.ledger import fitness
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.processes import broker, draining
from worker.settings import Settings
from worker.vobiz.client import Vobiz

log = structlog.get_logger()
QUEUES = ("stops", "fetches")


def make_celery(broker_url: str, *, publisher: bool = False) -> Celery:
    """The app with the settings that keep a hint a hint: no results, no retries, no waiting in the
    broker.
    """
    broker.install()
    url, transport = broker.transport(broker_url, publisher=publisher)
    app = Celery(
        "endtape",
        broker=url,
        amqp="worker.processes.broker:Amqp",
        include=["worker.processes.tasks"],
    )
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        task_queues=[Queue(q, Exchange(q), routing_key=q) for q in QUEUES],
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        enable_utc=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        broker_transport_options=transport,
        worker_send_task_events=False,
        worker_eta_task_limit=100,
        worker_disable_rate_limits=True,
        worker_max_memory_per_child=400_000,
        task_default_delivery_mode="transient",
        broker_heartbeat=broker.HEARTBEAT_S,
        worker_enable_remote_control=not url.startswith(
            broker.RABBIT
        ),  # its queue there is locked to one worker of each machine
        task_publish_retry=False,
        broker_pool_limit=4,
        broker_connection_timeout=0.5 if publisher else 4,
    )
    return app


_last_good: Settings | None = None  # a child that is forked anew inherits it


def settings_or_exit() -> Settings:
    """The settings, or exit status 2 with everything that is wrong. In a process that had good
    ones, those.
    """
    return _read()[0]


def _read() -> tuple[Settings, tuple[str, ...]]:
    """The settings, and why they are the last good ones where they are; exit status 2 where there
    were none.
    """
    global _last_good  # noqa: PLW0603 - it has to survive the fork
    try:
        _last_good = Settings.from_env() if _last_good is None else _last_good.again()
    except Exception as error:  # whatever is wrong with them, the last good ones stay
        if _last_good is None:
            if isinstance(error, SettingsError):
                exit_with(error)
            raise
        if logs.seldom("settings", *problems_of(error)):
            log.warning(
                "the settings are broken; the last good ones stay", problems=problems_of(error)
            )
        return _last_good, problems_of(error)
    return _last_good, ()


class Process:
    """What one process holds, made after the fork, and made anew when the settings were
    reloaded.
    """

    def __init__(self, settings: Settings) -> None:
        self.pid = os.getpid()
        self.ledger = Ledger(connect(settings.redis_url))
        self.first_start = self.ledger.prepare()
        self.generation: int | None = None  # not known: whatever is found counts as a reload
        self._problems: tuple[str, ...] = ()
        self.crew = ThreadPoolExecutor(max_workers=128)
        self.worker = self._make(settings)
        self._reading = threading.Lock()

    def _make(self, settings: Settings) -> Worker:
        vobiz = Vobiz(
            api_url=settings.api_url,
            media_hosts=settings.media_hosts,
            redirect_hosts=settings.redirect_hosts,
            max_media_bytes=settings.max_media_bytes,
        )
        return Worker(
            ledger=self.ledger,
            vobiz=vobiz,
            archive=Archive(settings.archive, settings.spool),
            settings=settings,
            crew=self.crew,
            first_start=self.first_start,
            ending=draining.let_go,
        )

    def current(self) -> Worker:
        """The worker with the settings of the last reload; a broken file keeps the old ones, with
        an alert.
        """
        with self._reading:
            generation = self.ledger.generation()
            if generation != self.generation:
                try:
                    settings = self.worker.settings.again()
                    logs.hide(settings.secrets())
                    self.worker = self._make(settings)
                    self._problems = ()
                    log.info("settings read", generation=generation)
                except Exception as error:  # noqa: BLE001 - whatever is wrong with them, the old ones stay
                    self._problems = problems_of(error)
                    self._tell(self._problems)
                self.worker.generation = self.generation = generation
            return self.worker

    def outcome(self) -> Outcome:
        """What came of the last reload."""
        worker = self.current()
        return Outcome(
            generation=worker.generation or 0, settings=worker.settings, problems=self._problems
        )

    def _tell(self, problems: Sequence[str]) -> None:
        """One of all processes of this machine alerts, once a minute for the same mistakes."""
        what = hashlib.sha256("\n".join([socket.gethostname(), *problems]).encode()).hexdigest()
        if self.ledger.once_per("settings", what, every=timedelta(minutes=1)):
            self.worker.alert("settings_broken", problems=problems)


_process: Process | None = None
_making = threading.Lock()


def process() -> Process:
    global _process  # noqa: PLW0603 - one per process, made on first use after the fork
    with _making:
        if _process is None or _process.pid != os.getpid():
            _process = Process(settings_or_exit())
        return _process


@setup_logging.connect
def _own_logging(**_: Any) -> None:
    settings = settings_or_exit()
    logs.set_up(settings.log, settings.secrets())


@worker_init.connect
def _look_before_starting(**_: Any) -> None:
    fit_redis_or_exit(settings_or_exit())


def fit_redis_or_exit(settings: Settings) -> None:
    """Returns once Redis answers; exit status 2 with every reason when it is not fit for this, or
    when RabbitMQ refuses us.
    """
    warn(settings)
    try:
        fitness.wait(
            settings.redis_url,
            settings.broker_url,
            allow_no_aof=settings.unsaved,
            rules_file=settings.config.name if settings.config else None,
        )
        if settings.broker_url.startswith(broker.RABBIT):
            with contextlib.suppress(
                OSError
            ):  # Celery goes on trying, and the clock goes on without
                refusal = broker.try_rabbit(settings.broker_url)
                if refusal:
                    raise SettingsError([f"CELERY_BROKER_URL = (secret): {refusal}"])
    except SettingsError as error:
        exit_with(error)


def warn(settings: Settings) -> None:
    for warning in settings.warnings:
        log.warning("settings", detail=warning)


def exit_with(error: SettingsError) -> NoReturn:
    os.write(2, "".join(f"{problem}\n" for problem in error.problems).encode())
    raise SystemExit(2)


@worker_process_init.connect
def _child(**_: Any) -> None:
    global _follower  # noqa: PLW0603 - one per process
    settings_or_exit()  # now, while the file is as the parent knew it
    _follower = None

    def follow() -> None:
        global _follower  # noqa: PLW0603
        while True:
            try:
                _follower = _follower or Follower(
                    process().ledger, _queue(globals()["celery"]), lambda: process().outcome()
                )
                _follower.turn()
            except EndtapeError as error:
                if logs.seldom("redis", error):
                    log.warning("redis does not answer", error=str(error))
            time.sleep(FOLLOW_S)

    threading.Thread(target=follow, name="reload", daemon=True).start()


_follower: Follower | None = None


def _queue(app: Celery) -> str:
    return next(iter(app.amqp.queues.consume_from), "?")


@worker_process_shutdown.connect
def _finish(**_: Any) -> None:
    # Requests that the provider keeps waiting go on by themselves; their outcome is worth
    # recording.
    if _follower is not None:
        with contextlib.suppress(EndtapeError):
            _follower.gone()
    if _process is not None and _process.pid == os.getpid():
        _process.crew.shutdown(wait=True)


@worker_shutting_down.connect
def _end(**_: Any) -> None:
    draining.begin()


@worker_ready.connect
def _say_so(sender: Any, **_: Any) -> None:
    """Tells the clock, every few seconds, how much this worker can do at once; and that it is
    ending.
    """
    queue = _queue(sender.app)
    slots, name = int(sender.pool.limit or 1), f"{socket.gethostname()}:{os.getpid()}"

    def beat() -> None:
        ledger = Ledger(connect(settings_or_exit().redis_url, connections=2))
        said_at, last = 0.0, Outcome(generation=-1, settings=settings_or_exit())

        def read() -> Outcome:  # for the children that are yet to be forked
            nonlocal last
            generation = ledger.generation()
            if generation != last.generation:
                settings, problems = _read()
                last = Outcome(generation=generation, settings=settings, problems=problems)
            return last

        follower = Follower(ledger, queue, read)
        while True:
            try:
                if draining.since_s():
                    ledger.gone(f"slots.{queue}", name)  # no more work is meant for this one
                    follower.gone()
                    return
                if time.monotonic() - said_at >= BEAT_S:
                    ledger.seen(f"slots.{queue}", name, slots)
                    said_at = time.monotonic()
                follower.turn()
            except EndtapeError as error:
                if logs.seldom("redis", error):
                    log.warning("redis does not answer", error=str(error))
            time.sleep(FOLLOW_S)

    threading.Thread(target=beat, daemon=True).start()
    if queue == "fetches":
        trials = Trials(
            Ledger(connect(settings_or_exit().redis_url, connections=2)),
            lambda: _last_good or settings_or_exit(),
            lambda: bool(draining.since_s()),
        )
        threading.Thread(target=trials.run, name="trials", daemon=True).start()


BEAT_S, FOLLOW_S = 4.0, 1.0


def __getattr__(name: str) -> Any:
    # `celery -A worker.processes.celery_app` looks for `celery`; reading the environment waits until somebody does.
    if name in {"celery", "app"}:
        globals()["celery"] = globals()["app"] = make_celery(settings_or_exit().broker_url)
        return globals()[name]
    raise AttributeError(name)
