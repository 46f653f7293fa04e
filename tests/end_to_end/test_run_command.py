"""`endtape run`, as an operator types it."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import redis
import requests

from emulator.client import Control
from tests.waiting import until
from worker.ledger.store import connect
from worker.processes.supervisor import free_port

pytestmark = [pytest.mark.redis, pytest.mark.end_to_end, pytest.mark.xdist_group("run")]
ENDTAPE = Path(sys.executable).parent / "endtape"


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


def top_shows_and_ends(folder, env, *texts):
    """Sees `endtape top` draw all these texts in a terminal, and Ctrl-C end it."""
    here, there = pty.openpty()
    size = struct.pack("HHHH", 40, 100, 0, 0)
    fcntl.ioctl(there, termios.TIOCSWINSZ, size)
    top = subprocess.Popen(
        [ENDTAPE, "top"],
        cwd=folder,
        env={**env, "TERM": "xterm"},
        stdin=there,
        stdout=there,
        stderr=there,
        start_new_session=True,
    )
    os.close(there)
    shown = b""
    while not all(text in drawn(shown) for text in texts):
        assert select.select([here], [], [], 20)[0], drawn(shown)
        shown += os.read(here, 65536)
    top.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # the terminal ends with it
        while os.read(here, 65536):
            pass
    assert top.wait(10) == 0
    os.close(here)


def drawn(output):
    """What a terminal was sent, without what moves the cursor and sets colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode(errors="replace"))


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


def test_a_redis_of_runs_own_that_was_killed_is_started_again_with_its_data_and_watched_across_that(
    run,
):
    process, folder, env = run
    out, watched, said = folder / "out", folder / "watched", folder / "said"
    until(lambda: "(Ctrl-C ends)" in out.read_text(), 40)
    with watched.open("w") as to, said.open("w") as err:
        watch = subprocess.Popen(
            [ENDTAPE, "watch", "--json"], cwd=folder, env=env, stdout=to, stderr=err
        )
    until(lambda: "Watching" in said.read_text(), 20)
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
    until(lambda: said.read_text().count("Watching") == 2, 20)
    control = Control(re.search(r"control API: (\S+)", out.read_text())[1])
    recording = control.record(control.call(to_number="918065550101"))
    until(lambda: recording in watched.read_text(), 20)
    told = [json.loads(line) for line in watched.read_text().splitlines()]
    assert "RecordingStarted" in {e["event"] for e in told if e["recording_id"] == recording}
    # `run` itself shows what happens, a line an event.
    until(lambda: re.search(rf"RecordingStarted +\S+ +{recording}", out.read_text()), 10)
    watch.send_signal(signal.SIGINT)
    assert watch.wait(10) == 0, said.read_text()
    every_process = "processes of each kind: stops 1, fetches 1, keep 1, clock 1"
    top_shows_and_ends(folder, env, recording, every_process)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)
