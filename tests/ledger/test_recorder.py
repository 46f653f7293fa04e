"""Callbacks recorded in groups: each answered after its own reply, whatever becomes of the others."""

import asyncio
import time
from dataclasses import replace

import pytest

from faults.proxy import Act, Proxy, Strike
from tests.builders import started
from worker.calls.events import Event, Kind
from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger
from worker.ledger.recorder import Recorder
from worker.ledger.recording import Recorded, Report
from worker.ledger.store import connect
from worker.processes.embedded_redis import EmbeddedRedis

CUT = (Strike(command="EVALSHA", act=Act.CUT_REPLY),)


def report(number=0, call=None, body=b"a"):
    event = replace(started(f"e{number}"), call_uuid=call or f"c{number}")
    return Report(account="MA_1", event=event, nonces=[f"n{number}"], body=body)


def record(recorder, *reports):
    """What became of these, all at once; an error is given, not raised."""

    recorder._together_until = 0.0  # each run has a loop of its own, and so a timer of its own

    async def together():
        return await asyncio.gather(*map(recorder.record, reports), return_exceptions=True)

    return asyncio.run(together())


@pytest.fixture
def proxied(redis_server, ledger):
    """The ledger behind a proxy, as `web` connects to Redis."""
    with Proxy([str(redis_server.socket)], reads_commands=True) as proxy:
        client = connect(f"redis://127.0.0.1:{proxy.port}", timeout_s=0.2)
        yield Ledger(client, ledger.prefix), proxy
        client.close()


def test_all_that_wait_are_recorded_in_a_few_round_trips(ledger):
    record(Recorder(ledger), report())
    before = ledger.redis.info("stats")["total_reads_processed"]
    assert record(Recorder(ledger), *map(report, range(1, 301))) == [Recorded.NEW] * 300
    # The server reads 16 KiB at a time; one by one it would be 300 and more.
    assert ledger.redis.info("stats")["total_reads_processed"] - before < 60
    assert all(ledger.events("MA_1", f"c{i}") for i in range(301))


def test_each_is_told_what_became_of_its_own(ledger):
    again, stolen = report(1), report(2, call="other", body=b"b")
    moved = Report(account="MA_1", event=None, nonces=["n9"])
    assert record(Recorder(ledger), report(1), report(2), again, stolen, moved, report(3)) == [
        Recorded.NEW,
        Recorded.NEW,
        Recorded.REPEAT,
        Recorded.NONCE_REUSED,
        Recorded.NOTED,
        Recorded.NEW,
    ]
    assert ledger.events("MA_1", "other") == []


def test_one_that_redis_refuses_spoils_no_other(ledger):
    ledger.redis.sadd(ledger.call_key("MA_1", "c1"), "no log")
    first, refused, last = record(Recorder(ledger), report(0), report(1), report(2))
    assert (first, last) == (Recorded.NEW, Recorded.NEW)
    assert isinstance(refused, LedgerUnavailable)


def test_two_calls_that_enter_a_room_in_one_group_are_joined(ledger):
    def enter(call, first):
        event = Event(
            id=call,
            kind=Kind.CONFERENCE_ENTERED,
            call_uuid=call,
            room="room1",
            member=call,
            first=first,
        )
        return Report(account="MA_1", event=event)

    assert record(Recorder(ledger), enter("c1", True), enter("c2", False)) == [Recorded.NEW] * 2
    for call in ("c1", "c2"):
        assert Kind.CONFERENCE_JOINED in {e.kind for e in ledger.events("MA_1", call)}


def test_a_redis_that_lost_the_scripts_gets_them_again(ledger):
    recorder = Recorder(ledger)
    record(recorder, report(0))
    ledger.redis.script_flush()
    assert record(recorder, report(1), report(2)) == [Recorded.NEW] * 2


def test_a_connection_that_breaks_between_send_and_reply_makes_no_answer_false(proxied):
    ledger, proxy = proxied
    recorder = Recorder(ledger)
    record(recorder, report(0))
    proxy.strikes = CUT
    outcomes = record(recorder, report(1), report(2))
    assert [type(outcome) for outcome in outcomes] == [LedgerUnavailable] * 2
    proxy.calm()
    # Whether it was written nobody knew; the sender comes again, and that harms nothing.
    assert set(record(recorder, report(1), report(2))) <= {Recorded.NEW, Recorded.REPEAT}
    assert [len(ledger.events("MA_1", f"c{i}")) for i in (1, 2)] == [1, 1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_dies_between_send_and_reply_is_replaced_and_nobody_was_told_a_lie(ledger):
    class Dying(Ledger):
        deaths = 1

        def record_each(self, reports):
            outcomes = super().record_each(reports)
            if self.deaths:
                self.deaths -= 1
                raise SystemExit
            return outcomes

    recorder = Recorder(Dying(ledger.redis, ledger.prefix), patience_s=0.3)
    assert [str(o) for o in record(recorder, report(1))] == ["Redis did not answer in time"]
    assert record(recorder, report(1), report(2)) == [Recorded.REPEAT, Recorded.NEW]


def test_a_fault_of_ours_about_one_spoils_no_other(ledger):
    class Faulty(Ledger):
        def record_each(self, reports):
            if any(r.event.call_uuid == "c1" for r in reports):
                raise ValueError("c1")
            return super().record_each(reports)

    recorder = Recorder(Faulty(ledger.redis, ledger.prefix), patience_s=20)  # a traceback is slow
    first, faulty, last = record(recorder, report(0), report(1), report(2))
    assert (first, type(faulty), last) == (Recorded.NEW, ValueError, Recorded.NEW)


def test_more_than_may_wait_are_refused_at_once_and_all_within_a_second(proxied):
    ledger, proxy = proxied
    recorder = Recorder(ledger, most=5)
    record(recorder, report(0))
    proxy.freeze()
    took = []

    async def timed(one):
        began = time.monotonic()
        try:
            return await recorder.record(one)
        except LedgerUnavailable as error:
            took.append((time.monotonic() - began, str(error)))

    async def flood():
        return await asyncio.gather(*(timed(report(i)) for i in range(2, 32)))

    assert asyncio.run(flood()) == [None] * 30
    refused = [s for s, error in took if "wait for Redis already" in error]
    assert 20 <= len(refused) <= 25  # the writer may have taken some before it stood still
    assert max(refused) < 0.2
    assert max(s for s, _ in took) < 1
    proxy.thaw()
    assert record(recorder, report(40))[0] is Recorded.NEW


@pytest.mark.redis
def test_a_redis_that_takes_no_writes_is_told_as_such(tmp_path):
    with EmbeddedRedis(tmp_path / "redis", fsync="no") as server:
        client = connect(server.url, timeout_s=0.2)
        recorder = Recorder(Ledger(client))
        refusing = [
            ("OutOfMemory", lambda: client.config_set("maxmemory", 1)),
            ("NOREPLICAS|NoReplicas", lambda: client.config_set("min-replicas-to-write", 1)),
            ("ReadOnly", lambda: client.replicaof("127.0.0.1", 1)),
        ]
        for number, (name, refuse) in enumerate(refusing):
            refuse()
            for outcome in record(recorder, report(number), report(number + 10)):
                assert isinstance(outcome, LedgerUnavailable)
                assert any(n in str(outcome) for n in name.split("|")), outcome
            client.config_set("maxmemory", 0)
            client.config_set("min-replicas-to-write", 0)
            client.replicaof("NO", "ONE")
            assert record(recorder, report(number + 20)) == [Recorded.NEW]
        client.close()
