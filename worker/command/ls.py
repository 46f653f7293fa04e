"""`endtape ls` and `endtape retry`: what there is, what does not come home, and trying it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import chain, islice
from typing import Any

import click
from rich.text import Text

from worker.calls.call import Call, Recording, StopState
from worker.calls.events import Fault, Kind
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.calls.views import recording_view, rfc3339
from worker.command.backlog_page import FAULTS, name_of, searching
from worker.command.terminal import as_json_option, careful, open_ledger, print_table, table_of
from worker.ledger import backlog
from worker.ledger.backlog import Entry
from worker.ledger.client import Ledger
from worker.settings import Settings

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
    help="The same, what fails now and is not abandoned yet, and what has no file minutes after its end.",
)
@click.option(
    "--fault",
    type=click.Choice(FAULTS),
    help="With one of these two: only what is the fault of this.",
)
@careful
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
        _list_backlog(
            ledger, Fault(fault) if fault else None, limit, failing=failing, as_json=as_json
        )
        return
    found = _live(settings, ledger) if running or unproven else _newest(settings, ledger)
    views = list(
        islice((v for v in found if not unproven or v["stop"]["state"] in _UNPROVEN), limit + 1)
    )
    more, views = len(views) > limit, views[:limit]
    if as_json:
        click.echo(json.dumps(views, indent=2))
        return
    if not views:
        click.echo("None." if running or unproven else "No recording is known yet.")
        return
    table = table_of("recording, call, rule", "from, to", "began, due\n(UTC)", "phase, stop")
    for v in views:
        stop = v["stop"]
        rule = f"{stop['rule']}: {stop['trigger'] or 'nothing due'}"
        # Ids are so long that the rest stands below them.
        table.add_row(
            Text(
                "\n  ".join(
                    [
                        v["recording_id"] or "(none is known)",
                        v["call_uuid"],
                        rule,
                        *filter(None, [v["problem"]]),
                    ]
                )
            ),
            f"{v['from'] or '?'}\n{v['to'] or '?'}",
            f"{_short(v['started_at'])}\n{_short(stop['due_at'])}",
            f"{v['phase']}\n{stop['state']}",
        )
    print_table(table)
    if more:
        click.echo("There are more: --limit shows them.")


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
    """Recordings that are not proven over, newest first. What nothing is owed to any more is only
    found by what its log says.
    """
    asked = [Kind.STOP_ACCEPTED, Kind.STOP_UNKNOWN, Kind.STOP_SET_ASIDE, Kind.STOP_ERRED]
    with searching() as told:
        calls = {
            (c.account, c.call_uuid): c
            for c in chain(_tracked(ledger), (c for c, _ in backlog.marked(ledger, asked, told)))
        }
    found = [
        (call, recording)
        for call in calls.values()
        for recording in call.recordings.values()
        if not recording.over_at and not recording.archived
    ]
    for call, recording in sorted(found, key=lambda pair: pair[1].known_at, reverse=True):
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
    """What ended minutes ago, and of which the provider has no file yet."""
    before = ledger.now() - _FINALIZING
    for call in _tracked(ledger):
        for r in call.recordings.values():
            if (
                r.over_at
                and r.over_at < before
                and not (r.finalized_at or r.archived or r.abandoned or r.gave_up or r.failures)
            ):
                owed = Obligation(
                    duty=Duty.FETCH,
                    account=call.account,
                    call_uuid=call.call_uuid,
                    recording_id=r.recording_id,
                )
                yield Entry(
                    owed=owed,
                    started_at=r.started_at,
                    fault=Fault.PROVIDER,
                    tries=0,
                    next_at=ledger.next_at(replace(owed, duty=Duty.LOOK, recording_id=None)),
                    problem=f"finalizing: it was over at {r.over_at:%m-%d %H:%M:%S}, and the provider does not list it yet",
                )


def _list_backlog(
    ledger: Ledger, fault: Fault | None, limit: int, *, failing: bool, as_json: bool
) -> None:
    with searching() as told:
        late = _finalizing(ledger) if failing and fault in {None, Fault.PROVIDER} else iter(())
        found = list(
            islice(chain(backlog.find(ledger, fault, failing=failing, told=told), late), limit + 1)
        )
    more, entries = len(found) > limit, found[:limit]
    if as_json:
        click.echo(json.dumps([_view(e) for e in entries], indent=2))
        return
    if not entries:
        click.echo("None.")
        return
    table = table_of("recording, problem", "began (UTC)", "fault", "tries", "next try")
    for e in entries:
        # The problem stands under its recording: beside it there is no room.
        table.add_row(
            Text(f"{name_of(e.owed)}\n  {e.problem}"),
            f"{e.started_at:%m-%d %H:%M}" if e.started_at else "-",
            e.fault.value,
            str(e.tries),
            f"{e.next_at:%m-%d %H:%M}" if e.next_at else "never",
        )
    print_table(table)
    if more:
        click.echo("There are more: --limit shows them.")


def _view(e: Entry) -> dict[str, Any]:
    return {
        "recording_id": e.owed.recording_id,
        "account": e.owed.account,
        "call_uuid": e.owed.call_uuid,
        "started_at": rfc3339(e.started_at),
        "fault": e.fault.value,
        "tries": e.tries,
        "next_at": rfc3339(e.next_at),
        "problem": e.problem,
    }
