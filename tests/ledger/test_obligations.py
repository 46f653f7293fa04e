"""Obligations on a real Redis: claimed by one, fenced, and never lost."""

import time
from datetime import timedelta

import pytest

from tests import redis_view
from tests.builders import started, with_leases
from tests.waiting import until
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty, Obligation
from worker.errors import StaleLease
from worker.ledger.codec import to_ms
from worker.ledger.obligations import Commit

FREE = {Duty.PLAN: 1000, Duty.LOOK: 10, Duty.FETCH: 10}
STOP = Obligation(duty=Duty.PLAN, account="MA_1", call_uuid="c")


def claim(ledger, free=FREE):
    return ledger.claim(lead=timedelta(0), batch=100, free=free).claims


def test_what_is_claimed_stays_in_the_set_and_comes_back_when_the_lease_runs_out(ledger):
    ledger.record("MA_1", started())
    (first,) = claim(ledger)
    assert claim(ledger) == ()
    assert ledger.outstanding() == 1
    redis_view.end_leases(ledger, STOP)
    (second,) = claim(ledger)
    assert second.fence != first.fence


def test_a_worker_that_slept_through_its_lease_cannot_record_an_outcome(ledger):
    ledger.record("MA_1", started())
    (old,) = claim(ledger)
    redis_view.end_leases(ledger, STOP)
    outcome = Event(id="late", kind=Kind.STOP_ACCEPTED, call_uuid="c", recording_id="r")
    assert ledger.commit([Commit(claim=old, events=[outcome])]) == [None]
    (new,) = claim(ledger)
    assert ledger.commit([Commit(claim=old, events=[outcome])]) == [None]
    with pytest.raises(StaleLease):
        ledger.renew(old)
    assert ledger.commit([Commit(claim=new, events=[outcome])]) == [frozenset({"late"})]


def test_an_event_that_comes_while_the_call_is_held_makes_it_due_at_the_commit(ledger):
    ledger.record("MA_1", started())
    (held,) = claim(ledger)
    _, (loaded,) = ledger.load([held])
    ledger.record("MA_1", started("e2", recording="r2"))
    ledger.commit([Commit(claim=held, seen=loaded.size, dues=((STOP, None),))])
    assert len(claim(ledger)) == 1


@pytest.mark.parametrize(("days", "owed", "kept"), [(1, False, 1), (1, True, 4), (30, True, 30)])
def test_a_finished_call_stays_for_as_long_as_its_notifications_are_tried(ledger, days, owed, kept):
    ledger.record("MA_1", started())
    (held,) = claim(ledger)
    _, (loaded,) = ledger.load([held])
    notify = Obligation(duty=Duty.NOTIFY, account="MA_1", call_uuid="c")
    ledger.commit(
        [
            Commit(
                claim=held,
                seen=loaded.size,
                dues=((STOP, None), *([(notify, "now")] if owed else [])),
                keep=timedelta(days=days),
            )
        ]
    )
    assert round(redis_view.expires_in_s(ledger, "MA_1", "c") / 86_400, 3) == kept


def test_without_a_free_slot_nothing_is_claimed_and_stops_are_not_held_back(ledger):
    ledger.record("MA_1", started())
    fetch = Obligation(duty=Duty.FETCH, account="MA_1", call_uuid="c", recording_id="r")
    redis_view.make_due(ledger, fetch)
    found = claim(ledger, {Duty.PLAN: 10, Duty.FETCH: 0})
    assert [c.obligation for c in found] == [STOP]
    assert ledger.outstanding() == 2


def test_however_many_fetches_find_no_slot_a_stop_is_claimed_at_once(ledger):
    blocked = (
        Obligation(duty=Duty.FETCH, account="MA_1", call_uuid=f"c{i}", recording_id=f"r{i}")
        for i in range(5000)
    )
    redis_view.make_due(ledger, *blocked)
    ledger.record("MA_1", started())
    found = ledger.claim(lead=timedelta(0), batch=10, free={Duty.PLAN: 10, Duty.FETCH: 0})
    assert [c.obligation for c in found.claims] == [STOP]
    assert found.next_at > found.now  # and what is blocked does not make the clock spin
    free = ledger.claim(lead=timedelta(0), batch=10, free={Duty.PLAN: 10, Duty.FETCH: 3})
    assert len(free.claims) == 3


