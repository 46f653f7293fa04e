"""`endtape reconcile`: surveys every account at once.

This process does the steps itself, also beside the workers of a running service, and waits until
the surveys have ended.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import click

from worker import logs
from worker.calls.obligations import Duty
from worker.command.terminal import (
    Number,
    as_json_option,
    counted,
    exit_statuses,
    open_ledger,
    print_table,
    progress_bar,
    table_of,
)
from worker.duties import survey
from worker.ledger import survey_state
from worker.ledger.client import Ledger
from worker.ledger.survey_state import Scope, SurveyState
from worker.processes.composition import make_worker
from worker.settings import Settings

KINDS = ("rows", "listed", "ended", "restored", "closed", "watched")


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The outcome of one account's surveys. `found`: rows by kind. `problem`: None when all surveys
    came to their end.
    """

    account: str
    found: dict[str, int]
    problem: str | None


@click.command(epilog="Example: endtape reconcile --wait 60")
@as_json_option
@click.option(
    "--wait",
    "wait_s",
    default=600.0,
    show_default=True,
    type=Number(0, 86400),
    help="Seconds to go on at most.",
)
@exit_statuses
def reconcile(as_json: bool, wait_s: float) -> None:
    """Compare the provider's lists with ours; heal what differs.

    Needs no running service, which alone fetches what is found. Exit 0 only when each account was
    compared.
    """
    settings, ledger = open_ledger()
    logs.set_up(settings.log, least=logging.WARNING)  # the table tells what was found
    with progress_bar("comparing ...") as advance:

        def progress(done: int, total: int, rows: int) -> None:
            advance(done, total, f"comparing, {counted(rows, 'recording')} so far ...")

        reports = run(settings, ledger, wait_s=wait_s, progress=progress)
    if as_json:
        click.echo(
            json.dumps(
                [{"account": r.account, **r.found, "problem": r.problem} for r in reports],
                indent=2,
            )
        )
    else:
        table = table_of("account", "recordings", *KINDS[1:], "problem")
        for report in reports:
            counts = (str(report.found[kind]) for kind in KINDS)
            table.add_row(report.account, *counts, report.problem or "-")
        print_table(table)
    sys.exit(1 if any(report.problem for report in reports) else 0)


def run(
    settings: Settings, ledger: Ledger, *, wait_s: float, progress: Callable[[int, int, int], None]
) -> list[Report]:
    """Surveys every account in both scopes, for `wait_s` seconds at most.

    Calls `progress` again and again with the number of surveys that have ended, the number of all,
    and the number of rows that were read. Harmless to repeat, and beside a running service.
    """
    threads = ThreadPoolExecutor(max_workers=1)
    worker = make_worker(settings, ledger, threads, first_start=ledger.prepare())
    asked_at, until = ledger.now(), time.monotonic() + wait_s
    surveys = [(account, scope) for account in settings.accounts for scope in Scope]
    tried = False
    while True:
        survey_state.keep_due(ledger, settings.accounts)
        states = {(a, s): survey_state.load(ledger, a, s) or SurveyState() for a, s in surveys}
        unfinished = [which for which in surveys if not _is_done(states[which], asked_at)]
        rows = sum(
            _read([states[account, scope] for scope in Scope], asked_at)
            for account in settings.accounts
        )
        progress(len(surveys) - len(unfinished), len(surveys), rows)
        waiting = {account for account, _ in unfinished}
        all_halted = tried and waiting <= ledger.halted(waiting)
        if not unfinished or time.monotonic() >= until or all_halted:
            return [_report(ledger, account, states, asked_at) for account in settings.accounts]
        for account, scope in unfinished:
            if states[account, scope].began_at is None:
                ledger.make_due_now(survey_state.obligation(account, scope))
        claimed = ledger.claim(lead=timedelta(0), batch=10, free={Duty.SURVEY: 10})
        survey.surveys(worker, claimed.claims)
        tried = tried or bool(claimed.claims)
        if not claimed.claims:
            time.sleep(0.05)


def _is_done(state: SurveyState, asked_at: datetime) -> bool:
    return state.done_began_at is not None and state.done_began_at >= asked_at


def _counts(state: SurveyState, asked_at: datetime) -> dict[str, int]:
    """By kind, how many rows a survey found: the one that has ended, or the one under way."""
    return state.done_found if _is_done(state, asked_at) else state.found


def _read(own: Sequence[SurveyState], asked_at: datetime) -> int:
    """How many recordings of an account were read: both surveys read the newest ones."""
    return max(_counts(state, asked_at).get("rows", 0) for state in own)


def _report(
    ledger: Ledger, account: str, states: dict[tuple[str, Scope], SurveyState], asked_at: datetime
) -> Report:
    own = [states[account, scope] for scope in Scope]
    counts = {kind: sum(_counts(state, asked_at).get(kind, 0) for state in own) for kind in KINDS}
    counts["rows"] = _read(own, asked_at)
    return Report(account=account, found=counts, problem=_problem(ledger, account, own, asked_at))


def _problem(
    ledger: Ledger, account: str, states: list[SurveyState], asked_at: datetime
) -> str | None:
    """Why not every survey of the account came to its end; None when all did."""
    if all(_is_done(state, asked_at) for state in states):
        return None
    if ledger.halted([account]):
        return "the account is halted: the provider refuses its credentials"
    return next((state.problem for state in states if state.problem), "it was not done in time")
