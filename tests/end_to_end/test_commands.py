"""What an operator types, against the real processes."""

import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from tests.bad_days import made_older
from tests.waiting import until
from worker.calls.events import Event, Kind
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.processes.supervisor import free_port

pytestmark = [pytest.mark.redis, pytest.mark.end_to_end, pytest.mark.xdist_group("commands")]
ENDTAPE = Path(sys.executable).parent / "endtape"
SUB = '\n[[accounts]]\nauth_id = "SA_1"\ntoken_env = "SUB_TOKEN"\n'
SECRETS = ("test-auth-token", "test-callback-token-0001", "test-api-key-000000001")


def test_doctor_tries_each_connection_sends_itself_a_signed_callback_and_shows_no_secret(service):
    service.http.post(service.callback, data="Event=Ring&CallUUID=c", timeout=5)
    found = service.command("doctor", "--json")
    told = json.loads(found.stdout)
    states = {c["name"]: c["state"] for c in told["checks"]}
    assert (found.returncode, list(told), told["settings_of"]) == (
        0,
        ["checks", "settings", "settings_of"],
        "service",
    )
    looked_at = ("version", "mode", "eviction", "append-only file", "appendfsync", "clock")
    assert states == {
        "settings": "fine",
        "redis": "fine",
        **{f"redis {what}": "fine" for what in looked_at},
        "processes": "fine",
        "provider's address": "fine",
        f"account {service.env['VOBIZ_AUTH_ID']}": "fine",
        f"callback {service.env['VOBIZ_AUTH_ID']}": "fine",
        "archive": "fine",
        "spool": "fine",
        "catalogue": "fine",
        "signing key": "fine",
        "unfinished work": "fine",
        "refused requests": "warning",
    }
    refused = next(c["detail"] for c in told["checks"] if c["name"] == "refused requests")
    # The doctor's own callback is none of them.
    assert refused.startswith("in the last hour:\n1 × missing: the provider sent no signature")
    assert refused.count(" × ") == 1
    assert f"UTC, POST /vobiz/{service.env['VOBIZ_AUTH_ID']}/…" in refused
    keys = service.command("keys").stdout
    assert keys == requests.get(f"{service.base}/v1/keys", timeout=5).text
    assert keys.strip() == next(c["detail"] for c in told["checks"] if c["name"] == "signing key")
    (key,) = json.loads(service.command("keys", "--json").stdout)
    assert (key["line"], key["in_use"]) == (keys.strip(), True)
    shown = found.stdout + service.command("doctor").stdout
    assert not [s for s in SECRETS if s in shown]
    clear = json.loads(
        service.command("doctor", "--json", VOBIZ_API_URL="http://provider.invalid/api/v1").stdout
    )["checks"]
    assert [c["state"] for c in clear if c["name"] == "provider's address"] == ["warning"]
    wrong = service.command(
        "doctor", ENDTAPE_PUBLIC_URL="http://127.0.0.1:1", VOBIZ_AUTH_TOKEN="other"
    )
    assert wrong.returncode == 1
    assert wrong.stdout.count("FAILED") == 2
    assert not [s for s in SECRETS if s in wrong.stdout]


