"""A Redis that Sentinels watch, against real ones: three servers, three Sentinels, a password."""

import contextlib
import signal
import threading
import time

import pytest
import redis

from faults.harm import MANNERS
from faults.watched import WatchedRedis
from tests.constants import ENV
from tests.ledger.servers import check
from tests.waiting import until
from worker.calls.events import Event, Kind
from worker.command import doctor
from worker.errors import LedgerUnavailable, SettingsError
from worker.ledger import sentinel, sentinel_url
from worker.ledger.client import Ledger
from worker.ledger.news import Waiting
from worker.ledger.store import connect
from worker.processes.broker import ForgivingQoS
from worker.processes.celery_app import make_celery
from worker.settings import Settings

PASSWORD = "p@ss:word/1,2;3"  # every character that means something in an address
pytestmark = [pytest.mark.redis, pytest.mark.xdist_group("sentinel")]
SIX_SERVERS = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    servers = WatchedRedis(tmp_path_factory.mktemp("w"), password=PASSWORD, hurried=True)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


def settings(url, **env):
    return Settings.from_env({**ENV, "REDIS_URL": url, **env})


def refusal(url, **env):
    with pytest.raises(SettingsError) as caught:
        check(settings(url, **env))
    assert "p@ss" not in str(caught.value)
    assert "p%40ss" not in str(caught.value)
    return str(caught.value)


def writes(client):
    try:
        return client.set("probe", 1)
    except redis.RedisError:
        return False


@pytest.mark.parametrize(
    ("url", "places", "name", "db", "login"),
    [
        ("sentinel://a:1,b:2,c:3/m", (("a", 1), ("b", 2), ("c", 3)), "m", 0, (None, None)),
        ("sentinel://a/m", (("a", 26379),), "m", 0, (None, None)),
        ("sentinel://a,b/m/5", (("a", 26379), ("b", 26379)), "m", 5, (None, None)),
        ("sentinel://:p%40ss%2C@a,b/m", (("a", 26379), ("b", 26379)), "m", 0, (None, "p@ss,")),
        (
            "sentinel://user:word@[::1]:7,[::2]/m",
            (("::1", 7), ("::2", 26379)),
            "m",
            0,
            ("user", "word"),
        ),
    ],
)
def test_an_address_says_whom_to_ask_for_what(url, places, name, db, login):
    found = sentinel_url.parse(url)
    assert (found.sentinels, found.name, found.db, (found.username, found.password)) == (
        places,
        name,
        db,
        login,
    )


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://a:1,b:2",
        "sentinel://a:1,b:2/",
        "sentinel:///m",
        "sentinel://a,,b/m",
        "sentinel://a:x/m",
        "sentinel://a:70000/m",
        "sentinel://a/m/x",
        "sentinel://a:/m",
        "sentinel://a/m?master=x",
        "sentinel://a/m#x",
        "sentinel://a/m/1/2",
        "sentinel://:hunter2@/m",
        "sentinel://:x@a:hunter2/m",
        "sentinel://a/m?hunter2",
    ],
)
@pytest.mark.parametrize("name", ["REDIS_URL", "CELERY_BROKER_URL"])
def test_an_address_that_cannot_be_read_is_refused_with_the_form_and_not_shown(url, name, tmp_path):
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({**ENV, "REDIS_URL": "redis://h", name: url}, folder=tmp_path)
    assert f"{name} = (secret): " in str(caught.value)
    assert sentinel_url.FORM in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_plus_in_a_password_is_a_plus():
    assert sentinel_url.parse("sentinel://a/m?sentinel_password=a+b%21").sentinel_password == "a+b!"
    assert {"a+b!", "a%2Bb%21"} <= settings("sentinel://a/m?sentinel_password=a+b%21").secrets()


def test_both_passwords_of_an_address_are_secrets():
    found = settings(
        "sentinel://:one%40word@a,b/m?sentinel_username=u&sentinel_password=other%40word"
    ).secrets()
    assert {"one%40word", "one@word", "other%40word", "other@word"} <= found


