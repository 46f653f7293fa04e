"""Work that is begun and never finished: handed out alone, then set aside; nothing else waits for
it."""

import re
from datetime import timedelta

import pytest

from tests import redis_view
from tests.builders import with_leases
from tests.constants import ACCOUNT
from tests.waiting import until
from worker.calls import planner
from worker.calls.events import Event, Fault, Kind
from worker.calls.obligations import Duty, Obligation
from worker.command import doctor
from worker.duties import fetch
from worker.ledger import backlog
from worker.ledger.obligations import ALONE_AFTER, ASIDE_AFTER, Claim, Commit
from worker.processes.batches import batches as shared

FREE = dict.fromkeys(Duty, 100)
LONG_ENOUGH_TO_WORK_S = 1


@pytest.fixture
def ledger(ledger):
    """The ledger of a process whose leases are short."""
    return with_leases(ledger, seconds=0.1)


def patient(ledger):
    return with_leases(ledger, seconds=60)


def track(ledger, call, duty=Duty.PLAN):
    """A call with one obligation of this duty, due now."""
    ledger.record(ACCOUNT, Event(id="seen", kind=Kind.CALL_SEEN, call_uuid=call))
    (claim,) = claimed(patient(ledger))
    size = ledger.size(ACCOUNT, call)
    o = Obligation(
        duty=duty, account=ACCOUNT, call_uuid=call, recording_id="r" if duty is Duty.FETCH else None
    )
    dues = (
        ((claim.obligation, None), (o, ledger.now()))
        if duty is not Duty.PLAN
        else ((o, ledger.now()),)
    )
    ledger.commit([Commit(claim=claim, seen=size, dues=dues)])
    return o


def claimed(ledger):
    return ledger.claim(lead=timedelta(0), batch=100, free=FREE).claims


def begin(ledger, *, die=True):
    """Claims what is due and begins it, as a worker does that then dies, or lives and finishes."""
    seen = ledger if die else patient(ledger)
    claims = until(lambda: claimed(seen), 5)
    _, loaded = seen.load(claims)
    if not die:
        seen.commit(
            [
                Commit(claim=c, seen=found.size, dues=((c.obligation, ledger.now()),))
                for c, found in zip(claims, loaded, strict=True)
            ]
        )
    return claims


def test_what_is_finished_is_not_counted(ledger):
    track(ledger, "c")
    for _ in range(5):
        (claim,) = begin(ledger, die=False)
        assert claim.unfinished_tries == 0
    assert redis_view.unfinished(ledger) == 0


def test_each_try_that_ends_with_its_worker_is_counted_and_one_that_is_finished_forgets_them(
    ledger,
):
    track(ledger, "c")
    assert [begin(ledger)[0].unfinished_tries for _ in range(4)] == [0, 1, 2, 3]
    assert begin(ledger, die=False)[0].unfinished_tries == 4
    assert begin(ledger)[0].unfinished_tries == 0
    assert begin(ledger)[0].unfinished_tries == 1


def test_what_was_handed_out_and_never_begun_is_not_taken_for_poison(ledger):
    track(ledger, "c")
    for _ in range(6):
        (claim,) = until(
            lambda: claimed(ledger), 5
        )  # the message was lost, or waits in a long queue
        assert claim.unfinished_tries <= 1
    assert ledger.unfinished() == {}


@pytest.mark.parametrize("duty", [Duty.PLAN, Duty.SURVEY])
def test_a_stop_or_a_survey_is_never_given_up_and_comes_back_within_a_minute(ledger, duty):
    o = track(ledger, "c", duty)
    waits = []
    for _ in range(ALONE_AFTER + 3):
        begin(ledger)
        waits.append(redis_view.due_in_s(ledger, o))
    assert waits[ALONE_AFTER] < waits[-1] < 1  # longer and longer
    redis_view.set_unfinished(ledger, o, 1_000_000)
    begin(ledger)
    assert 5 < redis_view.due_in_s(ledger, o) <= 60


@pytest.mark.parametrize("duty", [Duty.LOOK, Duty.FETCH])
def test_a_look_or_a_fetch_is_set_aside_after_six_tries_and_tried_again_hours_later(ledger, duty):
    o = track(ledger, "c", duty)
    for _ in range(ASIDE_AFTER):
        begin(ledger)
        assert redis_view.due_in_s(ledger, o) < 60
    begin(ledger)
    assert redis_view.due_in_s(ledger, o) > 3600
    assert ledger.unfinished() == {o: ASIDE_AFTER + 1}


def test_work_that_goes_on_keeps_its_lease_although_it_was_put_far_off(ledger):
    o = track(ledger, "c", Duty.FETCH)
    for _ in range(ASIDE_AFTER):
        begin(ledger)
    (claim,) = begin(patient(ledger))  # this one works for as long as it wants to
    far = redis_view.due_in_s(ledger, o)
    patient(ledger).renew(claim)
    assert redis_view.due_in_s(ledger, o) == pytest.approx(far, abs=1)


def test_a_reload_gives_it_another_try(ledger):
    o = track(ledger, "c")
    for _ in range(5):
        begin(ledger)
    assert o in ledger.unfinished()
    ledger.reload()
    assert ledger.unfinished() == {}
    assert redis_view.due_in_s(ledger, o) <= 0.001  # dues are whole milliseconds


