"""`endtape hold`, `release` and `erase`: what may not go, and what must."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from worker.archive import erasing
from worker.archive.facts import Fact
from worker.calls.views import rfc3339
from worker.catalogue.database import Catalogue
from worker.command import retained
from worker.command.terminal import (
    as_json_option,
    counted,
    exit_statuses,
    needed_reason,
    open_ledger,
    or_dash,
    plain,
    print_lines,
    print_table,
    print_text,
    progress_bar,
    table_of,
    user,
)
from worker.errors import EndtapeError
from worker.governing import erasures, holds, subject
from worker.governing.places import Here
from worker.governing.subject import By, Subject
from worker.processes.archive_in_use import make_archive

_REASON = needed_reason(required=True)
_ORDERED = "is being erased"
_WHY_KEPT = {"erased already": "erased already", "still recording": "still recording"}
_AHEAD = timedelta(days=30)
_IDS = click.argument("recording_ids", nargs=-1, required=True, metavar="RECORDING_ID...")


@dataclass(slots=True)
class _Outcome:
    """What came of the recordings: a word for each that was done, and why each other was not."""

    done: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@click.command(epilog='Example: endtape hold RECORDING_ID --reason "case 4711"')
@_IDS
@_REASON
@as_json_option
@exit_statuses
def hold(recording_ids: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Put recordings under legal hold.

    Neither copy is deleted while it stands. The hold is a signed fact in the archive when this
    returns. Where the archive is a bucket with object lock, its legal hold stands behind it.
    Holding again adds a fact: both reasons stay, and files that came since are locked, too.
    """
    by = By(who=user(), reason=reason)

    alone = dict[str, None]()  # why no bucket's lock stands behind it; each reason once

    def do(here: Here, one: Subject) -> str:
        before = holds.standing(here, one)
        particulars = holds.hold(here, one, by).particulars
        again = _held_before(before) if before else ""
        if not particulars["ours_alone"]:
            return f"held, and locked by the bucket{again}"
        alone[particulars["why_alone"]] = None
        return f"held{again}"

    outcome = _each(recording_ids, do)
    means = "Neither our copy nor the provider's is deleted until it is released."
    behind = "".join(f" No lock of a bucket stands behind it: {why}." for why in alone)
    _finish(outcome, as_json=as_json, means=means + behind)


def _held_before(fact: Fact) -> str:
    said = fact.written()["reason"]
    return (
        f"\n  it was on hold already, since {fact.at:%Y-%m-%d %H:%M:%S} UTC "
        f"by {fact.who}: {plain(said or 'no reason')}\n  both reasons stand in its facts"
    )


@click.command(epilog='Example: endtape release RECORDING_ID --reason "case 4711 closed"')
@_IDS
@_REASON
@as_json_option
@exit_statuses
def release(recording_ids: tuple[str, ...], reason: str, as_json: bool) -> None:
    """End the legal hold of recordings.

    What the hold put off happens then.
    """
    by = By(who=user(), reason=reason)

    def do(here: Here, one: Subject) -> str:
        return "released" if holds.release(here, one, by) else "was not held, so nothing changed"

    outcome = _each(recording_ids, do)
    means = "What is released may be deleted again; what the hold put off is done now."
    released = "released" in outcome.done.values()
    _finish(outcome, as_json=as_json, means=means if released else None)


