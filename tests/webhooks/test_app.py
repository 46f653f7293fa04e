"""The web process as a process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process_list import children, those
from tests.waiting import until
from webhooks.app import SHUTDOWN_S
from worker.processes.supervisor import ROOT, free_port

ENV = {
    "VOBIZ_AUTH_ID": "MA_1",
    "VOBIZ_AUTH_TOKEN": "t",
    "REDIS_URL": "redis://127.0.0.1:1",
    "ENDTAPE_CALLBACK_TOKEN": "a" * 16,
    "ENDTAPE_API_KEY": "b" * 16,
}


def members(group):
    return those(
        lambda place: (
            os.getpgid(int(place.name)) == group
            and (place / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    )


@pytest.fixture
def web(tmp_path):
    """The process, with its log beside it."""
    log = (tmp_path / "log").open("wb")
    web = subprocess.Popen(
        [sys.executable, "-m", "webhooks.app"],
        cwd=tmp_path,
        env={**os.environ, **ENV, "PORT": str(free_port()), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    yield web
    for pid in members(web.pid):
        os.kill(pid, signal.SIGKILL)
    web.wait()


pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.xdist_group("hostile"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc"),
]


def test_children_whose_parent_was_killed_alone_end_too(web, tmp_path):
    until(lambda: (tmp_path / "log").read_text().count("Started worker") == 2, 30)
    web.kill()
    web.wait()
    until(lambda: not members(web.pid), 10)


def test_asked_to_end_while_its_children_only_start_it_ends_at_once(web):
    while len(children(web.pid)) < 2:  # at once: a child has handlers of its own soon
        assert web.poll() is None
    web.terminate()
    web.wait(SHUTDOWN_S - 4)


FORKS = """
import os, signal, time
from webhooks import app
app._prepare_forks(lambda: None)
signal.signal(signal.SIGTERM, lambda *_: None)  # as the server in the parent
for _ in range(40):
    child = os.fork()
    if not child:
        time.sleep(5)
        os._exit(1)
    os.kill(child, signal.SIGTERM)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
"""


def test_a_child_ends_by_the_signal_that_comes_while_it_is_made():
    subprocess.run([sys.executable, "-c", FORKS], cwd=ROOT, timeout=60, check=True)
