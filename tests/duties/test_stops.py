"""Stops over real HTTP and real Redis: triggers, proofs, refusals, limits."""

import json
import time
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests import redis_view
from tests.builders import obligation
from tests.constants import ACCOUNT
from tests.waiting import until
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty
from worker.duties import access, send_once, send_stops
from worker.duties.send_stops import MOST_ERRORS_TOLD
from worker.vobiz.answers import Answer
from worker.vobiz.rest import hide_tokens

HOUR = '[defaults]\nmax_duration = "1h"\nconfirm_within = "1s"\n'
SECOND = '[defaults]\nmax_duration = "1s"\nconfirm_within = "1s"\n'


def start(house, to="918065550101", **how):
    call = house.provider.call(to_number=to)
    recording = house.provider.record(call.call_uuid, **how)
    house.reach(recording.recording_id, "recording") if how.get("announce", True) else None
    return call.call_uuid, recording


def bodies(house, call_uuid):
    return [e["body"] for e in house.requests("DELETE", call_uuid)]


@pytest.mark.parametrize(
    ("trigger", "callback"),
    [
        ("transfer", {"Event": "Transfer"}),
        ("redirect", {"Event": "Redirect"}),
        ("dial.answer", {"Event": "DialAnswer", "DialAction": "answer", "DialBLegUUID": "b1"}),
        (
            "dial.connected",
            {"Event": "DialConnected", "DialAction": "connected", "DialBLegUUID": "b1"},
        ),
        ("machine", {"Event": "MachineDetection", "Machine": "true"}),
    ],
)
def test_every_trigger_that_a_callback_can_raise_stops_the_call_it_names(local, trigger, callback):
    house = local(rules=HOUR + f'on = {{ "{trigger}" = "stop" }}')
    call, recording = start(house)
    if "DialAction" in callback:
        callback = {
            **callback,
            "CallUUID": "b1",
            "DialALegUUID": call,
        }  # a dial tells the A-leg in a field of its own
    assert house.post({"CallUUID": call, **callback}).status_code == 200
    view = house.stop_reaches(recording.recording_id, "confirmed")
    assert (view["stop"]["trigger"], view["stop"]["rule"]) == (trigger, "defaults")
    assert view["stop"]["requested_at"] >= view["stop"]["due_at"]
    assert bodies(house, call) == [""]  # call-wide: nothing else runs


@pytest.mark.parametrize(
    "callback",
    [
        {"Event": "Redirect", "DialStatus": "completed"},
        {"Event": "DialHangup", "DialBLegUUID": "b1"},
        {"Event": "MachineDetection", "Machine": "false"},
        {"Event": "StartApp"},
        {
            "Event": "ConferenceEnter",
            "ConferenceName": "room",
            "ConferenceMemberID": "1",
            "ConferenceFirstMember": "true",
        },
    ],
)
def test_what_is_no_trigger_stops_nothing(local, callback):
    house = local(rules=HOUR + 'on = { transfer = "stop", redirect = "stop", machine = "stop" }')
    call, recording = start(house)
    house.post({"CallUUID": call, **callback})
    assert house.recording(recording.recording_id)["stop"]["state"] == "none"
    assert bodies(house, call) == []


def test_a_second_call_in_a_room_stops_each_call_by_its_own_rule(local):
    house = local(
        rules=HOUR
        + 'on = { "conference.join" = "stop" }\n[[rules]]\nname = "keeps"\nmatch = { to = "77*" }\non = { "conference.join" = "keep" }'
    )
    first, one = start(house)
    second, two = start(house, "7700")
    room = {"Event": "ConferenceEnter", "ConferenceName": "room", "ConferenceUUID": "room-1"}
    house.post(
        {**room, "CallUUID": first, "ConferenceMemberID": "1", "ConferenceFirstMember": "true"}
    )
    assert house.recording(one.recording_id)["stop"]["state"] == "none"
    house.post(
        {
            **room,
            "CallUUID": second,
            "ConferenceMemberID": "2",
            "ConferenceFirstMember": "false",
            "To": "7700",
        }
    )
    assert house.stop_reaches(one.recording_id, "confirmed")["stop"]["trigger"] == "conference.join"
    assert bodies(house, second) == []
    assert house.recording(two.recording_id)["stop"]["state"] == "none"


