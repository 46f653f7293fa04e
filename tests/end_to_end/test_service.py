"""Every process, Redis and the emulator for real: what the contract promises about one recording's
life."""

import hashlib
import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from emulator import signing
from tests.builders import obligation
from tests.constants import ACCOUNT
from tests.process_list import children
from tests.waiting import until
from worker.calls.obligations import Duty
from worker.duties import days
from worker.ledger.client import Ledger
from worker.ledger.store import connect

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("service")]
TWO_SECONDS, KEEPS, OBSERVED, OTHER = "918020000001", "918030000001", "918040000001", "918065550101"


def start(service, to, **how):
    call = service.provider.call(to_number=to)
    return call.call_uuid, service.provider.record(call.call_uuid, **how).recording_id


def until_known(service, *recording_ids):
    for recording_id in recording_ids:
        service.reach(recording_id, "recording")


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no /proc here")
def test_the_children_of_a_worker_share_the_larger_part_of_its_memory(service):
    service.reach(start(service, TWO_SECONDS)[1], "archived")
    for kind in ("stops", "fetches"):
        for child in children(service.processes.processes[kind].pid):
            lines = Path(f"/proc/{child}/smaps_rollup").read_text().splitlines()[1:]
            kib = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
            assert kib["Shared_Dirty"] > kib["Private_Dirty"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc here")
def test_the_parent_of_keep_never_has_sqlite_which_a_fork_would_break(service):
    service.reach(start(service, TWO_SECONDS)[1], "archived")
    parent = service.processes.processes["keep"].pid
    until(lambda: any(uses_sqlite(child) for child in children(parent)))
    assert not uses_sqlite(parent)


def uses_sqlite(pid):
    return "sqlite" in Path(f"/proc/{pid}/maps").read_text()


def test_a_deadline_stops_the_recording_and_brings_the_file_home_with_a_receipt(service):
    call, recording = start(service, TWO_SECONDS)
    view = service.reach(recording, "archived")
    assert view["stop"]["state"] == "confirmed"
    assert view["stop"]["trigger"] == "max_duration"
    assert "callback" in view["stop"]["evidence"]
    assert -200 <= view["stop"]["tail_ms"] < 1000
    assert len(service.stops_sent(call)) == 1
    audio = (service.archive / view["archive_key"]).read_bytes()
    assert hashlib.sha256(audio).hexdigest() == view["sha256"]
    receipt = json.loads((service.archive / view["archive_key"]).with_suffix(".json").read_text())
    assert receipt["schema"] == "endtape/receipt/1"
    assert receipt["signature"]["namespace"] == "endtape-receipt"
    assert set(receipt["checks"].values()) == {"passed"}
    assert receipt["media"]["sha256"] == view["sha256"]


def test_a_transfer_stops_the_recording_where_the_rule_says_so(service):
    call, recording = start(service, OTHER, container="wav", channels=2)
    until_known(service, recording)
    service.provider.event(call, "DialConnected")
    view = service.reach(recording, "archived")
    assert (view["stop"]["state"], view["stop"]["trigger"], view["format"]) == (
        "confirmed",
        "dial.connected",
        "wav",
    )


def test_a_transfer_before_the_start_is_known_still_stops_it(service):
    call = service.provider.call(to_number=OTHER)
    recording = service.provider.record(call.call_uuid, announce=False)
    service.provider.event(call.call_uuid, "DialConnected")
    service.provider.wait_idle(5)
    service.provider.send(
        call, "Record", {"RecordingID": recording.recording_id, "RecordUrl": recording.url}
    )
    assert service.reach(recording.recording_id, "archived")["stop"]["state"] == "confirmed"


def test_a_rule_that_keeps_sends_no_stop_and_a_hang_up_needs_none(service):
    call, recording = start(service, KEEPS)
    until_known(service, recording)
    service.provider.event(call, "DialConnected")
    service.provider.wait_idle(5)
    service.provider.hangup(call)
    view = service.reach(recording, "archived")
    assert (view["stop"]["state"], view["stop"]["trigger"]) == ("none", "hangup")
    assert service.stops_sent(call) == []


def test_observe_decides_and_reports_and_stops_nothing(service):
    call, recording = start(service, OBSERVED)
    until_known(service, recording)
    time.sleep(0.2)
    assert service.recording(recording)["stop"]["trigger"] == "max_duration"
    service.reach(recording, "recording")
    time.sleep(0.4)
    service.provider.hangup(call)
    service.reach(recording, "archived")
    assert service.stops_sent(call) == []


def test_one_of_two_recordings_is_named_by_its_url_and_the_other_runs_on(service):
    call, first = start(service, TWO_SECONDS)
    began = time.monotonic()
    until_known(service, first)
    # A stop that leaves late, on a busy machine, still leaves before the second is due as well.
    until(lambda: time.monotonic() >= began + 1)
    second = service.provider.record(call, recording_id=None).recording_id
    service.reach(first, "archived")
    sent = service.stops_sent(call)
    assert len(sent) >= 1
    assert first in json.loads(sent[0]["body"])["URL"]
    service.reach(second, "archived")


def test_a_204_that_stops_nothing_is_never_a_proof(service):
    call = service.provider.call(to_number=TWO_SECONDS)
    service.provider.faults.switch_on("deaf-stop", call_uuid=call.call_uuid)
    recording = service.provider.record(call.call_uuid).recording_id
    view = service.reach(recording, "stopping")
    assert view["stop"]["state"] in {"due", "accepted"}
    service.provider.faults.switch_off("deaf-stop")
    view = service.reach(recording, "archived")
    assert view["stop"]["attempts"] >= 2
    assert view["stop"]["state"] == "confirmed"


def test_a_lost_end_callback_is_found_by_asking_the_provider_by_call(service):
    call = service.provider.call(to_number=TWO_SECONDS)
    service.provider.faults.switch_on(
        "lost-callbacks", call_uuid=call.call_uuid, event="RecordStop"
    )
    recording = service.provider.record(call.call_uuid).recording_id
    view = service.reach(recording, "archived")
    assert view["stop"]["evidence"] == ["listed"]
    assert len(service.stops_sent(call.call_uuid)) == 1


def test_recordings_become_known_from_the_rest_callback_alone(service):
    call = service.provider.call(to_number=OTHER)
    recording = service.provider.record(call.call_uuid, source="rest")
    service.provider.end(recording.recording_id, "HungUp")
    assert service.reach(recording.recording_id, "archived")["stop"]["state"] == "none"


@pytest.mark.parametrize("fault", ["truncated-media", "html-media", "empty-media", "media-5xx"])
def test_bad_media_are_tried_again_and_never_archived(service, fault):
    call = service.provider.call(to_number=OTHER)
    service.provider.faults.switch_on(fault, call_uuid=call.call_uuid, times=1)
    recording = service.provider.record(call.call_uuid)
    until_known(service, recording.recording_id)
    service.provider.end(recording.recording_id, "FinishedOnKey")
    view = service.reach(recording.recording_id, "archived")
    assert view["bytes"] == recording.audio().size
    assert view["problem"] is None


def test_bytes_decide_the_extension(service):
    call = service.provider.call(to_number=OTHER)
    service.provider.faults.switch_on("lying-container", call_uuid=call.call_uuid)
    recording = service.provider.record(call.call_uuid, container="mp3").recording_id
    until_known(service, recording)
    service.provider.end(recording, "FinishedOnKey")
    assert service.reach(recording, "archived")["archive_key"].endswith(".wav")


def test_doubled_callbacks_change_nothing(service):
    call = service.provider.call(to_number=TWO_SECONDS)
    service.provider.faults.switch_on("doubled-callbacks", call_uuid=call.call_uuid)
    recording = service.provider.record(call.call_uuid).recording_id
    service.reach(recording, "archived")
    timeline = service.get(f"/v1/calls/{call.call_uuid}").json()["timeline"]
    assert sum(e["event"] == "RecordingFinalized" for e in timeline) == 1
    assert sum(e["event"] == "MediaArchived" for e in timeline) == 1


def post(service, body, path="", **headers):
    return requests.post(
        service.callback + path,
        data=body,
        headers={"Content-Type": "application/x-www-form-urlencoded", **headers},
        timeout=5,
    )


def test_the_receiver_gives_the_documented_answers(service):
    base = service.callback.rsplit("/", 2)[0]
    assert (
        requests.post(
            f"{base}/MA_OTHER/test-callback-token-0001", data="a=1", timeout=5
        ).status_code
        == 404
    )
    assert requests.post(service.callback + "x", data="a=1", timeout=5).status_code == 404
    assert post(service, "Event=Hangup&CallUUID=c1").status_code == 403
    assert post(service, b"\xff\xfe\x00").status_code == 400
    assert post(service, b"a" * 70_000).status_code == 413
    assert (
        requests.post(
            service.callback, data=(b"a" * 1000 for _ in range(200)), timeout=5
        ).status_code
        == 413
    )
    assert requests.get(service.base + "/system", timeout=5).status_code == 401
    assert (
        requests.get(service.base + "/v1/recordings", timeout=5).headers["Content-Type"]
        == "application/problem+json"
    )
    assert service.get("/healthz").status_code == 200
    assert b"endtape_stop_lateness_seconds" in service.get("/metrics").content
    # What worker processes count by themselves reaches it too.
    by_workers = ('provider_requests_total{request="credentials",status="200"}', "recordings{acc")
    until(lambda: all(f"endtape_{w}" in service.get("/metrics").text for w in by_workers), 30)


def test_a_fetch_worker_that_is_killed_half_way_loses_nothing(service):
    made = [start(service, OTHER, container="wav") for _ in range(4)]
    until_known(service, *(r for _, r in made))
    service.provider.faults.switch_on("trickled-media", bytes=6_000, pause_s=0.1)
    for _, recording in made:
        service.provider.recordings[
            recording
        ].started_at -= 20  # 5 s each; what has come is written and noted every 2 s
        service.provider.end(recording, "FinishedOnKey")
    until(lambda: any(p.stat().st_size for p in (service.folder / "spool").glob(".*.part")))
    service.processes.kill("fetches")
    service.provider.faults.switch_off("trickled-media")
    for _, recording in made:
        view = service.reach(recording, "archived", 40)
        assert len(list(Path(service.archive).rglob(f"{recording}.wav"))) == 1
        assert view["problem"] is None


def test_redis_killed_and_started_again_loses_no_stop(service):
    made = [start(service, TWO_SECONDS) for _ in range(5)]
    until_known(service, *(r for _, r in made))
    service.redis.kill()
    service.redis.start()
    for _, recording in made:
        assert service.reach(recording, "archived", 40)["stop"]["state"] == "confirmed"


def test_while_redis_stands_still_every_callback_is_answered_503_within_a_second(service):
    os.kill(service.redis.process.pid, signal.SIGSTOP)
    try:
        took = []
        for i in range(6):
            headers = signing.signature_headers(
                "v3", service.callback, "test-auth-token", None, signing.Nonces()
            )
            began = time.monotonic()
            answer = requests.post(
                service.callback,
                data={"Event": "Ring", "CallUUID": f"still-{i}"},
                headers=headers,
                timeout=10,
            )
            took.append(time.monotonic() - began)
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    finally:
        os.kill(service.redis.process.pid, signal.SIGCONT)
    assert max(took) <= 1.0
    until(lambda: service.get("/readyz").status_code == 200)


def test_a_worker_child_that_dies_while_the_rules_are_broken_goes_on_with_the_last_good_ones(
    service,
):
    rules = service.folder / "endtape.toml"
    before = rules.read_text()
    rules.write_text(before + "\n[[rules]\nbroken")
    try:
        for pid in children(service.processes.processes["stops"].pid):
            os.kill(pid, signal.SIGKILL)
        _, recording = start(service, TWO_SECONDS)
        assert service.reach(recording, "archived", 30)["stop"]["state"] == "confirmed"
    finally:
        rules.write_text(before)


def test_a_day_that_is_over_is_closed_by_the_process_keep_and_verifies(service):
    _, recording = start(service, TWO_SECONDS)
    service.reach(recording, "archived")
    ledger = Ledger(connect(service.redis.url))
    owed = obligation(Duty.DAY, days.DAYS)
    until(lambda: (due := ledger.next_at(owed)) and due > ledger.now())  # today is still open
    yesterday = (ledger.now() - timedelta(days=1)).date().isoformat()
    ledger.command("HSET", ledger.key("days", ACCOUNT), "first", yesterday)
    ledger.make_due_now(owed)
    ledger.wake()
    closed = service.archive / ACCOUNT / "days" / f"{yesterday}.json.sig"
    until(closed.exists)
    found = service.command("verify", "--json")
    assert found.returncode == 0, found.stdout
    assert json.loads(found.stdout)["counts"]["days"] == 1
