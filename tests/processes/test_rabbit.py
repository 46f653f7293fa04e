"""RabbitMQ as the broker, against a node of our own."""

import time
from datetime import timedelta

import pytest

from faults import rabbit
from tests.waiting import until
from worker.command import doctor
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.processes import broker
from worker.processes.celery_app import fit_redis_or_exit, make_celery
from worker.processes.clock import Clock
from worker.settings import Settings

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(bool(rabbit.missing()), reason=rabbit.missing()),
    pytest.mark.xdist_group("rabbit"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    server = rabbit.Rabbit(tmp_path_factory.mktemp("q") / "rabbit")
    try:
        server.start()
        yield server
    finally:
        server.stop()


def tried(celery):
    """How long it takes to hand a message over, and whether it was taken."""
    began = time.monotonic()
    try:
        celery.send_task("beat", args=["stops"], queue="stops", expiration=1)
    except Exception:
        return time.monotonic() - began, False
    return time.monotonic() - began, True


def waiting(celery):
    with celery.connection_for_write() as connection:
        return connection.default_channel.queue_declare("stops", passive=True).message_count


def test_nothing_that_is_meant_for_redis_reaches_it():
    for publisher in (True, False):
        _, options = broker.transport("amqp://h", publisher=publisher)
        assert set(options) <= {
            "max_retries",
            "interval_start",
            "interval_step",
            "interval_max",
            "answer_within_s",
        }


def test_a_wrong_password_and_a_wrong_virtual_host_are_told_apart(node):
    assert broker.try_rabbit(node.url) is None
    assert "name and password" in broker.try_rabbit(node.url.replace("guest:guest", "guest:wrong"))
    assert "virtual host" in broker.try_rabbit(f"{node.url}/none")
    with pytest.raises(OSError):
        broker.try_rabbit("amqp://127.0.0.1:1")


def test_what_nobody_works_off_in_time_is_dropped(node):
    celery = make_celery(node.url)
    clock = Clock(None, celery)
    for _ in range(5):
        clock._send("beat", ["stops"], "stops", kept=timedelta(seconds=3))
    until(lambda: waiting(celery) > 0, 3)
    until(lambda: waiting(celery) == 0)


def test_a_process_that_rabbitmq_refuses_says_so_and_ends(node, redis_server, capfd):
    env = {
        "VOBIZ_AUTH_ID": "MA_1",
        "VOBIZ_AUTH_TOKEN": "t",
        "ENDTAPE_CALLBACK_TOKEN": "a" * 16,
        "ENDTAPE_API_KEY": "b" * 16,
        "REDIS_URL": redis_server.url,
    }
    fit_redis_or_exit(Settings.from_env({**env, "CELERY_BROKER_URL": node.url}))
    fit_redis_or_exit(
        Settings.from_env({**env, "CELERY_BROKER_URL": "amqp://127.0.0.1:1"})
    )  # Celery waits for it
    with pytest.raises(SystemExit) as ended:
        fit_redis_or_exit(
            Settings.from_env(
                {**env, "CELERY_BROKER_URL": node.url.replace("guest:guest", "guest:wrong-word")}
            )
        )
    said = capfd.readouterr().err
    assert (
        ended.value.code,
        "CELERY_BROKER_URL = (secret): RabbitMQ refuses name and password" in said,
        "wrong-word" in said,
    ) == (2, True, False)
    found = {
        c.name: c
        for c in doctor.checks(
            Settings.from_env({**env, "CELERY_BROKER_URL": node.url}),
            Ledger(connect(redis_server.url)),
        )
    }
    assert (found["broker"].state, "RabbitMQ accepts" in found["broker"].detail) == ("fine", True)


def test_a_broker_that_stands_still_holds_nobody_up(node):
    used, fresh, connected = (make_celery(node.url, publisher=True) for _ in range(3))
    assert tried(used)[1]
    with connected.connection_for_write() as connection:
        connection.connect()
        with node.still():
            took = [tried(used)[0] for _ in range(3)] + [tried(fresh)[0] for _ in range(3)]
            began = time.monotonic()
            with pytest.raises(OSError):
                connection.default_channel.queue_declare("stops", passive=True)
            took.append(time.monotonic() - began)
            assert not connection.connected  # what broke off is not used again
    assert max(took) < 1.5
    until(lambda: all(tried(celery)[1] for celery in (used, fresh)), 5)


def test_a_broker_that_was_killed_is_found_again(node):
    celery = make_celery(node.url, publisher=True)
    assert tried(celery)[1]
    node.kill()
    took = [tried(celery) for _ in range(3)]
    assert (max(s for s, _ in took) < 1.5, took[-1][1]) == (True, False)
    node.start()
    until(lambda: tried(celery)[1], 5)
