"""The `endtape` command."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

import click
import redis
import requests
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from worker import demo as demonstration
from worker import doctor as examination
from worker import logs, service, survey_now
from worker.errors import EndtapeError, SettingsError
from worker.fold import fold
from worker.ledger import Ledger, connect
from worker.recording import Call, Event, Kind
from worker.settings import Settings
from worker.views import call_view, recording_view

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_WIDTH = 80      # of tables where no terminal says otherwise


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
            click.echo(str(error), err=True)
            sys.exit(1)

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Ends call recordings when they must end, proves it, and brings each home."""


@main.command("demo")
@_json
@click.option("--folder", type=click.Path(path_type=Path), default=Path("demo-output"), show_default=True)
@_careful
def demo_command(as_json: bool, folder: Path) -> None:
    """Play seven calls against the emulator and show what came of them."""
    sys.exit(demonstration.run(folder.resolve(), as_json=as_json))


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(arguments: tuple[str, ...]) -> None:
    """Run the stand-in provider (docs/emulator.md)."""
    os.execv(sys.executable, [sys.executable, "-m", "emulator", *arguments])  # noqa: S606 - it replaces this process


@main.command()
@_careful
def run() -> None:
    """Run the service until Ctrl-C: the real account, or the emulator without one."""
    service.run()


def _open(*, rules_needed: bool = True) -> tuple[Settings, Ledger]:
    """A broken rules file must not take the emergency brake away: without need of the rules it is only told of."""
    try:
        settings = Settings.from_env(service.overlay())
    except SettingsError as error:
        if rules_needed:
            raise
        settings = Settings.from_env(service.overlay(), without_rules=True)
        click.echo("\n".join(["The rules file is broken; the running processes keep the old rules:", *error.problems]), err=True)
    return settings, Ledger(connect(settings.redis_url))


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: Table) -> None:
    screen = Console()
    Console(width=screen.width if screen.is_terminal else _WIDTH).print(table)


@main.command()
@_json
@_careful
def doctor(as_json: bool) -> None:
    """Show the effective settings and try each connection."""
    settings, ledger = _open()
    shown = examination.shown_settings(settings)
    found = list(examination.checks(settings, ledger))
    if as_json:
        click.echo(json.dumps({"settings": shown, "checks": [{"name": c.name, "state": c.state, "detail": c.detail} for c in found]}, indent=2))
    else:
        for heading, rows in (("setting", shown.items()), ("check", [(c.name, c.detail if c.state == "fine" else f"{c.state.upper()}: {c.detail}")
                                                                     for c in found])):
            table = _table(heading, "")
            for row in rows:
                table.add_row(*row)
            _print(table)
            click.echo()
    sys.exit(1 if any(c.state == "failed" for c in found) else 0)


@main.command()
@_json
@_careful
def urls(as_json: bool) -> None:
    """Print the callback URLs and ready XML with them in place."""
    settings = Settings.from_env(service.overlay())
    bases = {account: f"{settings.public_url}/vobiz/{account}/{settings.callback_token}" for account in settings.accounts}
    if as_json:
        click.echo(json.dumps(bases, indent=2))
        return
    for account, base in bases.items():
        click.echo(f"""{account}: paste this everywhere (hangup_url, ring_url, callbackUrl, callback_url)

  {base}

XML that tells us all we need; place <Record> before <Dial> or <Conference>:

  <Record recordSession="true" redirect="false"
          maxLength="14400" timeout="14400"
          action="{base}/record"
          callbackUrl="{base}/record"/>
  <Dial callbackUrl="{base}/dial">
    <Number>918065550199</Number>
  </Dial>
  <Conference callbackUrl="{base}/conference">room-1</Conference>
""")


@main.command()
@_json
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@_careful
def ls(as_json: bool, limit: int) -> None:
    """List recordings, newest first."""
    settings, ledger = _open(rules_needed=False)
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
        click.echo(json.dumps(views, indent=2))
        return
    table = _table("recording", "began (UTC)", "phase", "stop")
    for view in views:
        table.add_row(view["recording_id"], view["started_at"][5:16].replace("T", " "), view["phase"], view["stop"]["state"])
    _print(table)


@main.command()
@click.argument("uuid")
@_json
@_careful
def show(uuid: str, as_json: bool) -> None:
    """Show a call, named by its own id or a recording's, with its timeline."""
    settings, ledger = _open(rules_needed=False)
    account, call_uuid, events = _find(settings, ledger, uuid)
    view = call_view(fold(account, call_uuid, events), settings.policy, ledger.now())
    if as_json:
        click.echo(json.dumps(view, indent=2))
        return
    click.echo(f"call {call_uuid} of {account}\n  {view['direction'] or 'direction unknown'}, from {view['from'] or '?'} to {view['to'] or '?'}\n")
    for recording in view["recordings"]:
        stop = recording["stop"]
        click.echo(f"recording {recording['recording_id']}\n  {recording['phase']}; stop {stop['state']}"
                   + (f": {stop['trigger']} by rule {stop['rule']!r}\n  due {stop['due_at']}" if stop["due_at"] else "\n  never due")
                   + f"; evidence: {', '.join(stop['evidence']) or 'none'}; tries {stop['attempts']}; tail {_or_dash(stop['tail_ms'])} ms")
        click.echo(f"  file {recording['archive_key'] or '-'}" + (f"\n  problem: {recording['problem']}" if recording["problem"] else "") + "\n")
    table = _table("at (UTC)", "event", "recording", "by", "what")
    for event in view["timeline"]:
        what = " ".join(str(x) for x in (event["trigger"], event["reason"]) if x)
        table.add_row(event["at"][11:23], event["event"], (event["recording_id"] or "-")[:8], event["by"] or "us", what or "-")
    _print(table)


