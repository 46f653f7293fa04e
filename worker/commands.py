"""The commands about a call, and what every command needs."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import redis
import requests
from rich import box
from rich.console import Console
from rich.table import Table

from worker import service, wire
from worker.errors import EndtapeError, LedgerUnavailable, SettingsError
from worker.explain import explain
from worker.fold import fold
from worker.handoffs import UNSEEN, concerning
from worker.ledger import Ledger, connect
from worker.policy import Mode
from worker.recording import Call, Event, Kind, Recording
from worker.rules import TRIGGER, TRIGGERS
from worker.settings import Settings, environment
from worker.triggers import acts
from worker.views import call_view, recording_view

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_WIDTH = 80  # of tables where no terminal says otherwise


def careful(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wrong settings end with status 2 and every reason, other known trouble with status 1."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except SettingsError as error:
            for problem in error.problems:
                click.echo(problem, err=True)
            sys.exit(2)
        except (LedgerUnavailable, redis.RedisError) as error:
            click.echo(
                f"Redis does not answer ({error}); is the service running, and REDIS_URL right?",
                err=True,
            )
            sys.exit(1)
        except (EndtapeError, requests.RequestException) as error:
            click.echo(str(error), err=True)
            sys.exit(1)

    return run


def current_settings(*, without_rules: bool = False) -> Settings:
    """What a command works with; a name that has no effect is told of. Raises SettingsError."""
    given = service.overlay()
    try:
        settings = Settings.from_env(given, without_rules=without_rules)
    except SettingsError as error:
        if "REDIS_URL" in given or "REDIS_URL" in environment(Path.cwd()):
            raise
        raise SettingsError(
            [
                "No `endtape run` is at work in this folder, which would say where its Redis is:",
                *error.problems,
            ]
        ) from None
    for warning in settings.warnings:
        click.echo(f"Warning: {warning}", err=True)
    return settings


def open_ledger(*, rules_needed: bool = True) -> tuple[Settings, Ledger]:
    """A broken rules file must not take the emergency brake away: without need of the rules it is
    only told of."""
    try:
        settings = current_settings()
    except SettingsError as error:
        if rules_needed:
            raise
        settings = current_settings(without_rules=True)
        click.echo(
            "\n".join(
                [
                    "The rules file is broken; the running processes keep the old rules:",
                    *error.problems,
                ]
            ),
            err=True,
        )
    return settings, Ledger(connect(settings.redis_url))


def table_of(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_table(table: Table) -> None:
    screen = Console()
    Console(width=screen.width if screen.is_terminal else _WIDTH).print(table)


@click.command()
@click.argument("uuid")
@as_json_option
@careful
def show(uuid: str, as_json: bool) -> None:
    """Show a call with its timeline.

    UUID is its own id, or a recording's.
    """
    settings, ledger = open_ledger(rules_needed=False)
    account, call_uuid, events = _find(settings, ledger, uuid)
    call = fold(account, call_uuid, events)
    view = call_view(call, settings.policy, ledger.now())
    if as_json:
        click.echo(json.dumps(view, indent=2))
        return
    rule, terms = settings.policy.choose(call)
    if terms.mode is Mode.OBSERVE:
        click.echo(f"rule {rule!r} only observes: what is due here is not stopped\n")
    click.echo(
        f"call {call_uuid} of {account}\n  {view['direction'] or 'direction unknown'}, from {view['from'] or '?'} to {view['to'] or '?'}\n"
    )
    for recording in view["recordings"]:
        stop = recording["stop"]
        click.echo(
            f"recording {recording['recording_id']}\n  {recording['phase']}; stop {stop['state']}"
            + (
                f": {stop['trigger']} by rule {stop['rule']!r}\n  due {stop['due_at']}"
                if stop["due_at"]
                else "\n  never due"
            )
            + f"; evidence: {', '.join(stop['evidence']) or 'none'}; sent {stop['attempts']}"
            + ("" if stop["tail_ms"] is None else f"; tail {stop['tail_ms']} ms")
            + (f"\n  segment of {recording['segment_of']}" if recording["segment_of"] else "")
        )
        click.echo(
            f"  file {recording['archive_key'] or 'not here yet'}"
            + (f"\n  problem: {recording['problem']}" if recording["problem"] else "")
            + (
                f"\n  fault: {recording['fault']} (docs/operations.md, Abandoned work)"
                if recording["fault"]
                else ""
            )
            + "\n"
        )
    table = table_of("at (UTC)", "event", "recording", "by", "what")
    for event in view["timeline"]:
        what = ": ".join(str(x) for x in (event["trigger"], event["reason"]) if x)
        table.add_row(
            event["at"][11:23],
            event["event"],
            (event["recording_id"] or "-")[:8],
            event["by"] or "us",
            what or "-",
        )
    print_table(table)


@click.command()
@click.argument("call_uuid")
@as_json_option
@click.option("--recording", "recording_id", help="Only this recording.")
@click.option(
    "--account",
    help="Whose call it is; needed where nobody told us of it and there are several accounts.",
)
@click.option("--reason", default="operator", show_default=True)
@click.option(
    "--wait",
    "wait_s",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0, 600),
    help="Seconds to wait for the proof.",
)
@careful
def stop(
    call_uuid: str,
    as_json: bool,
    recording_id: str | None,
    account: str | None,
    reason: str,
    wait_s: float,
) -> None:
    """Stop a call's recordings, or one, and wait for the proof.

    CALL_UUID stops all of them, also of a call that nobody told us of; a recording's id that one.
    Exit 0 only when each is proven over.
    """
    settings, ledger = open_ledger(rules_needed=False)
    account, a_leg = _whose(settings, ledger, call_uuid, account)
    known = fold(account, a_leg, ledger.events(account, a_leg)).recordings
    if recording_id is None and call_uuid != a_leg and call_uuid in known:
        recording_id = call_uuid  # named by a recording's id: that one is meant
    if recording_id is not None and recording_id not in known:
        raise EndtapeError(f"{recording_id}: no such recording on call {a_leg}")
    order = Event(
        id=f"order:{secrets.token_hex(6)}",
        kind=Kind.STOP_ORDERED,
        call_uuid=a_leg,
        recording_id=recording_id,
        reason=reason,
        by="cli",
        segment_of=known[recording_id].segment_of if recording_id else None,
    )
    ledger.record(account, order)
    screen, deadline = Console(stderr=True), time.monotonic() + wait_s
    with screen.status("waiting for the proof ...") if screen.is_terminal else nullcontext():
        while True:
            call = fold(account, a_leg, ledger.events(account, a_leg))
            concerned = concerning(
                call, next(a for a in acts(call, settings.policy) if a.event.id == order.id)
            )
            proven = bool(concerned) and all(r.over_at for r in concerned)
            if proven or _nobody_knows(call, concerned) or time.monotonic() >= deadline:
                break
            time.sleep(0.1)
    views = [recording_view(call, r, settings.policy, ledger.now()) for r in concerned]
    _print_stops(views, as_json=as_json)
    if not proven:
        for line in _why_not(settings, ledger, call, concerned, wait_s):
            click.echo(line, err=True)
    sys.exit(0 if proven else 1)


def _whose(settings: Settings, ledger: Ledger, uuid: str, named: str | None) -> tuple[str, str]:
    """The account and the A-leg that an id means; of a call that nobody told us of, whose it would
    be. Raises UsageError where that is not clear."""
    if not wire.identifier(uuid) or wire.identifier(uuid) != uuid:
        raise click.BadParameter(
            "must be an id of at most 128 letters, digits, `_` and `-`", param_hint="CALL_UUID"
        )
    try:
        found = _find(settings, ledger, uuid, named)
    except EndtapeError:
        accounts = list(dict.fromkeys([*settings.accounts, *ledger.accounts()]))
        if named is not None and named not in accounts:
            raise click.BadParameter(
                f"no such account here; there are {', '.join(accounts)}", param_hint="--account"
            ) from None
        if named is None and len(accounts) > 1:
            raise click.UsageError(
                f"nobody told us of {uuid}, so say whose it is: --account {' or '.join(accounts)}"
            ) from None
        return named or accounts[0], uuid
    return found[:2]


def _nobody_knows(call: Call, concerned: Sequence[Recording]) -> bool:
    """Whether the provider has no such call either: nothing more comes of the order."""
    unseen = [r for r in concerned if r.recording_id == UNSEEN]
    return (
        len(unseen) == len(concerned) > 0
        and not call.recordings
        and any(a.kind is Kind.CALL_FOUND_OVER for r in unseen for a in r.attempts)
    )


def _why_not(
    settings: Settings, ledger: Ledger, call: Call, concerned: Sequence[Recording], wait_s: float
) -> Iterator[str]:
    """Why there is no proof, as far as anybody can tell."""
    if _nobody_knows(call, concerned):
        why = (
            "so it rings, or is over; what is reported within 5 s of the order is stopped"
            if call.known
            else "and nobody told us of one, so there was nothing to stop, or the id is another leg's"
        )
        yield f"{call.call_uuid}: the provider has no live call of this id (404), {why}"
        return
    for recording in concerned:
        name, sent = recording.recording_id or f"call {call.call_uuid}", len(recording.attempts)
        if recording.over_at:
            continue
        if recording.trunk:
            yield f"{name}: a trunk recording cannot be stopped; only the end of its call ends it"
        elif not sent:
            yield f"{name}: no stop request has left within {wait_s:g} s; {_held_up(settings, ledger, call)}"
        elif recording.recording_id == UNSEEN:
            yield f"{name}: the stop for all of it was sent, and no recording of it is known, so nothing can prove that it ended"
        else:
            yield f"{name}: no proof within {wait_s:g} s; it is looked for, and the stop sent again, until there is one (`endtape show {call.call_uuid}`)"


def _held_up(settings: Settings, ledger: Ledger, call: Call) -> str:
    missing = [
        role for role in ("stops", "clock") if role not in ledger.alive(timedelta(seconds=15))
    ]
    if missing:
        return f"no process for {' and '.join(missing)} is running, see `endtape doctor`"
    if call.account not in settings.accounts:
        return f"the account {call.account} is not in the settings"
    return (
        "it goes out as soon as the provider's rate and its credentials allow, see `endtape doctor`"
    )


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _print_stops(views: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps(
                [
                    {
                        "recording_id": v["recording_id"] or None,
                        "stop": v["stop"],
                        "problem": v["problem"],
                    }
                    for v in views
                ],
                indent=2,
            )
        )
    elif views:
        table = table_of("recording", "stop", "evidence", "tries", "tail ms")
        for v in views:
            stop = v["stop"]
            table.add_row(
                v["recording_id"] or "(none is known)",
                stop["state"],
                ", ".join(stop["evidence"]) or "-",
                str(stop["attempts"]),
                _or_dash(stop["tail_ms"]),
            )
        print_table(table)
        for v in views:
            if v["problem"]:
                click.echo(f"{v['recording_id'] or 'the call'}: {v['problem']}", err=True)


def _find(
    settings: Settings, ledger: Ledger, uuid: str, only: str | None = None
) -> tuple[str, str, list[Event]]:
    """The account, A-leg and events that a call's or recording's id means, of `only` this account
    where it is named.

    Raises EndtapeError when it is not known.
    """
    # Those of a broken rules file, and those that left the settings, are known by what they
    # recorded.
    for accounts in ([only],) if only else (list(settings.accounts), ledger.accounts()):
        for account in accounts:
            for call_uuid in dict.fromkeys(
                (uuid, ledger.call_of(account, uuid) or ledger.a_leg(account, uuid))
            ):
                events = ledger.events(account, call_uuid)
                if events:
                    return account, call_uuid, events
    raise EndtapeError(f"{uuid}: no such call or recording")


def _ask(
    settings: Settings,
    path: str,
    body: dict[str, Any],
    *,
    key: str | None = None,
    wait_s: float = 30,
) -> tuple[int, dict[str, Any]]:
    """A request to the running service's own API. Raises EndtapeError where it does not answer."""
    base = f"http://{settings.host}:{settings.port}"
    headers = {
        "Authorization": f"Bearer {settings.api_keys[0]}",
        **({"Idempotency-Key": key} if key else {}),
    }
    with requests.Session() as http:
        http.trust_env = False
        try:
            answer = http.post(
                base + path,
                json={k: v for k, v in body.items() if v is not None},
                headers=headers,
                timeout=wait_s + 10,
            )
            found: dict[str, Any] = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise EndtapeError(
                f"{base} does not answer ({type(error).__name__}): is the service running, and PORT right?"
            ) from None
    return answer.status_code, found