def test_who_finished_one_takes_the_next_that_is_due_with_its_log_while_fewer_are_outstanding_than_may_be(
    ledger,
):
    ledger.record("MA_1", started())
    due, later = (
        Obligation(duty=Duty.FETCH, account="MA_1", call_uuid="c", recording_id=r) for r in "rs"
    )
    redis_view.make_due(ledger, due)
    redis_view.make_due(ledger, later, at=to_ms(ledger.now()) + 60_000)
    assert ledger.take_next(Duty.FETCH, most=0) is None
    now, taken, loaded = ledger.take_next(Duty.FETCH, most=1)
    assert (taken.obligation, loaded.log) == (due, redis_view.log_of(ledger, "MA_1", "c"))
    assert 4.9 < redis_view.lease_of(ledger, due) / 1000 - now.timestamp() < 5.1
    assert ledger.take_next(Duty.FETCH, most=1) is None
    assert ledger.take_next(Duty.FETCH, most=9) is None  # nothing else is due
    assert ledger.commit([Commit(claim=taken, seen=loaded.size, dues=((due, None),))]) == [
        frozenset()
    ]


def test_what_was_begun_and_never_finished_is_left_to_the_clock(ledger):
    owed = Obligation(duty=Duty.FETCH, account="MA_1", call_uuid="c", recording_id="r")
    redis_view.make_due(ledger, owed)
    assert ledger.take_next(Duty.FETCH, most=1)
    redis_view.end_leases(ledger, owed)
    assert ledger.take_next(Duty.FETCH, most=1) is None
    (again,) = claim(ledger)
    assert again.unfinished_tries == 1


def test_a_message_that_waited_longer_than_its_lease_is_begun_with_a_whole_one_unless_another_has_it(
    ledger,
):
    ledger.record("MA_1", started())
    (first,) = claim(ledger)
    redis_view.end_leases(ledger, STOP)
    _, (loaded,) = ledger.load([first])
    assert claim(ledger) == ()  # it is at work
    assert ledger.commit([Commit(claim=first, seen=loaded.size, dues=((STOP, ledger.now()),))]) == [
        frozenset()
    ]
    (second,) = until(lambda: claim(ledger))  # dues are whole milliseconds, perhaps the next one
    redis_view.end_leases(ledger, STOP)
    (third,) = claim(ledger)
    assert [found is None for found in ledger.load([second, third])[1]] == [True, False]


def test_what_is_made_due_now_waits_for_the_end_of_a_lease(ledger):
    ledger.record("MA_1", started())
    (held,) = claim(ledger)
    ledger.make_due_now(STOP)
    assert redis_view.due_at(ledger, STOP) == redis_view.lease_of(ledger, STOP)
    ledger.commit([Commit(claim=held, seen=1000, dues=((STOP, ledger.now() + timedelta(1)),))])
    ledger.make_due_now(STOP)
    assert ledger.next_at(STOP) <= ledger.now()


def test_what_is_not_owed_is_not_made_due_now(ledger):
    ledger.make_due_now(STOP)
    assert ledger.next_at(STOP) is None


def test_what_is_owed_already_keeps_its_instant(ledger):
    later = STOP, Obligation(duty=Duty.PLAN, account="MA_1", call_uuid="new")
    redis_view.make_due(ledger, STOP, at=9e12)
    ledger.ensure_due(later)
    assert redis_view.due_at(ledger, STOP) == 9e12
    assert ledger.next_at(later[1]) <= ledger.now() + timedelta(
        milliseconds=1
    )  # Redis keeps whole ones


def test_calls_to_be_planned_or_looked_at_are_tracked_by_account(ledger):
    for duty, account, call in (
        (Duty.PLAN, "MA_1", "planned"),
        (Duty.LOOK, "MA_1", "looked-at"),
        (Duty.PLAN, "MA_2", "of-another"),
    ):
        redis_view.make_due(ledger, Obligation(duty=duty, account=account, call_uuid=call))
    fetch = Obligation(duty=Duty.FETCH, account="MA_1", call_uuid="over", recording_id="r")
    redis_view.make_due(ledger, fetch)
    assert ledger.tracked("MA_1") == {"planned", "looked-at"}


def test_a_waiting_clock_is_woken_once_for_any_number_of_wakes(ledger):
    for _ in range(3):
        ledger.wake()
    began = time.monotonic()
    ledger.wait_for_wake(5)
    assert time.monotonic() - began < 2
    claim(ledger)
    ledger.wait_for_wake(0.1)
    assert time.monotonic() - began >= 0.1


def test_one_process_may_have_other_leases_than_the_next(ledger):
    ledger.record("MA_1", started())
    (short,) = claim(with_leases(ledger, seconds=0.1))
    until(lambda: [c for c in claim(ledger) if int(c.fence) > int(short.fence)])
    with pytest.raises(StaleLease):
        ledger.renew(short)
