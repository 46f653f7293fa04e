"""What `retain` will erase, by date and rule: `endtape erase --dry-run` without ids."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from datetime import datetime
from typing import Any

import click

from worker.archive import fact_files, facts
from worker.calls.views import rfc3339
from worker.catalogue.rows import Row
from worker.command.terminal import (
    counted,
    or_dash,
    print_table,
    progress_bar,
    table_of,
)
from worker.errors import EndtapeError
from worker.governing import subject
from worker.governing.places import Here

_MOST = 1_000_000


def show(here: Here, until: datetime, *, as_json: bool) -> None:
    """Print what `retain` erases up to an instant: each recording as JSON, else counts by date and
    rule. Raises CatalogueAway.
    """
    rows = here.catalogue.retained_until(until, _MOST)
    with progress_bar("receipts") as advance:
        found = []
        for done, row in enumerate(rows, 1):
            found.append(_view(here, row))
            advance(done, len(rows))
    held = sum(one["held"] for one in found)
    if as_json:
        counts = Counter(or_dash(one["rule"]) for one in found if not one["held"])
        view = {"until": rfc3339(until), "recordings": found, "by_rule": dict(counts)}
        click.echo(json.dumps({**view, "held": held}, indent=2))
        return
    if not found:
        click.echo(f"`retain` erases nothing until {until:%Y-%m-%d}.")
        return
    by_day = Counter((one["retain_until"][:10], or_dash(one["rule"])) for one in found)
    held_on = Counter(
        (one["retain_until"][:10], or_dash(one["rule"])) for one in found if one["held"]
    )
    table = table_of("erased on (UTC)", "rule", "recordings", "held")
    for (day, rule), count in sorted(by_day.items()):
        table.add_row(day, rule, str(count), str(held_on[day, rule] or "-"))
    print_table(table)
    click.echo(
        f"{counted(len(found), 'recording')} until {until:%Y-%m-%d}; "
        f"held, and erased when the hold ends: {held}."
    )


def _view(here: Here, row: Row) -> dict[str, Any]:
    """A recording that `retain` erases, with the rule that its receipt names."""
    known, rule = subject.of_row(row), None
    with contextlib.suppress(OSError, EndtapeError, ValueError):
        rule = (here.archive.read_receipt(row.key).get("retain") or {}).get("rule")
    is_held = known.is_held
    with contextlib.suppress(OSError, EndtapeError):
        store = here.archive.store
        is_held = facts.is_held(fact_files.read_all(store, known.account, known.recording_id))
    return {
        "recording_id": known.recording_id,
        "account": known.account,
        "retain_until": rfc3339(known.retain_until) or "",
        "rule": rule,
        "held": is_held,
    }
