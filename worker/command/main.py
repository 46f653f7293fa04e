"""The `endtape` command."""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import click
from rich.console import Console

from worker import in_force, logs
from worker.command import (
    completeness,
    explain,
    export,
    govern,
    handoff,
    index,
    keys,
    ls,
    notify,
    retry,
    segments,
    show,
    simulate,
    stop,
    top,
    verify,
    watch,
)
from worker.command import demo as demonstration
from worker.command import doctor as examination
from worker.command import reconcile as reconciling
from worker.command import run as service
from worker.command.terminal import (
    as_json_option,
    current_settings,
    exit_statuses,
    open_ledger,
    print_table,
    progress_bar,
    table_of,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="endtape", message="%(prog)s %(version)s")
def main() -> None:
    """Ends call recordings when they must end, proves it, and brings each home."""


@main.command("demo")
@as_json_option
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("demo-output"), show_default=True
)
@exit_statuses
def demo_command(as_json: bool, folder: Path) -> None:
    """Play seven calls against the emulator, show what comes of them."""
    sys.exit(demonstration.run(folder.resolve(), as_json=as_json))


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(arguments: tuple[str, ...]) -> None:
    """Run the stand-in provider (docs/emulator.md)."""
    os.execv(sys.executable, [sys.executable, "-m", "emulator", *arguments])  # noqa: S606 - it replaces this process


@main.command()
@exit_statuses
def run() -> None:
    """Run the service until Ctrl-C.

    With VOBIZ_AUTH_ID and VOBIZ_AUTH_TOKEN the real account, else the emulator.
    """
    service.run()


@main.command()
@as_json_option
@exit_statuses
def doctor(as_json: bool) -> None:
    """Try each connection, and show the settings in force.

    They are those of the running service, where there is one.
    """
    settings, ledger = open_ledger()
    checks = list(examination.checks(settings, ledger))
    running = in_force.shown_by_the_service(ledger)
    shown = running or in_force.shown(settings)
    if as_json:
        view = {
            "checks": [{"name": c.name, "state": c.state, "detail": c.detail} for c in checks],
            "settings": shown,
            "settings_of": "service" if running else "command",
        }
        click.echo(json.dumps(view, indent=2))
    else:
        of = "the running service" if running else "this command; no service runs"
        _print_pairs(
            "check",
            [
                (c.name, c.detail if c.state == "fine" else f"{c.state.upper()}: {c.detail}")
                for c in checks
            ],
        )
        _print_pairs("setting", [("of", of), *shown.items()])
    sys.exit(1 if any(c.state == "failed" for c in checks) else 0)


def _print_pairs(heading: str, pairs: list[tuple[str, str]]) -> None:
    table = table_of(heading, "")
    for pair in pairs:
        table.add_row(*pair)
    print_table(table)
    click.echo()


@main.command()
@as_json_option
@exit_statuses
def urls(as_json: bool) -> None:
    """Print the callback URLs and ready XML with them in place."""
    settings = current_settings()
    bases = {
        account: f"{settings.public_url}/vobiz/{account}/{settings.callback_token}"
        for account in settings.accounts
    }
    if as_json:
        click.echo(json.dumps(bases, indent=2))
        return
    for account, base in bases.items():
        click.echo(_URLS.format(account=account, base=base))


_URLS = """\
{account}: paste this everywhere (hangup_url, ring_url, callbackUrl, callback_url)

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
"""


@main.command()
@as_json_option
@click.option(
    "--wait",
    "wait_s",
    default=600.0,
    show_default=True,
    type=click.FloatRange(0, 86400),
    help="Seconds to go on at most.",
)
@exit_statuses
def reconcile(as_json: bool, wait_s: float) -> None:
    """Compare the provider's lists with ours; heal what differs.

    Needs no running service, which alone fetches what is found. Exit 0 only when each account was
    compared.
    """
    settings, ledger = open_ledger()
    logs.set_up(settings.log)
    with progress_bar("comparing ...") as advance:

        def progress(done: int, total: int, rows: int) -> None:
            advance(done, total, f"comparing, {rows} rows so far ...")

        reports = reconciling.run(settings, ledger, wait_s=wait_s, progress=progress)
    if as_json:
        click.echo(
            json.dumps(
                [{"account": r.account, **r.found, "problem": r.problem} for r in reports],
                indent=2,
            )
        )
    else:
        table = table_of("account", *reconciling.KINDS, "problem")
        for report in reports:
            counts = (str(report.found[kind]) for kind in reconciling.KINDS)
            table.add_row(report.account, *counts, report.problem or "-")
        print_table(table)
    sys.exit(1 if any(report.problem for report in reports) else 0)


@main.command()
@as_json_option
@click.option(
    "--wait",
    "wait_s",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0, 600),
    help="Seconds to wait for answers.",
)
@exit_statuses
def reload(as_json: bool, wait_s: float) -> None:
    """Tell every process to read its settings again.

    On every machine; their answers are waited for.

    Exit 0 when each that runs took them. Exit 1 when one refused them and keeps the old ones, when
    one does not answer, or when none runs.
    """
    _, ledger = open_ledger(rules_needed=False)
    screen = Console(stderr=True)
    with screen.status("waiting for the processes ...") if screen.is_terminal else nullcontext():
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
    sys.exit(0 if outcome.done else 1)


def _print_taken(outcome: in_force.Reload) -> None:
    if outcome.took:
        rules = (
            "no rules file, mode `observe`"
            if outcome.rules is None
            else f"{outcome.rules} rules and the defaults"
        )
        click.echo(
            f"{_processes(len(outcome.took))} took the new settings "
            f"({in_force.by_kind(outcome.took)}): {rules}."
        )
    if outcome.restart:
        click.echo(f"Changed, and in force only after a restart: {', '.join(outcome.restart)}.")


def _print_not_taken(outcome: in_force.Reload) -> None:
    """On standard error: refusals with their reasons, and processes that did not answer."""
    if outcome.refused:
        click.echo(
            f"{_processes(len(outcome.refused))} refused them and went on with the old ones "
            f"({in_force.by_kind(outcome.refused)}):",
            err=True,
        )
        problems = [p for answer in outcome.refused.values() for p in answer["problems"]]
        for problem in dict.fromkeys(problems):
            click.echo(f"  {problem}", err=True)
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


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


for _command in (
    ls.ls,
    show.show,
    watch.watch,
    top.top,
    stop.stop,
    segments.start,
    segments.pause,
    segments.resume,
    handoff.handoff,
    retry.retry,
    govern.hold,
    govern.release,
    govern.erase,
    notify.notify,
    explain.explain_command,
    simulate.simulate,
    keys.keys,
    index.index,
    verify.verify,
    completeness.ledger,
    export.export,
):
    main.add_command(_command)


if __name__ == "__main__":
    main()
