"""The stream of all events: each is told once, also what was recorded while nobody listened."""

import threading
from datetime import timedelta

import pytest

from tests.builders import started
from tests.constants import ACCOUNT
from tests.waiting import until
from worker.calls.events import Event, Kind
from worker.errors import LedgerUnavailable
from worker.ledger.codec import encode, to_ms
from worker.ledger.event_stream import EventStream

pytestmark = pytest.mark.redis


class Reader:
    """Reads a stream in a thread."""

    def __init__(self, ledger):
        self.ended, self.listening, self.told = threading.Event(), 0, []
        self.stream = EventStream(
            ledger,
            [ACCOUNT],
            ended=self.ended,
            on_listening=self._listens,
        )
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        until(lambda: self.listening == 1)

    def _listens(self):
        self.listening += 1

    def _read(self):
        for account, event in self.stream.events():
            self.told.append((account, event.call_uuid, event.id))

    def end(self):
        self.ended.set()
        self.thread.join(5)
        assert not self.thread.is_alive()


def test_each_event_is_told_once_and_none_from_before(ledger):
    ledger.record(ACCOUNT, started("before"))
    until(lambda: ledger.now() - ledger.events(ACCOUNT, "c")[0].at > timedelta(milliseconds=1))
    reader = Reader(ledger)
    try:
        ledger.record(ACCOUNT, started("e2", "c"))
        ledger.record(ACCOUNT, started("e2", "c"))  # a repeat is no news
        ledger.record(ACCOUNT, started("e3", "d"))
        size = ledger.size(ACCOUNT, "d")
        one = Event(id="e4", kind=Kind.START_SENT, call_uuid="d")
        assert ledger.record_together(ACCOUNT, [one], seen=size)
        expected = [("c", "e2"), ("d", "e3"), ("d", "e4")]
        until(lambda: len(reader.told) >= 3)
        assert reader.told == [(ACCOUNT, *one) for one in expected]
    finally:
        reader.end()


def unheard(ledger, event):
    """Writes an event as it stands in Redis when its publication reached nobody."""
    call, recording = event.call_uuid, event.recording_id
    line = f"{event.id} {to_ms(ledger.now())} {encode(event, ACCOUNT)}\n"
    ledger.redis.append(ledger.call_key(ACCOUNT, call), line)
    ledger.redis.hset(ledger.key("recordings", ACCOUNT), recording, call)
    ledger.redis.zadd(ledger.key("recent", ACCOUNT), {recording: to_ms(ledger.now())}, nx=True)


def test_what_was_recorded_while_the_connection_was_lost_is_told_when_it_is_back(ledger):
    reader = Reader(ledger)
    try:
        ledger.record(ACCOUNT, started("e1", "known"))
        until(lambda: reader.told)
        unheard(ledger, started("e2", "known"))
        unheard(ledger, started("e3", "new", "r2"))
        ledger.redis.client_kill_filter(_type="pubsub")
        until(lambda: reader.listening == 2)
        ledger.record(ACCOUNT, started("e4", "known"))
        until(lambda: len(reader.told) >= 4)
        expected = [("known", "e1"), ("known", "e2"), ("new", "e3"), ("known", "e4")]
        assert reader.told == [(ACCOUNT, *one) for one in expected]
    finally:
        reader.end()


def test_nothing_is_left_out_where_redis_is_lost_between_the_calls_of_two_accounts(
    ledger, monkeypatch
):
    other, lost, read = "MA_Z", [], ledger.logs

    def logs(account, call_uuids):
        if account == other and not lost:
            lost.append(account)
            raise LedgerUnavailable("lost")
        return read(account, call_uuids)

    reader = Reader(ledger)
    monkeypatch.setattr(ledger, "logs", logs)
    try:
        with ledger.pipeline() as pipe:  # heard together
            for account, call in ((ACCOUNT, "a"), (other, "b")):
                event = started("e1", call, f"r-{call}")
                line = f"e1 {to_ms(ledger.now())} {encode(event, account)}\n"
                pipe.append(ledger.call_key(account, call), line)
                pipe.publish(ledger.key("news"), ledger.call_key(account, call))
        until(lambda: len(reader.told) >= 2)
        assert sorted(reader.told) == [(ACCOUNT, "a", "e1"), (other, "b", "e1")]
        assert lost
    finally:
        reader.end()