@click.command()
@click.argument("call_uuid")
@as_json_option
@click.option(
    "--kind", help="blind, attended, conference, ai_to_human, or any word that the rules use."
)
@click.option("--to", help="To whom; for the record.")
@click.option(
    "--wait",
    "wait_s",
    default=3.0,
    show_default=True,
    type=click.FloatRange(0, 30),
    help="Seconds to wait for the proof.",
)
@click.option(
    "--transfer",
    "transfer_file",
    type=click.File("r"),
    help="A file with the provider's transfer request, which is sent on go.",
)
@click.option("--key", help="An Idempotency-Key: asking twice with it is asking once.")
@careful
def handoff(
    call_uuid: str,
    as_json: bool,
    kind: str | None,
    to: str | None,
    wait_s: float,
    transfer_file: Any,
    key: str | None,
) -> None:
    """Ask before a transfer. Exit 0 means go, 1 hold."""
    settings, _ = open_ledger(rules_needed=False)
    try:
        transfer = json.load(transfer_file) if transfer_file else None
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--transfer") from None
    status, said = _ask(
        settings,
        f"/v1/calls/{quote(call_uuid, safe='')}/handoff",
        {"kind": kind, "to": to, "wait_s": wait_s, "transfer": transfer},
        key=key,
        wait_s=wait_s,
    )
    if "verdict" not in said:
        raise EndtapeError(f"{status}: {said.get('detail')}")
    if as_json:
        click.echo(json.dumps(said, indent=2))
    else:
        click.echo(
            f"{said['verdict'].upper()}: {said['reason']}\n  rule {said['rule']!r} says {said['action']} on {said['kind']};"
            f" evidence: {', '.join(said['evidence']) or 'none'}"
            + (f"; transfer {said['transfer']}" if "transfer" in said else "")
        )
    sys.exit(0 if said["verdict"] == "go" else 1)


