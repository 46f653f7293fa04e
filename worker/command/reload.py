"""`endtape reload`: tells every process to read its settings again, and waits for the answers."""

from __future__ import annotations

import json
import sys

import click

from worker import in_force
from worker.command.terminal import (
    RULES_BROKEN,
    Number,
    as_json_option,
    counted,
    exit_statuses,
    print_lines,
    settings_and_problems,
    waiting,
)
from worker.ledger.client import Ledger
from worker.ledger.store import connect


@click.command(epilog="Example: endtape reload --wait 5")
@as_json_option
@click.option(
    "--wait",
    "wait_s",
    default=20.0,
    show_default=True,
    type=Number(0, 600),
    help="Seconds to wait for answers.",
)
@exit_statuses
def reload(as_json: bool, wait_s: float) -> None:
    """Tell every process to read its settings again.

    On every machine; their answers are waited for.

    Exit 0 when each that runs took them. Exit 1 when one refused them and keeps the old ones, when
    one does not answer, or when none runs.
    """
    settings, broken = settings_and_problems()
    ledger = Ledger(connect(settings.redis_url))
    with waiting("waiting for the processes ..."):
        outcome = in_force.order(ledger, wait_s=wait_s)
    if as_json:
        view = {
            "reload": outcome.number,
            "rules": outcome.rules,
            "took": sorted(outcome.took),
            "restart": outcome.restart,
            "refused": {
                name: answer["problems"] for name, answer in sorted(outcome.refused.items())
            },
            "silent": outcome.silent,
            "ended": outcome.ended,
        }
        click.echo(json.dumps(view, indent=2))
    else:
        _print_taken(outcome)
        _print_not_taken(outcome)
        told = {p for answer in outcome.refused.values() for p in answer["problems"]}
        if more := [problem for problem in broken if problem not in told]:
            print_lines("\n".join([RULES_BROKEN, *more]), err=True)
    sys.exit(0 if outcome.done else 1)


def _print_taken(outcome: in_force.Reload) -> None:
    if outcome.took:
        rules = (
            "no rules file, mode `observe`"
            if outcome.rules is None
            else f"{counted(outcome.rules, 'rule')} and the defaults"
        )
        click.echo(
            f"{counted(len(outcome.took), 'process', 'processes')} took the new settings "
            f"({in_force.by_kind(outcome.took)}): {rules}."
        )
    if outcome.restart:
        click.echo(f"Changed, and in force only after a restart: {', '.join(outcome.restart)}.")


def _print_not_taken(outcome: in_force.Reload) -> None:
    """On standard error: refusals with their reasons, and processes that did not answer."""
    if outcome.refused:
        refused = counted(len(outcome.refused), "process", "processes")
        click.echo(
            f"{refused} refused them and went on with the old ones "
            f"({in_force.by_kind(outcome.refused)}):",
            err=True,
        )
        problems = [p for answer in outcome.refused.values() for p in answer["problems"]]
        for problem in dict.fromkeys(problems):
            print_lines(f"  {problem}", err=True)
    if outcome.silent:
        click.echo(f"No answer from {', '.join(outcome.silent)}.", err=True)
    if outcome.ended:
        click.echo(f"Ended meanwhile, and not waited for: {', '.join(outcome.ended)}.", err=True)
    if not outcome.took and not outcome.refused and not outcome.silent:
        click.echo(
            "No process runs at this REDIS_URL, so nobody was told; "
            "settings are read at the start.",
            err=True,
        )
