"""The commands about a call, and what every command needs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
import redis
import requests
from rich import box
from rich.console import Console
from rich.table import Table

from worker.calls.events import Event
from worker.command import run
from worker.errors import EndtapeError, LedgerUnavailable, SettingsError
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.settings import Settings, environment

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
    given = run.overlay()
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
    only told of.
    """
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


def or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def find_call(
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
