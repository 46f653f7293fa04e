"""What proves that a recording ended, and what does not (contract, Proof), over HTTP with the
emulator as the provider."""

import json
import time

import pytest

from tests.waiting import until
from tests.webhooks.application import Application, recorded
from worker.calls.events import Kind

RULES = """
adopt = "30d"

[defaults]
max_duration = "1h"
confirm_within = "1s"
stop_tries = 4
on = { transfer = "stop", "transfer.failed" = "resume" }
"""


@pytest.fixture
def app(local):
    return Application(local(rules=RULES))


def asked(app, call, wait_s=3.0, **body):
    return app.post(f"/calls/{call}/handoff", {"kind": "blind", "wait_s": wait_s, **body})


def stops(app, call):
    return app.house.requests("DELETE", f"{call}/Record/")


# A 404 speaks of what had begun by then
# ----------------------------------------------------------------------------


def test_a_404_while_the_call_rings_proves_nothing_of_what_begins_later(app):
    house = app.house
    call = house.provider.call(direction="outbound", ringing=True).call_uuid
    until(lambda: Kind.CALL_SEEN in house.kinds(call))
    answer = asked(app, call, wait_s=0.5)
    assert (answer.status_code, answer.json()["verdict"], answer.json()["evidence"]) == (
        409,
        "hold",
        [],
    )
    until(lambda: Kind.CALL_FOUND_OVER in house.kinds(call))
    asked_at = time.monotonic()
    until(
        lambda: time.monotonic() > asked_at + 5.5
    )  # what is reported within 5 s the order still covers
    house.provider.answer(call)
    recording = house.provider.record(call)
    house.reach(recording.recording_id, "recording")
    assert house.recording(recording.recording_id)["stop"]["evidence"] == []
    sent = len(stops(app, call))
    answer = asked(app, call)
    assert answer.status_code == 200
    assert {"callback", "listed"} & set(answer.json()["evidence"])  # whichever came first
    assert len(stops(app, call)) == sent + 1
    assert recording.ended_at


def test_a_sign_of_life_takes_a_404_for_the_call_back(app):
    house = app.house
    call, recording = recorded(app)
    house.provider.faults.switch_on("stop-404", call_uuid=call)
    app.post(f"/calls/{call}/stop", {"recording_id": recording.recording_id})
    until(lambda: house.recording(recording.recording_id)["stop"]["evidence"] == ["call_over"])
    house.provider.faults.clear()
    house.provider.dial(call, "918065550199")
    until(lambda: recording.ended_at)
    assert "callback" in house.stop_reaches(recording.recording_id, "confirmed")["stop"]["evidence"]


def test_a_404_to_a_stop_that_names_a_recording_proves_nothing_of_the_others_and_makes_us_look(app):
    house = app.house
    call, a = recorded(app)
    b = house.provider.record(call)
    house.reach(b.recording_id, "recording")
    house.provider.faults.switch_on("stop-unknown-url", call_uuid=call)
    app.post(f"/calls/{call}/stop", {"url": a.url})
    until(lambda: stops(app, call))
    until(lambda: Kind.LOOKED in house.kinds(call), 1.0)
    assert [house.recording(r.recording_id)["stop"]["evidence"] for r in (a, b)] == [[], []]
    answer = app.post(f"/calls/{call}/stop", {"wait_s": 3})
    assert [r["stop"]["state"] for r in answer.json()["recordings"]] == ["confirmed", "confirmed"]
    assert a.ended_at
    assert b.ended_at


def test_where_a_stop_by_name_loses_its_body_nothing_counts_as_over_that_is_not(app):
    house = app.house
    call, a = recorded(app)
    b = house.provider.record(call)
    house.reach(b.recording_id, "recording")
    house.provider.faults.switch_on("stop-loses-body", call_uuid=call)
    house.provider.faults.switch_on("slow-finalise", call_uuid=call, seconds=0.5)
    answer = app.post(f"/calls/{call}/stop", {"url": a.url, "wait_s": 3}).json()
    assert [r["stop"]["state"] for r in answer["recordings"]] == ["confirmed"]
    until(lambda: house.recording(b.recording_id)["stop"]["evidence"])
    assert b.ended_at


# A dial failed when it, or all its legs, failed
# ---------------------------------------------------------------------

RACES = [
    ("before", "LOST_RACE"),
    ("after", "LOST_RACE"),
    ("before", "NORMAL_CLEARING"),
    ("after", "NORMAL_CLEARING"),
    ("after", "USER_BUSY"),
]


def test_a_leg_that_lost_the_race_resumes_nothing_in_the_midst_of_the_connected_call(app):
    house, calls = app.house, {}
    for race in RACES:
        call, recording = recorded(app)
        calls[call] = race
        house.provider.dial(call, "918065550199", loser=race[0], loser_cause=race[1])
        house.stop_reaches(recording.recording_id, "confirmed")
    assert house.provider.wait_idle(5)
    for call in calls:
        until(lambda call=call: Kind.DIAL_ENDED in house.kinds(call))
    time.sleep(2.5)  # a failed leg is acted upon after 2 s
    for call, race in calls.items():
        assert len(house.provider.book.recordings_of("MA_TEST0001", call)) == 1, race
        assert Kind.START_ORDERED not in house.kinds(call), race


