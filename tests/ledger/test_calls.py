"""The ledger on a real Redis: once, fenced, and never without its duty."""

import threading
import time
from datetime import timedelta

import pytest

from tests.waiting import until
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty, Obligation
from worker.errors import StaleLease
from worker.ledger.calls import Recorded
from worker.ledger.client import Ledger
from worker.ledger.obligations import Commit
from worker.ledger.store import connect

FREE = {Duty.PLAN: 1000, Duty.LOOK: 10, Duty.FETCH: 10}
STOP = Obligation(duty=Duty.PLAN, account="MA_1", call_uuid="c")


def started(event_id="e1", call="c", recording="r"):
    return Event(
        id=event_id,
        kind=Kind.RECORDING_STARTED,
        call_uuid=call,
        signed=True,
        recording_id=recording,
        url=f"https://media.vobiz.ai/v1/Account/MA_1/Recording/{recording}.mp3",
        format="mp3",
        to_number="91",
    )


def claim(ledger, free=FREE):
    return ledger.claim(lead=timedelta(0), batch=100, free=free).claims


def expire(ledger, *obligations):
    for o in obligations:
        ledger.redis.zadd(ledger.key("leases", o.duty), {str(o): 1})
        ledger.redis.zadd(ledger.key("due", o.duty), {str(o): 1})


def test_an_event_is_recorded_once_and_read_back_whole(ledger):
    assert ledger.record("MA_1", started())[0] is Recorded.NEW
    assert ledger.record("MA_1", started())[0] is Recorded.REPEAT
    (event,) = ledger.events("MA_1", "c")
    assert (event.url, event.format, event.signed, event.recording_id) == (
        started().url,
        "mp3",
        True,
        "r",
    )
    assert ledger.call_of("MA_1", "r") == "c"


def test_twenty_copies_at_once_have_one_effect(ledger):
    answers = []
    crew = [
        threading.Thread(target=lambda: answers.append(ledger.record("MA_1", started())[0]))
        for _ in range(20)
    ]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert sorted(answers).count(Recorded.NEW) == 1


def test_a_nonce_with_another_body_is_refused_and_with_the_same_is_a_repeat(ledger):
    assert ledger.record("MA_1", started(), nonces=["n"], body=b"a")[0] is Recorded.NEW
    assert ledger.record("MA_1", started(), nonces=["n"], body=b"a")[0] is Recorded.REPEAT
    assert ledger.record("MA_1", started("e2"), nonces=["n"], body=b"b")[0] is Recorded.NONCE_REUSED
    assert len(ledger.events("MA_1", "c")) == 1


def test_what_is_claimed_stays_in_the_set_and_comes_back_when_the_lease_runs_out(ledger):
    ledger.record("MA_1", started())
    (first,) = claim(ledger)
    assert claim(ledger) == ()
    assert ledger.outstanding() == 1
    expire(ledger, STOP)
    (second,) = claim(ledger)
    assert second.fence != first.fence


def test_a_worker_that_slept_through_its_lease_cannot_record_an_outcome(ledger):
    ledger.record("MA_1", started())
    (old,) = claim(ledger)
    expire(ledger, STOP)
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


def test_without_a_free_slot_nothing_is_claimed_and_stops_are_not_held_back(ledger):
    ledger.record("MA_1", started())
    fetch = Obligation(duty=Duty.FETCH, account="MA_1", call_uuid="c", recording_id="r")
    ledger.redis.zadd(ledger.key("due", Duty.FETCH), {str(fetch): 0})
    found = claim(ledger, {Duty.PLAN: 10, Duty.FETCH: 0})
    assert [c.obligation for c in found] == [STOP]
    assert ledger.outstanding() == 2


