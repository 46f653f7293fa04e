"""A command of the operator: no shell, its input and environment, its limits."""

import json
import os
import resource
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.waiting import until
from worker.duties import operators_command
from worker.errors import StaleLease

FACTS = {"RECORDING_ID": "r1"}


def run(source, *, within_s=20.0, check=lambda: None, words=()):
    return operators_command.run(
        [sys.executable, "-c", source, *words],
        json.dumps({"recording_id": "r1"}),
        FACTS,
        timedelta(seconds=within_s),
        check,
    )


def test_it_gets_the_json_and_an_environment_without_our_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("ENDTAPE_API_KEY", "never-to-be-passed-on")
    seen = tmp_path / "seen"
    source = "import json,os,sys; json.dump([json.load(sys.stdin), dict(os.environ), sys.argv[2]], open(sys.argv[1], 'w'))"
    outcome = run(source, words=(str(seen), "$HOME; rm -rf /"))
    said, environment, word = json.loads(seen.read_text())
    assert (outcome.arrived, said) == (True, {"recording_id": "r1"})
    assert (environment["RECORDING_ID"], environment["PATH"]) == ("r1", os.environ["PATH"])
    assert "ENDTAPE_API_KEY" not in environment
    assert word == "$HOME; rm -rf /"


def test_its_exit_status_and_its_last_line_say_why_it_failed():
    outcome = run("print('x' * 10**6); print('no model for +919820055512'); raise SystemExit(3)")
    assert outcome.why == "exit status 3: no model for +…"
    assert not outcome.is_down
    assert run("import os; os.kill(os.getpid(), 9)").why == "ended by signal 9"


def test_one_that_cannot_be_run_or_takes_too_long_leaves_the_others_waiting(tmp_path):
    missing = operators_command.run(["/no/such"], "{}", {}, timedelta(seconds=1), lambda: None)
    assert (missing.why, missing.is_down) == ("cannot be run: No such file or directory", True)
    pid = tmp_path / "pid"
    source = (
        "import subprocess,sys,time; p = subprocess.Popen(['sleep', '60']);"
        "open(sys.argv[1], 'w').write(str(p.pid)); time.sleep(60)"
    )
    late = run(source, within_s=0.5, words=(str(pid),))
    assert (late.why, late.is_down) == ("was ended after 0 s", True)
    if pid.exists():  # what it started went with it
        until(lambda: not Path(f"/proc/{pid.read_text()}/fd/0").exists())


def test_it_is_not_waited_for_what_it_left_running_and_ends_with_a_lost_lease():
    began = time.monotonic()
    left = run("import subprocess; subprocess.Popen(['sleep', '30'])")
    assert (left.arrived, time.monotonic() - began < 15) == (True, True)

    def lost():
        raise StaleLease("it is another worker's")

    with pytest.raises(StaleLease):
        run("import time; time.sleep(30)", check=lost)
    assert time.monotonic() - began < 25


def test_it_runs_also_in_a_process_with_more_than_a_thousand_open_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    held = [os.dup(1) for _ in range(1100)]
    try:
        assert run("print('well')").arrived
    finally:
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
