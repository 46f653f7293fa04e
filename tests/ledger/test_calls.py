"""Calls on a real Redis: recorded once, read back whole, and forgotten."""

import threading
from dataclasses import replace

from tests import redis_view
from tests.builders import started
from worker.calls.events import Event, Kind
from worker.ledger.recording import Recorded


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
    redis_view.drop_log(ledger, "MA_1", "gone")
    assert ledger.forget("MA_1") == 1
    assert [s.recording_id for s in ledger.recent(["MA_1"])] == ["new"]
    assert (
        ledger.call_of("MA_1", "old"),
        ledger.a_leg("MA_1", "leg1"),
        ledger.a_leg("MA_1", "leg2"),
    ) == (None, "leg1", "stays")


def test_pages_are_stable_while_new_recordings_arrive(ledger):
    for i in range(5):
        ledger.record("MA_1", started(f"e{i}", f"c{i}", f"r{i}"))
    before = [s.recording_id for s in ledger.recent(["MA_1"])]
    third = next(s for s in ledger.recent(["MA_1"]) if s.recording_id == before[2])
    ledger.record("MA_1", started("new", "cn", "rn"))
    assert [s.recording_id for s in ledger.recent(["MA_1"], before=third)] == before[3:]


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


def test_recordings_that_come_in_while_a_list_is_read_shift_nothing(ledger):
    for n in range(250):
        redis_view.see_recording(
            ledger, "MA_1", f"r{n:03d}", 1000 + n // 120
        )  # many at one instant
    seen = []
    for at, recording_id, _ in ledger.recent(["MA_1"]):
        seen.append(recording_id)
        redis_view.see_recording(ledger, "MA_1", f"new{len(seen)}", 2000 + at)
    assert seen == sorted(
        (f"r{n:03d}" for n in range(250)), key=lambda r: (1000 + int(r[1:]) // 120, r), reverse=True
    )


def test_numbers_are_taken_out_of_a_log_that_is_still_the_one_that_was_read(ledger):
    ledger.record("MA_1", started(call="c"))
    asked = Event(
        id="h",
        kind=Kind.HANDOFF_ASKED,
        call_uuid="c",
        target="+91 98200 55512",
        reason="for 919820055512",
        labels={"caller": "919820055512", "team": "a"},
        body={"legs": ["919820055512"]},
    )
    ledger.record("MA_1", asked)
    read = ledger.command("GET", ledger.call_key("MA_1", "c"))
    ledger.record("MA_1", replace(asked, id="later"))
    assert ledger.forget_numbers("MA_1", "c", read) is False
    ledger.command("EXPIRE", ledger.call_key("MA_1", "c"), 100)
    read = ledger.command("GET", ledger.call_key("MA_1", "c"))
    assert ledger.forget_numbers("MA_1", "c", read) is True
    log = ledger.command("GET", ledger.call_key("MA_1", "c"))
    assert "55512" not in log
    assert ledger.command("TTL", ledger.call_key("MA_1", "c")) > 0
    first, second, third = ledger.events("MA_1", "c")
    assert (first.to_number, second.labels, third.reason) == (
        None,
        {"caller": "…", "team": "a"},
        "for …",
    )
    assert (first.url is not None, second.at is not None) == (True, True)
    assert ledger.forget_numbers("MA_1", "c", log) is True
