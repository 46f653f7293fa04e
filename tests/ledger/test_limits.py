"""Rate limits and halted accounts, shared by all processes."""

import threading
import time
from datetime import timedelta

from tests.waiting import until
from worker.ledger.client import Ledger
from worker.ledger.store import connect


def granted_within(ledger, seconds, rate):
    began, count = time.monotonic(), 0
    while (took := time.monotonic() - began) < seconds:
        count += ledger.take("stop", "MA_1", 1, rate)[0]
    return count, took


def test_the_rate_holds_and_a_429_halves_it(ledger):
    began = time.monotonic()
    granted, took = granted_within(ledger, 0.4, 100)
    assert granted <= 25 + 100 * took + 1  # a quarter of a second may come at once
    ledger.slow_down("stop", "MA_1", 100)
    at_full_rate = time.monotonic() - began
    more, took = granted_within(ledger, 0.4, 100)
    assert granted + more <= 25 + 100 * at_full_rate + 50 * took * 1.1 + 3


def test_the_rate_holds_across_processes(ledger, redis_server):
    ledgers = [Ledger(connect(redis_server.url), ledger.prefix) for _ in range(4)]
    found, began = [], time.monotonic()
    crew = [
        threading.Thread(target=lambda mine=mine: found.append(granted_within(mine, 0.4, 50)))
        for mine in ledgers
    ]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert sum(granted for granted, _ in found) <= 12.5 + 50 * (time.monotonic() - began) + 1


def test_what_is_charged_is_granted_and_whoever_asks_next_waits_the_longer(ledger):
    for _ in range(5):
        ledger.charge("api", "MA_1", 2.0)
    granted, wait = ledger.take("api", "MA_1", 1, 2.0)
    assert granted == 0
    assert 2.0 < wait.total_seconds() <= 2.6  # 4 owed and 1 wanted, 2 a second


def test_an_account_is_halted_and_released_once(ledger):
    assert [ledger.halt("MA_1"), ledger.halt("MA_1")] == [True, False]
    assert ledger.halted(["MA_1", "MA_2"]) == {"MA_1"}
    assert ledger.halted([]) == set()
    assert [ledger.release("MA_1"), ledger.release("MA_1")] == [True, False]
    assert ledger.halted(["MA_1"]) == set()


def test_what_is_done_once_per_while_is_done_again_after_it(ledger):
    soon = timedelta(seconds=0.1)
    assert [ledger.once_per("say", "it", every=soon) for _ in range(3)] == [True, False, False]
    assert ledger.once_per("say", "something else", every=soon)
    until(lambda: ledger.once_per("say", "it", every=soon), 5)