@click.command("explain")
@as_json_option
@click.option("--call", "call_uuid", help="A call that is known, by its own id or a recording's.")
@click.option("--from", "from_number", help="Instead: the facts of a call that might be.")
@click.option("--to", "to_number")
@click.option("--direction", type=click.Choice(["inbound", "outbound"]))
@click.option("--account")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE")
@click.option("--trigger", help="What would this do? For example transfer.blind.")
@careful
def explain_command(
    as_json: bool,
    call_uuid: str | None,
    from_number: str | None,
    to_number: str | None,
    direction: str | None,
    account: str | None,
    labels: tuple[str, ...],
    trigger: str | None,
) -> None:
    """Show which rule applies to a call, and why."""
    if trigger and not TRIGGER.fullmatch(trigger):
        raise click.BadParameter(f"unknown trigger; known: {TRIGGERS}", param_hint="--trigger")
    if wrong := [label for label in labels if not label.partition("=")[1]]:
        raise click.BadParameter(f"{wrong[0]!r} must be KEY=VALUE", param_hint="--label")
    settings = current_settings()
    if call_uuid:
        ledger = Ledger(connect(settings.redis_url))
        call, now = fold(*_find(settings, ledger, call_uuid)), ledger.now()
    else:
        told = dict(label.partition("=")[::2] for label in labels)
        call, now = (
            Call(
                account=account or next(iter(settings.accounts)),
                call_uuid="(none)",
                from_number=wire.digits(from_number),
                to_number=wire.digits(to_number),
                direction=direction,
                labels=told,
            ),
            datetime.now(UTC),
        )
    said = explain(call, settings.policy, now, trigger=trigger)
    if as_json:
        click.echo(json.dumps(said, indent=2))
        return
    click.echo(
        f"call {call.call_uuid} of {call.account}\n  {call.direction or 'direction unknown'}, from {call.from_number or '?'} to {call.to_number or '?'}"
        + "".join(f", {k}={v}" for k, v in call.labels.items())
        + "\n"
    )
    for rows, columns in (
        (said["tried"], ("rule", "fits", "why")),
        (said["events"], ("at", "event", "trigger", "action")),
    ):
        table = table_of(*columns)
        for row in rows:
            table.add_row(
                *(
                    "yes" if row[c] is True else "no" if row[c] is False else str(row[c])
                    for c in columns
                )
            )
        if rows:
            print_table(table)
            click.echo()
    table = table_of("term", f"by rule {said['rule']!r}")
    for key, value in said["terms"].items():
        table.add_row(
            key,
            ", ".join(f"{k} = {v}" for k, v in value.items())
            if isinstance(value, dict)
            else str(value),
        )
    print_table(table)
    if trigger:
        click.echo(
            f"{trigger}: {said['trigger']['action']}; asked as a hand-off: {said['trigger']['handoff']}"
        )