def test_however_many_fetches_find_no_slot_a_stop_is_claimed_at_once(ledger):
    blocked = {
        str(Obligation(duty=Duty.FETCH, account="MA_1", call_uuid=f"c{i}", recording_id=f"r{i}")): 1
        for i in range(5000)
    }
    ledger.redis.zadd(ledger.key("due", Duty.FETCH), blocked)
    ledger.record("MA_1", started())
    found = ledger.claim(lead=timedelta(0), batch=10, free={Duty.PLAN: 10, Duty.FETCH: 0})
    assert [c.obligation for c in found.claims] == [STOP]
    assert found.next_at > found.now  # and what is blocked does not make the clock spin
    free = ledger.claim(lead=timedelta(0), batch=10, free={Duty.PLAN: 10, Duty.FETCH: 3})
    assert len(free.claims) == 3


def test_a_second_call_in_a_room_joins_both(ledger):
    enter = {"kind": Kind.CONFERENCE_ENTERED, "room": "room1"}
    ledger.record("MA_1", Event(id="a", call_uuid="c1", member="1", first=True, **enter))
    assert [e.kind for e in ledger.events("MA_1", "c1")] == [Kind.CONFERENCE_ENTERED]
    ledger.record("MA_1", Event(id="b", call_uuid="c2", member="2", first=False, **enter))
    for call in ("c1", "c2"):
        assert Kind.CONFERENCE_JOINED in {e.kind for e in ledger.events("MA_1", call)}


def test_an_exit_that_is_reported_first_keeps_its_member_out(ledger):
    ledger.record(
        "MA_1", Event(id="x", kind=Kind.CONFERENCE_LEFT, call_uuid="c1", room="room1", member="1")
    )
    ledger.record(
        "MA_1",
        Event(
            id="a",
            kind=Kind.CONFERENCE_ENTERED,
            call_uuid="c1",
            room="room1",
            member="1",
            first=True,
        ),
    )
    ledger.record(
        "MA_1",
        Event(
            id="b",
            kind=Kind.CONFERENCE_ENTERED,
            call_uuid="c2",
            room="room1",
            member="2",
            first=True,
        ),
    )
    assert Kind.CONFERENCE_JOINED not in {e.kind for e in ledger.events("MA_1", "c2")}


def granted_within(ledger, seconds, rate):
    began, count = time.monotonic(), 0
    while (took := time.monotonic() - began) < seconds:
        count += ledger.take("stop", "MA_1", 1, rate)[0]
    return count, took


def test_the_rate_holds_and_a_429_halves_it(ledger):
    granted, took = granted_within(ledger, 0.4, 100)
    assert granted <= 25 + 100 * took + 1  # a quarter of a second may come at once
    left_over = time.monotonic()
    ledger.slow_down("stop", "MA_1", 100)
    left_over = 100 * (time.monotonic() - left_over)  # what came in before the rate was halved
    granted, took = granted_within(ledger, 0.4, 100)
    assert granted <= left_over + 50 * took * 1.1 + 2


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


def test_either_nonce_of_a_request_that_comes_back_with_another_body_is_refused(ledger):
    ledger.record("MA_1", started(), nonces=["v3", "v2"], body=b"a")
    assert (
        ledger.record("MA_1", started("e2"), nonces=["v2"], body=b"b")[0] is Recorded.NONCE_REUSED
    )
    assert (
        ledger.record("MA_1", started("e2"), nonces=["v3"], body=b"b")[0] is Recorded.NONCE_REUSED
    )
    assert ledger.record("MA_1", started("e2"), nonces=["v2"], body=b"a")[0] is Recorded.REPEAT


def test_what_points_to_a_forgotten_call_is_forgotten_too(ledger):
    ledger.record(
        "MA_1",
        Event(
            id="e0", kind=Kind.RECORDING_STARTED, call_uuid="gone", recording_id="old", leg="leg1"
        ),
    )
    ledger.record(
        "MA_1",
        Event(
            id="e1", kind=Kind.RECORDING_STARTED, call_uuid="stays", recording_id="new", leg="leg2"
        ),
    )
    ledger.redis.delete(ledger.call_key("MA_1", "gone"))
    assert ledger.forget("MA_1", before=ledger.now() + timedelta(seconds=1)) == 1
    assert [s[2] for s in ledger.recent(["MA_1"])] == ["new"]
    assert (
        ledger.call_of("MA_1", "old"),
        ledger.a_leg("MA_1", "leg1"),
        ledger.a_leg("MA_1", "leg2"),
    ) == (None, "leg1", "stays")


