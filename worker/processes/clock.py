"""The clock: sleeps until an obligation is due, claims it and sends it to a queue. For calls that
are due to be planned it only gives hints: the children of `stops` claim them (planning.py).

Any number of clocks may run. A clock stores nothing: an obligation that it claimed and could not
send is due again when its lease runs out.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from datetime import timedelta
from typing import Any

import redis
import structlog
from celery import Celery

from worker import logs
from worker.calls.obligations import Duty
from worker.errors import EndtapeError
from worker.in_force import Follower, InForce
from worker.ledger.client import Ledger
from worker.ledger.obligations import Claim
from worker.ledger.store import connect
from worker.processes.batches import LEAD, batches, tell_of_poison
from worker.processes.broker import PREFIX, RABBIT
from worker.processes.celery_app import HEARTBEAT_S, QUEUES, make_celery
from worker.processes.settings_in_force import fit_redis_or_exit, settings_or_exit
from worker.processes.tasks import QUEUE_OF, message
from worker.settings import Settings

log = structlog.get_logger()
PAUSE_S = 0.01  # between two claims, so that they are few; nobody waits for a fetch or a look
# Claims in a message.
BATCH = {
    Duty.LOOK: 4,
    Duty.FETCH: 1,
    Duty.SURVEY: 1,
    Duty.INDEX: 50,
    Duty.DAY: 1,
    Duty.CDRS: 1,
    Duty.FACTS: 10,
    Duty.OFFLOAD: 1,
    Duty.NOTIFY: 4,
    Duty.HAND_ON: 1,
    Duty.ERASE: 4,
}
CLAIMED_AT_ONCE = 400
LONGEST_SLEEP_S = 1.0
# Longest queue that can hold live claims. Older messages refer to expired leases.
MOST_WAITING = 2000


class Clock:
    """One claim-and-dispatch loop. `run` returns soon after `stopping` is set."""

    def __init__(self, ledger: Ledger, celery: Celery, queues: redis.Redis | None = None) -> None:
        """`queues`: the Redis that carries the queues, None where RabbitMQ carries them."""
        self.ledger, self.celery, self.queues = ledger, celery, queues
        self.stopping = threading.Event()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._heartbeat_at = 0.0
        self._free: dict[Duty, int] = {}

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._sleep(self.turn())
            except (EndtapeError, redis.RedisError, OSError) as error:
                if logs.seldom("look", error):
                    log.warning(
                        "the clock could not look", error=f"{type(error).__name__}: {error}"
                    )
                self.stopping.wait(0.2)

    def turn(self) -> float:
        """Claims and dispatches once. Returns for how many seconds nothing is due."""
        if time.monotonic() >= self._heartbeat_at:
            self._send_heartbeat()
        claimed = self.ledger.claim(lead=LEAD, batch=CLAIMED_AT_ONCE, free=self._free)
        tell_of_poison(self.ledger, claimed.claims)
        for duty, most in BATCH.items():
            mine = [c for c in claimed.claims if c.obligation.duty is duty]
            for batch in batches(mine, most):
                self._dispatch(duty, batch)
        if len(claimed.claims) >= CLAIMED_AT_ONCE:
            return 0.0
        if claimed.next_at is None:
            return LONGEST_SLEEP_S
        return (claimed.next_at - LEAD - claimed.now).total_seconds()

    def _dispatch(self, duty: Duty, claims: list[Claim]) -> None:
        self._send(
            "reconcile", message(duty, claims), QUEUE_OF[duty], kept=self.ledger.leases[duty]
        )

    def _send(
        self, task: str, args: list[Any], queue: str, *, kept: timedelta, **options: Any
    ) -> None:
        # A message is useless once its lease has run out. With an expiration RabbitMQ drops it, so
        # that a queue does not grow while no worker runs.
        try:
            self.celery.send_task(
                task, args=args, queue=queue, expiration=kept.total_seconds(), **options
            )
        except Exception as error:  # noqa: BLE001 - of any broker's client; the lease brings the work back
            if logs.seldom("broker", error):
                log.warning(
                    "the broker does not take messages; "
                    "see CELERY_BROKER_URL, or REDIS_URL where that is not set",
                    error=f"{type(error).__name__}: {error}",
                    task=task,
                )

    def _sleep(self, seconds: float) -> None:
        self.stopping.wait(PAUSE_S)
        self.ledger.wait_for_wake(min(seconds, LONGEST_SLEEP_S) - PAUSE_S)

    def _send_heartbeat(self) -> None:
        self._heartbeat_at = time.monotonic() + HEARTBEAT_S
        self.ledger.seen("clock", self.name)
        slots = self.ledger.alive(timedelta(seconds=15))
        fetchers = sum(slots.get("slots.fetches", [])) or 1
        keepers = sum(slots.get("slots.keep", [])) or 1
        # One slot stays free of fetches: the look for a proof must not wait for a long download.
        # A step of a survey is one request, as short as a look.
        self._free = {
            Duty.LOOK: 2 * fetchers,
            Duty.FETCH: max(1, fetchers - 1),
            Duty.SURVEY: 2,
            **{duty: BATCH[duty] * keepers for duty, queue in QUEUE_OF.items() if queue == "keep"},
            # A command may run for long, and a slot of `keep` stays free for all else.
            Duty.HAND_ON: max(1, keepers - 1),
        }
        for queue in QUEUES:
            if self.queues:
                # Redis, unlike RabbitMQ, keeps old messages. Without workers it would fill up, and
                # a worker that starts again would begin with useless messages.
                with contextlib.suppress(redis.RedisError):
                    self.queues.ltrim(PREFIX + queue, 0, MOST_WAITING - 1)
            self._send("beat", [queue], queue, kept=timedelta(seconds=10), expires=10)


def make_clock(settings: Settings) -> Clock:
    url = settings.broker_url
    return Clock(
        Ledger(connect(settings.redis_url, timeout_s=3)),
        make_celery(url, publisher=True),
        None if url.startswith(RABBIT) else connect(url, timeout_s=1, connections=2),
    )


def main() -> None:
    settings = settings_or_exit()
    logs.set_up(settings.log, settings.secrets())
    fit_redis_or_exit(settings)
    clock = make_clock(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: clock.stopping.set())
    # A reload changes no setting that a clock uses, so this thread only answers reloads.
    follower = Follower(clock.ledger, "clock", InForce(settings))
    following = threading.Thread(
        target=follower.run, args=(clock.stopping,), name="reload", daemon=True
    )
    following.start()
    clock.run()
    following.join(2)


if __name__ == "__main__":
    main()