@click.command(epilog='Example: endtape erase RECORDING_ID --reason "the customer asked"')
@click.argument("recording_ids", nargs=-1, metavar="[RECORDING_ID...]")
@needed_reason(required=False)
@click.option("--dry-run", is_flag=True, help="Only list what would go, with counts by rule.")
@click.option(
    "--until",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DAY",
    help="With --dry-run and no ids: until when; in 30 days if left out.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
@exit_statuses
def erase(
    recording_ids: tuple[str, ...],
    reason: str | None,
    dry_run: bool,
    until: datetime | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase recordings: both copies and the receipt.

    A signed tombstone stays. The service does the rest, and looks whether all is gone. With
    --dry-run and no ids: what `retain` will erase, by date and rule.
    """
    here, found, unknown = _found(recording_ids)
    if dry_run and not recording_ids:
        at = until.replace(tzinfo=UTC) if until else here.ledger.now() + _AHEAD
        retained.show(here, at, as_json=as_json)
        return
    if not recording_ids:
        raise click.UsageError("name the recordings, or use --dry-run to see what `retain` erases")
    if until:
        raise click.UsageError("--until is for --dry-run without ids")
    if not reason and not dry_run:
        raise click.UsageError("--reason is needed; it stands in the history")
    rows = [_would_go(here, one) for one in found]
    if dry_run:
        _show(rows, unknown, as_json=as_json)
        sys.exit(1 if unknown or any(row["problem"] for row in rows) else 0)
    if not yes:
        _ask(rows, unknown, as_json=as_json)
    by, outcome = By(who=user(), reason=reason or ""), _Outcome(refused=unknown)
    _do_all(outcome, found, lambda one: _order(here, one, by))
    means = "A signed tombstone stands. The service deletes both copies now; `endtape show` tells."
    ordered = _ORDERED in outcome.done.values()
    _finish(outcome, as_json=as_json, means=means if ordered else None)


def _ask(rows: Sequence[dict[str, Any]], unknown: dict[str, str], *, as_json: bool) -> None:
    """Shows what would go and what not, and asks; neither where nothing would go."""
    going = sum(not row["problem"] for row in rows)
    if not going:
        return
    if not as_json:
        _print(rows)
    for recording_id, why in unknown.items():
        print_lines(f"{recording_id}: {why}", err=True)
    kept = Counter(_WHY_KEPT.get(row["problem"], "held") for row in rows if row["problem"])
    kept |= Counter({"unknown": len(unknown)})
    out = ", ".join(f"{count} {why}" for why, count in kept.items() if count)
    many = counted(going, "recording") + (f" (left out: {out})" if out else "")
    click.confirm(f"Erase {many}, both copies, for good?", abort=True, err=True)


def _order(here: Here, one: Subject, by: By) -> str:
    ordered = erasures.order(here, one, by)
    return _ORDERED if ordered else "was erased already, so nothing changed"


# Finding and doing
# ------------------------------------------------------------------------------------------------


def _found(recording_ids: Sequence[str]) -> tuple[Here, list[Subject], dict[str, str]]:
    """The recordings of these ids; and why each of the others was not found."""
    settings, ledger = open_ledger(rules_needed=False)
    here = Here(ledger, make_archive(settings), Catalogue(settings.catalog), settings.rules)
    accounts = list(dict.fromkeys([*settings.accounts, *ledger.accounts()]))
    found, unknown = list[Subject](), dict[str, str]()
    for recording_id in dict.fromkeys(recording_ids):
        one = subject.find(here, accounts, recording_id)
        if one:
            found.append(one)
        else:
            unknown[recording_id] = "no such recording"
    return here, found, unknown


def _each(recording_ids: Sequence[str], do: Callable[[Here, Subject], str]) -> _Outcome:
    here, found, unknown = _found(recording_ids)
    outcome = _Outcome(refused=unknown)
    _do_all(outcome, found, lambda one: do(here, one))
    return outcome


def _do_all(outcome: _Outcome, found: Sequence[Subject], do: Callable[[Subject], str]) -> None:
    with progress_bar("recordings ...") as advance:
        for count, one in enumerate(found, 1):
            try:
                outcome.done[one.recording_id] = do(one)
            except (EndtapeError, OSError) as error:
                outcome.refused[one.recording_id] = str(error)
            advance(count, len(found))


def _would_go(here: Here, one: Subject) -> dict[str, Any]:
    """What of a recording would go, and why it would not."""
    problem = None
    if one.is_erased:
        problem = "erased already"
    elif not one.is_over:
        problem = "still recording"
    else:
        try:
            erasures.check_not_held(here, one)
        except EndtapeError as error:
            problem = str(error)
    return {
        "recording_id": one.recording_id,
        "account": one.account,
        "started_at": rfc3339(one.started_at),
        "rule": one.rule,
        "files": erasing.files_of(here.archive.store, one.key),
        "problem": problem,
    }


# Output
# ------------------------------------------------------------------------------------------------


def _finish(outcome: _Outcome, *, as_json: bool, means: str | None) -> None:
    """Print what came of it and what that means, and exit: 0 where all was done."""
    if as_json:
        done = [{"recording_id": i, "outcome": what} for i, what in outcome.done.items()]
        not_done = [{"recording_id": i, "problem": why} for i, why in outcome.refused.items()]
        click.echo(json.dumps({"done": done, "refused": not_done}, indent=2))
    else:
        for recording_id, what in outcome.done.items():
            print_lines(f"{recording_id}: {what}")
        if outcome.done and means:
            print_text(means)
        for recording_id, why in outcome.refused.items():
            print_lines(f"{recording_id}: {why}", err=True)
    sys.exit(1 if outcome.refused else 0)


def _show(rows: Sequence[dict[str, Any]], unknown: dict[str, str], *, as_json: bool) -> None:
    """What would go, and counts by rule."""
    if as_json:
        counts = _by_rule(rows)
        view = {"recordings": rows, "by_rule": counts, "unknown": list(unknown)}
        click.echo(json.dumps(view, indent=2))
        return
    _print(rows)
    for recording_id, why in unknown.items():
        print_lines(f"{recording_id}: {why}", err=True)


def _print(rows: Sequence[dict[str, Any]]) -> None:
    table = table_of(*("recording", "started (UTC)", "rule", "files", "goes"), whole=["recording"])
    for row in rows:
        began = (row["started_at"] or "-")[:16].replace("T", " ")
        goes = "no" if row["problem"] else "yes"
        files = str(len(row["files"]))
        table.add_row(row["recording_id"], began, or_dash(row["rule"]), files, goes)
    print_table(table)
    for row in rows:
        if row["problem"]:
            print_lines(f"{row['recording_id']}: {row['problem']}")
    counts = _by_rule(rows)
    for rule, count in sorted(counts.items()):
        print_lines(f"by rule {rule}: {count}")


def _by_rule(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many would go, by the rule of their stop."""
    return dict(Counter(or_dash(row["rule"]) for row in rows if not row["problem"]))
