"""The `endtape` command."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
import redis
import requests
from rich.console import Console
from rich.table import Table

from worker import demo as demonstration
from worker.embedded import EmbeddedRedis
from worker.errors import EndtapeError, SettingsError
from worker.fold import fold
from worker.ledger import Ledger, connect
from worker.recording import Event, Kind
from worker.settings import Settings
from worker.supervise import Supervisor
from worker.views import call_view, recording_view
from worker.vobiz import Vobiz


def _careful(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wrong settings end with status 2 and every reason, other known trouble with status 1."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except SettingsError as error:
            for problem in error.problems:
                click.echo(problem, err=True)
            sys.exit(2)
        except (EndtapeError, redis.RedisError, requests.RequestException) as error:
            click.echo(f"{type(error).__name__}: {error}", err=True)
            sys.exit(1)

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Ends call recordings when they must end, proves it, and brings each home."""


@main.command("demo")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("demo-output"), show_default=True)
@_careful
def demo_command(as_json: bool, folder: Path) -> None:
    """Play seven calls against the emulator and show what came of them."""
    sys.exit(demonstration.run(folder.resolve(), as_json=as_json))


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(arguments: tuple[str, ...]) -> None:
    """Run the stand-in provider (see --help of `python -m emulator`)."""
    os.execv(sys.executable, [sys.executable, "-m", "emulator", *arguments])  # noqa: S606 - it replaces this process


@main.command()
@_careful
def run() -> None:
    """Run the service until Ctrl-C: the real account, or the emulator without one."""
    _write_env_file()
    given = {**_dotenv(), **os.environ}
    real = bool(given.get("VOBIZ_AUTH_ID") and given.get("VOBIZ_AUTH_TOKEN"))
    env: dict[str, str] = {}
    server = None if given.get("REDIS_URL") else EmbeddedRedis(Path("data/redis"))
    stand_in: subprocess.Popen[str] | None = None
    try:
        if server:
            server.start()
            env["REDIS_URL"] = server.url
        if not real:
            stand_in, more = _start_emulator(given)
            env |= more
        settings = Settings.from_env({**os.environ, **env})
        base = f"http://{settings.host}:{settings.port}"
        with Supervisor(env, Path("data/endtape.log")) as processes:
            processes.wait_ready(base)
            _greet(settings, base, real=real)
            done: list[int] = []
            signal.signal(signal.SIGTERM, lambda *_: done.append(1))
            signal.signal(signal.SIGINT, lambda *_: done.append(1))
            while not done:
                time.sleep(0.2)
    finally:
        if stand_in:
            stand_in.terminate()
        if server:
            server.stop()


def _greet(settings: Settings, base: str, *, real: bool) -> None:
    click.echo("Real account." if real else "No VOBIZ_AUTH_ID and VOBIZ_AUTH_TOKEN: this runs against the EMULATOR, not the provider.")
    if not settings.policy.from_file:
        click.echo("No rules file: mode `observe`, nothing is stopped. Write endtape.toml to change that.")
    if real and any(h in settings.public_url for h in ("127.0.0.1", "localhost", "[::1]")):
        click.echo("ENDTAPE_PUBLIC_URL is a loopback address: no callback of the provider can arrive.")
    for account in settings.accounts:
        click.echo(f"Callback URL: {settings.public_url}/vobiz/{account}/{settings.callback_token}")
    click.echo(f"Console and API: {base}/  (Ctrl-C ends)")