@pytest.mark.parametrize("cause", ["USER_BUSY", "NO_ANSWER"])
def test_a_dial_whose_only_leg_failed_resumes(app, cause):
    house = app.house
    call, recording = recorded(app)
    house.post({"Event": "Transfer", "CallUUID": call})
    house.stop_reaches(recording.recording_id, "confirmed")
    house.provider.event(
        call,
        "DialHangup",
        DialBLegDuration="0",
        DialBLegHangupCause=cause,
        DialBLegHangupCauseCode="6010",
        DialBLegHangupCauseName="",
    )
    until(lambda: len(house.provider.book.running(call)) == 1)


@pytest.mark.parametrize("order", [("leg", "dial"), ("dial", "leg")])
def test_a_leg_of_a_dial_that_completed_resumes_nothing_though_no_callback_told_who_was_connected(
    app, order
):
    house = app.house
    call, _ = recorded(app)
    assert asked(app, call).status_code == 200
    for told in order:
        if told == "leg":
            house.provider.event(
                call,
                "DialHangup",
                DialALegUUID=call,
                DialBLegUUID="b1",
                DialBLegDuration="0",
                DialBLegHangupCause="NO_ANSWER",
            )
        else:
            house.provider.event(
                call, "DialAction", DialStatus="completed", DialALegUUID=call, DialBLegUUID="b2"
            )
    assert house.provider.wait_idle(5)
    until(lambda: house.kinds(call).count(Kind.DIAL_ENDED) == 2)
    time.sleep(2.5)  # a failed leg is acted upon after 2 s
    assert Kind.START_ORDERED not in house.kinds(call)


# A person's stop, and a hand-off, always send at once
# ---------------------------------------------------------------


@pytest.mark.parametrize("again", ["stop", "handoff"])
def test_a_persons_order_sends_at_once_whatever_was_tried_before(app, again):
    house = app.house
    call, recording = recorded(app)
    house.provider.faults.switch_on("deaf-stop", call_uuid=call)
    app.post(f"/calls/{call}/stop", {})
    house.stop_reaches(recording.recording_id, "unknown")
    sent = len(stops(app, call))
    assert sent == 4
    house.provider.faults.clear()
    answer = app.post(f"/calls/{call}/stop", {"wait_s": 3}) if again == "stop" else asked(app, call)
    assert (answer.status_code, answer.json()["stop"]["state"]) == (200, "confirmed")
    assert len(stops(app, call)) == sent + 1


# The stop for all
# ---------------------------------------------------------------------------------------------------


def test_a_stop_that_was_sent_before_its_recording_became_known_is_that_recordings_stop(app):
    house = app.house
    house.provider.faults.switch_on("lost-callbacks")
    call = house.provider.call(announce=True).call_uuid
    recording = house.provider.record(call)
    recording.started_at -= 5
    answer = app.post(f"/calls/{call}/stop", {"wait_s": 5}).json()
    assert recording.ended_at
    assert [(r["recording_id"], r["stop"]["state"]) for r in answer["recordings"]] == [
        (recording.recording_id, "confirmed")
    ]
    view = house.reach(recording.recording_id, "archived")
    assert (
        view["stop"]["state"],
        view["stop"]["attempts"],
        view["stop"]["trigger"],
        view["stop"]["evidence"],
    ) == ("confirmed", 1, "api", ["listed"])
    receipt = json.loads(
        (house.folder / "archive" / view["archive_key"]).with_suffix(".json").read_text()
    )
    assert (receipt["stop"]["requested_at"], receipt["stop"]["attempts"]) == (
        view["stop"]["requested_at"],
        1,
    )


def test_where_all_that_was_known_is_over_a_hand_off_goes_and_one_stop_for_all_leaves_before(app):
    house = app.house
    call, recording = recorded(app)
    house.provider.end(recording.recording_id, "FinishedOnKey")
    house.reach(recording.recording_id, "archived")
    house.provider.faults.switch_on("deaf-stop", call_uuid=call)
    for wait_s in (3.0, 0.0):
        sent = len(stops(app, call))
        answer = asked(app, call, wait_s=wait_s, to=str(wait_s))
        assert (answer.status_code, answer.json()["proven"], answer.json()["evidence"]) == (
            200,
            True,
            ["callback", "listed"],
        )
        assert len(stops(app, call)) == sent + 1
    time.sleep(2.5)  # more than confirm_within
    assert len(stops(app, call)) == 2
    assert house.alerts() == {}


def test_one_that_is_learned_of_after_the_question_and_had_ended_before_proves_nothing(app):
    house = app.house
    house.provider.faults.switch_on("lost-callbacks", event=["Record", "RecordStop"])
    house.provider.faults.switch_on("deaf-stop")
    call = house.provider.call(announce=True).call_uuid
    old = house.provider.record(call)
    old.started_at -= 60
    house.provider.end(old.recording_id, "FinishedOnKey")
    old.ended_at -= 30
    until(lambda: Kind.CALL_SEEN in house.kinds(call))
    answer = asked(app, call, wait_s=2.5)
    assert house.reach(old.recording_id, "archived")
    assert (answer.status_code, answer.json()["proven"]) == (409, False)


