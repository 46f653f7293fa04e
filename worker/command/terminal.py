"""What the commands share: options, exit statuses, settings and ledger, finding a call, tables and
bars.
"""

from __future__ import annotations

import getpass
import math
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, Protocol

import click
import redis
from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from worker.calls.events import Event, Fault
from worker.calls.obligations import Obligation
from worker.command.run_env import overlay
from worker.errors import EndtapeError, LedgerUnavailable, SettingsError
from worker.ledger import whose
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.settings import Settings
from worker.variables.dotenv_file import environment

LONGEST_REASON = 200  # characters, as in the API
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
account_option = click.option(
    "--account",
    help="Whose call it is; needed where nobody told us of it and there are several accounts.",
)
reason_option = click.option(
    "--reason",
    default="operator",
    show_default=True,
    # An empty or long one must not keep a stop from being sent.
    callback=lambda _context, _option, given: given.strip()[:LONGEST_REASON] or "operator",
    help="Why; it stands in the history.",
)
FAULTS = [fault.value for fault in Fault]
RULES_BROKEN = "The rules file is broken; the running processes keep the old rules:"
# Control characters, what turns the direction of text, and bytes of an argument that are no UTF-8.
_OBEYED = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_HALF = re.compile(r"[\ud800-\udfff]")
_WIDTH = 80  # of tables where no terminal says otherwise


def _needed_reason(
    _context: click.Context, _option: click.Parameter, given: str | None
) -> str | None:
    """As the API takes it. Raises BadParameter for one that is empty or too long."""
    if given is None:
        return None
    stripped = given.strip()
    if not 1 <= len(stripped) <= LONGEST_REASON:
        raise click.BadParameter(
            f"must have 1 to {LONGEST_REASON} characters, not {len(stripped)}; "
            "it stands in the history"
        )
    return stripped