def _start_emulator(given: dict[str, str]) -> tuple[subprocess.Popen[str], dict[str, str]]:
    account, token, port = "MA_EMULATOR", "emulator-auth-token", given.get("PORT") or "8000"
    callback = f"http://127.0.0.1:{port}/vobiz/{account}/{given['ENDTAPE_CALLBACK_TOKEN']}"
    process = subprocess.Popen([sys.executable, "-m", "emulator", "--account", f"{account}:{token}", "--callback-url", callback],
                               stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    where = json.loads(process.stdout.readline())
    return process, {"VOBIZ_AUTH_ID": account, "VOBIZ_AUTH_TOKEN": token, "VOBIZ_API_URL": where["api_url"], "VOBIZ_MEDIA_HOSTS": where["media_host"]}


def _dotenv() -> dict[str, str]:
    from dotenv import dotenv_values  # noqa: PLC0415 - only `run` reads it apart from the settings
    return {k: v for k, v in dotenv_values(".env").items() if v}


def _write_env_file() -> None:
    place = Path(".env")
    if place.exists():
        return
    text = f"ENDTAPE_CALLBACK_TOKEN={secrets.token_urlsafe(24)}\nENDTAPE_API_KEY={secrets.token_urlsafe(24)}\n"
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    click.echo("Wrote .env with generated secrets, readable by you only.")


def _open() -> tuple[Settings, Ledger]:
    settings = Settings.from_env()
    return settings, Ledger(connect(settings.redis_url))


@main.command()
@click.option("--json", "as_json", is_flag=True)
@_careful
def doctor(as_json: bool) -> None:
    """Show the effective settings and try each connection."""
    settings, ledger = _open()
    checks: dict[str, str] = {}

    def attempt(name: str, deed: Callable[[], object]) -> None:
        try:
            checks[name] = f"fine: {deed()}"
        except (EndtapeError, redis.RedisError, requests.RequestException, OSError) as error:
            checks[name] = f"FAILED: {type(error).__name__}: {error}"

    attempt("redis", lambda: f"first start {ledger.prepare():%Y-%m-%d %H:%M}Z")
    attempt("processes", lambda: ", ".join(sorted(ledger.alive(demonstration.SEEN_WITHIN))) or "none running")
    vobiz = Vobiz(api_url=settings.api_url, media_hosts=settings.media_hosts, redirect_hosts=settings.redirect_hosts,
                  max_media_bytes=settings.max_media_bytes)
    for auth_id, account in settings.accounts.items():
        answer = vobiz.credentials_work(account)
        checks[f"account {auth_id}"] = {True: "fine: credentials accepted", False: "FAILED: credentials refused", None: "FAILED: no answer"}[answer]
    if as_json:
        click.echo(json.dumps({"settings": repr(settings), "checks": checks}))
    else:
        click.echo(repr(settings))
        for name, result in checks.items():
            click.echo(f"{name:24} {result}")
    sys.exit(1 if any(r.startswith("FAILED") for r in checks.values()) else 0)


@main.command()
@_careful
def urls() -> None:
    """Print the callback URLs and ready XML with them in place."""
    settings = Settings.from_env()
    for account in settings.accounts:
        base = f"{settings.public_url}/vobiz/{account}/{settings.callback_token}"
        click.echo(f"{account}: paste everywhere (hangup_url, ring_url, callbackUrl, callback_url)\n  {base}\n")
        click.echo(f'  <Record recordSession="true" redirect="false" maxLength="14400" timeout="14400"\n'
                   f'          action="{base}/record" callbackUrl="{base}/record"/>')
        click.echo(f'  <Dial callbackUrl="{base}/dial">…</Dial>\n  <Conference callbackUrl="{base}/conference">…</Conference>\n')


@main.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--limit", default=50, show_default=True)
@_careful
def ls(as_json: bool, limit: int) -> None:
    """List recordings, newest first."""
    settings, ledger = _open()
    views = []
    for _, account, recording_id in ledger.recent(settings.accounts):
        call_uuid = ledger.call_of(account, recording_id)
        if call_uuid:
            call = fold(account, call_uuid, ledger.events(account, call_uuid))
            if recording_id in call.recordings:
                views.append(recording_view(call, call.recordings[recording_id], settings.policy, ledger.now()))
        if len(views) >= limit:
            break
    if as_json:
        click.echo(json.dumps(views))
        return
    table = Table(width=min(100, Console().width))
    for column in ("recording", "started", "phase", "stop", "trigger"):
        table.add_column(column, overflow="fold")
    for view in views:
        table.add_row(view["recording_id"], view["started_at"], view["phase"], view["stop"]["state"], view["stop"]["trigger"] or "-")
    Console().print(table)


@main.command()
@click.argument("uuid")
@_careful
def show(uuid: str) -> None:
    """Show a call or a recording with its timeline, as JSON."""
    settings, ledger = _open()
    for account in settings.accounts:
        call_uuid = ledger.call_of(account, uuid) or ledger.a_leg(account, uuid)
        events = ledger.events(account, call_uuid)
        if events:
            click.echo(json.dumps(call_view(fold(account, call_uuid, events), settings.policy, ledger.now()), indent=2))
            return
    click.echo(f"{uuid}: no such call or recording", err=True)
    sys.exit(1)


@main.command()
@click.argument("call_uuid")
@click.option("--recording", "recording_id", help="Only this recording.")
@click.option("--reason", default="operator", show_default=True)
@click.option("--wait", "wait_s", default=10.0, show_default=True, help="Seconds to wait for the proof.")
@_careful
def stop(call_uuid: str, recording_id: str | None, reason: str, wait_s: float) -> None:
    """Stop the recordings of a call and wait for the proof."""
    settings, ledger = _open()
    for account in settings.accounts:
        a_leg = ledger.a_leg(account, call_uuid)
        events = ledger.events(account, a_leg)
        if events and (recording_id is None or recording_id in fold(account, a_leg, events).recordings):
            break
    else:
        click.echo(f"{call_uuid}: no such call, or no such recording on it", err=True)
        sys.exit(1)
    ledger.record(account, Event(id=f"order:{secrets.token_hex(6)}", kind=Kind.STOP_ORDERED, call_uuid=a_leg,
                                 recording_id=recording_id, reason=reason, by="cli"))
    deadline = time.monotonic() + wait_s
    while True:
        call = fold(account, a_leg, ledger.events(account, a_leg))
        concerned = [r for r in call.recordings.values() if recording_id in {None, r.recording_id}]
        views = [recording_view(call, r, settings.policy, ledger.now()) for r in concerned]
        proven = bool(concerned) and all(r.over_at for r in concerned)
        if proven or time.monotonic() >= deadline:
            click.echo(json.dumps([{"recording_id": v["recording_id"], "stop": v["stop"]} for v in views], indent=2))
            sys.exit(0 if proven else 1)
        time.sleep(0.1)


@main.command()
@_careful
def reload() -> None:
    """Check the settings and tell every process to read them again."""
    _, ledger = _open()
    click.echo(f"told all processes (reload {ledger.reload()})")


if __name__ == "__main__":
    main()