@SIX_SERVERS
def test_the_ledger_is_at_the_primary_and_its_pool_is_bounded(watched):
    client = connect(watched.url, connections=2)
    assert client.info("replication")["role"] == "master"
    assert Ledger(client).prepare()
    held = [client.connection_pool.get_connection() for _ in range(2)]
    with pytest.raises(redis.ConnectionError, match="No connection available"):
        client.ping()
    for one in held:
        client.connection_pool.release(one)


@SIX_SERVERS
def test_a_primary_that_has_lost_its_replicas_is_left_at_once(watched):
    client = connect(watched.url)
    with watched.client(watched.whole()) as primary:
        primary.config_set("min-replicas-to-write", 3)
        try:
            with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
                client.set("probe", 1)
            assert [c for c in client.connection_pool._connections if c._sock] == []
            with pytest.raises(LedgerUnavailable):
                Ledger(client).count({"one": 1, "two": 1, "three": 1})  # a pipeline
        finally:
            primary.config_set("min-replicas-to-write", 1)
    assert writes(client)


@SIX_SERVERS
def test_sentinels_that_say_nothing_hold_nobody_up_while_the_primary_is_well(watched):
    client = connect(watched.url)
    assert writes(client)
    with contextlib.ExitStack() as still:
        for port in watched.sentinels:
            watched.end(port, signal.SIGSTOP)
            still.callback(watched.wake, port)
        began, count = time.monotonic(), 0
        while time.monotonic() < began + 3:
            assert writes(client)
            count += 1
            time.sleep(0.05)
        assert count > 30


@SIX_SERVERS
def test_the_queues_go_the_same_way(watched):
    celery = make_celery(watched.url, publisher=True)
    with celery.connection_for_write() as sending:
        celery.send_task("beat", args=["stops"], queue="stops", connection=sending)
    with make_celery(watched.url).connection_for_read() as taking:
        channel = taking.default_channel
        assert isinstance(channel.qos, ForgivingQoS)
        assert issubclass(channel.pool.connection_class, sentinel.Following)
        assert celery.amqp.queues["stops"].bind(channel).get(no_ack=True) is not None
        celery.send_task("beat", args=["stops"], queue="stops", connection=taking)
        assert connect(watched.url).keys("{endtape}:broker:*")


@SIX_SERVERS
def test_the_primary_is_looked_at_and_named(watched):
    check(settings(watched.url))
    check(settings(watched.url, CELERY_BROKER_URL=watched.url.replace("/endtape", "/endtape/1")))
    found = next(iter(doctor.checks(settings(watched.url), Ledger(connect(watched.url)))))
    assert (found.name, found.state, found.detail) == (
        "sentinels",
        "fine",
        f"the primary is 127.0.0.1:{watched.whole()}",
    )
    with watched.client(watched.whole()) as primary:
        primary.config_set("maxmemory-policy", "allkeys-lru")
        try:
            assert "maxmemory-policy is allkeys-lru" in refusal(watched.url)
        finally:
            primary.config_set("maxmemory-policy", "noeviction")


@SIX_SERVERS
def test_what_only_a_person_can_put_right_is_refused_with_the_way_out(watched):
    assert "watches no 'other', but endtape" in refusal(watched.url.replace("/endtape", "/other"))
    assert "refuses name and password" in refusal(watched.url.replace("p%40ss", "wrong"))
    assert f"write {sentinel_url.FORM}" in refusal(f"redis://127.0.0.1:{watched.sentinels[0]}")
    alone = refusal(watched.url, CELERY_BROKER_URL=f"redis://127.0.0.1:{watched.sentinels[0]}")
    assert alone.startswith(
        f"CELERY_BROKER_URL = (secret): this is a Sentinel, not the server that it watches; write {sentinel_url.FORM}"
    )
    open_server = f"sentinel://127.0.0.1:{watched.ports[0]}/endtape"
    assert "127.0.0.1" in refusal(open_server)
    assert "CELERY_BROKER_URL = (secret): " in refusal(
        watched.url, CELERY_BROKER_URL=watched.url.replace("/endtape", "/other")
    )