def test_a_trigger_ends_all_that_had_begun_and_names_each_while_a_later_one_runs(local):
    house = local(rules=HOUR + 'on = { transfer = "stop" }')
    call, one = start(house)
    two = house.provider.record(call)
    house.reach(two.recording_id, "recording")
    house.provider.faults.switch_on("deaf-stop", call_uuid=call)
    house.post({"Event": "Transfer", "CallUUID": call})
    until(lambda: bodies(house, call))
    assert bodies(house, call)[0] == ""  # both had begun: call-wide
    for r in (one, two):
        assert house.recording(r.recording_id)["stop"]["trigger"] == "transfer"


def test_a_rule_that_arrives_with_late_facts_is_applied_within_five_seconds(local):
    house = local(
        rules=HOUR
        + '[[rules]]\nname = "short"\nmatch = { labels = { team = "7700" } }\nmax_duration = "1s"'
    )
    house.provider.call(call_uuid="c1")
    house.post(
        {
            "Event": "Record",
            "CallUUID": "c1",
            "RecordingID": "r1",
            "RecordUrl": "https://media.vobiz.ai/r1.mp3",
        }
    )
    assert house.reach("r1", "recording")["stop"]["due_at"] > "2"
    house.ledger.record(
        ACCOUNT, Event(id="told", kind=Kind.CALL_ANNOUNCED, call_uuid="c1", labels={"team": "7700"})
    )
    began = time.monotonic()
    view = house.stop_reaches("r1", "accepted")
    assert time.monotonic() - began < 5
    assert view["stop"]["rule"] == "short"


def test_a_stop_that_stops_nothing_ends_as_unknown_with_an_alert_and_turns_to_confirmed_with_the_proof(
    local,
):
    house = local(rules='[defaults]\nmax_duration = "1s"\nconfirm_within = "1s"\nstop_tries = 2\n')
    call = house.provider.call()
    house.provider.faults.switch_on("deaf-stop", call_uuid=call.call_uuid)
    recording = house.provider.record(call.call_uuid)
    view = house.stop_reaches(recording.recording_id, "unknown")
    assert (view["phase"], view["stop"]["attempts"], view["stop"]["evidence"]) == (
        "stopping",
        2,
        [],
    )
    assert len(bodies(house, call.call_uuid)) == 2
    looked = house.requests("GET", call.call_uuid)
    assert {("Recording/" in e["path"], "status=live" in e["path"]) for e in looked} == {
        (True, False),
        (False, True),
    }
    until(lambda: house.alerts().get("StopUnknown") == 1)
    house.provider.end(recording.recording_id, "FinishedOnKey")
    view = house.stop_reaches(recording.recording_id, "confirmed")
    assert view["stop"]["evidence"][0] == "callback"


def test_a_404_is_call_over_for_a_call_that_the_provider_reported(local):
    house = local(rules=SECOND)
    call = house.provider.call()
    house.provider.faults.switch_on("lost-callbacks", call_uuid=call.call_uuid, event="Hangup")
    recording = house.provider.record(call.call_uuid)
    house.reach(recording.recording_id, "recording")
    recording.ended_at, call.ended_at = (
        None,
        time.time(),
    )  # the call is over, and nobody told us of anything
    assert house.stop_reaches(recording.recording_id, "confirmed")["stop"]["evidence"] == [
        "call_over"
    ]


def test_a_404_proves_nothing_for_a_call_that_only_an_unsigned_callback_named(local):
    house = local(rules=SECOND + "stop_tries = 1\n", signatures="optional")
    house.post(
        {
            "Event": "Record",
            "CallUUID": "c9",
            "RecordingID": "r9",
            "RecordUrl": "https://media.vobiz.ai/r9.mp3",
        },
        signed=False,
    )
    view = house.stop_reaches("r9", "unknown")
    assert (view["stop"]["evidence"], view["stop"]["confirmed_at"]) == ([], None)