@main.command()
@click.argument("call_uuid")
@_json
@click.option("--recording", "recording_id", help="Only this recording.")
@click.option("--reason", default="operator", show_default=True)
@click.option("--wait", "wait_s", default=10.0, show_default=True, type=click.FloatRange(0, 600), help="Seconds to wait for the proof.")
@_careful
def stop(call_uuid: str, as_json: bool, recording_id: str | None, reason: str, wait_s: float) -> None:
    """Stop a call's recordings, or one, and wait for the proof.

    CALL_UUID stops all of them, a recording's id that one. Exit 0 only when each is proven over.
    """
    settings, ledger = _open(rules_needed=False)
    account, a_leg, events = _find(settings, ledger, call_uuid)
    if recording_id is None and call_uuid != a_leg and call_uuid in fold(account, a_leg, events).recordings:
        recording_id = call_uuid         # named by a recording's id: that one is meant
    if recording_id is not None and recording_id not in fold(account, a_leg, events).recordings:
        raise EndtapeError(f"{recording_id}: no such recording on call {a_leg}")
    ledger.record(account, Event(id=f"order:{secrets.token_hex(6)}", kind=Kind.STOP_ORDERED, call_uuid=a_leg,
                                 recording_id=recording_id, reason=reason, by="cli"))
    screen, deadline = Console(stderr=True), time.monotonic() + wait_s
    with screen.status("waiting for the proof ...") if screen.is_terminal else nullcontext():
        while True:
            call = fold(account, a_leg, ledger.events(account, a_leg))
            concerned = [r for r in call.recordings.values() if recording_id in {None, r.recording_id}]
            proven = bool(concerned) and all(r.over_at for r in concerned)
            if proven or time.monotonic() >= deadline:
                break
            time.sleep(0.1)
    _print_stops(call, [recording_view(call, r, settings.policy, ledger.now()) for r in concerned], as_json=as_json)
    sys.exit(0 if proven else 1)


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _print_stops(call: Call, views: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([{"recording_id": v["recording_id"], "stop": v["stop"]} for v in views], indent=2))
    elif not views:
        click.echo(f"{call.call_uuid}: no recording is known, so nothing can be proven", err=True)
    else:
        table = _table("recording", "stop", "evidence", "tries", "tail ms")
        for v in views:
            stop = v["stop"]
            table.add_row(v["recording_id"], stop["state"], ", ".join(stop["evidence"]) or "-", str(stop["attempts"]),
                          _or_dash(stop["tail_ms"]))
        _print(table)


def _find(settings: Settings, ledger: Ledger, uuid: str) -> tuple[str, str, list[Event]]:
    """The account, A-leg and events that a call's or recording's id means. Raises EndtapeError when it is not known."""
    for account in settings.accounts:
        for call_uuid in dict.fromkeys((uuid, ledger.call_of(account, uuid) or ledger.a_leg(account, uuid))):
            events = ledger.events(account, call_uuid)
            if events:
                return account, call_uuid, events
    raise EndtapeError(f"{uuid}: no such call or recording")


@main.command()
@_json
@click.option("--wait", "wait_s", default=600.0, show_default=True, type=click.FloatRange(0, 86400), help="Seconds to go on at most.")
@_careful
def reconcile(as_json: bool, wait_s: float) -> None:
    """Compare the provider's lists with ours now, and heal the difference.

    Needs no running service, which alone fetches what is found. Exit 0 only when each account was compared.
    """
    settings, ledger = _open()
    logs.set_up(settings.log)
    screen = Console(stderr=True)
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=screen,
                  disable=not screen.is_terminal, transient=True) as bar:
        task = bar.add_task("comparing ...")
        found = survey_now.run(settings, ledger, wait_s=wait_s, told=lambda done, total, rows: bar.update(
            task, completed=done, total=total, description=f"comparing, {rows} rows so far ..."))
    if as_json:
        click.echo(json.dumps([{"account": r.account, **r.found, "problem": r.problem} for r in found], indent=2))
    else:
        table = _table("account", *survey_now.KINDS, "problem")
        for r in found:
            table.add_row(r.account, *(str(r.found[kind]) for kind in survey_now.KINDS), r.problem or "-")
        _print(table)
    sys.exit(1 if any(r.problem for r in found) else 0)


@main.command()
@_json
@_careful
def reload(as_json: bool) -> None:
    """Check the settings and tell every process, on every machine, to read them again."""
    settings, ledger = _open()
    number = ledger.reload()
    if as_json:
        click.echo(json.dumps({"reload": number, "rules": len(settings.policy.rules)}))
    else:
        rules = f"{len(settings.policy.rules)} rules and the defaults" if settings.policy.from_file else "no rules file, mode `observe`"
        click.echo(f"Told all processes (reload {number}): {rules}.")


if __name__ == "__main__":
    main()
