"""The thread of a child of `stops`: from a hint to the stop."""

from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace

import pytest

from emulator.provider import Provider
from tests import redis_view
from tests.batch_house import House
from tests.builders import obligation
from tests.constants import ACCOUNT, TOKEN
from tests.waiting import until
from worker.calls.events import Kind
from worker.calls.obligations import Duty
from worker.processes import draining
from worker.processes.planning import Planning


@pytest.fixture
def house(redis_server, ledger, tmp_path):
    with Provider(accounts={ACCOUNT: TOKEN}, callbacks=False) as provider:
        house = House(redis_server, ledger, provider, tmp_path)
        yield house
        house.threads.shutdown()
        house.worker.ledger.redis.close()


def planning_of(house):
    """The thread of a process with the house's worker, which sees no reload."""
    own = SimpleNamespace(ledger=house.worker.ledger, current=lambda _: house.worker)
    return Planning(lambda: own)


@contextmanager
def at_work(house):
    planning = planning_of(house)
    planning.start()
    try:
        yield
    finally:
        planning.end()


def waits(house):
    """Whether the thread waits for a hint."""
    return house.sent and b"BLPOP" in house.sent[-1]


def is_stopped(house, call):
    return Kind.STOP_ACCEPTED in house.kinds(call)


def test_a_stop_leaves_after_two_round_trips_and_a_last_look_without_clock_and_broker(house):
    with at_work(house):
        for call in ("warm", "c"):
            until(lambda: waits(house))
            house.sent.clear()
            house.overdue(call)
            until(lambda call=call: is_stopped(house, call) and waits(house))
    looks = [at for at, message in enumerate(house.sent) if b"STRLEN" in message]
    assert looks == [2]  # after claim and tokens


def test_what_was_begun_and_not_finished_before_is_planned_too(house):
    house.overdue("c")
    for _ in range(2):
        assert house.ledger.claim(lead=timedelta(0), batch=9, free={Duty.PLAN: 9}).claims
        redis_view.end_leases(house.ledger, obligation(Duty.PLAN, "c"))
    house.ledger.hint()
    with at_work(house):
        until(lambda: is_stopped(house, "c"))
    assert redis_view.unfinished(house.ledger) == 0


def test_who_ends_leaves_the_hint_to_another(house, monkeypatch):
    with at_work(house):
        until(lambda: waits(house))
        monkeypatch.setattr(draining, "since_s", lambda: 1.0)
        house.overdue("c")
    assert house.ledger.wait_for_hint(0.01)
    assert not is_stopped(house, "c")
