"""`endtape demo`: every process, Redis and the emulator for real; seven calls; a table of what came
of them.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.table import Table

from emulator.client import Control, started
from worker.processes.embedded_redis import EmbeddedRedis
from worker.processes.supervisor import Supervisor, free_port

RULES = """\
[defaults]
max_duration = "30s"
confirm_within = "1s"
on = { transfer = "stop" }

[[rules]]
name = "short line"
match = { to = "91801*" }
max_duration = "3s"

[[rules]]
name = "sales keeps"
match = { to = "91802*" }
on = { transfer = "keep" }
"""
ACCOUNT, TOKEN = "MA_DEMO0001", "demo-auth-token"
WITHIN_S = 40
RECORDINGS = 8
SEEN_WITHIN = timedelta(seconds=15)


@dataclass(slots=True)
class Expected:
    """One recording of the scenario, and how its stop has to end."""

    title: str
    recording_id: str
    states: tuple[str, ...]


def play(control: Control, found: list[Expected]) -> None:
    """Seven calls, side by side; adds to `found` what has to come of them, as each recording
    starts.
    """
    first = control.call(to_number="918011112222")
    found.append(Expected("max duration", control.record(first), ("confirmed",)))
    transferred = control.call(to_number="918065550101")
    found.append(
        Expected(
            "transfer, stops",
            control.record(transferred, container="wav", channels=2),
            ("confirmed",),
        )
    )
    kept = control.call(to_number="918022223333")
    found.append(Expected("transfer, keeps", control.record(kept), ("none",)))
    ended = control.call(to_number="918065550102")
    found.append(Expected("normal hang-up", control.record(ended, container="wav"), ("none",)))
    double = control.call(to_number="918011113333")
    found.append(Expected("two on a call, first", control.record(double), ("confirmed",)))
    lost = control.call(to_number="918011114444")
    control.bad_day("lost-callbacks", call_uuid=lost, event="RecordStop")
    found.append(Expected("end callback lost", control.record(lost), ("confirmed",)))
    stubborn = control.call(to_number="918011115555")
    control.bad_day("stop-fails-first", call_uuid=stubborn, times=2)
    found.append(Expected("provider fails twice", control.record(stubborn), ("confirmed",)))
    time.sleep(1.5)
    found.append(
        Expected("two on a call, second", control.record(double, container="wav"), ("none",))
    )
    control.event(transferred, "DialConnected")
    control.event(kept, "DialConnected")
    time.sleep(2.3)  # between the deadlines of the two recordings of one call
    control.hangup(double)
    control.hangup(ended)
    control.hangup(kept)


def run(folder: Path, *, as_json: bool = False) -> int:
    """The whole demo, with its files below `folder`. Returns the exit status."""
    screen = Console(stderr=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "endtape.toml").write_text(RULES)
    port = free_port()
    base, token, key = (
        f"http://127.0.0.1:{port}",
        secrets.token_urlsafe(16),
        secrets.token_urlsafe(16),
    )
    callback = f"{base}/vobiz/{ACCOUNT}/{token}"
    with EmbeddedRedis(folder / "redis") as redis, started(ACCOUNT, TOKEN, callback) as where:
        env = {
            "VOBIZ_AUTH_ID": ACCOUNT,
            "VOBIZ_AUTH_TOKEN": TOKEN,
            "VOBIZ_API_URL": where.api_url,
            "VOBIZ_MEDIA_HOSTS": where.media_host,
            "REDIS_URL": redis.url,
            "PORT": str(port),
            "HOST": "127.0.0.1",
            "ENDTAPE_PUBLIC_URL": base,
            "ENDTAPE_CALLBACK_TOKEN": token,
            "ENDTAPE_API_KEY": key,
            "ENDTAPE_ARCHIVE": str(folder / "recordings"),
            "ENDTAPE_SPOOL": str(folder / "spool"),
            "ENDTAPE_CONFIG": str(folder / "endtape.toml"),
            "ENDTAPE_API_RATE": "20",
        }
        with Supervisor(
            {**_without_settings(), **env},
            folder / "endtape.log",
            folder=folder,
            each_turn=redis.start_again,
        ) as processes:
            screen.print("Starting Redis, the emulator and every process ...")
            processes.wait_ready(base)
            screen.print("Ready. Seven calls are on their way ...")
            expected: list[Expected] = []
            playing = threading.Thread(
                target=play, args=(Control(where.control_url), expected), daemon=True
            )
            playing.start()
            views = _watch(base, key, expected, screen, playing)
    return _report(expected, views, folder, as_json=as_json)


def _without_settings() -> dict[str, str]:
    # Settings of the surrounding shell would change what is shown; empty means unset.
    return {
        name: ""
        for name in os.environ
        if name.startswith(("ENDTAPE_", "VOBIZ_", "CELERY_")) or name == "REDIS_URL"
    }


def _watch(
    base: str, key: str, expected: list[Expected], screen: Console, playing: threading.Thread
) -> dict[str, dict[str, Any]]:
    """Shows each recording's way until all are archived or the time is up."""
    began, shown, views = (
        time.monotonic(),
        dict[str, tuple[str, str]](),
        dict[str, dict[str, Any]](),
    )
    with requests.Session() as http:
        http.trust_env = False
        while time.monotonic() - began < WITHIN_S:
            titles = {e.recording_id: e.title for e in list(expected)}
            done = not playing.is_alive()
            found = http.get(
                f"{base}/v1/recordings", headers={"Authorization": f"Bearer {key}"}, timeout=5
            ).json()["recordings"]
            views = {view["recording_id"]: view for view in found}
            for recording_id, view in views.items():
                state = (view["phase"], view["stop"]["state"])
                if recording_id in titles and shown.get(recording_id) != state:
                    shown[recording_id] = state
                    screen.print(
                        f"{time.monotonic() - began:6.1f} s  {titles[recording_id]:22} {state[0]:11} stop: {state[1]}"
                    )
            if done and all(views.get(i, {}).get("phase") == "archived" for i in titles):
                break
            time.sleep(0.15)
    return views