def test_a_gateways_404_says_that_our_path_is_wrong_and_marks_nothing_done(local):
    house = local(rules=SECOND)
    call = house.provider.call()
    house.provider.faults.switch_on("gateway-404", call_uuid=call.call_uuid, times=2)
    recording = house.provider.record(call.call_uuid)
    view = house.stop_reaches(recording.recording_id, "confirmed")
    until(lambda: house.alerts().get("wrong_path", 0) == 2)
    assert len(bodies(house, call.call_uuid)) == 3
    assert "call_over" not in view["stop"]["evidence"]


def test_a_429_is_heeded_not_counted_and_lowers_the_rate(local):
    house = local(rules=SECOND)
    call = house.provider.call()
    house.provider.faults.switch_on("stop-429", call_uuid=call.call_uuid, times=1, retry_after=2)
    recording = house.provider.record(call.call_uuid)
    house.stop_reaches(recording.recording_id, "confirmed")
    first, second = house.requests("DELETE", call.call_uuid)
    assert 2 <= second["at"] - first["at"] < 4
    assert redis_view.lowered_rate(house.ledger, "stop", ACCOUNT) <= 25
    assert [
        e.kind for e in house.call(call.call_uuid).recordings[recording.recording_id].attempts
    ] == [Kind.STOP_ERRED, Kind.STOP_ACCEPTED]


@pytest.mark.parametrize(
    ("fault", "params"),
    [
        ("stop-fails-first", {"status": 500}),
        ("stop-fails-first", {"status": 502}),
        ("stop-timeout", {"seconds": 0.3}),
    ],
)
def test_errors_and_timeouts_are_tried_again_soon(local, fault, params):
    house = local(rules=SECOND)
    call = house.provider.call()
    house.provider.faults.switch_on(fault, call_uuid=call.call_uuid, times=1, **params)
    recording = house.provider.record(call.call_uuid)
    house.stop_reaches(recording.recording_id, "confirmed")
    attempts = house.call(call.call_uuid).recordings[recording.recording_id].attempts
    assert [a.kind for a in attempts] == [Kind.STOP_ERRED, Kind.STOP_ACCEPTED]
    assert (attempts[1].requested_at - attempts[0].at).total_seconds() <= 1.1


def test_a_stop_that_hangs_delays_no_other(local):
    house = local(rules=SECOND)
    stuck = house.provider.call()
    house.provider.faults.switch_on("stop-timeout", call_uuid=stuck.call_uuid, times=1, seconds=5)
    held = house.provider.record(stuck.call_uuid)
    others = [start(house)[1] for _ in range(3)]
    for other in others:
        view = house.stop_reaches(other.recording_id, "confirmed")
        requested, due = (
            datetime.fromisoformat(view["stop"][n]) for n in ("requested_at", "due_at")
        )
        assert (requested - due).total_seconds() < 0.5
    house.stop_reaches(held.recording_id, "confirmed", 20)
    assert (
        house.call(stuck.call_uuid).recordings[held.recording_id].attempts[0].kind
        is Kind.STOP_ERRED
    )


# Refusals
# -----------------------------------------------------------------------------------------------------------


def test_the_second_token_is_tried_before_anything_is_thought(local):
    house = local(
        rules=SECOND,
        accounts={ACCOUNT: "newer-token,older-token"},
        provider_accounts={ACCOUNT: "older-token"},
    )
    call = house.provider.call()
    recording = house.provider.record(call.call_uuid)
    house.stop_reaches(recording.recording_id, "confirmed")
    assert [e["status"] for e in house.requests("DELETE", call.call_uuid)] == [401, 204]
    assert house.alerts() == {}


