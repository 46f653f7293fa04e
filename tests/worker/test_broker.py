"""What the broker's client does when Redis goes away."""

import pytest

from worker.app import make_celery
from worker.embedded import EmbeddedRedis


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
    taken.transport.client = None       # as it is by the time Celery closes a connection that it lost
    server.kill()
    taken.close()
