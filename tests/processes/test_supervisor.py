"""What runs every process ends them all, also one that does not want to."""

import signal
import sys
import time

from tests.waiting import until
from worker.processes.supervisor import GRACE_S, Supervisor

DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


def test_in_a_hurry_a_process_that_does_not_end_is_killed_at_once(tmp_path):
    log = tmp_path / "log"
    commands = {"deaf": [sys.executable, "-c", DEAF]}
    with Supervisor({}, log, commands, in_a_hurry=lambda: True) as running:
        until(lambda: "deaf" in log.read_text())
        process, began = running.processes["deaf"], time.monotonic()
    assert process.returncode == -signal.SIGKILL
    assert time.monotonic() - began < GRACE_S / 2