@pytest.mark.parametrize("status", [401, 403])
def test_a_stop_that_is_refused_with_good_credentials_is_set_aside_with_an_alert(local, status):
    house = local(rules=SECOND)
    call = house.provider.call()
    house.provider.faults.switch_on("refuse-auth", call_uuid=call.call_uuid, status=status)
    recording = house.provider.record(call.call_uuid)
    view = house.stop_reaches(recording.recording_id, "failed")
    until(lambda: house.alerts().get("set_aside", 0) == 1)
    assert not house.ledger.halted([ACCOUNT])
    other = start(house)[1]
    house.stop_reaches(other.recording_id, "confirmed")
    assert len(bodies(house, call.call_uuid)) == 1
    assert view["problem"]


@pytest.fixture
def tried_each_second(monkeypatch):
    """While its credentials are refused, an account is tried every second here, and every 5 s in
    truth."""
    assert access.HALTED_RETRY.total_seconds() == 5
    for module in (access, send_stops, send_once):
        monkeypatch.setattr(module, "HALTED_RETRY", timedelta(seconds=1))


def test_when_our_credentials_are_refused_the_account_is_halted_and_the_first_success_releases_it(
    local, tried_each_second
):
    house = local(rules=SECOND)
    house.provider.faults.switch_on("refuse-auth", me=True)
    call = house.provider.call()
    recording = house.provider.record(call.call_uuid)
    until(lambda: house.ledger.halted([ACCOUNT]))
    until(lambda: house.alerts().get("account_halted") == 1)
    ended = house.provider.call()
    waits = house.provider.record(ended.call_uuid)
    house.provider.end(waits.recording_id, "FinishedOnKey")
    house.reach(waits.recording_id, "fetching")
    until(lambda: len(bodies(house, call.call_uuid)) == 2)
    first, second = house.requests("DELETE", call.call_uuid)[:2]
    assert 0.9 <= second["at"] - first["at"] <= 2
    assert house.requests("GET", "Recording/") == []
    house.provider.faults.switch_off("refuse-auth")
    house.reach(waits.recording_id, "archived")
    house.stop_reaches(recording.recording_id, "confirmed")
    assert not house.ledger.halted([ACCOUNT])


def test_an_account_is_released_by_the_first_stop_that_is_accepted_also_when_its_answer_is_late(
    local, monkeypatch
):
    monkeypatch.setattr(access, "_works_again", lambda *_: False)  # nobody else finds it out
    monkeypatch.setattr(send_stops, "PATIENCE_S", 0)
    house = local(rules=SECOND)
    house.ledger.halt(ACCOUNT)
    start(house)
    until(lambda: not house.ledger.halted([ACCOUNT]))


def test_days_of_refusals_do_not_fill_the_ledger_and_the_tries_go_on(local, tried_each_second):
    house = local(rules=SECOND)
    house.provider.faults.switch_on("refuse-auth", me=True)
    house.ledger.halt(ACCOUNT)
    call = house.provider.call()
    for i in range(MOST_ERRORS_TOLD):
        house.ledger.record(
            ACCOUNT,
            Event(
                id=f"e{i}",
                kind=Kind.STOP_ERRED,
                call_uuid=call.call_uuid,
                recording_id="r1",
                status=401,
                trigger="max_duration",
                due_at=house.ledger.now(),
                requested_at=house.ledger.now(),
                retry_at=house.ledger.now(),
            ),
        )
    house.provider.record(call.call_uuid, recording_id="r1")
    until(lambda: len(bodies(house, call.call_uuid)) == 2)
    first, second = house.requests("DELETE", call.call_uuid)
    assert 0.9 <= second["at"] - first["at"] <= 2
    assert sum(k is Kind.STOP_ERRED for k in house.kinds(call.call_uuid)) == MOST_ERRORS_TOLD
    house.provider.faults.switch_off("refuse-auth")
    house.stop_reaches("r1", "confirmed")


def test_a_halted_account_is_released_also_when_no_stop_is_due(local):
    house = local()
    house.ledger.halt(ACCOUNT)
    call, recording = start(house)
    house.provider.hangup(call)
    house.reach(recording.recording_id, "archived")
    assert not house.ledger.halted([ACCOUNT])


