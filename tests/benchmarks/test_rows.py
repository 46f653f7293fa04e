"""Each row of the benchmarks can be played. Nobody judges the figures here."""

import contextlib
import subprocess
import sys

import pytest
import requests

from benchmarks.run import RESULTS, ROWS
from benchmarks.stage import listens
from tests.waiting import until
from worker.processes.supervisor import ROOT, free_port


@pytest.mark.redis
@pytest.mark.end_to_end
@pytest.mark.xdist_group("bench")
@pytest.mark.parametrize("row", list(ROWS))
def test_each_row_is_played_in_small_and_leaves_the_page_alone(row):
    before = RESULTS.read_bytes()
    done = subprocess.run(
        [sys.executable, "benchmarks/run.py", row, "--small"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "|met|" in done.stderr
    assert RESULTS.read_bytes() == before


@pytest.fixture
def sink():
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.sink", str(port)], cwd=ROOT)
    try:
        until(lambda: listens(port))
        with contextlib.closing(requests.Session()) as http:
            yield http, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def test_the_stand_in_gives_what_it_was_sent_to_whoever_asks_for_that_and_to_nobody_else(sink):
    http, root = sink
    assert http.delete(f"{root}/a", data=b"x" * 70).status_code == 204
    survey = http.get(f"{root}/api/v1/Account/MA_1/Recording/?limit=20").json()
    assert (survey["objects"], survey["meta"]["next"]) == ([], None)
    assert [path for path, _ in http.get(f"{root}/taken").json()] == ["/a"]
    assert http.get(f"{root}/taken").json() == []
