"""The book of the open days: what belongs to an event is written with it, or not at all."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from tests.builders import obligation, started
from tests.constants import ACCOUNT
from worker.calls.history import Deed, Entry
from worker.calls.obligations import Duty
from worker.ledger.obligations import Claim, Commit

PLAY = Entry(what=Deed.PLAY, who="anna", call_uuid="c", recording_id="r")
STOP = Entry(what=Deed.STOP, who="rule:x", call_uuid="c", recording_id="r", reason="max_duration")


def soon(ledger):
    return ledger.now() + timedelta(seconds=1)


def claimed(ledger):
    owed = obligation(Duty.FETCH, "c", "r")
    ledger.ensure_due([owed])
    ledger.make_due_now(owed)
    (claim,) = ledger.claim(lead=timedelta(seconds=1), batch=1, free={Duty.FETCH: 1}).claims
    return claim


def committed(ledger, claim, **more):
    event = started()
    given = {"filed": ["sha  a"], "history": [(event.id, STOP)], **more}
    return ledger.commit([Commit(claim=claim, events=[event], **given)])


def test_files_and_deeds_are_noted_with_their_event_once_and_not_without_a_lease(ledger):
    stale = Claim(obligation=obligation(Duty.FETCH, "c", "r"), fence="0")
    assert committed(ledger, stale) == [None]
    assert not ledger.is_open(ACCOUNT)
    assert committed(ledger, claimed(ledger)) == [frozenset({"e1"})]
    assert committed(ledger, claimed(ledger), filed=["sha  b"]) == [frozenset()]
    assert ledger.filed(ACCOUNT, until=soon(ledger)) == ["sha  a"]
    (entered,) = ledger.history(ACCOUNT, until=soon(ledger))
    assert entered.said == STOP.written()
    assert abs(entered.at - ledger.now()) < timedelta(minutes=1)


def test_what_is_written_now_does_not_belong_to_a_day_that_ended_before(ledger):
    end = ledger.now()
    committed(ledger, claimed(ledger))
    ledger.enter(ACCOUNT, PLAY)
    assert ledger.filed(ACCOUNT, until=end) == ledger.history(ACCOUNT, until=end) == []


def test_play_is_one_entry_a_recording_person_and_ten_minutes(ledger):
    other = Entry(what=Deed.PLAY, who="bert", call_uuid="c", recording_id="r")
    claims = Entry(what=Deed.PLAY, who="anna", claimed="x", call_uuid="c", recording_id="r")
    with ThreadPoolExecutor(4) as threads:
        plays = list(threads.map(lambda e: ledger.enter(ACCOUNT, e), [PLAY, other, claims] * 4))
    assert sum(plays) == 3
    (mark, *_) = ledger.redis.scan_iter("*entered*anna*")
    assert 0 < ledger.redis.ttl(mark) <= 600
    ledger.redis.delete(mark)
    assert sum(ledger.enter(ACCOUNT, e) for e in (PLAY, claims, other)) == 1


def test_an_order_that_is_repeated_is_one_entry_and_two_stops_are_two(ledger):
    assert [ledger.enter(ACCOUNT, STOP, order="o1") for _ in range(2)] == [True, False]
    assert [ledger.enter(ACCOUNT, STOP) for _ in range(2)] == [True, True]
    assert len(ledger.history(ACCOUNT, until=soon(ledger))) == 3


def test_entries_keep_their_order_and_a_long_history_is_read_whole(ledger):
    for n in range(1003):
        ledger.enter(ACCOUNT, Entry(what=Deed.STOP, who=f"n{n}", call_uuid="c", recording_id=None))
    found = ledger.history(ACCOUNT, until=soon(ledger))
    assert [e.said["who"] for e in found] == [f"n{n}" for n in range(1003)]
    ledger.forget_day(ACCOUNT, [], [e.id for e in found])
    assert not ledger.is_open(ACCOUNT)


def test_deeds_about_a_recording_are_found_among_many_the_last_first(ledger):
    began = ledger.now() - timedelta(milliseconds=1)  # an entry's id has whole milliseconds
    for n in range(1203):
        recording, call = ("r-7", "c-1") if n % 400 == 0 else (f"r-7{n}", f"c-{n}")
        ledger.enter(
            ACCOUNT, Entry(what=Deed.STOP, who=f"n{n}", call_uuid=call, recording_id=recording)
        )
    ledger.enter(ACCOUNT, Entry(what=Deed.STOP, who="all", call_uuid="c-1", recording_id=None))
    about = list(ledger.history_about(ACCOUNT, ["r-7", "c-1"], since=began))
    assert [e.said["who"] for e in about] == ["all", "n1200", "n800", "n400", "n1", "n0"]
    assert about == [e for e in ledger.history(ACCOUNT, until=soon(ledger))[::-1] if e in about]
    assert list(ledger.history_about(ACCOUNT, ["r-7"], since=soon(ledger))) == []
    assert list(ledger.history_about(ACCOUNT, ['"', "%d"], since=began)) == []