# What is known late, early or never
# ----------------------------------------------------------------------------------


def test_a_recording_becomes_known_from_its_end_alone(local):
    house = local(rules=HOUR)
    call = house.provider.call()
    recording = house.provider.record(call.call_uuid, announce=False)
    house.provider.end(recording.recording_id, "FinishedOnKey")
    assert house.reach(recording.recording_id, "archived")["stop"]["state"] == "none"


def test_callbacks_that_come_shuffled_end_in_the_same_state(local):
    house = local(rules=HOUR)
    call, recording = start(house, announce=False)
    house.provider.faults.switch_on("lost-callbacks", call_uuid=call)
    house.provider.hangup(call)
    end = {
        "CallUUID": call,
        "RecordingID": recording.recording_id,
        "RecordUrl": recording.url,
        "RecordingDurationMs": f"{recording.duration_ms:.5f}",
        "RecordingStartMs": str(round(recording.started_at * 1000)),
        "RecordingEndMs": str(round(recording.ended_at * 1000)),
    }
    house.post({**end, "Event": "RecordStop", "RecordingEndReason": "HungUp"})
    house.post({"Event": "Hangup", "CallUUID": call})
    house.reach(recording.recording_id, "archived")
    house.post(
        {
            "Event": "Record",
            "CallUUID": call,
            "RecordingID": recording.recording_id,
            "RecordUrl": recording.url,
            "RecordingDurationMs": "-1",
        }
    )
    house.post({"Event": "Transfer", "CallUUID": call})
    view = house.recording(recording.recording_id)
    assert (view["phase"], view["stop"]["state"], bodies(house, call)) == ("archived", "none", [])


def test_two_recordings_with_deadlines_a_moment_apart_are_stopped_each_at_its_own(local):
    house = local(rules=SECOND)
    call, one = start(house)
    two = house.provider.record(call)
    house.stop_reaches(one.recording_id, "confirmed")
    assert json.loads(bodies(house, call)[0])["URL"] == one.url
    assert house.stop_reaches(two.recording_id, "confirmed")["stop"]["tail_ms"] > -200


def test_an_order_stops_one_recording_or_all_also_where_the_rules_only_observe(local):
    house = local(rules='[defaults]\nmode = "observe"\n')
    call, one = start(house)
    two = house.provider.record(call)
    house.reach(two.recording_id, "recording")
    house.ledger.record(
        ACCOUNT,
        Event(id="o1", kind=Kind.STOP_ORDERED, call_uuid=call, recording_id=one.recording_id),
    )
    assert house.stop_reaches(one.recording_id, "confirmed")["stop"]["trigger"] == "api"
    assert two.ended_at is None
    house.ledger.record(ACCOUNT, Event(id="o2", kind=Kind.STOP_ORDERED, call_uuid=call))
    house.stop_reaches(two.recording_id, "confirmed")


def test_a_call_of_an_account_that_left_the_settings_waits_for_its_return(local):
    house = local(rules=SECOND)
    house.worker.settings = replace(house.worker.settings, accounts={})
    call, recording = start(house)
    until(lambda: house.alerts().get("no_such_account"))
    # The worker that alerted has put it off.
    until(lambda: not redis_view.leases(house.ledger, Duty.PLAN))
    assert bodies(house, call) == []
    assert house.ledger.outstanding() >= 1
    house.worker.settings = house.settings
    house.ledger.make_all_due()
    house.stop_reaches(recording.recording_id, "confirmed")


def test_a_call_with_odd_figures_holds_up_no_other(local):
    house = local(rules=SECOND)
    odd = {
        "Event": "RecordStop",
        "CallUUID": "odd",
        "RecordingID": "ro",
        "RecordingDurationMs": "99999999999999999",
        "RecordingEndMs": str(round(time.time() * 1000)),
    }
    assert house.post(odd).status_code == 200
    assert house.call("odd").recordings["ro"].duration_s is None
    _, recording = start(house)
    house.stop_reaches(recording.recording_id, "confirmed")


