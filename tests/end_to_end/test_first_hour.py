"""The first hour, as a new user has it: one `endtape run` without an account, every command of
docs/tutorial.md typed at it, and then Ctrl-C.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.process_list import command_lines
from tests.waiting import until
from worker.processes.supervisor import ROOT, free_port

pytestmark = [pytest.mark.redis, pytest.mark.end_to_end, pytest.mark.xdist_group("run")]
ENDTAPE = Path(sys.executable).parent / "endtape"
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
TUTORIAL = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


class FirstHour:
    """A folder that is a checkout to look at, and the shell of its user."""

    def __init__(self, folder):
        self.folder, self.port, self.typed = folder, free_port(), []
        (folder / ".venv").symlink_to(sys.prefix)
        ours = ("ENDTAPE_", "VOBIZ_", "REDIS_", "CELERY_")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        self.env |= {"PORT": str(self.port)}

    def types(self, block):
        """Runs a block in a shell that has what earlier blocks have set, and gives what it printed."""
        block = block.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        known = [line for b in self.typed for line in b.splitlines() if re.match(r"[A-Z]+=", line)]
        self.typed.append(block)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join([*known, block])],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (block, done.stdout, done.stderr)
        return done.stdout

    def key(self):
        return re.search("ENDTAPE_API_KEY=(.+)", (self.folder / ".env").read_text())[1]

    def recording(self, recording_id):
        return requests.get(
            f"http://127.0.0.1:{self.port}/v1/recordings/{recording_id}",
            headers={"Authorization": f"Bearer {self.key()}"},
            timeout=5,
        ).json()

    def out(self):
        return (self.folder / "out").read_text()


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """With what `make run` runs, and the environment of nobody who has an account."""
    user = FirstHour(tmp_path_factory.mktemp("endtape"))
    with (user.folder / "out").open("w") as out:
        user.service = subprocess.Popen(
            [ENDTAPE, "run"],
            cwd=user.folder,
            env=user.env,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        until(lambda: "(Ctrl-C ends)" in user.out(), 40)
        yield user
    finally:
        if user.service.poll() is None:
            user.service.send_signal(signal.SIGINT)
        user.service.wait(30)


def known(user, recording_id):
    until(lambda: user.recording(recording_id).get("phase"))


def played_in_the_console(user, recording_id):
    base = f"http://127.0.0.1:{user.port}"
    with requests.Session() as browser:
        came = {"Sec-Fetch-Site": "same-origin"}
        browser.post(f"{base}/login", data={"password": user.key()}, headers=came, timeout=5)
        page = browser.get(f"{base}/recordings/{recording_id}", timeout=5).text
        return "<audio" in page and browser.get(
            f"{base}/recordings/{recording_id}/audio", timeout=5
        )


@pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("bash")),
    reason="no curl or bash: the tutorial is not played",
)
def test_the_tutorial_leads_to_a_stopped_proven_and_played_recording_and_through_a_bad_day(user):
    assert "run: $(STAMP)\n\t@$(BIN)/endtape run\n" in (ROOT / "Makefile").read_text()
    key, rules, begins, hears, second, asks, bad_day, held, recovers = TUTORIAL
    assert user.types(key) == f"ENDTAPE_API_KEY={user.key()}\n"
    assert "took the new settings" in user.types(rules)
    user.types(begins)
    found = until(lambda: (r := user.recording("rec-1")).get("phase") == "archived" and r, 40)
    assert (found["stop"]["state"], found["stop"]["trigger"]) == ("confirmed", "max_duration")
    shown = user.types(hears)
    assert "MediaArchived" in shown
    assert "by rule 'defaults'" in shown
    assert (user.folder / "rec-1.wav").stat().st_size == found["bytes"]
    assert len(played_in_the_console(user, "rec-1").content) == found["bytes"]

    user.types(second)
    known(user, "rec-2")
    assert user.types(asks).startswith("GO: ")
    user.types(bad_day)
    known(user, "rec-3")
    shown = user.types(held)
    assert shown.startswith("HOLD: ")
    assert "held\n" in shown
    assert "rec-3" in shown
    user.types(recovers)
    assert user.recording("rec-3")["stop"]["state"] == "confirmed"
    # What the introduction shows of the hand-off, too.
    (shown,) = re.findall(r"^curl .+$", (ROOT / "README.md").read_text(), re.MULTILINE)
    set_there = "BASE=http://127.0.0.1:8000\nCALL=call-2\n"
    assert '"verdict":"go"' in user.types(set_there + shown)
    (events,) = re.findall(r"has shown the same: (.+)\.\n", PAGE)
    of_the_first = [line.split() for line in user.out().splitlines() if " rec-1 " in line]
    wanted = re.findall(r"`(\w+)`", events)
    assert [words[1] for words in of_the_first if words[1] in wanted] == wanted


def test_run_without_an_account_says_that_it_is_the_emulator_and_serves_until_it_is_interrupted(
    user,
):
    process, folder, env = user.service, user.folder, user.env
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
        (env, "another `endtape run`"),
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
        ended.stderr.startswith("Nothing runs in this folder: `make run`"),
    ) == (2, True), ended
