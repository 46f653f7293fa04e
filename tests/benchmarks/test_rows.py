"""The table of the benchmarks. `make check` plays every row once in small; nobody judges the
figures there.
"""

import contextlib
import re
import subprocess
import sys

import pytest
import requests

from benchmarks import comparing
from benchmarks.run import RESULTS, table
from benchmarks.stage import listens
from tests.waiting import until
from worker.processes.supervisor import ROOT, free_port


@pytest.mark.redis
@pytest.mark.end_to_end
def test_a_row_played_in_small_shows_its_table_and_leaves_the_page_alone():
    before = RESULTS.read_bytes()
    done = subprocess.run(
        [sys.executable, "benchmarks/run.py", "looking", "--small"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\|what +\| *ours\| *peer\| *ratio\|.*\|met\|$", done.stderr, re.MULTILINE)
    assert RESULTS.read_bytes() == before


def test_the_first_four_columns_stay_and_new_ones_come_after_them():
    row = comparing.rate("a row", [2, 8, 4], [2, 2, 2], [8, 8, 8], target=">= 1 x")
    head, _, line = table([row]).splitlines()
    cells = [[cell.strip() for cell in text.strip("|").split("|")] for text in (head, line)]
    assert cells == [
        ["what", "ours", "peer", "ratio", "limit", "share", "target", "met"],
        ["a row", "4", "2", "2.0 x", "8", "50 %", ">= 1 x", "yes"],
    ]


def test_more_is_better_in_every_ratio_and_share_and_what_is_missing_is_a_dash():
    cost = comparing.cost("late", [2.0], [5.0], [0.5], target="<= 1", met=False)
    assert (cost.ratio, cost.share) == ("2.5 x", "25 %")
    alone = comparing.cost("bytes", [0.0], [5.0])
    assert (alone.peer, alone.ratio, alone.limit, alone.share) == ("5.0", "-", "-", "-")


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
