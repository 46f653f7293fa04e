"""The proof of a stop over real HTTP and real Redis: one line in the log, one step of the timeline
and of the receipt, one count in each histogram."""

import json
import re
from datetime import datetime

import pytest

from tests import redis_view
from tests.conftest import ACCOUNT
from tests.waiting import until
from worker import logs
from worker.calls.obligations import Duty, Obligation

SECOND = '[defaults]\nmax_duration = "1s"\nconfirm_within = "1s"\n'
OBSERVED = f'{SECOND}mode = "observe"\n'
CONFIRMED = "StopConfirmed"


def metric(house, name):
    text = house.get("/metrics").text
    return float(re.search(rf"^endtape_{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])


def steps(house, call):
    timeline = house.get(f"/v1/calls/{call}").json()["timeline"]
    return [e for e in timeline if e["event"] == CONFIRMED]


def receipt_of(house, view):
    audio = house.settings.archive / view["archive_key"]
    return json.loads(audio.with_suffix(".json").read_text())


def planned_again(house, call):
    """Something is reported that changes nothing, and the call is planned with it."""
    assert house.post({"Event": "Ring", "CallUUID": call}).status_code == 200
    o = Obligation(duty=Duty.PLAN, account=ACCOUNT, call_uuid=call)
    until(
        lambda: (
            redis_view.due_at(house.ledger, o) is None
            and redis_view.lease_of(house.ledger, o) is None
        )
    )


def test_a_proof_is_told_once_everywhere_also_when_the_call_is_planned_again(local, capfd):
    house = local(rules=SECOND)
    call = house.provider.call(to_number="918065550101").call_uuid
    recording = house.provider.record(call).recording_id
    view = house.reach(recording, "archived")
    assert view["stop"]["state"] == "confirmed"
    looks = house.kinds(call).count("Looked")
    for _ in range(2):
        planned_again(house, call)

    logs.flush()
    logged = capfd.readouterr().err.splitlines()
    (line,) = [text for text in logged if CONFIRMED in text]
    assert f"call_uuid={call}" in line
    assert f"recording_id={recording}" in line
    assert "rule=defaults trigger=max_duration" in line
    assert "reason='proven by callback'" in line
    (step,) = steps(house, call)
    assert (step["recording_id"], step["reason"]) == (recording, "proven by callback")
    (written,) = [e for e in receipt_of(house, view)["events"] if e["event"] == CONFIRMED]
    assert written["at"] == step["at"]

    stop = view["stop"]
    took_s = seconds(stop["confirmed_at"]) - seconds(stop["due_at"])
    assert metric(house, f'events_total{{event="{CONFIRMED}"}}') == 1
    assert metric(house, "stop_confirmation_seconds_count") == 1
    assert metric(house, "stop_confirmation_seconds_sum") == pytest.approx(took_s, abs=0.01)
    assert metric(house, "stop_tail_seconds_count") == 1
    assert metric(house, "stop_tail_seconds_sum") == pytest.approx(stop["tail_ms"] / 1000, abs=0.01)
    assert metric(house, 'stop_tail_seconds_bucket{le="3600"}') == 1
    assert len(house.requests("DELETE", call)) == 1
    assert house.kinds(call).count("Looked") == looks


def seconds(instant):
    return datetime.fromisoformat(instant).timestamp()


def test_a_tail_that_is_learned_after_the_proof_is_counted_when_the_recording_is_archived(local):
    house = local(rules='[defaults]\nmax_duration = "1s"\nconfirm_within = "30s"\n')
    house.provider.faults.switch_on("deaf-stop")
    call = house.provider.call(to_number="918065550101").call_uuid
    recording = house.provider.record(call).recording_id
    house.stop_reaches(recording, "accepted")
    house.provider.faults.switch_on("lost-callbacks")
    house.provider.hangup(call)
    house.post({"Event": "Hangup", "CallUUID": call, "CallStatus": "completed"})
    until(lambda: metric(house, "stop_confirmation_seconds_count") == 1)
    assert metric(house, "stop_tail_seconds_count") == 0
    view = house.reach(recording, "archived", 30)
    until(lambda: metric(house, "stop_tail_seconds_count") == 1)
    assert metric(house, "stop_tail_seconds_sum") == pytest.approx(view["stop"]["tail_ms"] / 1000)
    assert metric(house, "stop_confirmation_seconds_count") == 1
    assert len(steps(house, call)) == 1


def test_what_rules_only_observe_and_what_was_never_due_are_not_told_as_proven(local):
    house = local(rules=OBSERVED)
    call = house.provider.call(to_number="918065550101").call_uuid
    recording = house.provider.record(call, age_s=5).recording_id
    house.reach(recording, "recording")
    house.provider.hangup(call)
    house.reach(recording, "archived")
    assert steps(house, call) == []
    assert metric(house, "stop_confirmation_seconds_count") == 0
    assert metric(house, "stop_tail_seconds_count") == 0
