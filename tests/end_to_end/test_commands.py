"""What an operator types, against the real processes."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
import redis
import requests

from tests.bad_days import made_older
from tests.processes import command_lines
from tests.waiting import until
from worker.calls.events import Event, Kind
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.processes.supervisor import free_port

pytestmark = [pytest.mark.redis, pytest.mark.end_to_end, pytest.mark.xdist_group("commands")]
ENDTAPE = Path(sys.executable).parent / "endtape"
SECRETS = ("test-auth-token", "test-callback-token-0001", "test-api-key-000000001")


def running(service, to="918065550101"):
    call = service.provider.call(to_number=to)
    recording = service.provider.record(call.call_uuid)
    service.reach(recording.recording_id, "recording")
    return call.call_uuid, recording.recording_id


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
        "unfinished work": "fine",
        "refused callbacks": "warning",
    }
    assert "missing" in next(
        c["detail"] for c in told["checks"] if c["name"] == "refused callbacks"
    )
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
    call, recording = running(service)
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
    call, recording = running(service)
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
    call, recording = running(service)
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


SHORT = '\n[[rules]]\nname = "short"\nmatch = { to = "91809*" }\nmax_duration = "1s"\n'
SUB = '\n[[accounts]]\nauth_id = "SA_1"\ntoken_env = "SUB_TOKEN"\n'


def test_a_reload_is_seen_by_every_process_rechooses_rules_within_five_seconds_and_keeps_the_old_ones_when_broken(
    service,
):
    rules, told = service.folder / "endtape.toml", service.folder / ".env"
    before = rules.read_text()
    sub = service.callback.replace(service.env["VOBIZ_AUTH_ID"], "SA_1")
    call, recording = running(service, "918090000001")
    try:
        told.write_text("SUB_TOKEN=sub-token\n")
        rules.write_text(before + SHORT + SUB)
        assert service.http.post(sub, data="Event=Ring&CallUUID=c", timeout=5).status_code == 404
        found = service.command("reload", "--json")
        told_all = json.loads(found.stdout)
        # Two web processes, the clock, and both workers with every child, also those that have had
        # nothing to do: 4 and 6.
        assert (found.returncode, Counter(name.split(" ")[0] for name in told_all["took"])) == (
            0,
            {"web": 2, "stops": 5, "fetches": 7, "clock": 1},
        ), found
        assert (
            told_all["rules"],
            told_all["restart"],
            told_all["refused"],
            told_all["silent"],
        ) == (4, [], {}, [])
        # Who has answered has done it: nobody needs to wait any more.
        assert {
            service.http.post(sub, data="Event=Ring&CallUUID=c", timeout=5).status_code
            for _ in range(8)
        } == {403}
        assert service.recording(recording)["stop"]["rule"] == "short"
        until(lambda: service.stops_sent(call), 5)

        rules.write_text(before + SHORT + SUB + "\n[[rules]]\nmach = 1\n")
        found = service.command("reload")
        assert (
            found.returncode,
            found.stderr.count("rules[4].mach = 1: unknown key"),
            " processes refused them" in found.stderr,
        ) == (1, 2, True), found
        assert b'endtape_alerts_total{alert="settings_broken"}' in service.get("/metrics").content
        other_call, other = running(service, "918090000002")
        assert service.reach(other, "archived")["stop"]["rule"] == "short"
        assert len(service.stops_sent(other_call)) == 1
        # Twice broken, fourteen processes, one reason: the alert, and a line of each parent and of
        # each web process.
        lines = [
            line for line in (service.folder / "log").read_text().splitlines() if "mach" in line
        ]
        assert (len([line for line in lines if "settings_broken" in line]), len(lines) <= 5) == (
            1,
            True,
        )
        assert b'endtape_alerts_total{alert="settings_broken"} 1' in service.get("/metrics").content
    finally:
        rules.write_text(before)
        told.unlink()
        service.command("reload")


def test_a_reload_says_what_needs_a_restart_and_a_rules_file_that_is_gone_is_refused(service):
    rules, told, ledger = (
        service.folder / "endtape.toml",
        service.folder / ".env",
        Ledger(connect(service.redis.url)),
    )
    before, alerts = rules.read_text(), ledger.counters().get("alerts_total|settings_broken", 0)
    try:
        told.write_text("ENDTAPE_LOG=json\nENDTAPE_RELOUD=1\n")
        found = service.command("reload")
        assert (
            found.returncode,
            "15 processes took the new settings (clock 1, fetches 7, stops 5, web 2): 3 rules and the defaults."
            in found.stdout,
        ) == (0, True), found
        assert "only after a restart: ENDTAPE_LOG.\n" in found.stdout
        assert "ENDTAPE_RELOUD is no setting" in found.stderr
        doctor = service.command("doctor").stdout
        assert (
            "ENDTAPE_RELOUD" in doctor,
            "log is text in the running service and json here" in " ".join(doctor.split()),
        ) == (True, True), doctor
        assert doctor.index("accepts id and token") < doctor.index(
            "callback_token"
        )  # what was found comes first
        rules.unlink()
        gone = service.command("reload")
        assert (
            gone.returncode,
            " processes refused" in gone.stderr,
            "No such file" in gone.stderr,
        ) == (1, True, True), gone
        assert ledger.counters()["alerts_total|settings_broken"] > alerts
        call, recording = running(service, "918020000001")
        assert service.reach(recording, "archived")["stop"]["rule"] == "two seconds"
        assert service.stops_sent(call)
    finally:
        rules.write_text(before)
        told.unlink()
        assert service.command("reload").returncode == 0


def test_a_reload_does_not_wait_for_processes_that_died_and_says_where_none_runs(service):
    os.killpg(service.processes.processes["clock"].pid, signal.SIGKILL)
    found = json.loads(service.command("reload", "--json").stdout)
    dead = [name for name in found["ended"] if name.startswith("clock")]
    assert (len(dead), found["refused"], found["silent"]) == (1, {}, [])
    until(lambda: service.command("reload").returncode == 0)
    none = service.command("reload", REDIS_URL=service.redis.url + "?db=9")
    assert (none.returncode, "No process runs" in none.stderr) == (1, True)
    frozen = service.processes.processes["clock"].pid
    os.kill(frozen, signal.SIGSTOP)
    try:
        silent = service.command("reload", "--wait", "0.5")
        assert (silent.returncode, "No answer from clock" in silent.stderr) == (1, True), silent
    finally:
        os.kill(frozen, signal.SIGCONT)


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
    running(service)
    service.provider.faults.switch_off("leaked-tokens")
    text = (service.folder / "log").read_text()
    assert "RecordingStarted" in text
    assert not [s for s in SECRETS if s in text]


@contextlib.contextmanager
def running_in(folder):
    """`endtape run` in a folder, with nothing in its environment but a port."""
    env = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("ENDTAPE_", "VOBIZ_", "REDIS_", "CELERY_"))
    } | {"PORT": str(free_port())}
    with (folder / "out").open("w") as out:
        process = subprocess.Popen(
            [ENDTAPE, "run"], cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield process, folder, env
    finally:
        if process.poll() is None:
            process.send_signal(
                signal.SIGINT
            )  # its processes have groups of their own, which only it ends
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def run(tmp_path):
    with running_in(tmp_path) as found:
        yield found


def test_run_with_nothing_but_the_account_adds_our_secrets_and_tells_what_does_not_work_without_being_unready(
    tmp_path,
):
    given = "VOBIZ_AUTH_ID=MA_1\r\nVOBIZ_AUTH_TOKEN=token-of-the-account\r\nVOBIZ_API_URL=http://127.0.0.1:1/api/v1\r\nENDTAPE_ARCHIVE=/proc/nope\r\nENDTAPE_KEY=x"
    (tmp_path / ".env").write_bytes(given.encode())
    rules = tmp_path / "endtape.toml"
    rules.write_text('[defaults]\nmax_duration = "5m"\n')
    with running_in(tmp_path) as (_, folder, env):
        until(lambda: "(Ctrl-C ends)" in (folder / "out").read_text(), 40)
        out, written = (folder / "out").read_text(), (folder / ".env").read_bytes().decode()
        assert written.startswith(given + "\r\nENDTAPE_CALLBACK_TOKEN=")
        assert (folder / ".env").stat().st_mode & 0o777 == 0o600
        assert (
            "Added generated secrets to .env, which only you can read: ENDTAPE_CALLBACK_TOKEN, ENDTAPE_API_KEY\n"
            in out
        )
        assert "Warning: ENDTAPE_KEY is no setting" in out
        base = f"http://127.0.0.1:{env['PORT']}"
        told = {
            "ready",
            "degraded: archive: No such file or directory",
            "degraded: provider: its API does not answer",
        }
        until(lambda: set(requests.get(f"{base}/readyz", timeout=5).text.splitlines()) == told, 30)
        assert requests.get(f"{base}/readyz", timeout=5).status_code == 200
        assert (
            'alerts_total{alert="degraded"} 2.0'
            in requests.get(
                f"{base}/metrics",
                headers={"Authorization": f"Bearer {written.rpartition('=')[2].strip()}"},
                timeout=5,
            ).text
        )

        rules.unlink()
        gone = subprocess.run(
            [ENDTAPE, "reload"],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (
            gone.returncode,
            " processes refused" in gone.stderr,
            "endtape.toml is gone" in gone.stderr,
        ) == (1, True, True), gone
        doctor = subprocess.run(
            [ENDTAPE, "doctor"],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        text = " ".join(doctor.stdout.split())
        assert (
            doctor.returncode,
            "settings FAILED: ENDTAPE_CONFIG: endtape.toml is gone" in text,
        ) == (1, True), doctor
        assert (
            "archive FAILED: ENDTAPE_ARCHIVE = '/proc/nope': cannot be written (No such file or directory); "
            in text
        )
    again = subprocess.run(
        [ENDTAPE, "run"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (again.returncode, "endtape.toml is gone" in again.stderr, "Added" in again.stdout) == (
        2,
        True,
        False,
    ), again


def test_run_without_an_account_says_that_it_is_the_emulator_and_serves_until_it_is_interrupted(
    run,
):
    process, folder, env = run
    until(lambda: "(Ctrl-C ends)" in (folder / "out").read_text(), 40)
    text = (folder / "out").read_text()
    assert "EMULATOR" in text
    assert "mode `observe`" in text
    assert re.search(r"Callback URL: http://127\.0\.0\.1:\d+/vobiz/MA_EMULATOR/\S{32}", text)
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    secrets = [line.partition("=")[2] for line in (folder / ".env").read_text().splitlines()]
    assert not [line for line in command_lines() if any(secret in line for secret in secrets)]
    found = subprocess.run(
        [ENDTAPE, "doctor", "--json"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert (folder / "data" / "run.env").stat().st_mode & 0o777 == 0o600
    assert (folder / "data" / "endtape.log").stat().st_mode & 0o777 == 0o600
    assert (folder / "data" / "redis").stat().st_mode & 0o777 == 0o700
    other = {**env, "PORT": str(free_port())}
    for wrong, named in (
        (env, "PORT = "),
        (other, "another `endtape run`"),
        ({**other, "REDIS_URL": "redis://127.0.0.1:1"}, "another `endtape run`"),
        ({**other, "VOBIZ_AUTH_ID": "MA_X"}, "VOBIZ_AUTH_TOKEN"),
        ({**other, "HOST": "203.0.113.7"}, "HOST = '203.0.113.7': is no address of this machine"),
    ):
        refused = subprocess.run(
            [ENDTAPE, "run"],
            cwd=folder,
            env=wrong,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (refused.returncode, named in refused.stderr) == (2, True), refused.stderr
        assert (folder / "data" / "run.env").exists()  # it is the other's
    shown = subprocess.run(
        [ENDTAPE, "urls"],
        cwd=folder,
        env={k: v for k, v in env.items() if k != "PORT"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert f":{env['PORT']}/vobiz/" in shown.stdout
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert not (folder / "data" / "run.env").exists()
    ended = subprocess.run(
        [ENDTAPE, "ls"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (
        ended.returncode,
        ended.stderr.startswith("No `endtape run` is at work in this folder"),
    ) == (2, True), ended


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


def test_a_redis_of_runs_own_that_was_killed_is_started_again_with_its_data_and_ends_with_run(run):
    process, folder, env = run
    until(lambda: "(Ctrl-C ends)" in (folder / "out").read_text(), 40)
    told = (folder / "data" / "run.env").read_text()
    client = connect(re.search("REDIS_URL=(.*)", told)[1])
    first = client.info()["process_id"]
    client.set("kept", "yes")
    os.kill(first, signal.SIGKILL)

    def pid():
        try:
            return client.info()["process_id"]
        except redis.RedisError:
            return first

    until(lambda: pid() != first, 20)
    assert client.get("kept") == "yes"
    ready = f"http://127.0.0.1:{env['PORT']}/readyz"
    until(lambda: requests.get(ready, timeout=5).status_code == 200, 30)
    second = pid()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


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
    table = service.command("reconcile").stdout
    assert service.env["VOBIZ_AUTH_ID"] in table
    wrong = service.command("reconcile", "--wait", "1", VOBIZ_API_URL="http://127.0.0.1:1/api/v1")
    assert wrong.returncode == 1


def test_a_redis_erased_while_all_processes_run_is_rebuilt(service):
    _, known = running(service)
    service.provider.end(known, "FinishedOnKey")
    service.reach(known, "archived")
    client = connect(service.redis.url)
    client.flushall()
    service.reach(known, "archived", within_s=30)
    assert Ledger(client).counters()["alerts_total|ledger_erased"] == 1


def test_handoff_asks_the_running_service_and_its_status_is_the_verdict(service):
    call, _ = running(service)
    go = service.command("handoff", call, "--kind", "blind", "--json")
    assert (go.returncode, json.loads(go.stdout)["verdict"], json.loads(go.stdout)["evidence"]) == (
        0,
        "go",
        ["callback"],
    )
    hold = service.command("handoff", "nobody-knows", "--wait", "0.2")
    assert (hold.returncode, hold.stdout.startswith("HOLD: ")) == (1, True)
    wrong = service.command("handoff", call, "--kind", "Bad Kind")
    assert (wrong.returncode, "kind: must be `blind`" in wrong.stderr) == (1, True)
    lost = service.command("handoff", call, PORT=str(free_port()))
    assert (lost.returncode, "is the service running" in lost.stderr) == (1, True)


def test_retry_orders_one_more_try_and_refuses_what_is_home_or_unknown(service):
    call, recording = running(service)
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
    call, recording = running(service)
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
        ["ls", "--fault", "media"],
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
    call, _ = running(service, to="918030000001")
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
        (["--label", "team"], "'team' must be KEY=VALUE"),
    ):
        refused = service.command("explain", *wrong)
        assert (refused.returncode, named in refused.stderr) == (2, True), refused.stderr
