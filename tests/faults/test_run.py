"""The fault runs: what they print, and that they leave nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from emulator.bad_days import BAD_DAYS, check
from faults import bad_days
from faults.checker import Findings
from faults.machines import missing
from faults.performance import Outcome
from faults.run import SCENARIOS, Line, page, table
from tests.process_list import those
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent


def test_every_bad_day_of_the_emulator_has_its_part():
    # No run orders starts or transfers; tests/webhooks holds those. And an application's 404 for a
    # live call is believed, as promised, until the call shows a sign of life; and a file behind
    # zeros is not the provider's own, byte for byte.
    played = {name for name in BAD_DAYS if not name.startswith(("start-", "transfer-"))} - {
        "stop-404",
        "padded-media",
    }
    assert {*bad_days.ALL, "refuse-auth"} == played
    for name, params in {**bad_days.ALL, "refuse-auth": bad_days.REFUSED}.items():
        check(name, params)


def outcome(*, broken=(), **found):
    return Outcome(
        findings=Findings(
            recordings=1000, late_s=[0.1, 12.25], answers=Counter({200: 9, 0: 1}), **found
        ),
        broken=list(broken),
        did="50 x redis",
        kills=50,
    )


def test_the_table_fits_on_a_page_of_eighty_columns_and_says_what_broke():
    lines = [Line(name, 999_999, outcome()) for name in SCENARIOS]
    lines += [
        Line("t2", 7, outcome(broken=["3 lost: a; b; c"], lost=["a", "b", "c"])),
        Line("t9", 7, None, "not played: no survey"),
        Line("t1", 7, None, "failed by itself: OSError"),
    ]
    drawn = table(lines).splitlines()
    assert {len(line) for line in drawn} == {len(drawn[0])}
    assert len(drawn[0]) <= 80
    assert [line.split("|")[-2].strip() for line in drawn[-3:]] == ["NO", "-", "NO"]
    assert [line.failed for line in lines[-3:]] == [True, False, True]
    text = page(lines, 60)
    assert "BROKEN: 3 lost" in text
    assert max(map(len, text.splitlines())) <= 80


def test_every_run_is_told_of_in_the_document():
    told = (ROOT / "docs" / "reliability.md").read_text()
    assert [name for name in SCENARIOS if f"`{name}`" not in told] == []


def test_an_unknown_run_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "faults.run", "t99"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, "t99" in done.stderr) == (2, True)


def test_a_skewed_process_tells_another_time_and_sleeps_as_long_as_ever():
    said = "import time, datetime as d; b = time.monotonic(); time.sleep(0.05); print(time.time(), d.datetime.now(d.UTC).timestamp(), time.monotonic() - b)"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "faults" / "skewed"), "FAULTS_SKEW_S": "600"}
    done = subprocess.run(
        [sys.executable, "-c", said],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    one, other, slept = map(float, done.stdout.split())
    assert [one - time.time(), other - time.time()] == pytest.approx([600, 600], abs=5)
    assert 0.05 <= slept < 5


def below(mark):
    """Processes whose environment or command names the folder."""
    return those(
        lambda place: mark in (place / "environ").read_bytes() + (place / "cmdline").read_bytes()
    )


@pytest.mark.redis
@pytest.mark.end_to_end
@pytest.mark.xdist_group("runs")
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("t1", signal.SIGTERM),
        pytest.param(
            "machines", signal.SIGINT, marks=pytest.mark.skipif(bool(missing()), reason=missing())
        ),
    ],
)
def test_a_run_that_is_broken_off_ends_all_that_it_started_and_leaves_no_folder(
    tmp_path, name, number
):
    mark = f"TMPDIR={tmp_path}".encode()
    run = subprocess.Popen(
        [sys.executable, "-m", "faults.run", name],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: len(below(mark)) > 12, 60)
    run.send_signal(number)
    assert run.wait(60) != 0
    until(lambda: not below(mark), 5)
    assert list(tmp_path.iterdir()) == []
