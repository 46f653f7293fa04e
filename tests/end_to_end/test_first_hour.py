"""The first hour, as a new user has it: every command of docs/tutorial.md, and those of other pages that
a service without an account can answer, are run as they stand against one `make run`.
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

from tests.waiting import until
from worker.processes.supervisor import ROOT, free_port

pytestmark = [
    pytest.mark.redis,
    pytest.mark.end_to_end,
    pytest.mark.xdist_group("first hour"),
    pytest.mark.skipif(
        not all(map(shutil.which, ("curl", "make", "bash"))),
        reason="no curl, make or bash: the tutorial is not played",
    ),
    pytest.mark.skipif(
        not (Path(sys.prefix) / ".set-up").exists(),
        reason="not set up by make: the tutorial is not played",
    ),
]


def blocks(page, kind="bash"):
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


TUTORIAL = blocks("docs/tutorial.md")


class FirstHour:
    """A folder that is a checkout to look at, and the shell of its user."""

    def __init__(self, folder):
        self.folder, self.port, self.typed = folder, free_port(), []
        for name in ("Makefile", "requirements.lock", "pyproject.toml"):
            (folder / name).symlink_to(ROOT / name)
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
    user = FirstHour(tmp_path_factory.mktemp("endtape"))
    user.types(TUTORIAL[0])
    (command,) = blocks("docs/tutorial.md", "bash-run")
    with (user.folder / "out").open("w") as out:
        service = subprocess.Popen(
            command.split(),
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
        os.killpg(service.pid, signal.SIGINT)  # Ctrl-C reaches make and what it runs
        service.wait(30)


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


def test_the_tutorial_leads_to_a_stopped_proven_and_played_recording_and_through_a_bad_day(user):
    key, begins, hears, second, asks, bad_day, held, recovers = TUTORIAL[1:]
    assert user.types(key) == f"ENDTAPE_API_KEY={user.key()}\n"
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
    (events,) = re.findall(r"has shown the same: (.+)\.\n", (ROOT / "docs/tutorial.md").read_text())
    of_the_first = [line.split() for line in user.out().splitlines() if " rec-1 " in line]
    wanted = re.findall(r"`(\w+)`", events)
    assert [words[1] for words in of_the_first if words[1] in wanted] == wanted