@SIX_SERVERS
def test_sentinels_with_a_password_of_their_own(watched):
    port = watched.sentinels[2]
    with watched.client(port) as client:
        client.execute_command("ACL", "SETUSER", "default", "resetpass", ">theirs")
    alone = f"{watched.url.partition('@')[0]}@127.0.0.1:{port}/endtape"
    try:
        assert "sentinel_password" in refusal(alone)
        check(settings(f"{alone}?sentinel_password=theirs"))
        celery = make_celery(f"{alone}?sentinel_password=theirs", publisher=True)
        celery.send_task("beat", args=["stops"], queue="stops")
    finally:
        with redis.Redis(port=port, password="theirs") as client:
            client.execute_command("ACL", "SETUSER", "default", "nopass")


@SIX_SERVERS
def test_too_few_sentinels_are_waited_for(watched):
    for port in watched.sentinels[:2]:
        watched.end(port)
    try:
        with pytest.raises(LedgerUnavailable, match="1 of 3 Sentinels answer"):
            check(settings(watched.url))
        until(lambda: writes(connect(watched.url)))  # a process at work goes on
    finally:
        for port in watched.sentinels[:2]:
            watched.start_server(port, "--sentinel")
    watched.whole()
    check(settings(watched.url))


@SIX_SERVERS
@pytest.mark.parametrize("manner", ["killed", "frozen", "demoted"])
def test_ledger_news_and_queues_follow_a_fail_over_by_themselves(watched, manner, request):
    ledger, celery = (
        Ledger(connect(watched.url, timeout_s=0.5)),
        make_celery(watched.url, publisher=True),
    )
    ended = threading.Event()
    request.addfinalizer(ended.set)
    old, waiting, reader = (
        watched.whole(),
        Waiting(ledger, ended),
        connect(watched.url, timeout_s=0.5),
    )
    assert reads_from(reader) == old
    celery.send_task("beat", args=["stops"], queue="stops")
    waiting.until("MA_1", f"before-{manner}", time.monotonic(), lambda _: None)
    watched.demote(old) if manner == "demoted" else watched.end(old, MANNERS[manner])
    slowest, again_at = 0.0, time.monotonic() + 5

    def taken():
        nonlocal slowest, again_at
        if manner == "demoted" and time.monotonic() > again_at and watched.primary() == old:
            again_at = time.monotonic() + 5
            with contextlib.suppress(redis.ResponseError):  # it is under way
                watched.demote(
                    old
                )  # Sentinels drop a demotion that did not work out, and do not try again by themselves
        began = time.monotonic()
        try:
            return ledger.record("MA_1", event(f"first-{manner}")) and watched.primary() not in {
                None,
                old,
            }
        except LedgerUnavailable:
            return False
        finally:
            slowest = max(slowest, time.monotonic() - began)

    until(taken, 40)
    until(
        lambda: reads_from(reader) not in {None, old}, 4
    )  # long before Sentinel tells the old one that it was replaced
    assert slowest < 2
    assert f"port:{old}" not in str(ledger.redis.connection_pool.master_address)
    assert ledger.redis.info("server")["tcp_port"] != old
    until(lambda: sent(celery), 20)
    call_uuid, began = f"second-{manner}", time.monotonic()
    later = threading.Timer(0.5, lambda: ledger.record("MA_1", event(call_uuid)))
    later.start()
    assert waiting.until("MA_1", call_uuid, began + 15, lambda call: call.recordings or None)
    assert time.monotonic() - began < 10  # it was told, and did not find out at the end
    if manner == "killed":
        watched.start_server(old)
    elif manner == "frozen":
        watched.wake(old)
    assert watched.whole() != old


def reads_from(client):
    try:
        return client.info("server")["tcp_port"]
    except redis.RedisError:
        return None


def sent(celery):
    try:
        return celery.send_task("beat", args=["stops"], queue="stops")
    except Exception:
        return False


def event(call_uuid):
    return Event(
        id=f"x:{call_uuid}",
        kind=Kind.RECORDING_STARTED,
        call_uuid=call_uuid,
        recording_id=f"r-{call_uuid}",
        signed=True,
    )
