"""The Celery app of the worker processes, and what each of them does beside its tasks.

A worker is a parent, which takes messages, and its children, which do the work. Every process looks
for reloads even when it is idle: a child that waited for work could read the rules file after
somebody had broken it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

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
from worker.duties import catalogue_trials, clocks, traces
from worker.duties.census import Census
from worker.duties.trials import Trials, repeat
from worker.errors import EndtapeError
from worker.in_force import FOLLOW_S, Follower, InForce
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.processes import broker, draining
from worker.processes.planning import Planning
from worker.processes.settings_in_force import (
    finish_requests,
    fit_redis_or_exit,
    following_worker,
    keep_for_children,
    last_good_settings,
    settings_or_exit,
    warn_broken,
    warn_redis_is_away,
)
from worker.settings import Settings

log = structlog.get_logger()
QUEUES = ("stops", "fetches", "keep")
HEARTBEAT_S = 4.0
_GARBAGE = (20_000, 20, 20)


def make_celery(broker_url: str, *, publisher: bool = False) -> Celery:
    """The app, set so that each message is only a hint: no results, no retries, no waiting in the
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


def _queue(app: Celery) -> str:
    return next(iter(app.amqp.queues.consume_from), "?")


# The parent
# ------------------------------------------------------------------------------------------------


@setup_logging.connect
def _set_up_logs(**_: Any) -> None:
    settings = settings_or_exit()
    logs.set_up(settings.log, settings.secrets())


@worker_init.connect
def _check_before_starting(**_: Any) -> None:
    fit_redis_or_exit(settings_or_exit())
    # A collection of garbage marks every object, so parent and children would each get a copy of
    # all that they share. Collections leave out what is there before a fork.
    os.register_at_fork(before=gc.freeze)


@worker_ready.connect
def _start_threads(sender: Any, **_: Any) -> None:
    queue, slots = _queue(sender.app), int(sender.pool.limit or 1)
    threading.Thread(target=_send_heartbeats, args=(queue, slots), daemon=True).start()
    if queue == "fetches":
        _start_trials(last_good_settings, shared=False)
    if queue == "keep":
        threading.Thread(target=_compare_clocks, name="clocks", daemon=True).start()
        threading.Thread(target=_count_recordings, name="census", daemon=True).start()


def _compare_clocks() -> None:
    ledger = Ledger(connect(settings_or_exit().redis_url, connections=2))
    repeat(lambda: clocks.compare(ledger), lambda: bool(draining.since_s()))


def _count_recordings() -> None:
    """In the parent, because a child is replaced when it has grown, and may be busy."""
    ledger = Ledger(connect(settings_or_exit().redis_url, connections=2))
    census = Census(ledger, last_good_settings)
    while not draining.since_s():
        try:
            census.turn()
        except EndtapeError as error:
            warn_redis_is_away(error)
        except Exception:
            log.exception("the recordings cannot be counted")
        time.sleep(HEARTBEAT_S)


def _start_trials(settings: Callable[[], Settings], *, shared: bool) -> None:
    trials = Trials(
        Ledger(connect(settings_or_exit().redis_url, connections=2)),
        settings,
        lambda: bool(draining.since_s()),
        shared=shared,
    )
    threading.Thread(target=trials.run, name="trials", daemon=True).start()


def _send_heartbeats(queue: str, slots: int) -> None:
    """Tells the clock every few seconds how many tasks this worker can do at once, and at last that
    it ends. Follows reloads for the children that are yet to be forked.
    """
    name = f"{socket.gethostname()}:{os.getpid()}"
    ledger = Ledger(connect(settings_or_exit().redis_url, connections=2))
    in_force = InForce(settings_or_exit(), on_problems=warn_broken)
    follower, heartbeat_at = Follower(ledger, queue, in_force), 0.0
    while True:
        try:
            if draining.since_s():
                ledger.gone(f"slots.{queue}", name)  # the clock hands this one no more work
                follower.gone()
                return
            if time.monotonic() - heartbeat_at >= HEARTBEAT_S:
                ledger.seen(f"slots.{queue}", name, slots)
                heartbeat_at = time.monotonic()
            follower.turn()
            keep_for_children(in_force.settings)
        except EndtapeError as error:
            warn_redis_is_away(error)
        time.sleep(FOLLOW_S)


@worker_shutting_down.connect
def _drain(**_: Any) -> None:
    draining.begin()


# The children
# ------------------------------------------------------------------------------------------------

_follower: Follower | None = None  # one per child
_planning: Planning | None = None  # one per child of `stops`


@worker_process_init.connect
def _follow_reloads(**_: Any) -> None:
    global _follower, _planning  # noqa: PLW0603 - one per child
    settings_or_exit()  # now, while the file is as the parent knew it
    # A batch of stops makes tens of thousands of objects that live as long as the batch. With
    # Python's own threshold of 700 the collector looks at each of them again and again: a fifth of
    # a stop's processor time, measured.
    gc.set_threshold(*_GARBAGE)
    _follower = None
    threading.Thread(target=_follow, name="reload", daemon=True).start()
    queue = _queue(globals()["celery"])
    if queue == "fetches":
        _start_trials(lambda: following_worker().in_force.settings, shared=True)
    if queue == "stops":
        _planning = Planning()
        _planning.start()
    if queue == "keep":
        threading.Thread(target=_try_catalogue, name="trials", daemon=True).start()


def _try_catalogue() -> None:
    def turn() -> bool:
        own = following_worker()
        return catalogue_trials.turn_if_ours(own.catalogue, own.ledger)

    repeat(turn, lambda: bool(draining.since_s()))


def _follow() -> None:
    global _follower  # noqa: PLW0603
    while True:
        try:
            if _follower is None:
                own = following_worker()
                _follower = Follower(own.ledger, _queue(globals()["celery"]), own.in_force)
            _follower.turn()
        except EndtapeError as error:
            warn_redis_is_away(error)
        time.sleep(FOLLOW_S)


@worker_process_shutdown.connect
def _finish(**_: Any) -> None:
    if _follower is not None:
        with contextlib.suppress(EndtapeError):
            _follower.gone()
    if _planning is not None:
        _planning.end()
    finish_requests()
    traces.flush()
    logs.flush()


def __getattr__(name: str) -> Any:
    # `celery -A worker.processes.celery_app` looks for an attribute `celery`. It is made when
    # somebody asks for it, so that importing this module reads no environment.
    if name in {"celery", "app"}:
        globals()["celery"] = globals()["app"] = make_celery(settings_or_exit().broker_url)
        return globals()[name]
    raise AttributeError(name)
