"""Hints to those who plan calls, and wakes of the clocks, on a real Redis."""

from datetime import timedelta

import pytest

from tests import redis_view
from tests.builders import started, with_leases
from tests.waiting import until
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty, Obligation
from worker.ledger.dues import Hint
from worker.ledger.obligations import Commit

PLANS, CLOCK = {Duty.PLAN: 1000}, {Duty.LOOK: 10, Duty.FETCH: 0}
PLAN = Obligation(duty=Duty.PLAN, account="MA_1", call_uuid="c")
LOOK = Obligation(duty=Duty.LOOK, account="MA_1", call_uuid="c")
FETCH = Obligation(duty=Duty.FETCH, account="MA_1", call_uuid="c", recording_id="r")


def claim(ledger, free=PLANS, *, batch=100):
    return ledger.claim(lead=timedelta(0), batch=batch, free=free)


def finish(ledger, claimed, *dues):
    return ledger.commit(
        [Commit(claim=claimed, seen=claimed.loaded.size, dues=((PLAN, None), *dues))]
    )


def held(ledger):
    """A claimed call, and a clock that has looked since and found nothing else."""
    ledger.record("MA_1", started())
    (claimed,) = claim(ledger).claims
    claim(ledger, CLOCK)
    return claimed


def test_callbacks_share_a_hint_and_may_wait_while_an_order_gives_one_at_once(ledger):
    for n in range(3):
        ledger.record("MA_1", started(f"e{n}", call=f"c{n}"), nonces=(f"n{n}",))
    ledger.record("MA_1", Event(id="o", kind=Kind.STOP_ORDERED, call_uuid="c9"))
    assert [ledger.wait_for_hint(0.01) for _ in range(3)] == [Hint.SOON, Hint.NOW, None]


def test_a_claim_answers_every_hint_and_leaves_one_where_more_is_due(ledger):
    for n in range(3):
        ledger.record("MA_1", Event(id="o", kind=Kind.STOP_ORDERED, call_uuid=f"c{n}"))
    assert len(claim(ledger, batch=2).claims) == 2
    assert ledger.wait_for_hint(0.01) is Hint.NOW
    assert len(claim(ledger, batch=2).claims) == 1
    assert ledger.wait_for_hint(0.01) is None
    ledger.record("MA_1", started(), nonces=("n",))  # the claim has forgotten the hint before it
    assert ledger.wait_for_hint(0.01) is Hint.SOON


def test_a_hint_that_was_lost_is_given_again_by_a_clock_once(ledger):
    ledger.record("MA_1", started())
    assert ledger.wait_for_hint(0.01)  # and whoever took it dies
    for _ in range(2):
        looked = claim(ledger, CLOCK)
        assert (looked.claims, looked.next_at - looked.now < timedelta(seconds=0.3)) == ((), True)
    assert [ledger.wait_for_hint(0.01) for _ in range(2)] == [Hint.SOON, None]


def test_a_claim_of_plans_brings_the_logs_but_not_of_what_was_begun_before(ledger):
    ledger.record("MA_1", started())
    (first,) = claim(with_leases(ledger, seconds=0.01)).claims
    assert first.loaded.log == redis_view.log_of(ledger, "MA_1", "c")
    (again,) = until(lambda: claim(ledger).claims)
    assert (again.unfinished_tries, again.loaded) == (1, None)
    assert claim(ledger).generation == ledger.generation()


def test_a_commit_wakes_a_clock_only_for_what_is_due_before_the_clock_looks_by_itself(ledger):
    for due_in_s, wakes in ((None, False), (60, False), (0.3, True), ("now", True)):
        claimed = held(ledger)
        at = (
            ledger.now() + timedelta(seconds=due_in_s)
            if isinstance(due_in_s, float | int)
            else due_in_s
        )
        finish(ledger, claimed, (LOOK, at))
        assert redis_view.is_woken(ledger) is wakes, due_in_s
        redis_view.erase(ledger)


def test_a_clock_that_waits_for_a_free_slot_is_woken_by_every_commit(ledger):
    redis_view.make_due(ledger, FETCH)
    finish(ledger, held(ledger))
    assert redis_view.is_woken(ledger)


def test_a_plan_that_becomes_due_with_a_commit_needs_no_clock(ledger):
    claimed = held(ledger)
    ledger.record("MA_1", started("e2", recording="r2"))
    assert ledger.wait_for_hint(0.01) is None  # it is at work
    finish(ledger, claimed)
    assert (ledger.wait_for_hint(0.01), redis_view.is_woken(ledger)) == (Hint.SOON, False)


@pytest.mark.parametrize(("due_in_s", "at_most_s"), [(None, 0.2), (60, 0.2), (0.01, 0.01)])
def test_soon_is_within_a_fifth_of_a_second_and_never_later_than_what_was_due(
    ledger, due_in_s, at_most_s
):
    claimed, now = held(ledger), ledger.now()
    if due_in_s:
        redis_view.make_due(ledger, LOOK, at=(now.timestamp() + due_in_s) * 1000)
    finish(ledger, claimed, (LOOK, "soon"))
    took = ledger.now() - now
    assert ledger.next_at(LOOK) - now <= timedelta(seconds=at_most_s + 0.001) + took