def test_wrong_settings_end_every_process_with_status_2_and_all_reasons(service):
    strange = service.command(
        "ls", "--limit", "1", ENDTAPE_URL="http://x", ENDTAPE_KEY="k"
    )  # as an application beside it may have
    assert (
        strange.returncode,
        [line.rpartition(" ")[2] for line in strange.stderr.splitlines()],
    ) == (0, ["ENDTAPE_API_KEY", "ENDTAPE_PUBLIC_URL"]), strange
    found = service.command("ls", PORT="x", ENDTAPE_API_KEY="short")
    assert found.returncode == 2
    assert [line.split(" ")[0] for line in found.stderr.splitlines()] == ["PORT", "ENDTAPE_API_KEY"]
    for line in (["-m", "webhooks.app"], ["-m", "worker.processes.clock"]):
        ended = subprocess.run(
            [sys.executable, *line],
            cwd=service.folder,
            env={**os.environ, **service.env, "PORT": "x"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (ended.returncode, "PORT = 'x'" in ended.stderr) == (2, True)


def test_urls_prints_the_address_and_xml_with_it_in_place(service):
    text = service.command("urls").stdout
    assert service.callback in text
    assert re.search(
        r'<Record recordSession="true" redirect="false"\s+maxLength="\d+" timeout="\d+"', text
    )
    assert "<Dial callbackUrl=" in text
    assert "<Conference callbackUrl=" in text
    assert json.loads(service.command("urls", "--json").stdout) == {
        service.env["VOBIZ_AUTH_ID"]: service.callback
    }


def test_stop_waits_for_the_proof_and_ls_and_show_tell_of_it(service):
    call, recording = service.running()
    found = service.command("stop", call, "--json")
    assert found.returncode == 0
    (told,) = json.loads(found.stdout)
    assert (told["recording_id"], told["stop"]["state"], told["stop"]["trigger"]) == (
        recording,
        "confirmed",
        "api",
    )
    service.reach(recording, "archived")
    assert recording in [
        r["recording_id"] for r in json.loads(service.command("ls", "--json").stdout)
    ]
    shown = json.loads(service.command("show", recording, "--json").stdout)
    assert [e["event"] for e in shown["timeline"]][:2] == ["RecordingStarted", "StopOrdered"]
    for command in (["ls"], ["show", call]):
        text = service.command(*command).stdout
        assert "confirmed" in text
        assert max(map(len, text.splitlines())) <= 80


def test_a_stop_without_proof_in_time_is_not_done_and_says_so(service):
    call, recording = service.running()
    service.provider.faults.switch_on("deaf-stop", call_uuid=call)
    found = service.command("stop", call, "--wait", "2")
    assert (
        found.returncode,
        f"{recording}: no proof within 2 s; it is looked for" in found.stderr,
    ) == (1, True), found
    service.provider.faults.switch_off("deaf-stop")
    service.provider.hangup(call)
    service.reach(recording, "archived")


def test_a_broken_rules_file_does_not_take_the_emergency_brake_away(service):
    call, recording = service.running()
    second = service.provider.record(call).recording_id
    service.reach(second, "recording")
    rules = service.folder / "endtape.toml"
    before = rules.read_text()
    rules.write_text("[defaults")
    try:
        assert service.command("ls").returncode == 0
        found = service.command("stop", second, "--json")
        assert ([s["recording_id"] for s in json.loads(found.stdout)], found.returncode) == (
            [second],
            0,
        )
        assert "not valid TOML" in found.stderr
    finally:
        rules.write_text(before)
    assert service.recording(recording)["phase"] == "recording"
    service.provider.hangup(call)


def test_what_is_not_known_is_said_so(service):
    found = service.command("show", "nope")
    assert (found.returncode, "nope: no such call or recording" in found.stderr) == (1, True)
    for wrong in (["stop"], ["stop", "../nope"], ["stop", "nope", "--account", "MA_OTHER"]):
        assert service.command(*wrong).returncode == 2


def test_a_call_that_nobody_told_us_of_is_stopped_by_command_as_through_the_api(service):
    for lists, status in ((True, 0), (False, 1)):
        service.provider.faults.switch_on("lost-callbacks")
        if not lists:
            service.provider.faults.switch_on("list-lag")
        try:
            call = service.provider.call().call_uuid
            recording = service.provider.record(call)
            found = service.command("stop", call, "--wait", "10" if lists else "2", "--json")
        finally:
            service.provider.faults.switch_off("lost-callbacks")
            service.provider.faults.switch_off("list-lag")
        (told,) = json.loads(found.stdout)
        assert (bool(recording.ended_at), len(service.stops_sent(call)) >= 1, found.returncode) == (
            True,
            True,
            status,
        ), found
        if lists:  # the list proves it
            assert (told["recording_id"], told["stop"]["evidence"]) == (
                recording.recording_id,
                ["listed"],
            )
        else:
            assert (told["recording_id"], told["stop"]["state"], told["stop"]["attempts"] >= 1) == (
                None,
                "accepted",
                True,
            )
            assert (
                "the stop for all of it was sent, and no recording of it is known" in found.stderr
            )
    asked, nobody = (
        service.command("stop", "never-was-a-call", "--wait", "20"),
        "never-was-a-call: the provider has no live call of this id (404)",
    )
    assert (
        asked.returncode,
        nobody in asked.stderr,
        len(service.stops_sent("never-was-a-call")) >= 1,
    ) == (1, True, True), asked


def test_a_stop_of_a_call_that_only_rings_does_not_say_that_nobody_told_us_of_it(service):
    call = service.provider.call(direction="outbound", ringing=True).call_uuid
    assert service.provider.wait_idle(5)
    found = service.command("stop", call, "--wait", "2")
    assert (
        found.returncode,
        "rings, or is over" in found.stderr,
        "nobody told us" in found.stderr,
    ) == (1, True, False), found


def test_where_there_are_several_accounts_a_call_that_nobody_told_us_of_needs_one_and_a_broken_file_hides_none(
    service,
):
    rules, told, main = (
        service.folder / "endtape.toml",
        service.folder / ".env",
        service.env["VOBIZ_AUTH_ID"],
    )
    before = rules.read_text()
    try:
        told.write_text("SUB_TOKEN=sub-token\n")
        rules.write_text(before + SUB)
        whose = service.command("stop", "nobody-knows-1")
        assert (whose.returncode, f"--account {main} or SA_1" in whose.stderr) == (2, True), whose
        assert service.command("stop", "nobody-knows-1", "--account", main).returncode == 1
        assert len(service.stops_sent("nobody-knows-1")) >= 1
        ledger = Ledger(connect(service.redis.url))
        ledger.record(
            "SA_1",
            Event(
                id="r",
                kind=Kind.RECORDING_STARTED,
                call_uuid="sub-call",
                recording_id="sub-rec",
                signed=True,
            ),
        )
        rules.write_text("[defaults")
        shown = service.command("show", "sub-call")
        assert (shown.returncode, "call sub-call of SA_1" in shown.stdout) == (0, True), shown
        held_up = service.command("stop", "sub-call", "--wait", "0.5")
        assert (held_up.returncode, "SA_1 is not in the settings" in held_up.stderr) == (1, True), (
            held_up
        )
    finally:
        rules.write_text(before)
        told.unlink()


def test_a_refusal_is_told_with_its_remedy_at_most_once_a_minute_by_all_processes_together(service):
    answers = {
        service.http.post(
            service.callback, data=b"x" * 70_000, headers={"Connection": "close"}, timeout=5
        ).status_code
        for _ in range(8)
    }
    lines = until(
        lambda: [
            line
            for line in (service.folder / "log").read_text().splitlines()
            if "reason=too_large" in line
        ]
    )
    assert (answers, len(lines), "remedy=" in lines[0]) == ({413}, 1, True)


def test_no_secret_and_no_callback_address_ever_reaches_the_log(service):
    service.provider.faults.switch_on("leaked-tokens")
    service.running()
    service.provider.faults.switch_off("leaked-tokens")
    text = (service.folder / "log").read_text()
    assert "RecordingStarted" in text
    assert not [s for s in SECRETS if s in text]


def test_the_version_is_told_and_the_help_says_what_each_command_does_without_cutting_it_off():
    assert re.fullmatch(
        r"endtape \d+\.\d+\.\d+\n",
        subprocess.run([ENDTAPE, "--version"], capture_output=True, text=True, check=True).stdout,
    )
    told = subprocess.run(
        [ENDTAPE, "--help"],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "..." not in told.partition("Commands:")[2]
    assert max(map(len, told.splitlines())) <= 80


def test_reconcile_finds_what_no_callback_told_of_and_the_service_fetches_it(service):
    service.provider.faults.switch_on("lost-callbacks")
    try:
        call = service.provider.call()
        recording = service.provider.record(call.call_uuid)
        service.provider.hangup(call.call_uuid)
        until(lambda: recording.listed_at)
        found = service.command("reconcile", "--json")
    finally:
        service.provider.faults.switch_off("lost-callbacks")
    (told,) = json.loads(found.stdout)
    assert (found.returncode, told["account"], told["problem"]) == (
        0,
        service.env["VOBIZ_AUTH_ID"],
        None,
    )
    assert service.reach(recording.recording_id, "archived")["stop"]["state"] == "none"
    table = service.command("reconcile")
    assert (service.env["VOBIZ_AUTH_ID"] in table.stdout, table.stderr) == (True, "")
    wrong = service.command("reconcile", "--wait", "1", VOBIZ_API_URL="http://127.0.0.1:1/api/v1")
    assert wrong.returncode == 1


def test_a_redis_erased_while_all_processes_run_is_rebuilt(service):
    _, known = service.running()
    service.provider.end(known, "FinishedOnKey")
    service.reach(known, "archived")
    client = connect(service.redis.url)
    client.flushall()
    service.reach(known, "archived", within_s=30)
    # The catalogue knows it all the while; the surveys find out that Redis was erased.
    until(lambda: Ledger(client).counters().get("alerts_total|ledger_erased") == 1, 30)


def test_handoff_asks_the_running_service_and_its_status_is_the_verdict(service):
    call, _ = service.running()
    go = service.command("handoff", call, "--kind", "blind", "--json")
    said = json.loads(go.stdout)
    assert (go.returncode, said["verdict"]) == (0, "go")
    assert {"callback", "listed"} & set(said["evidence"])  # whichever came first
    hold = service.command("handoff", "nobody-knows", "--wait", "0.2")
    assert (hold.returncode, hold.stdout.startswith("HOLD: ")) == (1, True)
    wrong = service.command("handoff", call, "--kind", "Bad Kind")
    assert (wrong.returncode, "kind: must be `blind`" in wrong.stderr) == (2, True)
    lost = service.command("handoff", call, PORT=str(free_port()))
    assert (lost.returncode, "is the service running" in lost.stderr) == (1, True)


def test_start_pause_and_resume_do_what_the_api_does_and_exit_0_only_when_it_is_done(service):
    call = service.provider.call().call_uuid
    began = service.command("start", call, "--max-duration", "1h", "--label", "team=a", "--json")
    first = json.loads(began.stdout)
    assert (began.returncode, first["phase"], first["labels"]) == (0, "recording", {"team": "a"})
    paused = service.command("pause", call, "--reason", "card")
    assert (paused.returncode, first["recording_id"] in paused.stdout) == (0, True), paused
    assert max(map(len, paused.stdout.splitlines())) <= 80
    resumed = service.command("resume", call, "--json")
    (second,) = json.loads(resumed.stdout)["recordings"]
    assert (resumed.returncode, second["segment_of"]) == (0, first["recording_id"])
    again = service.command("resume", call)
    assert (again.returncode, "nothing is paused" in again.stderr) == (1, True)
    nowhere = service.command("start", "nobody-knows")
    assert (nowhere.returncode, "not started" in nowhere.stderr) == (1, True)
    nobody = service.command("pause", "nobody-knows-it")
    assert (nobody.returncode, "failed" in nobody.stdout) == (1, True), nobody
    assert "nobody-knows-it: the provider has no live call of this id (404)" in nobody.stderr
    assert service.command("start", call, "--label", "team").returncode == 2
    shown = service.command("start", "--help").stdout
    assert "Example: endtape start" in shown


def test_retry_orders_one_more_try_and_refuses_what_is_home_or_unknown(service):
    call, recording = service.running()
    service.provider.faults.switch_on("media-5xx", call_uuid=call)
    service.provider.end(recording, "FinishedOnKey")
    until(
        lambda: any(
            e["event"] == "FetchFailed" for e in service.get(f"/v1/calls/{call}").json()["timeline"]
        )
    )
    assert (
        service.command("retry", recording).returncode == 0
    )  # while it fails, or it would come home by itself meanwhile
    service.provider.faults.switch_off("media-5xx")
    service.reach(recording, "archived")
    for command in (["retry", recording], ["retry", "nobody-knows"], ["retry", "--fault", "all"]):
        assert service.command(*command).returncode == 1


def test_what_is_abandoned_is_listed_within_80_columns_and_retried_by_id_or_all_of_a_kind_at_once(
    service,
):
    call, recording = service.running()
    others = [service.provider.record(call).recording_id for _ in range(2)]
    for i in others:
        service.reach(i, "recording")
    service.provider.faults.switch_on("media-5xx", call_uuid=call)
    service.provider.hangup(call)
    bad = {recording, *others}
    ledger = Ledger(connect(service.redis.url))

    def failed():
        return [
            e.recording_id
            for e in ledger.events(service.env["VOBIZ_AUTH_ID"], call)
            if e.kind is Kind.FETCH_FAILED
        ]

    until(lambda: all(failed().count(i) >= 2 for i in bad))
    assert json.loads(service.command("ls", "--abandoned", "--json").stdout) == []
    assert {
        e["recording_id"]
        for e in json.loads(
            service.command("ls", "--failing", "--fault", "provider", "--json").stdout
        )
    } == bad
    assert "fault: provider" in service.command("show", call).stdout
    made_older(ledger, call, Kind.FETCH_FAILED, timedelta(hours=25))
    for i in bad:
        service.reach(i, "abandoned")
    found = service.command("ls", "--abandoned", "--json")
    entries = json.loads(found.stdout)
    assert (
        {e["recording_id"] for e in entries},
        {e["fault"] for e in entries},
        found.returncode,
    ) == (bad, {"provider"}, 0)
    assert all(
        e["tries"] >= 3
        and "503" in e["problem"]
        and e["call_uuid"] == call
        and e["next_at"] > e["started_at"]
        for e in entries
    )
    text = service.command("ls", "--abandoned", "--fault", "provider").stdout
    assert all(i in text for i in bad)
    assert ("503" in text, max(map(len, text.splitlines())) <= 80) == (True, True), text
    assert (
        json.loads(service.command("ls", "--abandoned", "--fault", "media", "--json").stdout) == []
    )
    assert "There are more" in service.command("ls", "--abandoned", "--limit", "1").stdout
    for wrong in (
        ["retry"],
        ["retry", recording, "--fault", "all"],
        ["retry", "--fault", "weather"],
    ):
        assert service.command(*wrong).returncode == 2, wrong
    assert (
        service.command("retry", "--fault", "media").returncode,
        json.loads(service.command("retry", "--fault", "media", "--json").stdout)["ordered"],
    ) == (1, 0)

    service.provider.faults.switch_off("media-5xx")
    one = service.command("retry", recording, "nobody-knows", "--json")
    told = json.loads(one.stdout)
    assert (one.returncode, told["ordered"], [r["retry"] for r in told["recordings"]]) == (
        1,
        1,
        ["ordered", "refused"],
    )
    service.reach(recording, "archived")
    rest = service.command("retry", "--fault", "all")
    assert (rest.returncode, rest.stdout) == (0, "2 will be tried again now.\n")
    for i in others:
        service.reach(i, "archived")
    assert "503" not in service.command("ls", "--abandoned").stdout


def test_explain_shows_the_rule_why_not_the_others_and_what_a_trigger_would_do_within_80_columns(
    service,
):
    call, _ = service.running(to="918030000001")
    told = json.loads(
        service.command("explain", "--call", call, "--trigger", "transfer.blind", "--json").stdout
    )
    assert (told["rule"], told["trigger"]["action"]) == ("keeps", "keep")
    assert [t["fits"] for t in told["tried"]][-1] is True
    assert "wanted '91802*'" in told["tried"][0]["why"]
    for of in (["--to", "918030000001", "--direction", "outbound"], ["--call", call]):
        shown = service.command("explain", *of, "--trigger", "transfer.blind")
        assert (shown.returncode, "transfer.blind: keep" in shown.stdout) == (0, True)
        assert max(map(len, shown.stdout.splitlines())) <= 80
    for wrong, named in (
        (["--trigger", "transferr"], "transfer.KIND"),
        (["--label", "team"], "'team' is not NAME=VALUE"),
    ):
        refused = service.command("explain", *wrong)
        assert (refused.returncode, named in refused.stderr) == (2, True), refused.stderr
