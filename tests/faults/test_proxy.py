"""The proxy passes what it should, and cuts, drops, freezes and trickles on demand."""

import contextlib
import socket
import socketserver
import threading
import time

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from faults.proxy import Act, Proxy, Strike, commands
from tests.waiting import until


@pytest.fixture
def stage(redis_server):
    with Proxy([str(redis_server.socket)], seed=1, reads_commands=True) as proxy:
        yield proxy


@contextlib.contextmanager
def client(proxy, timeout_s=2.0):
    made = redis.Redis(
        port=proxy.port,
        socket_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    yield made
    redis.Redis(port=proxy.port, socket_timeout=5).delete("proxied")
    made.close()


@pytest.mark.parametrize("cut", range(1, 46, 3))
def test_commands_are_told_apart_wherever_the_bytes_are_cut(cut):
    sent = (
        b"*2\r\n$3\r\nget\r\n$4\r\nLPUS\r\nPING\r\n*3\r\n$5\r\nLPUSH\r\n$1\r\na\r\n$2\r\n\r\n\r\n"
    )
    waiting, found = bytearray(), []
    for piece in (sent[:cut], sent[cut:]):
        waiting += piece
        found += commands(waiting)
    assert [name for name, _ in found] == ["GET", "PING", "LPUSH"]
    assert b"".join(raw for _, raw in found) == sent
    assert waiting == b""


def test_it_passes_what_no_rule_names(stage):
    with client(stage) as through:
        stage.strikes = (Strike(command="LPUSH", act=Act.CUT_REPLY),)
        assert through.set("proxied", "LPUSH")
        assert through.get("proxied") == "LPUSH"


def test_a_cut_reply_ends_the_connection_after_the_server_has_done_the_command(stage):
    with client(stage) as through:
        stage.strikes = (Strike(command="RPUSH", act=Act.CUT_REPLY),)
        with pytest.raises(redis.ConnectionError):
            through.rpush("proxied", 1)
        assert through.llen("proxied") == 1
        assert stage.done[Act.CUT_REPLY] == 1


def test_a_cut_before_ends_it_before_the_server_hears_of_it(stage):
    with client(stage) as through:
        stage.strikes = (Strike(command="RPUSH", act=Act.CUT_BEFORE),)
        with pytest.raises(redis.ConnectionError):
            through.rpush("proxied", 1)
        assert through.llen("proxied") == 0


def test_a_dropped_reply_leaves_the_client_waiting(stage):
    with client(stage, timeout_s=0.2) as through:
        stage.strikes = (Strike(command="RPUSH", act=Act.DROP_REPLY),)
        with pytest.raises(redis.TimeoutError):
            through.rpush("proxied", 1)
        assert through.llen("proxied") == 1


def test_a_blocking_pop_that_finds_nothing_is_not_touched(stage):
    with client(stage) as through:
        stage.strikes = (Strike(command="BRPOP", act=Act.CUT_REPLY),)
        assert through.brpop(["proxied"], timeout=0.05) is None
        through.rpush("proxied", 1)
        with pytest.raises(redis.ConnectionError):
            through.brpop(["proxied"], timeout=1)
        assert through.llen("proxied") == 0


def test_chances_are_seeded_and_about_as_often_as_told(redis_server):
    def strikes(seed):
        proxy = Proxy([str(redis_server.socket)], seed=seed)
        proxy.strikes = (Strike(command="A", act=Act.CUT_REPLY, probability=0.3),)
        found = [proxy.struck("A") is not None for _ in range(200)]
        proxy.__exit__()
        return found

    assert strikes(1) == strikes(1) != strikes(2)
    assert 30 < sum(strikes(1)) < 90


def test_nothing_passes_while_it_is_frozen_and_all_afterwards(stage):
    with client(stage, timeout_s=0.2) as through:
        through.ping()
        stage.freeze()
        with pytest.raises(redis.TimeoutError):
            through.set("proxied", 1)
        stage.thaw()
        with client(stage) as patient:
            until(lambda: patient.get("proxied") == "1")


def test_a_trickle_is_slow_and_whole(stage):
    with client(stage) as through:
        through.set("proxied", "x" * 400)
        stage.trickle(50, 0.02)
        began = time.monotonic()
        assert through.get("proxied") == "x" * 400
        assert time.monotonic() - began >= 0.15


def test_a_sweep_cuts_every_connection_and_new_ones_work(stage):
    with client(stage) as through:
        through.ping()
        stage.sweep()
        with contextlib.suppress(redis.ConnectionError):
            through.ping()
        assert through.ping()


def test_a_connection_ends_after_so_many_bytes(stage):
    with client(stage) as through:
        through.set("proxied", "x" * 400)
        stage.cut_after = 1000
        # Either the client sees the cut in time and connects again, or it raises.
        with contextlib.suppress(redis.ConnectionError):
            for _ in range(10):
                through.get("proxied")
        assert stage.done["cut after bytes"] >= 1
        stage.calm()
        through.connection_pool.disconnect()  # the last answer may have been the one before a cut
        assert all(len(through.get("proxied")) == 400 for _ in range(10))


def test_several_upstreams_take_turns_and_one_that_is_down_is_left_out():
    class Named(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(str(self.server.server_address[1]).encode())

    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Named))
            for _ in range(2)
        ]
        for server in servers:
            threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
            ).start()
        proxy = stack.enter_context(Proxy([server.server_address for server in servers]))

        def answered():
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=2) as client:
                return int(client.recv(20))

        assert {answered() for _ in range(4)} == {server.server_address[1] for server in servers}
        servers[0].shutdown()
        servers[0].server_close()
        assert {answered() for _ in range(4)} == {servers[1].server_address[1]}
        servers[1].shutdown()