def test_a_call_that_cannot_be_planned_is_told_and_holds_up_no_other(local):
    house = local(rules=SECOND)
    redis_view.spoil_log(house.ledger, ACCOUNT, "broken")
    redis_view.make_due(house.ledger, obligation(Duty.PLAN, "broken"))
    _, recording = start(house)
    house.stop_reaches(recording.recording_id, "confirmed")
    until(lambda: house.alerts().get("poison", 0) == 1)


def test_events_that_only_a_newer_release_knows_are_skipped(local):
    house = local(rules=SECOND)
    house.post({"Event": "Ring", "CallUUID": "c1"})
    log = redis_view.log_of(house.ledger, ACCOUNT, "c1")
    redis_view.set_log(
        house.ledger, ACCOUNT, "c1", log + 'zzz 1795491482000 {"k":"SomethingNew"}\n'
    )
    assert house.kinds("c1") == [Kind.CALL_SEEN]


def test_what_is_reported_just_before_a_call_wide_stop_is_not_ended_by_it(local):
    house = local(rules=SECOND)
    for _ in range(9):  # on a busy machine the callback may come after the stop left
        call, first = start(house)
        until(lambda began=first.started_at: time.time() >= began + 0.9)
        second = house.provider.record(call)
        stopped = house.stop_reaches(first.recording_id, "confirmed")["stop"]
        seen = house.reach(second.recording_id, "archived")["first_seen_at"]
        left = datetime.fromisoformat(stopped["requested_at"]) - datetime.fromisoformat(seen)
        if left > timedelta(milliseconds=10):
            break
    else:
        pytest.fail("no second recording was reported before the stop of the first")
    sent = bodies(house, call)
    assert sent[0] == "" or json.loads(sent[0])["URL"] == first.url
    view = house.stop_reaches(second.recording_id, "confirmed")
    assert view["stop"]["tail_ms"] > -200, "it was ended before its own deadline"


def test_a_room_that_was_left_untold_joins_nobody(local):
    house = local(rules=HOUR + 'on = { "conference.join" = "stop" }')
    room = {
        "Event": "ConferenceEnter",
        "ConferenceName": "support",
        "ConferenceFirstMember": "true",
    }
    gone, _ = start(house)
    house.post({**room, "CallUUID": gone, "ConferenceMemberID": "1"})
    call, _ = start(house)
    house.post({**room, "CallUUID": call, "ConferenceMemberID": "7"})
    house.post({**room, "Event": "ConferenceExit", "CallUUID": "early", "ConferenceMemberID": "9"})
    house.post({**room, "CallUUID": "early", "ConferenceMemberID": "9"})
    assert Kind.CONFERENCE_JOINED not in house.kinds(call)


@pytest.mark.end_to_end
def test_a_backlog_above_the_rate_is_sent_at_the_rate_and_asks_no_more_often_than_it_must(local):
    house = local(rules='[defaults]\nmax_duration = "1s"\n', ENDTAPE_STOP_RATE="40")
    calls = [house.provider.call() for _ in range(100)]
    for call in calls:
        house.provider.record(call.call_uuid)
    until(lambda: len(house.requests("DELETE")) >= 10)
    claims, began, sent = (
        redis_view.claims_so_far(house.ledger),
        time.monotonic(),
        len(house.requests("DELETE")),
    )
    until(lambda: len({e["path"] for e in house.requests("DELETE")}) == 100)
    took = time.monotonic() - began
    assert 100 - sent <= 10 + 40 * took + 2
    assert took < 100 / 40 + 3
    assert redis_view.claims_so_far(house.ledger) - claims < 1000


@pytest.mark.end_to_end
def test_rest_requests_other_than_stops_keep_to_their_rate(local):
    house = local(rules=SECOND, ENDTAPE_API_RATE="4")
    house.provider.faults.switch_on("deaf-stop")
    for _ in range(6):
        house.provider.record(house.provider.call().call_uuid)
    first = until(lambda: house.requests("GET", "/Account/"))[0]
    until(lambda: time.time() > first["at"] + 4)
    seen = [e["at"] for e in house.requests("GET", "/Account/")]
    assert len([at for at in seen if at <= first["at"] + 4]) <= 4 * 4 + 2


