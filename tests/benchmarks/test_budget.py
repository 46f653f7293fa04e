"""What a hundred callbacks and a hundred stops may take, counted, not timed: these fail when one of
the counts grows.

A budget is the highest of a dozen counts, and a little above it for what the processes ask by
themselves meanwhile (heartbeats, reloads, the clock's turns). Whoever needs less lowers it here.
"""

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import requests

from benchmarks import load, usage
from benchmarks.burst import fresh
from benchmarks.redis_view import planned
from benchmarks.stage import ACCOUNT, CALLBACK_TOKEN, Stage, track
from tests.counting import Asked, CountedWay
from tests.waiting import until
from worker.processes.embedded_redis import EmbeddedRedis

pytestmark = [pytest.mark.redis, pytest.mark.end_to_end, pytest.mark.xdist_group("budget")]


@dataclass(frozen=True)
class Budget:
    round_trips: int
    scripts: int
    commands: int
    processes: int
    threads: int


# One script a callback, which runs 16 commands (one of them lists the recording as live, for the
# catalogue, one tells whoever shows events or a live page); all that wait go in one round trip, three
# to twelve times here. The server and its two children; a callback has no thread of its own.
A_HUNDRED_CALLBACKS = Budget(round_trips=30, scripts=105, commands=1720, processes=3, threads=30)
# Two batches of fifty or some more that are smaller, each with one script that claims, one that takes
# request tokens and one that commits, and 25 commands a stop (one of them asks whether the catalogue
# still needs the log, one tells of the news). Worker, its four children and the clock; each child has
# its follower and the thread that plans, and its REST loop once it has worked.
A_HUNDRED_STOPS = Budget(round_trips=40, scripts=14, commands=2660, processes=6, threads=26)


@pytest.fixture
def counted():
    """Starts processes whose Redis counts. Their broker is another one, so no message is counted."""
    with ExitStack() as stack:
        stage = stack.enter_context(Stage())
        broker = stack.enter_context(EmbeddedRedis(stage.folder / "broker", fsync="no"))
        messages = stack.enter_context(CountedWay(broker.socket))
        way = stack.enter_context(CountedWay(stage.redis.socket))

        def start(*names, **settings):
            base, processes = stage.ours(
                names, REDIS_URL=way.url, CELERY_BROKER_URL=messages.url, **settings
            )
            return base, [process.pid for process in processes.processes.values()]

        yield stage, way, start


def spend(stage, way, pids, work):
    """Does the work. Returns what it took, as a budget."""
    there = set(usage.family(pids))
    before = Asked.so_far(way, stage.ledger.redis)
    work()
    asked = Asked.so_far(way, stage.ledger.redis).since(before)
    assert set(usage.family(pids)) <= there, "a process was forked"
    return Budget(asked.round_trips, asked.scripts, asked.commands, len(there), usage.threads(pids))


def assert_within(budget, spent):
    over = {
        name: f"{taken}, at most {getattr(budget, name)}"
        for name, taken in vars(spent).items()
        if taken > getattr(budget, name)
    }
    assert not over, f"grown: {over}; all: {spent}"


def send_a_hundred_at_once(url):
    parts = urlsplit(url)
    with ExitStack() as open_sockets:
        senders = [
            (open_sockets.enter_context(socket.create_connection((parts.hostname, parts.port))), r)
            for r in load.requests_for(url, 100)
        ]
        for sender, request in senders:
            sender.sendall(request)
        for sender, _ in senders:
            answer = b""
            while not load.whole(answer):
                some = sender.recv(65536)
                assert some, f"the server closed the connection after {answer!r}"
                answer += some
            assert b" 200 " in answer[:16]


def test_a_hundred_callbacks_at_once_take_no_more_of_redis_than_their_budget(counted):
    stage, way, start = counted
    base, pids = start("web", rules='[defaults]\nmax_duration = "1h"\n')
    url = f"{base}/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"
    for _ in range(2):  # the first ones open connections and start threads
        send_a_hundred_at_once(url)
    spent = spend(stage, way, pids, lambda: send_a_hundred_at_once(url))
    print(spent)
    assert spent.scripts >= 1
    assert_within(A_HUNDRED_CALLBACKS, spent)


def test_a_hundred_stops_at_once_take_no_more_of_redis_than_their_budget(counted):
    stage, way, start = counted
    sink = stage.sink()
    _, pids = start(
        "stops",
        "clock",
        rules='[defaults]\nmax_duration = "3s"\nconfirm_within = "10m"\n',
        api_url=f"{sink}/api/v1",
        ENDTAPE_STOP_RATE="100000",
    )
    seen = []

    def taken(count):
        seen.extend(requests.get(f"{sink}/taken", timeout=10).json())
        return len(seen) >= count and planned(stage.ledger, count)

    for total in (100, 200):  # the first ones open connections and start threads
        due = stage.ledger.now() + timedelta(seconds=3)
        track(stage.ledger, fresh(100), started_at=due - timedelta(seconds=3))
        until(lambda total=total: planned(stage.ledger, total))
        until(lambda due=due: stage.ledger.now() > due - timedelta(seconds=0.3))
        spent = spend(stage, way, pids, lambda total=total: until(lambda: taken(total)))
    print(spent)
    assert len(seen) == 200
    assert_within(A_HUNDRED_STOPS, spent)
