"""A reload, as an operator orders it, in every process of the service."""

import json
import os
import signal
import socket
from collections import Counter

import pytest

from tests.waiting import until
from worker.ledger.client import Ledger
from worker.ledger.store import connect

pytestmark = [pytest.mark.redis, pytest.mark.end_to_end, pytest.mark.xdist_group("reload")]


SHORT = '\n[[rules]]\nname = "short"\nmatch = { to = "91809*" }\nmax_duration = "1s"\n'
SUB = '\n[[accounts]]\nauth_id = "SA_1"\ntoken_env = "SUB_TOKEN"\n'


def test_a_reload_is_seen_by_every_process_rechooses_rules_within_five_seconds_and_keeps_the_old_ones_when_broken(
    service,
):
    rules, told = service.folder / "endtape.toml", service.folder / ".env"
    before = rules.read_text()
    sub = service.callback.replace(service.env["VOBIZ_AUTH_ID"], "SA_1")
    call, recording = service.running("918090000001")
    try:
        told.write_text("SUB_TOKEN=sub-token\n")
        rules.write_text(before + SHORT + SUB)
        assert service.http.post(sub, data="Event=Ring&CallUUID=c", timeout=5).status_code == 404
        found = service.command("reload", "--json")
        told_all = json.loads(found.stdout)
        # Two web processes, the clock, and both workers with every child, also those that have had
        # nothing to do: 4, 6 and 2.
        assert (found.returncode, Counter(name.split(" ")[0] for name in told_all["took"])) == (
            0,
            {"web": 2, "stops": 5, "fetches": 7, "keep": 3, "clock": 1},
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
        ) == (1, 1, True), found
        assert b'endtape_alerts_total{alert="settings_broken"}' in service.get("/metrics").content
        other_call, other = service.running("918090000002")
        assert service.reach(other, "archived")["stop"]["rule"] == "short"
        assert len(service.stops_sent(other_call)) == 1
        # Twice broken, seventeen processes, one reason: the alert, and a line of each parent and of
        # each web process.
        lines = [
            line for line in (service.folder / "log").read_text().splitlines() if "mach" in line
        ]
        assert (len([line for line in lines if "settings_broken" in line]), len(lines) <= 6) == (
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
            "18 processes took the new settings (clock 1, fetches 7, keep 3, stops 5, web 2): 3 rules and the defaults."
            in found.stdout,
        ) == (0, True), found
        assert "only after a restart: ENDTAPE_LOG.\n" in found.stdout
        assert "ENDTAPE_RELOUD is no setting" in found.stderr
        doctor = service.command("doctor").stdout
        assert (
            "ENDTAPE_RELOUD" in doctor,
            "ENDTAPE_LOG is text in the running service and json here" in " ".join(doctor.split()),
        ) == (True, True), doctor
        assert doctor.index("accepts id and token") < doctor.index(
            "ENDTAPE_CALLBACK_TOKEN"
        )  # what was found comes first
        rules.unlink()
        gone = service.command("reload")
        assert (
            gone.returncode,
            " processes refused" in gone.stderr,
            "No such file" in gone.stderr,
        ) == (1, True, True), gone
        assert ledger.counters()["alerts_total|settings_broken"] > alerts
        call, recording = service.running("918020000001")
        assert service.reach(recording, "archived")["stop"]["rule"] == "two seconds"
        assert service.stops_sent(call)
    finally:
        rules.write_text(before)
        told.unlink()
        assert service.command("reload").returncode == 0


def test_a_reload_does_not_wait_for_processes_that_died_and_says_where_none_runs(service):
    ledger = Ledger(connect(service.redis.url))

    def beats(pid):
        """One more heartbeat of a process, since a busy machine may take long to begin a
        command."""
        ledger.seen("settings", f"clock {socket.gethostname()}:{pid}")

    dead = service.processes.processes["clock"].pid
    os.killpg(dead, signal.SIGKILL)

    def told_of_the_dead():
        beats(dead)
        found = json.loads(service.command("reload", "--json").stdout)
        assert (found["refused"], found["silent"]) == ({}, [])
        return [name for name in found["ended"] if name.endswith(f":{dead}")]

    assert len(until(told_of_the_dead, 60)) == 1
    until(lambda: service.command("reload").returncode == 0, 60)
    none = service.command("reload", REDIS_URL=service.redis.url + "?db=9")
    assert (none.returncode, "No process runs" in none.stderr) == (1, True)
    frozen = service.processes.processes["clock"].pid
    os.kill(frozen, signal.SIGSTOP)

    def told_of_the_silent():
        beats(frozen)
        silent = service.command("reload", "--wait", "0.5")
        return silent.returncode == 1 and "No answer from clock" in silent.stderr

    try:
        until(told_of_the_silent, 60)
    finally:
        os.kill(frozen, signal.SIGCONT)
