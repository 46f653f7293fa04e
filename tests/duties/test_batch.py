"""A batch of stops is one thought: few round trips, fresh facts, and no call that harms another."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from emulator.provider import Provider
from tests import redis_view
from tests.builders import obligation
from tests.constants import ACCOUNT, CALLBACK_TOKEN, KEY, TOKEN
from tests.waiting import until
from worker.calls.events import Event, Kind
from worker.calls.notices import Endpoint
from worker.calls.obligations import Duty
from worker.duties.plan_calls import plan_calls
from worker.ledger.client import Ledger
from worker.ledger.codec import to_ms
from worker.ledger.store import connect
from worker.processes.composition import make_worker
from worker.settings import Settings

FREE = {Duty.PLAN: 1000}


class House:
    """A worker whose every message to Redis is seen, a provider, and calls with a recording."""

    def __init__(self, redis_server, ledger, provider, folder):
        (folder / "endtape.toml").write_text('[defaults]\nmax_duration = "60s"\n')
        settings = Settings.from_env(
            {
                "VOBIZ_AUTH_ID": ACCOUNT,
                "VOBIZ_AUTH_TOKEN": TOKEN,
                "VOBIZ_API_URL": provider.api_url,
                "REDIS_URL": "redis://127.0.0.1:1",
                "ENDTAPE_CALLBACK_TOKEN": CALLBACK_TOKEN,
                "ENDTAPE_API_KEY": KEY,
                "ENDTAPE_STOP_RATE": "1000",
                "ENDTAPE_SIGNING_KEY": str(folder / "signing_key"),
            },
            folder=folder,
        )
        self.ledger, self.provider = ledger, provider
        self.sent, self.on_send = [], lambda _: None
        client = connect(redis_server.url)
        redis_view.on_every_send(client, self.see)
        self.threads = ThreadPoolExecutor(8)
        self.worker = make_worker(
            settings,
            Ledger(client, ledger.prefix),
            self.threads,
            first_start=ledger.prepare(),
            generation=0,
        )

    def see(self, message):
        self.sent.append(message)
        self.on_send(message)

    def recording(self, call, recording, *, since_s):
        self.ledger.record(
            ACCOUNT,
            Event(
                id=f"started.{recording}",
                kind=Kind.RECORDING_STARTED,
                call_uuid=call,
                signed=True,
                recording_id=recording,
                url=f"https://media.vobiz.ai/{recording}.mp3",
                started_at=self.ledger.now() - timedelta(seconds=since_s),
            ),
        )

    def overdue(self, *calls):
        for call in calls:
            self.provider.call(call_uuid=call)
            self.recording(call, f"r-{call}", since_s=61)

    def plan(self):
        """Plans all that is due, as one batch."""
        claims = self.ledger.claim(lead=timedelta(0), batch=500, free=FREE).claims
        plan_calls(self.worker, claims)
        return len(claims)

    def stops(self, call):
        """The URLs that the call's stops named; None for the whole call."""
        return [
            json.loads(e["body"])["URL"] if e["body"] else None
            for e in self.provider.journal.since()
            if e["kind"] == "request" and e["method"] == "DELETE" and f"/{call}/" in e["path"]
        ]

    def kinds(self, call):
        return [e.kind for e in self.ledger.events(ACCOUNT, call)]


@pytest.fixture
def house(redis_server, ledger, tmp_path):
    with Provider(accounts={ACCOUNT: TOKEN}, callbacks=False) as provider:
        house = House(redis_server, ledger, provider, tmp_path)
        yield house
        house.threads.shutdown()
        house.worker.ledger.redis.close()


def test_a_batch_takes_as_many_round_trips_as_one_stop(house, monkeypatch):
    monkeypatch.setattr("worker.duties.send_stops.PATIENCE_S", 30)  # however slow the machine is
    house.overdue("warm")
    house.plan()
    taken = []
    for size in (1, 60):
        calls = [f"c{size}-{number}" for number in range(size)]
        house.overdue(*calls)
        house.sent.clear()
        assert house.plan() == size
        taken.append(len(house.sent))
        assert all(house.kinds(call)[-1] is Kind.STOP_ACCEPTED for call in calls)
    assert taken[0] == taken[1] <= 6, house.sent


def test_what_is_reported_between_thought_and_send_changes_what_is_sent(house):
    house.overdue("c1", "c2")

    def report(message):
        if b"STRLEN" in message:  # the last look before the batch is sent
            house.on_send = lambda _: None
            house.recording("c1", "newer", since_s=0)

    house.on_send = report
    house.plan()
    assert (house.stops("c1"), house.stops("c2")) == ([], [None])
    assert house.plan() == 1
    assert house.stops("c1") == ["https://media.vobiz.ai/r-c1.mp3"]


def test_a_call_that_cannot_be_committed_does_not_take_the_others_with_it(house):
    calls = [f"c{number}" for number in range(60)]
    house.overdue(*calls)
    redis_view.spoil_listeners(house.ledger, ACCOUNT, "c7")
    house.plan()
    until(lambda: all(Kind.STOP_ACCEPTED in house.kinds(call) for call in calls if call != "c7"))
    assert house.kinds("c7") == [Kind.RECORDING_STARTED]
    assert redis_view.lease_of(house.ledger, obligation(Duty.PLAN, "c7"))  # which brings it back
    assert house.ledger.counters()["alerts_total|poison"] == 1


def test_a_reload_between_thought_and_commit_has_the_call_planned_again(house):
    house.overdue("c1")

    def reload(message):
        if b"STRLEN" in message:
            house.on_send = lambda _: None
            house.ledger.reload()
            house.worker.generation = 1  # the next batch of this process follows it already

    house.on_send = reload
    house.plan()
    until(lambda: Kind.STOP_ACCEPTED in house.kinds("c1"))
    assert redis_view.due_in_s(house.ledger, obligation(Duty.PLAN, "c1")) <= 0


def test_a_decision_whose_plan_comes_after_an_outage_is_told_all_the_same(house):
    endpoint = Endpoint(url="http://127.0.0.1:1", secrets=(), events=frozenset())
    worker = replace(house.worker, settings=replace(house.worker.settings, notify=(endpoint,)))
    for kind, verdict in ((Kind.HANDOFF_ASKED, None), (Kind.HANDOFF_DECIDED, "hold")):
        said = Event(
            id=kind.value, kind=kind, call_uuid="c", order="h", wait_s=1.0, verdict=verdict
        )
        house.ledger.record(ACCOUNT, said)
    began = to_ms(house.ledger.now())
    redis_view.set_log(  # the workers were away for ten minutes
        house.ledger,
        ACCOUNT,
        "c",
        re.sub(
            r"(?m)^(\S+) (\d+) ",
            lambda line: f"{line[1]} {began - 600_000} ",
            redis_view.log_of(house.ledger, ACCOUNT, "c"),
        ),
    )
    plan_calls(worker, house.ledger.claim(lead=timedelta(0), batch=9, free=FREE).claims)
    assert redis_view.owed(house.ledger, Duty.NOTIFY) == [f"notify|{ACCOUNT}|c"]
