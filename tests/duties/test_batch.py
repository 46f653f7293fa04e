"""A batch of stops is one thought: few round trips, fresh facts, and no call that harms another."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from emulator.provider import Provider
from tests import redis_view
from tests.batch_house import FREE, House
from tests.builders import obligation
from tests.constants import ACCOUNT, TOKEN
from tests.waiting import until
from worker.calls.events import Event, Kind
from worker.calls.notices import Endpoint
from worker.calls.obligations import Duty
from worker.duties.plan_calls import plan_calls
from worker.ledger.codec import to_ms


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
