"""Starts the emulator as a process of its own, and asks its control API."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parent.parent  # in this folder `python -m emulator` is this package


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a started emulator can be reached."""

    api_url: str
    media_host: str  # host and port
    control_url: str


@contextlib.contextmanager
def started(
    account: str, token: str, callback_url: str, *, seed: int = 0, log: Path | None = None
) -> Iterator[Addresses]:
    """Runs an emulator with one account while the context is open.

    Ctrl-C of the terminal does not reach it: it is in a session of its own. What it writes to
    stderr is added to the file `log`, or goes where that of this process goes. Raises RuntimeError
    when it does not start.
    """
    with contextlib.ExitStack() as files:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "emulator"),
                *("--account", f"{account}:{token}"),
                *("--seed", str(seed)),
            ],
            cwd=ROOT,
            # The address holds a secret, and everybody on the machine can read command lines.
            env={**os.environ, "EMULATOR_CALLBACK_URL": callback_url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=files.enter_context(log.open("ab")) if log else None,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the emulator ended with status {process.wait()}")
            yield Addresses(**json.loads(line))
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()


class Control:
    """The control API (docs/emulator.md). Several threads may use one."""

    def __init__(self, control_url: str) -> None:
        self.control_url = control_url
        self._of_thread = threading.local()

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> requests.Response:
        """The answer, whatever its status."""
        http: requests.Session | None = getattr(self._of_thread, "http", None)
        if http is None:
            http = self._of_thread.http = requests.Session()
            http.trust_env = False  # neither a proxy nor netrc
        return http.request(method, f"{self.control_url}/{path}", json=body or None, timeout=30)

    def ask(self, method: str, path: str, /, **body: Any) -> dict[str, Any]:
        """The JSON of the answer. Raises requests.HTTPError for what the emulator refuses."""
        answer = self.request(method, path, body)
        answer.raise_for_status()
        content: dict[str, Any] = answer.json()
        return content

    def call(self, **options: Any) -> str:
        """Makes a call, with the fields of CallOptions. Returns its id."""
        return str(self.ask("POST", "calls", **options)["call_uuid"])

    def record(self, call_uuid: str, /, **options: Any) -> str:
        """Starts a recording, with the fields of RecordingOptions. Returns its id."""
        return str(self.ask("POST", f"calls/{call_uuid}/record", **options)["recording_id"])

    def event(self, call_uuid: str, name: str) -> None:
        self.ask("POST", f"calls/{call_uuid}/event", event=name)

    def hangup(self, call_uuid: str) -> None:
        self.ask("POST", f"calls/{call_uuid}/hangup")

    def bad_day(self, name: str, /, **parameters: Any) -> None:
        """Switches a bad day on."""
        self.ask("PUT", f"faults/{name}", **parameters)

    def good_days(self) -> None:
        """Switches every bad day off."""
        self.ask("DELETE", "faults")

    def recordings(self) -> list[dict[str, Any]]:
        """Every recording as the emulator knows it, also those that were deleted by request."""
        state = self.ask("GET", "state")
        rows: list[dict[str, Any]] = [*state["recordings"], *state["deleted"]]
        return rows

    def log(self) -> list[dict[str, Any]]:
        """The journal: every request received and every callback sent."""
        entries: list[dict[str, Any]] = self.ask("GET", "log")["log"]
        return entries