def test_refusals_of_the_last_hour_are_counted_by_reason(ledger):
    for reason in ("wrong", "wrong", "missing"):
        ledger.count_refusal(reason)
    assert ledger.refusals() == {"wrong": 2, "missing": 1}
    assert ledger.counters()["refused_total|wrong"] == 2


def test_pages_are_stable_while_new_recordings_arrive(ledger):
    for i in range(5):
        ledger.record("MA_1", started(f"e{i}", f"c{i}", f"r{i}"))
    before = [s[2] for s in ledger.recent(["MA_1"])]
    third = next(s for s in ledger.recent(["MA_1"]) if s[2] == before[2])
    ledger.record("MA_1", started("new", "cn", "rn"))
    assert [s[2] for s in ledger.recent(["MA_1"], before=third)] == before[3:]


def test_a_waiting_stop_costs_at_most_one_kib(ledger):
    ledger.record(
        "MA_7QK2XWPD", started("first", "first", "first")
    )  # Redis keeps the scripts from here on

    def held():
        found = ledger.redis.info("memory")
        return (
            found["used_memory"] - found["mem_clients_normal"] - found["mem_aof_buffer"]
        )  # without what is on its way

    before = held()
    for i in range(4000):
        call = f"{i:08d}-2f5d-4a7f-9d5c-6f1e2b3a4c01"
        ledger.record(
            "MA_7QK2XWPD",
            started(f"{i:016x}", call, f"{i:08d}-6b7e-4c31-8f2d-9a5b3c7e1d02"),
            nonces=[f"{i:020d}", f"9{i:019d}"],
            body=b"x",
        )
    assert (held() - before) / 4000 <= 1024


def test_what_is_charged_is_granted_and_whoever_asks_next_waits_the_longer(ledger):
    for _ in range(5):
        ledger.charge("api", "MA_1", 2.0)
    granted, wait = ledger.take("api", "MA_1", 1, 2.0)
    assert granted == 0
    assert 2.0 < wait.total_seconds() <= 2.6  # 4 owed and 1 wanted, 2 a second


def test_a_message_that_waited_longer_than_its_lease_is_begun_with_a_whole_one_unless_another_has_it(
    ledger,
):
    ledger.record("MA_1", started())
    (first,) = claim(ledger)
    expire(ledger, STOP)
    _, (loaded,) = ledger.load([first])
    assert claim(ledger) == ()  # it is at work
    assert ledger.commit([Commit(claim=first, seen=loaded.size, dues=((STOP, ledger.now()),))]) == [
        frozenset()
    ]
    (second,) = until(lambda: claim(ledger))  # dues are whole milliseconds, perhaps the next one
    expire(ledger, STOP)
    (third,) = claim(ledger)
    assert [found is None for found in ledger.load([second, third])[1]] == [True, False]


def test_recordings_that_come_in_while_a_list_is_read_shift_nothing(ledger):
    for n in range(250):
        ledger.redis.zadd(
            ledger.key("recent", "MA_1"), {f"r{n:03d}": 1000 + n // 120}
        )  # many at one instant
    seen = []
    for at, _, recording_id in ledger.recent(["MA_1"]):
        seen.append(recording_id)
        ledger.redis.zadd(ledger.key("recent", "MA_1"), {f"new{len(seen)}": 2000 + at})
    assert seen == sorted(
        (f"r{n:03d}" for n in range(250)), key=lambda r: (1000 + int(r[1:]) // 120, r), reverse=True
    )