@pytest.mark.end_to_end
def test_hanging_stops_do_not_delay_the_others(local):
    house = local(rules=SECOND)
    hanging = [house.provider.call().call_uuid for _ in range(24)]
    house.provider.faults.switch_on("stop-timeout", seconds=4, call_uuid=hanging)
    for call in hanging:
        house.provider.record(call)
    _, recording = start(house)
    view = house.stop_reaches(recording.recording_id, "confirmed")
    requested, due = (datetime.fromisoformat(view["stop"][n]) for n in ("requested_at", "due_at"))
    assert (requested - due).total_seconds() < 1


def test_a_call_that_is_gone_as_far_as_anybody_can_tell_is_not_stopped_for_ever(local):
    house = local(rules=SECOND + "stop_tries = 1\n", signatures="optional")
    house.post(
        {
            "Event": "Record",
            "CallUUID": "c9",
            "RecordingID": "r9",
            "RecordUrl": "https://media.vobiz.ai/r9.mp3",
        },
        signed=False,
    )
    house.stop_reaches("r9", "unknown")
    until(lambda: not redis_view.due_at(house.ledger, obligation(Duty.PLAN, "c9")))
    assert redis_view.due_at(house.ledger, obligation(Duty.LOOK, "c9"))


@pytest.mark.parametrize("before", ['mode = "observe"', 'max_duration = "none"'])
def test_a_reload_stops_what_had_no_deadline_before(local, before):
    house = local(rules=f"[defaults]\n{before}\n")
    call, recording = start(house)
    until(lambda: not redis_view.leases(house.ledger, Duty.PLAN))
    house.rules.write_text(SECOND)
    house.worker.settings = type(house.settings).from_env(house.env, folder=house.folder)
    house.ledger.reload()
    began = time.monotonic()
    view = house.stop_reaches(recording.recording_id, "confirmed")
    assert time.monotonic() - began < 5
    assert len(bodies(house, call)) == 1
    assert view["stop"]["trigger"] == "max_duration"


def test_what_is_only_observed_is_not_called_due(local):
    house = local(rules='[defaults]\nmode = "observe"\nmax_duration = "1s"\n')
    _, recording = start(house)
    until(lambda: time.time() > recording.started_at + 1.2)
    view = house.recording(recording.recording_id)
    assert (view["stop"]["state"], view["stop"]["trigger"], view["phase"]) == (
        "none",
        "max_duration",
        "recording",
    )


def test_several_stops_of_one_call_do_not_wait_for_one_another(local):
    house = local(rules=HOUR)
    call, first = start(house)
    more = [house.provider.record(call) for _ in range(2)]
    last = house.provider.record(call)
    for recording in (*more, last):
        house.reach(recording.recording_id, "recording")
    house.provider.faults.switch_on("stop-timeout", seconds=2, call_uuid=call)
    *others, last_order = [
        Event(
            id=f"o.{r.recording_id}",
            kind=Kind.STOP_ORDERED,
            call_uuid=call,
            recording_id=r.recording_id,
        )
        for r in (first, *more)
    ]
    until(
        lambda: house.ledger.record_together(ACCOUNT, others, seen=house.ledger.size(ACCOUNT, call))
    )  # which makes nothing due yet
    house.ledger.record(ACCOUNT, last_order)
    sent = until(
        lambda: (
            (found := house.requests("DELETE", call))
            and len({e["body"] for e in found}) == 3
            and found
        )
    )
    assert max(e["at"] for e in sent[:3]) - min(e["at"] for e in sent[:3]) < 1.5


def test_a_token_that_the_provider_repeats_is_hidden(local):
    house = local()
    account = house.settings.accounts[ACCOUNT]
    answer = hide_tokens(
        account, Answer(status=401, headers={}, body=b'{"error":"bad token test-auth-token"}')
    )
    assert answer.body == b'{"error":"bad token (hidden)"}'