def test_a_reload_also_reaches_what_was_set_aside_a_moment_ago_and_is_still_held(ledger):
    o = track(ledger, "c", Duty.FETCH)
    for _ in range(ASIDE_AFTER):
        begin(ledger)
    begin(patient(ledger))
    assert redis_view.due_in_s(ledger, o) > 3600
    ledger.reload()
    assert redis_view.due_in_s(ledger, o) <= 60


def test_what_failed_travels_in_small_batches_and_then_alone():
    def batches(*failed):
        claims = [
            Claim(
                obligation=Obligation(duty=Duty.PLAN, account=ACCOUNT, call_uuid=f"c{i}"),
                fence=str(i),
                unfinished_tries=n,
            )
            for i, n in enumerate(failed)
        ]
        return [[c.unfinished_tries for c in b] for b in shared(claims, 50)]

    assert batches(*[0] * 60) == [[0] * 50, [0] * 10]
    assert batches(*[0] * 5, *[1] * 9) == [[0] * 5, [1] * 6, [1] * 3]
    assert batches(2, 0, 3, 0) == [[0, 0], [2], [3]]


def test_what_points_to_nothing_is_swept_away(ledger, monkeypatch):
    o = track(ledger, "c")
    begin(ledger)
    begin(ledger)
    redis_view.forget_due(ledger, o)
    live = track(ledger, "d")
    (held,) = until(lambda: claimed(patient(ledger)))
    ledger.tidy()
    assert redis_view.fences(ledger) == [str(live)]
    assert redis_view.unfinished(ledger) == 0
    assert redis_view.leases(ledger, Duty.PLAN) == 1
    assert ledger.commit([Commit(claim=held, seen=1000)])[0] is not None


def test_a_call_that_cannot_be_planned_is_tried_less_and_less_often_and_the_others_go_on(
    local, monkeypatch
):
    rules = '[defaults]\nmax_duration = "1s"\n'
    house, plan = local(rules=rules, leases_s=LONG_ENOUGH_TO_WORK_S), planner.plan
    bad = house.provider.call(to_number="1").call_uuid

    def fails(call, *args, **how):
        if call.call_uuid == bad:
            raise ZeroDivisionError("a fault of ours")
        return plan(call, *args, **how)

    monkeypatch.setattr(planner, "plan", fails)
    house.provider.record(bad)
    good = house.provider.record(house.provider.call(to_number="2").call_uuid).recording_id
    assert house.reach(good, "archived", 30)["stop"]["state"] == "confirmed"
    until(lambda: any(n > ALONE_AFTER for n in house.ledger.unfinished().values()))
    assert [str(o) for o in house.ledger.unfinished()] == [f"plan|{ACCOUNT}|{bad}"]
    until(lambda: house.alerts().get("poison", 0) >= 3)
    told = {c.name: c for c in doctor.checks(house.settings, house.ledger)}["unfinished work"]
    assert (told.state, bad in told.detail) == ("warning", True)
    assert re.search(rb"endtape_unfinished 1\.0", house.get("/metrics").content)
    monkeypatch.setattr(planner, "plan", plan)
    house.reload()
    until(lambda: house.ledger.unfinished() == {})


@pytest.fixture
def fetches_that_die(monkeypatch):
    """Of which recordings fetching ends as if the worker had died."""
    fetch_it, dying = fetch._fetch, set()

    def dies(worker, claim, *rest):
        if claim.obligation.recording_id in dying:
            raise SystemError("as if the process were gone")
        return fetch_it(worker, claim, *rest)

    monkeypatch.setattr(fetch, "_fetch", dies)
    return dying


@pytest.mark.end_to_end
def test_a_recording_whose_fetch_never_ends_is_set_aside_listed_as_ours_and_the_others_come_home(
    local, fetches_that_die
):
    house = local(leases_s=LONG_ENOUGH_TO_WORK_S)
    call = house.provider.call(to_number="1").call_uuid
    bad, good = (house.provider.record(call).recording_id for _ in range(2))
    fetches_that_die.add(bad)
    for recording in (bad, good):
        house.reach(recording, "recording")
    house.provider.hangup(call)
    house.reach(good, "archived", 30)
    until(lambda: any(n >= ASIDE_AFTER for n in house.ledger.unfinished().values()), 40)
    (o,) = house.ledger.unfinished()
    assert o.recording_id == bad
    until(lambda: redis_view.due_in_s(house.ledger, o) > 3600)
    (entry,) = backlog.find(house.ledger)
    assert (
        entry.owed,
        entry.fault,
        entry.tries >= ASIDE_AFTER,
        entry.next_at > house.ledger.now(),
    ) == (o, Fault.OURS, True, True)
    assert list(backlog.find(house.ledger, Fault.PROVIDER)) == []

    fetches_that_die.clear()
    backlog.retry(house.ledger, o, reason="mended", by="cli")
    house.reach(bad, "archived")
    assert list(backlog.find(house.ledger)) == []


def test_a_retry_makes_a_look_that_was_set_aside_due_and_forgets_the_tries(ledger):
    o = track(ledger, "c", Duty.LOOK)
    for _ in range(ASIDE_AFTER + 1):
        begin(ledger)
    until(lambda: ledger.set_aside() == {o: ASIDE_AFTER + 1})
    (entry,) = backlog.find(ledger)
    assert (entry.owed, entry.fault, entry.started_at) == (o, Fault.OURS, None)
    until(lambda: redis_view.lease_of(ledger, o) < ledger.now().timestamp() * 1000)
    backlog.retry(ledger, o, reason="mended", by="cli")
    assert redis_view.due_in_s(ledger, o) < 1
    assert ledger.unfinished() == {}
