"""`endtape ls`: lists recordings, and those that do not come home."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import chain, islice
from typing import Any, TypeVar

import click
from rich.text import Text

from worker.calls.call import Call, Recording, StopState
from worker.calls.events import Fault, Kind
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.calls.views import recording_view, rfc3339
from worker.command.backlog_page import FAULTS, name_of, search_bar
from worker.command.terminal import (
    as_json_option,
    exit_statuses,
    open_ledger,
    print_table,
    table_of,
)
from worker.ledger import backlog
from worker.ledger.backlog import Entry
from worker.ledger.client import Ledger
from worker.settings import Settings

_Row = TypeVar("_Row")
_UNPROVEN = {
    s.value for s in (StopState.DUE, StopState.ACCEPTED, StopState.UNKNOWN, StopState.FAILED)
}
_FINALIZING = timedelta(minutes=2)  # usually it takes seconds


@click.command()
@as_json_option
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--running", is_flag=True, help="Only what is not proven over yet.")
@click.option(
    "--unproven",
    is_flag=True,
    help="Only what was to be stopped and is not proven over: due, accepted, unknown or failed.",
)
@click.option("--abandoned", is_flag=True, help="Only what does not come home by itself, and why.")
@click.option(
    "--failing",
    is_flag=True,
    help="The same, what fails now and is not abandoned yet, "
    "and what has no file minutes after its end.",
)
@click.option(
    "--fault",
    type=click.Choice(FAULTS),
    help="With one of these two: only what is the fault of this.",
)
@exit_statuses
def ls(
    as_json: bool,
    limit: int,
    running: bool,
    unproven: bool,
    abandoned: bool,
    failing: bool,
    fault: str | None,
) -> None:
    """List recordings, newest first."""
    if fault and not (abandoned or failing):
        raise click.UsageError("--fault goes with --abandoned or --failing")
    if running + unproven + (abandoned or failing) > 1:
        raise click.UsageError(
            "--running, --unproven and --abandoned or --failing are different lists; name one"
        )
    settings, ledger = open_ledger(rules_needed=False)
    if abandoned or failing:
        only = Fault(fault) if fault else None
        _list_backlog(ledger, only, limit, failing=failing, as_json=as_json)
        return
    found = _live(settings, ledger) if running or unproven else _newest(settings, ledger)
    views, more = _page(
        (v for v in found if not unproven or v["stop"]["state"] in _UNPROVEN), limit
    )
    if as_json:
        click.echo(json.dumps(views, indent=2))
    elif views:
        _print_recordings(views)
        _say_if_more(more)
    else:
        click.echo("None." if running or unproven else "No recording is known yet.")


def _page(rows: Iterator[_Row], limit: int) -> tuple[list[_Row], bool]:
    """The first rows, and whether there are more."""
    first = list(islice(rows, limit + 1))
    return first[:limit], len(first) > limit


def _say_if_more(more: bool) -> None:
    if more:
        click.echo("There are more: --limit shows them.")


def _print_recordings(views: list[dict[str, Any]]) -> None:
    table = table_of("recording, call, rule", "from, to", "began, due\n(UTC)", "phase, stop")
    for view in views:
        stop = view["stop"]
        # Ids are so long that the rest stands below them.
        lines = [
            view["recording_id"] or "(none is known)",
            view["call_uuid"],
            f"{stop['rule']}: {stop['trigger'] or 'nothing due'}",
        ]
        if view["problem"]:
            lines.append(view["problem"])
        if not view["archive_key"] and view["provider_keeps_until"]:
            lines.append(_kept(view["provider_keeps_until"]))
        table.add_row(
            Text("\n  ".join(lines)),
            f"{view['from'] or '?'}\n{view['to'] or '?'}",
            f"{_short(view['started_at'])}\n{_short(stop['due_at'])}",
            f"{view['phase']}\n{stop['state']}",
        )
    print_table(table)


def _short(instant: str | None) -> str:
    return instant[5:16].replace("T", " ") if instant else "-"


def _whole(call: Call, recording: Recording, settings: Settings, ledger: Ledger) -> dict[str, Any]:
    return {
        **recording_view(call, recording, settings.rules, ledger.now()),
        "from": call.from_number,
        "to": call.to_number,
        "direction": call.direction,
    }


def _newest(settings: Settings, ledger: Ledger) -> Iterator[dict[str, Any]]:
    for _, account, recording_id in ledger.recent(settings.accounts):
        call_uuid = ledger.call_of(account, recording_id)
        if call_uuid:
            call = replay(account, call_uuid, ledger.events(account, call_uuid))
            if recording_id in call.recordings:
                yield _whole(call, call.recordings[recording_id], settings, ledger)


def _live(settings: Settings, ledger: Ledger) -> Iterator[dict[str, Any]]:
    """Recordings that are not proven over, newest first. Those without any obligation left are
    found by the events in their logs.
    """
    marks = [Kind.STOP_ACCEPTED, Kind.STOP_UNKNOWN, Kind.STOP_SET_ASIDE, Kind.STOP_ERRED]
    with search_bar() as advance:
        marked = (call for call, _ in backlog.marked(ledger, marks, advance))
        calls = {(c.account, c.call_uuid): c for c in chain(_tracked(ledger), marked)}
    live = [
        (call, recording)
        for call in calls.values()
        for recording in call.recordings.values()
        if not recording.over_at and not recording.archived
    ]
    for call, recording in sorted(live, key=lambda pair: pair[1].known_at, reverse=True):
        yield _whole(call, recording, settings, ledger)


def _tracked(ledger: Ledger) -> Iterator[Call]:
    for account in ledger.accounts():
        calls = iter(sorted(ledger.tracked(account)))
        while some := list(islice(calls, 500)):
            yield from (
                replay(account, call_uuid, events)
                for call_uuid, events in ledger.logs(account, some).items()
            )


def _finalizing(ledger: Ledger) -> Iterator[Entry]:
    """Recordings that ended minutes ago and of which the provider has no file yet."""
    before = ledger.now() - _FINALIZING
    for call in _tracked(ledger):
        for recording in call.recordings.values():
            if recording.over_at and recording.over_at < before and _has_no_file(recording):
                yield _waiting_for_file(ledger, call, recording)


def _has_no_file(recording: Recording) -> bool:
    return not (
        recording.finalized_at
        or recording.archived
        or recording.abandoned
        or recording.gave_up
        or recording.failures
    )


def _waiting_for_file(ledger: Ledger, call: Call, recording: Recording) -> Entry:
    owed = Obligation(
        duty=Duty.FETCH,
        account=call.account,
        call_uuid=call.call_uuid,
        recording_id=recording.recording_id,
    )
    return Entry(
        owed=owed,
        started_at=recording.started_at,
        fault=Fault.PROVIDER,
        tries=0,
        next_at=ledger.next_at(replace(owed, duty=Duty.LOOK, recording_id=None)),
        problem=f"finalizing: it was over at {recording.over_at:%m-%d %H:%M:%S}, "
        "and the provider does not list it yet",
    )


def _list_backlog(
    ledger: Ledger, fault: Fault | None, limit: int, *, failing: bool, as_json: bool
) -> None:
    with search_bar() as advance:
        late = _finalizing(ledger) if failing and fault in {None, Fault.PROVIDER} else iter(())
        failed = backlog.find(ledger, fault, failing=failing, told=advance)
        entries, more = _page(chain(failed, late), limit)
    if as_json:
        click.echo(json.dumps([_view(entry) for entry in entries], indent=2))
        return
    if not entries:
        click.echo("None.")
        return
    table = table_of("recording, problem", "began (UTC)", "fault", "tries", "next try")
    for entry in entries:
        # The problem stands under its recording: beside it there is no room.
        lines = [name_of(entry.owed), entry.problem]
        if entry.keeps_until:
            lines.append(_kept(rfc3339(entry.keeps_until)))
        table.add_row(
            Text("\n  ".join(lines)),
            f"{entry.started_at:%m-%d %H:%M}" if entry.started_at else "-",
            entry.fault.value,
            str(entry.tries),
            f"{entry.next_at:%m-%d %H:%M}" if entry.next_at else "never",
        )
    print_table(table)
    _say_if_more(more)


def _kept(until: str | None) -> str:
    return f"the provider keeps it until {_short(until)}"


def _view(entry: Entry) -> dict[str, Any]:
    return {
        "recording_id": entry.owed.recording_id,
        "account": entry.owed.account,
        "call_uuid": entry.owed.call_uuid,
        "started_at": rfc3339(entry.started_at),
        "fault": entry.fault.value,
        "tries": entry.tries,
        "next_at": rfc3339(entry.next_at),
        "problem": entry.problem,
        "provider_keeps_until": rfc3339(entry.keeps_until),
    }