def _report(
    expected: list[Expected], views: dict[str, dict[str, Any]], folder: Path, *, as_json: bool
) -> int:
    table = Table(title="What came of it", width=80, box=None, padding=(0, 1, 0, 0))
    for column in ("call", "trigger", "stop", "late ms", "tries", "tail ms", "bytes", "ok"):
        table.add_column(
            column,
            no_wrap=True,
            justify="right" if column in {"late ms", "tries", "tail ms", "bytes"} else "left",
        )
    fine, rows = len(expected) == RECORDINGS, []
    for e in expected:
        view = views.get(e.recording_id, {})
        stop = view.get("stop", {})
        good = (
            view.get("phase") == "archived"
            and view.get("problem") is None
            and stop.get("state") in e.states
        )
        fine = fine and good
        late = _late_ms(stop)
        rows.append({"call": e.title, **view})
        table.add_row(
            e.title,
            str(stop.get("trigger") or "-"),
            str(stop.get("state")),
            "-" if late is None else str(late),
            str(stop.get("attempts", "-")),
            "-" if stop.get("tail_ms") is None else str(stop["tail_ms"]),
            str(view.get("bytes") or "-"),
            "yes" if good else "NO",
        )
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        Console(width=80).print(table)
        sys.stdout.write(f"The files and their receipts: {folder / 'recordings'}\n")
    return 0 if fine else 1


def _late_ms(stop: dict[str, Any]) -> int | None:
    if not stop.get("requested_at") or not stop.get("due_at"):
        return None
    requested, due = (datetime.fromisoformat(stop[n]) for n in ("requested_at", "due_at"))
    return round((requested - due).total_seconds() * 1000)