@pytest.mark.parametrize("beside", [False, True])
def test_a_stop_by_id_also_ends_what_a_resume_without_an_answer_began(app, beside):
    house = app.house
    call, recording = recorded(app)
    assert app.post(f"/calls/{call}/pause", {"wait_s": 3}).json()["stop"]["state"] == "confirmed"
    house.provider.faults.switch_on("start-lost-answer", times=1)
    assert app.post(f"/calls/{call}/resume", {}).status_code == 504
    (segment,) = house.provider.book.running(call)
    if beside:
        other = app.post(f"/calls/{call}/recordings", {}).json()["recording_id"]
    answer = app.post(
        f"/calls/{call}/stop", {"recording_id": recording.recording_id, "wait_s": 3}
    ).json()
    if beside:  # the stop for all would end the other: it is not sent, and nobody claims a proof
        assert [r.recording_id for r in house.provider.book.running(call)] == [
            segment.recording_id,
            other,
        ]
        assert answer["stop"]["state"] != "confirmed"
    else:
        assert segment.ended_at
        assert answer["stop"]["state"] == "confirmed"


# A call that nobody ever reported
# -----------------------------------------------------------------------------------


def test_an_id_that_was_never_a_call_is_told_at_once_and_nothing_is_repeated(app):
    began = time.monotonic()
    stop = app.post("/calls/never-a-call/stop", {"wait_s": 20}).json()
    hold = asked(app, "never-a-call-2", wait_s=20)
    assert time.monotonic() - began < 5
    assert (stop["stop"]["state"], stop["stop"]["problem"], stop["problem"]) == (
        "failed",
        "no_live_call",
        "no_live_call",
    )
    assert (hold.status_code, hold.json()["verdict"]) == (409, "hold")
    time.sleep(2.5)  # more than confirm_within
    assert [len(stops(app, c)) for c in ("never-a-call/", "never-a-call-2")] == [0, 1]
    assert len(app.house.requests("DELETE", "/never-a-call/Record/")) == 1
    assert app.house.alerts() == {}


def test_where_the_rule_goes_without_proof_a_hand_off_of_no_call_goes_at_the_end_of_its_wait(local):
    app = Application(local(rules=RULES + 'if_unproven = "go"\n'))
    began = time.monotonic()
    answer = asked(app, "never-a-call", wait_s=1.5)
    assert time.monotonic() - began >= 1.5
    assert (answer.status_code, answer.json()["verdict"], answer.json()["proven"]) == (
        200,
        "go",
        False,
    )


def test_an_order_for_a_call_that_nobody_reported_covers_what_is_first_reported_within_five_seconds(
    app,
):
    house = app.house
    call = house.provider.call(
        direction="outbound", ringing=True, urls={"Ring": "http://127.0.0.1:1/"}
    ).call_uuid
    assert app.post(f"/calls/{call}/stop", {"wait_s": 5}).json()["problem"] == "no_live_call"
    house.provider.answer(call)
    recording = house.provider.record(call)
    house.stop_reaches(recording.recording_id, "confirmed")


# Facts that a rule needs
# --------------------------------------------------------------------------------------------


def test_where_a_rule_matches_by_a_number_nobody_told_us_the_live_call_is_asked_at_once(local):
    app = Application(
        local(
            rules=RULES
            + '[[rules]]\nname = "line"\nmatch = { to = "91804*" }\nmax_duration = "5m"\n'
        )
    )
    call = app.house.provider.call(to_number="918041234567", from_number="919820055512").call_uuid
    made = app.post(f"/calls/{call}/recordings", {}).json()
    view = until(lambda: (v := app.get(f"/calls/{call}").json())["to"] and v)
    assert (view["from"], view["to"], view["direction"]) == (
        "919820055512",
        "918041234567",
        "inbound",
    )
    assert app.house.recording(made["recording_id"])["stop"]["rule"] == "line"
    asked_about = app.house.requests("GET", f"Call/{call}/")
    assert len(asked_about) == 1


# What is told of one that ended by itself
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("home_first", [True, False])
def test_a_later_hang_up_is_not_what_ended_a_recording_that_had_ended_by_itself(app, home_first):
    house = app.house
    call, recording = recorded(
        app, spelling="file-only" if home_first else "full"
    )  # the full one gives the provider's reason
    if not home_first:
        house.provider.faults.switch_on("media-5xx")
    house.provider.end(recording.recording_id, "FinishedOnKey")
    house.reach(recording.recording_id, "archived" if home_first else "fetching")
    house.provider.hangup(call)
    until(lambda: Kind.CALL_ENDED in house.kinds(call))
    house.provider.faults.clear()
    view = house.reach(recording.recording_id, "archived")
    receipt = json.loads(
        (house.folder / "archive" / view["archive_key"]).with_suffix(".json").read_text()
    )
    assert (view["stop"]["trigger"], receipt["stop"]["trigger"]) == (None, None)
