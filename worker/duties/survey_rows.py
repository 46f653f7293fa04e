"""The part of a survey that reads the provider's list of recordings, one page a step.

Rows that the ledger does not know become events. The same row always gives an event with the same
id, so reading a row twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty, Obligation
from worker.calls.timing import KEPT_BY_PROVIDER, LONGEST_CALL
from worker.calls.trust import is_end, is_proven_end
from worker.duties.archived_before import archived_before
from worker.duties.look import adopts_since, is_adopted, listed
from worker.duties.trials import on_this_machine
from worker.duties.worker import Worker
from worker.errors import CatalogueAway
from worker.ledger.recording import Recorded
from worker.ledger.survey_state import Scope, SurveyState
from worker.vobiz.account import Account
from worker.vobiz.answers import Row
from worker.vobiz.client import next_offset

# A row appears minutes after the end of its recording, and the clocks differ.
_LATE_ROWS = timedelta(minutes=15)
_MOST_ROWS = 1_000_000  # where to stop reading a list that never ends


def read_page(
    worker: Worker, account: Account, scope: Scope, current: SurveyState, now: datetime
) -> tuple[SurveyState, bool]:
    """Read one page of recordings and record the news in it. True with the last page that this
    survey needs.
    """
    page = worker.vobiz.recordings_page(account, offset=current.offset)
    since = adopts_since(worker)
    ids = tuple(row.recording_id for row in page.rows)
    by_id = {row.recording_id: row for row in page.rows}
    rows = [row for i, row in by_id.items() if i not in current.page]
    counts = _heal(worker, account.auth_id, rows, since, now)
    current = healed(worker, current.count(rows=len(rows)), **counts)
    offset = next_offset(page, current.offset)
    last = (
        offset is None
        or offset > _MOST_ROWS
        or (bool(ids) and not rows)
        or _is_older(page.rows, _horizon(scope, current, since, now))
    )
    return replace(current, offset=offset or 0, page=ids), last


def healed(worker: Worker, current: SurveyState, **counts: int) -> SurveyState:
    """Count what this survey healed, by kind, in `/metrics` and in its state."""
    worker.ledger.count({f"healed_total|{kind}": n for kind, n in counts.items() if n})
    return current.count(**counts)


def is_news(worker: Worker, account: str, event: Event) -> bool:
    """Record an event. False when it is recorded already: a callback, a look or the survey of the
    other scope came first.
    """
    return worker.ledger.record(account, event)[0] is Recorded.NEW


def _horizon(scope: Scope, current: SurveyState, since: datetime, now: datetime) -> datetime:
    """Rows that were listed before this instant need not be read again."""
    if scope is Scope.NEW:
        return max(since, (current.seen_to or now) - _LATE_ROWS)
    if current.seen_to and current.seen_from and current.seen_from <= since:
        # Whatever a list is sorted by: what ended since then began at most so long before.
        return max(since, current.seen_to - LONGEST_CALL)
    return max(since, now - KEPT_BY_PROVIDER)


def _is_older(rows: Sequence[Row], horizon: datetime) -> bool:
    """Whether a page is older than the horizon, and with it all later pages.

    The provider does not document the order of the list. A list that does not go back in time is
    read to its end.
    """
    instants = [at for row in rows if (at := _listed_at(row))]
    if not instants or len(instants) < len(rows):
        return False
    return max(instants) < horizon and instants[0] >= instants[-1]


def _listed_at(row: Row) -> datetime | None:
    return max((t for t in (row.added_at, row.ended_at, row.started_at) if t), default=None)


# What the ledger does not know
# ------------------------------------------------------------------------------------------------


def _heal(
    worker: Worker, account: str, rows: Sequence[Row], since: datetime, now: datetime
) -> dict[str, int]:
    """Record what these rows say and the ledger does not know. How many rows of each kind."""
    ledger, counts = worker.ledger, {"listed": 0, "ended": 0, "restored": 0}
    ours = ledger.calls_of(account, [row.recording_id for row in rows])
    # The provider files trunk recordings under their own id. So do we with a row without a call.
    homes = {
        row.recording_id: row.call_uuid or ours.get(row.recording_id) or row.recording_id
        for row in rows
    }
    logs = ledger.logs(account, {*homes.values(), *ours.values()})
    finished = _in_catalogue(worker, account, [i for i in homes if i not in ours])
    is_away = _is_away(worker)
    for row in rows:
        event = listed(homes[row.recording_id], row)
        calls = {homes[row.recording_id], ours.get(row.recording_id)}
        known = [e for i in calls if i for e in logs[i] if e.recording_id == row.recording_id]
        if any(_says_as_much(e, event) for e in known):
            continue
        if known:
            counts["ended"] += is_news(worker, account, event) and is_end(event)
        elif row.recording_id in finished:
            continue
        elif filed := [] if is_away else archived_before(worker.archive, account, event):
            # A recording older than the history stays forgotten.
            if (_listed_at(row) or now) >= now - worker.settings.history:
                # What is filed goes first, so that no worker fetches it meanwhile.
                for one in filed:
                    is_news(worker, account, one)
                counts["restored"] += is_news(worker, account, event)
                index = Obligation(duty=Duty.INDEX, account=account, call_uuid=event.call_uuid)
                ledger.ensure_due([index])
                _owe_erasure(worker, account, filed)
        elif is_adopted(row, since):
            counts["listed"] += is_news(worker, account, event)
    return counts


def _owe_erasure(worker: Worker, account: str, filed: Sequence[Event]) -> None:
    """Put down the erasures of what is archived and kept for a time."""
    for event in filed:
        if event.retain_until:
            owed = Obligation(
                duty=Duty.ERASE,
                account=account,
                call_uuid=event.call_uuid,
                recording_id=event.recording_id,
            )
            worker.ledger.owe(owed, event.retain_until)


def _says_as_much(known: Event, row: Event) -> bool:
    """Whether a known event of the recording makes its row superfluous."""
    done = known.kind in {Kind.MEDIA_ARCHIVED, Kind.GAVE_UP}
    return known.id == row.id or done or is_proven_end(known)


def _is_away(worker: Worker) -> bool:
    """Whether the bucket is known to refuse or to hang. It then says nothing anyway, and to wait
    for each row's answer would hold up looks, and what a row makes due.
    """
    return worker.settings.has_bucket and on_this_machine("archive") in worker.ledger.degraded()


def _in_catalogue(worker: Worker, account: str, recording_ids: Sequence[str]) -> set[str]:
    """Those of these recordings that the catalogue has, so that they are finished; none while it
    does not answer: then the archive is asked for each.
    """
    try:
        return worker.catalogue.known(account, recording_ids) if recording_ids else set()
    except CatalogueAway:
        return set()
