"""Other schedulers on Redis, as their manuals set them up, and the least that a scheduler can be.

`python -m benchmarks.schedulers NAME` reads a line `CALL DUE` for each stop from standard input, as
a web process would learn of it, and schedules it. `rq-worker` is RQ's worker with its scheduler.
"""

from __future__ import annotations

import heapq
import http.client
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import dramatiq
import redis
import requests
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from dramatiq.brokers.redis import RedisBroker
from rq import Queue, Worker

ENV = os.environ
SOCKET = ENV.get("PEER_SOCKET", "/nowhere")
_own = threading.local()
dramatiq.set_broker(RedisBroker(url=f"unix://{SOCKET}"))  # connects at its first use


def stop(call_uuid: str) -> None:
    """Sends the stop of a call over the thread's kept-alive connection."""
    if not hasattr(_own, "session"):
        _own.session = requests.Session()
        _own.session.trust_env = False
    _own.session.delete(
        _url(call_uuid),
        timeout=5,
        headers={"X-Auth-ID": ENV["PEER_ACCOUNT"], "X-Auth-Token": ENV["PEER_TOKEN"]},
    ).raise_for_status()


@dramatiq.actor(max_retries=0)
def stop_by_dramatiq(call_uuid: str) -> None:
    stop(call_uuid)


def _url(call_uuid: str) -> str:
    return f"{ENV['PEER_API_URL']}/Account/{ENV['PEER_ACCOUNT']}/Call/{call_uuid}/Record/"


def asked() -> Iterator[tuple[str, float]]:
    for line in sys.stdin:
        call_uuid, due = line.split()
        yield call_uuid, float(due)


def rq() -> None:
    queue = Queue(connection=redis.Redis(unix_socket_path=SOCKET))
    for call_uuid, due in asked():
        queue.enqueue_at(datetime.fromtimestamp(due, UTC), stop, call_uuid)


def rq_worker() -> None:
    """A worker that has imported its jobs before it forks, as RQ's manual advises."""
    queue = Queue(connection=redis.Redis(unix_socket_path=SOCKET))
    Worker([queue], connection=queue.connection).work(with_scheduler=True, logging_level="WARNING")


def apscheduler() -> None:
    scheduler = BackgroundScheduler(
        jobstores={"default": RedisJobStore(unix_socket_path=SOCKET)},
        executors={"default": ThreadPoolExecutor(10)},
        job_defaults={"misfire_grace_time": None},  # else what is a second late is left out
        timezone=UTC,
    )
    scheduler.start()
    for call_uuid, due in asked():
        scheduler.add_job(stop, "date", [call_uuid], run_date=datetime.fromtimestamp(due, UTC))
    scheduler.shutdown()


def by_dramatiq() -> None:
    for call_uuid, due in asked():
        delay_ms = max(0, round((due - time.time()) * 1000))
        stop_by_dramatiq.send_with_options(args=(call_uuid,), delay=delay_ms)


def bare() -> None:
    """The limit: a heap, a sleep and one kept-alive connection. It stores nothing."""
    waiting: list[tuple[float, str]] = []
    news = threading.Condition()

    def read() -> None:
        for call_uuid, due in asked():
            with news:
                heapq.heappush(waiting, (due, call_uuid))
                news.notify()

    threading.Thread(target=read, daemon=True).start()
    parts = urlsplit(ENV["PEER_API_URL"])
    link = http.client.HTTPConnection(parts.hostname or "", parts.port or 80)
    while True:
        with news:
            while not waiting or waiting[0][0] > time.time():
                news.wait(waiting[0][0] - time.time() if waiting else None)
            due, call_uuid = heapq.heappop(waiting)
        link.request("DELETE", urlsplit(_url(call_uuid)).path, json.dumps({"due": due}))
        link.getresponse().read()


NAMES: dict[str, Callable[[], None]] = {
    "rq": rq,
    "rq-worker": rq_worker,
    "apscheduler": apscheduler,
    "dramatiq": by_dramatiq,
    "bare": bare,
}

if __name__ == "__main__":
    # Under its own name, since RQ finds a job's function by the name of its module.
    importlib.import_module("benchmarks.schedulers").NAMES[sys.argv[1]]()
