"""What the broker's client does when Redis goes away."""

import base64
import json

import pytest

from tests import redis_view
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.processes import clock
from worker.processes.celery_app import make_celery
from worker.processes.embedded_redis import EmbeddedRedis

pytestmark = pytest.mark.redis


@pytest.fixture
def server(tmp_path_factory):
    with EmbeddedRedis(tmp_path_factory.mktemp("r"), fsync="no") as redis:
        yield redis


def test_a_worker_that_holds_messages_outlives_the_end_of_redis(server):
    celery = make_celery(server.url)
    with celery.connection_for_write() as sending:
        celery.send_task("beat", args=["stops"], queue="stops", connection=sending)
    taken = celery.connection_for_read()
    message = celery.amqp.queues["stops"].bind(taken.default_channel).get(no_ack=False)
    assert message is not None
    taken.transport.client = None  # as it is by the time Celery closes a connection that it lost
    server.kill()
    taken.close()


def test_a_queue_that_nobody_works_off_does_not_grow_without_end_and_the_newest_stays(
    server, monkeypatch
):
    monkeypatch.setattr(clock, "MOST_WAITING", 5)
    ledger, celery = Ledger(connect(server.url)), make_celery(server.url, publisher=True)
    hand = clock.Clock(ledger, celery, connect(server.url))
    for n in range(20):
        celery.send_task("reconcile", args=[str(n)], queue="stops")
    hand._say_so()
    messages = redis_view.queued(ledger, "stops")
    assert len(messages) == 6  # and the beat
    assert base64.b64decode(json.loads(messages[1])["body"]).decode().startswith('[["19"]')
