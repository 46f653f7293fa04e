"""`endtape demo`: runs every process, Redis and the emulator, plays seven calls, and prints a table
of their eight recordings and what came of holding, offloading and erasing some of them.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import requests
from rich.console import Console, JustifyMethod
from rich.table import Table

from emulator.client import Addresses, Control, started
from worker.archive import places
from worker.archive.places import Bucket, Place
from worker.command import demo_folder, demo_governing, demo_signatures
from worker.command.demo_governing import Application, Shown
from worker.command.terminal import (
    as_json_option,
    counted,
    exit_statuses,
    or_dash,
)
from worker.errors import EndtapeError
from worker.processes.embedded_redis import EmbeddedRedis
from worker.processes.supervisor import Supervisor, free_port

RULES = """\
[defaults]
max_duration = "30s"
confirm_within = "2s"
on = { transfer = "stop" }

[[rules]]
name = "short line"
match = { to = "91801*" }
max_duration = "3s"

[[rules]]
name = "sales keeps"
match = { to = "91802*" }
on = { transfer = "keep" }
keep_at_provider = "0s"
"""
KEYS = "allowed_signers"  # the service's public keys, as a stranger gets them
ACCOUNT, TOKEN = "MA_DEMO0001", "demo-auth-token"
WITHIN_S = 40
RECORDINGS = 8


@dataclass(slots=True)
class Expected:
    """One recording of the scenario, and how its stop has to end."""

    title: str
    recording_id: str
    states: tuple[str, ...]


@click.command(epilog="Example: endtape demo --folder /tmp/demo")
@as_json_option
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Where its files are left behind: new, empty, or of an earlier demo, which is removed.",
)
@exit_statuses
def demo(as_json: bool, folder: Path) -> None:
    """Play seven calls with eight recordings, show what comes of them.

    Exit 0 only if every recording is archived and verified, and every stop is proven.
    """
    folder = folder.resolve()
    try:
        with demo_folder.taken(folder):
            status = run(folder, as_json=as_json)
    except requests.RequestException as error:
        raise EndtapeError(
            f"the service does not answer ({error}); its log is {folder / 'endtape.log'}"
        ) from error
    sys.exit(status)


def play(control: Control, expected: list[Expected]) -> None:
    """Plays seven calls side by side. Adds each recording to `expected` as it starts."""
    first = control.call(to_number="918011112222")
    expected.append(Expected("max duration", control.record(first), ("confirmed",)))
    transferred = control.call(to_number="918065550101")
    expected.append(
        Expected(
            "transfer, stops",
            control.record(transferred, container="wav", channels=2),
            ("confirmed",),
        )
    )
    kept = control.call(to_number="918022223333")
    expected.append(Expected("transfer, keeps", control.record(kept), ("none",)))
    ended = control.call(to_number="918065550102")
    expected.append(Expected("normal hang-up", control.record(ended, container="wav"), ("none",)))
    double = control.call(to_number="918011113333")
    expected.append(Expected("two on a call, first", control.record(double), ("confirmed",)))
    lost = control.call(to_number="918011114444")
    control.bad_day("lost-callbacks", call_uuid=lost, event="RecordStop")
    expected.append(Expected("end callback lost", control.record(lost), ("confirmed",)))
    stubborn = control.call(to_number="918011115555")
    control.bad_day("stop-fails-first", call_uuid=stubborn, times=2)
    expected.append(Expected("provider fails twice", control.record(stubborn), ("confirmed",)))
    time.sleep(1.5)
    expected.append(
        Expected("two on a call, second", control.record(double, container="wav"), ("none",))
    )
    control.event(transferred, "DialConnected")
    control.event(kept, "DialConnected")
    time.sleep(2.3)  # between the deadlines of the two recordings of one call
    control.hangup(double)
    control.hangup(ended)
    control.hangup(kept)


def run(folder: Path, *, as_json: bool = False) -> int:
    """The whole demo, with its files below `folder`, which is empty. Returns the exit status."""
    screen = Console(stderr=True)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    callback_token, key = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    callback = f"{base}/vobiz/{ACCOUNT}/{callback_token}"
    expected: list[Expected] = []
    with (
        EmbeddedRedis(folder / "redis") as redis,
        started(ACCOUNT, TOKEN, callback) as emulator,
        Application() as application,
    ):
        (folder / "endtape.toml").write_text(RULES + application.rules)
        env = {
            **_without_settings(),
            **_settings(folder, emulator, redis.url, port),
            "ENDTAPE_CALLBACK_TOKEN": callback_token,
            "ENDTAPE_API_KEY": key,
            demo_governing.SIGNED_BY: application.secret,
        }
        log = folder / "endtape.log"
        with Supervisor(env, log, folder=folder, each_turn=redis.start_again) as processes:
            screen.print("Starting Redis, the emulator and every process ...")
            processes.wait_ready(base)
            screen.print(f"Ready. Seven calls with {RECORDINGS} recordings are on their way ...")
            control = Control(emulator.control_url)
            playing = threading.Thread(target=play, args=(control, expected), daemon=True)
            playing.start()
            views = _watch(base, key, expected, screen, playing)
            ids = {one.title: one.recording_id for one in expected}
            all_began = len(expected) == RECORDINGS
            governed = demo_governing.play(base, key, application, ids) if all_began else []
            (folder / KEYS).write_text(requests.get(f"{base}/v1/keys", timeout=5).text)
    return _report(expected, views, governed, folder, as_json=as_json)


def _settings(folder: Path, emulator: Addresses, redis_url: str, port: int) -> dict[str, str]:
    return {
        "VOBIZ_AUTH_ID": ACCOUNT,
        "VOBIZ_AUTH_TOKEN": TOKEN,
        "VOBIZ_API_URL": emulator.api_url,
        "VOBIZ_MEDIA_HOSTS": emulator.media_host,
        "REDIS_URL": redis_url,
        "PORT": str(port),
        "HOST": "127.0.0.1",
        "ENDTAPE_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "ENDTAPE_ARCHIVE": str(_archive(folder)),
        "ENDTAPE_SPOOL": str(folder / "spool"),
        "ENDTAPE_SIGNING_KEY": str(folder / "signing_key"),
        "ENDTAPE_CONFIG": str(folder / "endtape.toml"),
        "ENDTAPE_API_RATE": "20",
    }


def _archive(folder: Path) -> Place:
    """The bucket that the surrounding shell names, else a directory of the demo."""
    place = places.parse(os.environ.get("ENDTAPE_ARCHIVE", "recordings"))
    if isinstance(place, Bucket):
        return places.with_client(place, os.environ, ())
    return folder / "recordings"


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
    """Prints each recording's states until all are archived or the time is up. Returns the last
    view of each recording, by its id.
    """
    began = time.monotonic()
    shown: dict[str, tuple[str, str]] = {}
    views: dict[str, dict[str, Any]] = {}
    with requests.Session() as http:
        http.trust_env = False
        http.headers["Authorization"] = f"Bearer {key}"
        while time.monotonic() - began < WITHIN_S:
            titles = {e.recording_id: e.title for e in list(expected)}
            done = not playing.is_alive()
            answer = http.get(f"{base}/v1/recordings", timeout=5).json()
            views = {view["recording_id"]: view for view in answer["recordings"]}
            for recording_id, view in views.items():
                phase, stop = state = (view["phase"], view["stop"]["state"])
                if recording_id in titles and shown.get(recording_id) != state:
                    shown[recording_id] = state
                    after = f"{time.monotonic() - began:6.1f} s"
                    screen.print(f"{after}  {titles[recording_id]:22} {phase:11} stop: {stop}")
            if done and all(views.get(i, {}).get("phase") == "archived" for i in titles):
                break
            time.sleep(0.15)
    return views


def _report(
    expected: list[Expected],
    views: dict[str, dict[str, Any]],
    governed: list[Shown],
    folder: Path,
    *,
    as_json: bool,
) -> int:
    """Prints the result of each recording. Returns the exit status: 0 when all are as expected."""
    table = Table(title="What came of it", width=80, box=None, padding=(0, 1, 0, 0))
    numbers = {"late ms", "tries", "tail ms", "bytes"}
    for column in ("recording", "trigger", "stop", "late ms", "tries", "tail ms", "bytes", "ok"):
        justify: JustifyMethod = "right" if column in numbers else "left"
        table.add_column(column, no_wrap=True, justify=justify)
    for one in expected:
        table.add_row(*_row(one, views.get(one.recording_id, {})))
    archive, keys = _archive(folder), folder / KEYS
    signed = demo_signatures.verified(archive, keys)
    if as_json:
        rows = [{"call": one.title, **views.get(one.recording_id, {})} for one in expected]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        Console(width=80).print(table)
        Console(width=80).print(demo_governing.table_of(governed))
        sys.stdout.write(f"The files and their receipts: {archive}\n")
        sys.stdout.write(
            f"Verified: {counted(signed.counts['signed'], 'good signature')}, "
            f"{counted(len(signed.findings), 'finding')}.\n"
        )
        archived = [view["archive_key"] for view in views.values() if view.get("archive_key")]
        if archived:
            sys.stdout.write(demo_signatures.for_a_stranger(archive, keys, archived[0]))
    good = sum(_is_as_expected(one, views.get(one.recording_id, {})) for one in expected)
    filed = signed.counts["receipts"] + signed.counts["erased"]
    is_signed = filed == good and signed.counts["unfinished"] == 0 and not signed.findings
    is_governed = all(one.good for one in governed)
    is_well = good == len(expected) == RECORDINGS and is_signed and is_governed
    if not as_json:
        sys.stdout.write(_verdict(folder, good, is_well=is_well))
    return 0 if is_well else 1


def _verdict(folder: Path, good: int, *, is_well: bool) -> str:
    """One line that says what came of it, and one with the next step."""
    if is_well:
        return (
            f"\nPASSED: all {RECORDINGS} recordings are archived and verified, "
            "every stop is proven.\n"
            "Next: `make run` (without a checkout `endtape run`); docs/start.md leads on.\n"
        )
    return (
        f"\nFAILED: {good} of {RECORDINGS} recordings are archived, verified and stopped as due.\n"
        f"Next: read {folder / 'endtape.log'}, and run `endtape demo` again.\n"
    )


def _is_as_expected(expected: Expected, view: dict[str, Any]) -> bool:
    return (
        view.get("phase") == "archived"
        and view.get("problem") is None
        and view["stop"].get("state") in expected.states
    )


def _row(expected: Expected, view: dict[str, Any]) -> list[str]:
    stop = view.get("stop", {})
    return [
        expected.title,
        str(stop.get("trigger") or "-"),
        str(stop.get("state")),
        or_dash(_late_ms(stop)),
        str(stop.get("attempts", "-")),
        or_dash(stop.get("tail_ms")),
        str(view.get("bytes") or "-"),
        "yes" if _is_as_expected(expected, view) else "NO",
    ]


def _late_ms(stop: dict[str, Any]) -> int | None:
    if not stop.get("requested_at") or not stop.get("due_at"):
        return None
    requested, due = (datetime.fromisoformat(stop[n]) for n in ("requested_at", "due_at"))
    return round((requested - due).total_seconds() * 1000)
