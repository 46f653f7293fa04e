"""`endtape ls`: lists recordings, and those that do not come home."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, TypeVar

import click

from worker import wire
from worker.calls.call import Call, Phase, Recording, StopState
from worker.calls.events import Fault, Kind
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.calls.views import recording_view, rfc3339
from worker.catalogue.board import FINALIZING, not_listed
from worker.catalogue.database import Catalogue
from worker.catalogue.listing import Listing
from worker.catalogue.live import Live
from worker.catalogue.wanted import Wanted
from worker.command.terminal import (
    FAULTS,
    Stacked,
    as_json_option,
    exit_statuses,
    open_ledger,
    options_as,
    owed_name,
    print_lines,
    print_table,
    progress_bar,
    table_of,
)
from worker.ledger import backlog
from worker.ledger.backlog import Entry
from worker.ledger.client import Ledger
from worker.settings import Settings

_Row = TypeVar("_Row")
_SOON_S = 120  # a next try within that time is told in seconds
_UNPROVEN = {
    s.value for s in (StopState.DUE, StopState.ACCEPTED, StopState.UNKNOWN, StopState.FAILED)
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """The options that a list of recordings takes, as `/v1/recordings` does."""

    phase: str | None
    stop: str | None
    fault: str | None
    rule: str | None
    number: str | None
    label: str | None
    call_uuid: str | None
    account: str | None
    held: bool | None
    since: str | None
    until: str | None
    q: str | None

    @property
    def any(self) -> bool:
        return any(value is not None for value in asdict(self).values())

    def wanted(self) -> Wanted:
        """Raises UsageError for a value that a filter does not take."""
        number = wire.number_pattern(self.number) if self.number else None
        if self.number and number is None:
            raise click.UsageError("--number: digits; * stands for any digits at either end")
        name, sign, value = (self.label or "").partition("=")
        if self.label and not (name and sign):
            raise click.UsageError("--label: NAME=VALUE")
        label = (name, value) if self.label else None
        changed = {
            "number": number,
            "label": label,
            "since": _bound("since", self.since),
            "until": _bound("until", self.until, end=True),
        }
        return Wanted(**{**asdict(self), **changed})


def _bound(name: str, text: str | None, *, end: bool = False) -> datetime | None:
    at = wire.bound(text, end=end) if text else None
    if text and at is None:
        raise click.UsageError(
            f"--{name}: {text[:40]!r} is neither a day (UTC) like 2026-09-14 "
            "nor an instant like 2026-09-14T06:30:00Z"
        )
    return at


@click.command(epilog="Example: endtape ls --number '91804*' --since 2026-09-14")
@as_json_option
@click.option(
    "--limit",
    default=50,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="So many at most.",
)
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
@click.option("--phase", type=click.Choice([p.value for p in Phase]), help="How far it has come.")
@click.option("--stop", type=click.Choice([s.value for s in StopState]), help="State of the stop.")
@click.option("--fault", type=click.Choice(FAULTS), help="Also with --abandoned and --failing.")
@click.option("--rule", help="The rule of the stop.")
@click.option("--number", help="From or to; * for any digits at either end.")
@click.option("--label", metavar="NAME=VALUE", help="With this label.")
@click.option("--call", "call_uuid", metavar="UUID", help="Of this call.")
@click.option("--account", help="Of this account.")
@click.option("--held/--not-held", default=None, help="Under legal hold, or not.")
@click.option("--since", metavar="WHEN", help="First seen then or later; a day is UTC.")
@click.option("--until", metavar="WHEN", help="First seen then or before; a day counts whole.")
@click.option("-q", help="A part of any id, number or label.")
@exit_statuses
@options_as(Filters)
def ls(
    options: Filters,
    as_json: bool,
    limit: int,
    running: bool,
    unproven: bool,
    abandoned: bool,
    failing: bool,
) -> None:
    """List recordings, newest first."""
    special = running + unproven + (abandoned or failing)
    if special > 1:
        raise click.UsageError(
            "--running, --unproven and --abandoned or --failing are different lists; name one"
        )
    if special and (replace(options, fault=None).any or (options.fault and running + unproven)):
        raise click.UsageError(
            "filters go with the whole list; --abandoned and --failing take --fault alone"
        )
    wanted = options.wanted()
    settings, ledger = open_ledger(rules_needed=False)
    if abandoned or failing:
        only = Fault(options.fault) if options.fault else None
        _list_backlog(ledger, only, limit, failing=failing, as_json=as_json)
        return
    if running or unproven:
        live = _live(settings, ledger)
        views, more = _page(
            (v for v in live if not unproven or v["stop"]["state"] in _UNPROVEN), limit
        )
    else:
        views, more = _all(settings, ledger, wanted, limit)
        if not views:
            _refuse_unknown(options.account, settings, ledger)
    if as_json:
        click.echo(json.dumps(views, indent=2))
    elif views:
        _print_recordings(views)
        _say_if_more(more)
    else:
        click.echo(_nothing(options, running=running, unproven=unproven))


def _refuse_unknown(account: str | None, settings: Settings, ledger: Ledger) -> None:
    """Raises UsageError for an account that neither the settings nor the ledger have."""
    if account and account not in {*settings.accounts, *ledger.accounts()}:
        known = ", ".join(settings.accounts)
        raise click.UsageError(f"--account: no account {account!r} in the settings ({known})")


def _nothing(options: Filters, *, running: bool, unproven: bool) -> str:
    """What an empty list means."""
    if running:
        return "Nothing records: all that is known is proven over."
    if unproven:
        return "Every stop that was due is proven."
    return "No recording matches." if options.any else "No recording is known yet."


def _all(
    settings: Settings, ledger: Ledger, wanted: Wanted, limit: int
) -> tuple[list[dict[str, Any]], bool]:
    """The first recordings that are wanted, and whether there are more."""
    live = Live(ledger, lambda: settings.rules)
    listing = Listing(ledger, live, Catalogue(settings.catalog))
    accounts = [wanted.account] if wanted.account else settings.accounts
    views, before = list[dict[str, Any]](), None
    while True:
        page = listing.page(wanted, accounts, limit=limit - len(views), before=before)
        views, before = views + page.views, page.end
        if before is None or len(views) >= limit:
            break
    if page.degraded:
        print_lines(f"degraded: catalog: {page.degraded}; only live recordings are shown", err=True)
    return views, before is not None


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
            view["call_uuid"],
            f"{stop['rule'] or '-'}: {stop['trigger'] or 'nothing due'}",
        ]
        if view["problem"]:
            lines.append(view["problem"])
        if view["held"]:
            lines.append("under legal hold")
        if erased := view["erased"]:
            lines.append(f"erased by {erased['who']}: {erased['reason']}")
        if not view["archive_key"] and view["provider_keeps_until"]:
            lines.append(_kept(view["provider_keeps_until"]))
        table.add_row(
            Stacked(view["recording_id"] or "(none is known)", lines),
            f"{view['from'] or '?'}\n{view['to'] or '?'}",
            f"{_short(view['started_at'])}\n{_short(stop['due_at'])}",
            f"{view['phase']}\n{stop['state']}",
        )
    print_table(table)


def _short(instant: str | None) -> str:
    """The minute; the day alone where it was in another year."""
    if not instant:
        return "-"
    is_this_year = instant.startswith(f"{datetime.now(UTC):%Y}")
    return instant[5:16].replace("T", " ") if is_this_year else instant[:10]


def _live(settings: Settings, ledger: Ledger) -> Iterator[dict[str, Any]]:
    """Recordings that are not proven over, newest first. Those without any obligation left are
    found by the events in their logs.
    """
    marks = [Kind.STOP_ACCEPTED, Kind.STOP_UNKNOWN, Kind.STOP_SET_ASIDE, Kind.STOP_ERRED]
    with progress_bar("recordings ...") as advance:
        marked = (call for call, _ in backlog.marked(ledger, marks, advance))
        calls = {(c.account, c.call_uuid): c for c in chain(_tracked(ledger), marked)}
    live = [
        (call, recording)
        for call in calls.values()
        for recording in call.recordings.values()
        if not recording.over_at and not recording.archived
    ]
    for call, recording in sorted(live, key=lambda pair: pair[1].known_at, reverse=True):
        yield recording_view(call, recording, settings.rules, ledger.now())


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
    before = ledger.now() - FINALIZING
    for call in _tracked(ledger):
        for recording in call.recordings.values():
            over_at = recording.over_at
            if over_at and over_at < before and _has_no_file(recording):
                yield _waiting_for_file(ledger, call, recording, over_at)


def _has_no_file(recording: Recording) -> bool:
    return not (
        recording.finalized_at
        or recording.archived
        or recording.abandoned
        or recording.gave_up
        or recording.failures
    )


def _waiting_for_file(ledger: Ledger, call: Call, recording: Recording, over_at: datetime) -> Entry:
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
        tries=sum(look.at is not None and look.at > over_at for look in call.looks),
        next_at=ledger.next_at(replace(owed, duty=Duty.LOOK, recording_id=None)),
        problem=f"finalizing: {not_listed(over_at)}",
    )


def _list_backlog(
    ledger: Ledger, fault: Fault | None, limit: int, *, failing: bool, as_json: bool
) -> None:
    with progress_bar("recordings ...") as advance:
        late = _finalizing(ledger) if failing and fault in {None, Fault.PROVIDER} else iter(())
        failed = backlog.find(ledger, fault, failing=failing, told=advance)
        entries, more = _page(chain(failed, late), limit)
    if as_json:
        click.echo(json.dumps([_view(entry) for entry in entries], indent=2))
        return
    if not entries:
        click.echo(
            "Nothing fails, and nothing is abandoned." if failing else "Nothing is abandoned."
        )
        return
    table = table_of("recording, problem", "began (UTC)", "fault", "tries", "next try")
    for entry in entries:
        # The problem stands under its recording: beside it there is no room.
        lines = [entry.problem]
        if entry.keeps_until:
            lines.append(_kept(rfc3339(entry.keeps_until)))
        table.add_row(
            Stacked(owed_name(entry.owed), lines),
            _short(rfc3339(entry.started_at)),
            entry.fault.value,
            str(entry.tries),
            _ahead(entry.next_at, ledger.now()),
        )
    print_table(table)
    _say_if_more(more)


def _ahead(next_at: datetime | None, now: datetime) -> str:
    """When the next try is: in seconds where that is soon, else the minute."""
    if next_at is None:
        return "never"  # by itself; longer words would break the ids beside it
    seconds = (next_at - now).total_seconds()
    if seconds < 1:
        return "now"
    return f"in {seconds:.0f} s" if seconds < _SOON_S else _short(rfc3339(next_at))


def _kept(until: str | None) -> str:
    return f"at the provider until {_short(until)}"


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