def needed_reason(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option `--reason` of what is governed; with `required` no command goes without it."""
    return click.option(
        "--reason",
        required=required,
        callback=_needed_reason,
        help="Why; it stands in the history.",
    )


def exit_statuses(command: Callable[..., Any]) -> Callable[..., Any]:
    """Ends the command with status 2 and every reason for wrong settings, and with status 1 and the
    reason for other known trouble.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            _check_words(kwargs)
            return command(*args, **kwargs)
        except SettingsError as error:
            print_lines("\n".join(error.problems), err=True)
            sys.exit(2)
        except (LedgerUnavailable, redis.RedisError) as error:
            print_lines(
                f"Redis does not answer ({error}); is the service running, and REDIS_URL right?",
                err=True,
            )
            sys.exit(1)
        except (EndtapeError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise  # `| head`: Click ends quietly
            print_lines(str(error), err=True)
            sys.exit(1)

    return run


def _check_words(given: Mapping[str, Any]) -> None:
    """Raises BadParameter for an argument that is no text: Python holds bytes that are no UTF-8 as
    half characters, which can neither be stored nor printed.
    """
    for name, value in given.items():
        for word in value if isinstance(value, tuple) else (value,):
            if isinstance(word, str) and _HALF.search(word):
                raise click.BadParameter(f"{plain(word)!r} is no UTF-8 text", param_hint=name)


class Number(click.FloatRange):
    """A number within bounds; `nan`, which Python reads as one, is within none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number.", param, ctx)
        return found


def wait_option(
    most_s: float, help_text: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """How many seconds a command waits, as `wait_s`: 10 unless told otherwise."""
    return click.option(
        "--wait",
        "wait_s",
        default=10.0,
        show_default=True,
        type=Number(0, most_s),
        help=help_text,
    )


def options_as(kind: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Hands the command's options that have a field in the dataclass `kind` over as one object, in
    the argument `options`.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def run(**given: Any) -> Any:
            options = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
            return command(options=options, **given)

        return run

    return decorate


def labels_of(given: Sequence[str]) -> dict[str, str]:
    """The labels of `NAME=VALUE` texts. Raises BadParameter for a text that is none."""
    labels = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--label")
        labels[name] = value
    return labels


def current_settings(*, without_rules: bool = False) -> Settings:
    """The settings of this folder, with those of its running `endtape run`. Prints a warning for
    each name that has no effect. Raises SettingsError.
    """
    given = overlay()
    try:
        settings = Settings.from_env(given, without_rules=without_rules)
    except SettingsError as error:
        if "REDIS_URL" in given or "REDIS_URL" in environment(Path.cwd()):
            raise
        raise SettingsError(
            [
                "Nothing runs in this folder: `make run` (or `endtape run`) starts the service.",
                "For one that runs elsewhere the settings lack:",
                *error.problems,
            ]
        ) from None
    for warning in settings.warnings:
        print_lines(f"Warning: {warning}", err=True)
    return settings


def open_ledger(*, rules_needed: bool = True) -> tuple[Settings, Ledger]:
    """The settings and the ledger. Raises SettingsError.

    Without `rules_needed` a broken rules file is only reported, and the settings have no rules: a
    broken file must not take the emergency brake away.
    """
    settings, problems = settings_and_problems()
    if problems and rules_needed:
        raise SettingsError(problems)
    if problems:
        print_lines("\n".join([RULES_BROKEN, *problems]), err=True)
    return settings, Ledger(connect(settings.redis_url))


def settings_and_problems() -> tuple[Settings, list[str]]:
    """The settings, and what is wrong with the rules file; they have no rules where anything is.
    Raises SettingsError for whatever else is wrong.
    """
    try:
        return current_settings(), []
    except SettingsError as error:
        return current_settings(without_rules=True), list(error.problems)


def user() -> str:
    """Who types the command, for the history."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # a container may run as a user without a name
        return f"cli:{os.getuid()}"


def find_call(
    settings: Settings, ledger: Ledger, uuid: str, only: str | None = None
) -> tuple[str, str, list[Event]]:
    """The account, A-leg and events that a call's or recording's id means; with `only`, of that
    account alone. Raises EndtapeError when the id is not known.
    """
    known = known_call(settings, ledger, uuid, only)
    if known is None:
        raise EndtapeError(f"{uuid}: no such call or recording")
    return known


def known_call(
    settings: Settings, ledger: Ledger, uuid: str, only: str | None = None
) -> tuple[str, str, list[Event]] | None:
    """As `find_call`; None where Redis does not know the id."""
    # Accounts of a broken rules file, and those that left the settings, are found in the ledger.
    accounts = [only] if only else list(dict.fromkeys([*settings.accounts, *ledger.accounts()]))
    known = whose.find_call(ledger, accounts, uuid, a_leg_first=False)
    if known is None and (recorded := whose.find_recording(ledger, accounts, uuid)):
        known = recorded[0].account, recorded[0].call_uuid
    if known:
        return *known, ledger.events(*known)
    return None


# Output
# ------------------------------------------------------------------------------------------------


def print_lines(text: str, *, err: bool = False) -> None:
    """Print lines in which somebody else's words may stand."""
    click.echo("\n".join(map(plain, text.split("\n"))), err=err)


def plain(text: str) -> str:
    """A text that somebody else wrote, without what a terminal would obey instead of showing."""
    return text if text.isprintable() else _OBEYED.sub("?", text)


@dataclass(frozen=True, slots=True)
class Stacked:
    """A cell whose first line stands alone, with the others below it, two columns to the right."""

    first: str
    below: Sequence[str]


class _Table(Table):
    """One whose cells are texts, whoever wrote them: no markup of Rich's, and no control characters
    but the ends of lines.
    """

    def add_row(self, *cells: object, **how: Any) -> None:
        super().add_row(*map(_drawn, cells), **how)


def _drawn(cell: object) -> Text | Group:
    if isinstance(cell, Stacked):
        below = (Padding(_drawn(line), (0, 0, 0, 2)) for line in cell.below)
        return Group(_drawn(cell.first), *below)
    return Text("\n".join(plain(line) for line in str(cell).split("\n")))


def table_of(*columns: str, whole: Collection[str] = ()) -> _Table:
    """An empty table. The columns `whole` hold ids, which are never broken: people copy them."""
    table = _Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in whole)
    return table


def screen() -> Console:
    """Standard output: as wide as the terminal or as COLUMNS says, else 80 columns."""
    found = Console()
    told = found.is_terminal or "COLUMNS" in os.environ
    return found if told else Console(width=_WIDTH)


def print_table(table: Table) -> None:
    screen().print(table)


def print_text(text: str) -> None:
    """Print sentences, with new lines between words where the screen ends."""
    screen().print(_drawn(text))


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 recording`, `2 recordings`; `many`: the plural that is no `s` at the end."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def owed_name(owed: Obligation) -> str:
    """What a person calls it by: the recording's id, or that of its call."""
    return owed.recording_id or f"call {owed.call_uuid}"


def or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def waiting(what: str) -> AbstractContextManager[object]:
    """Shows on standard error that something is waited for; nothing where that is no terminal."""
    to = Console(stderr=True)
    return to.status(what) if to.is_terminal else nullcontext()


class Advance(Protocol):
    """Moves a progress bar, and describes it anew where a description is given."""

    def __call__(self, done: int, total: int, description: str | None = None) -> None: ...


@contextmanager
def progress_bar(description: str) -> Iterator[Advance]:
    """A bar on standard error until the block ends; nothing where that is no terminal."""
    to = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=to,
        disable=not to.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task(description, total=None)

        def advance(done: int, total: int, description: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=description)

        yield advance
