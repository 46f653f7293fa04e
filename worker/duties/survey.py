"""Compares the provider's own lists with the ledger, and heals the difference: what nobody told us
of, and what we missed.

A survey is a chain of steps of one request each, so it never holds a slot for long, and it takes no
more than SHARE of the account's requests. Harmless to repeat: rows become events whose ids are
always the same, and a call that the list of live calls lacks is only looked at, since a list proves
nothing about what is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

import structlog

from worker.archive.keys import key_of
from worker.calls.call import Call
from worker.calls.events import Event, Kind
from worker.calls.handoffs import found_live
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import is_end, is_proven_end, replay
from worker.calls.timing import KEPT_BY_PROVIDER
from worker.duties.look import adopts_since, is_adopted, listed
from worker.duties.worker import HALTED_RETRY, NOBODYS, Held, Worker, is_halted, is_ours
from worker.errors import EndtapeError, LedgerUnavailable, Refused, StaleLease, TryAgain
from worker.ledger import survey_state
from worker.ledger.calls import Claim, Commit, Recorded
from worker.ledger.survey_state import Round, Scope, Stage
from worker.vobiz.account import Account
from worker.vobiz.client import Row, next_offset

log = structlog.get_logger()
SHARE = 1 / 3  # of ENDTAPE_API_RATE; the rest is for looks and fetches
SWEEP_EVERY = timedelta(hours=1)
_LATE_ROWS = timedelta(
    minutes=15
)  # rows come minutes after the end of their recording, and clocks differ
_A_DAY = timedelta(
    hours=24
)  # no call is longer, so whatever a list is sorted by, its row is not further down
_AFTER_FAILURE = timedelta(seconds=5)
_LONGEST_PAUSE_S = 300.0
_MOST_ROWS = 1_000_000  # a list that never ends is not read for ever
_Dues = list[tuple[Obligation, Literal["now"]]]


def surveys(worker: Worker, claims: Sequence[Claim]) -> None:
    """One step for each claim."""
    for claim in claims:
        now, (held,) = worker.ledger.load([claim])
        if held is not None:
            try:
                _step(worker, claim, now)
            except StaleLease:
                continue
            except LedgerUnavailable:
                raise
            except Exception:
                log.exception("an account cannot be surveyed", obligation=str(claim.obligation))
                worker.alert("poison", account=claim.obligation.account)
                _end(worker, claim, now + NOBODYS)


def _step(worker: Worker, claim: Claim, now: datetime) -> None:
    name, scope = claim.obligation.account, Scope(claim.obligation.call_uuid)
    account = worker.settings.accounts.get(name)
    if account is None:  # it left the settings; when it comes back, `keep_due` brings this back
        _end(worker, claim, None)
        return
    later = now + HALTED_RETRY if is_halted(worker, account) else _no_token(worker, name, now)
    if later:
        _end(worker, claim, later)
        return
    before = survey_state.load(worker.ledger, name, scope)
    current = before if before and before.began_at else _begin(worker, name, scope, before, now)
    with Held(worker.ledger, claim) as alive:
        try:
            current, dues = _do(worker, account, scope, current, now)
            next_at = _next_at(worker, scope, current, now)
        except EndtapeError as error:
            if isinstance(error, LedgerUnavailable):
                raise
            if current.problem is None:
                log.warning("a survey could not ask", account=name, scope=scope, error=str(error))
            current, dues, next_at = (
                replace(current, problem=str(error)),
                [],
                now + _pause(worker, account, error),
            )
        alive()
        survey_state.save(worker.ledger, name, scope, current)
        _end(worker, claim, next_at, dues)


def _no_token(worker: Worker, account: str, now: datetime) -> datetime | None:
    """When to ask for a request again; None: one was granted. It is ours also while a backlog of
    fetches takes all others, and the fetches make up for it, so that the rate of all together
    holds.
    """
    granted, wait = worker.ledger.take("survey", account, 1, worker.settings.api_rate * SHARE)
    if granted:
        worker.ledger.charge("api", account, worker.settings.api_rate)
    return None if granted else now + wait


def _end(worker: Worker, claim: Claim, next_at: datetime | None, dues: _Dues | None = None) -> None:
    worker.ledger.commit([Commit(claim=claim, dues=((claim.obligation, next_at), *(dues or ())))])


def _next_at(worker: Worker, scope: Scope, current: Round, now: datetime) -> datetime:
    if current.began_at or current.done_began_at is None:
        return now  # the next step; when it may ask, the share decides
    every = timedelta(seconds=worker.settings.reconcile_s)
    return current.done_began_at + (every if scope is Scope.NEW else max(every, SWEEP_EVERY))


def _pause(worker: Worker, account: Account, error: EndtapeError) -> timedelta:
    if isinstance(error, Refused):
        is_ours(worker, account, error)
    asked_s = min(error.after_s or 0, _LONGEST_PAUSE_S) if isinstance(error, TryAgain) else 0
    return max(
        min(_AFTER_FAILURE, timedelta(seconds=worker.settings.reconcile_s)),
        timedelta(seconds=asked_s),
    )


def _begin(
    worker: Worker, account: str, scope: Scope, before: Round | None, now: datetime
) -> Round:
    watch_all = before is None and _erased(worker, account) and scope is Scope.NEW
    stage = Stage.CALLS if scope is Scope.NEW else Stage.ROWS
    return replace(before or Round(), began_at=now, stage=stage, watch_all=watch_all)


def _erased(worker: Worker, account: str) -> bool:
    """Whether the ledger lost what it knew of an account that it never surveyed: the archive or a
    process older than the ledger's first start remembers more. Our first start is then what the
    oldest of them remembers.
    """
    ledger = worker.ledger
    known, day = ledger.first_start(), worker.archive.first_day(account)
    first = min(known or ledger.now(), worker.first_start)
    # The archive knows days only, so on the very day of the first start it tells nothing.
    if day and day.date() < first.date():
        first = day
    if known is None or first < known:
        if survey_state.note_erased(ledger):
            worker.alert("ledger_erased", account=account, first_start=str(first))
        ledger.set_first_start(
            first
        )  # last: whoever dies before it is followed by one who finds out again
    return survey_state.was_erased(ledger)


# Steps
# ----------------------------------------------------------------------------------------------------------------


def _do(
    worker: Worker, account: Account, scope: Scope, current: Round, now: datetime
) -> tuple[Round, _Dues]:
    dues: _Dues = []
    if current.stage is Stage.CALLS:
        current, dues = _live_calls(worker, account, current, now)
    elif current.stage is Stage.CALL:
        current = _live_call(worker, account, current)
    else:
        current, last = _rows(worker, account, scope, current, now)
        if last:
            return _finish(worker, account.auth_id, scope, current), []
    stage = Stage.CALL if current.pending else Stage.ROWS
    return replace(current, stage=stage, problem=None), dues


def _finish(worker: Worker, account: str, scope: Scope, current: Round) -> Round:
    if current.found.keys() - {"rows"}:
        log.info("survey", account=account, scope=scope, **current.found)
    return replace(
        current.ended(), seen_from=adopts_since(worker) if scope is Scope.SWEEP else None
    )


def _healed(worker: Worker, current: Round, **counts: int) -> Round:
    worker.ledger.count({f"healed_total|{kind}": n for kind, n in counts.items() if n})
    return current.count(**counts)


def _live_calls(
    worker: Worker, account: Account, current: Round, now: datetime
) -> tuple[Round, _Dues]:
    """Recordings that we hold open although their call is not live get a look; which calls to ask
    about.
    """
    live = worker.vobiz.live_calls(account)
    gone = _calls(
        worker, account.auth_id, survey_state.tracked(worker.ledger, account.auth_id) - set(live)
    )
    # Known for a whole interval: the list may lag a little behind a call that has just begun.
    settled = now - timedelta(seconds=worker.settings.reconcile_s)
    closed = [
        call
        for call in gone.values()
        if _is_open(call) and any(e.at and e.at <= settled for e in call.events[:1])
    ]
    dues: _Dues = [
        (Obligation(duty=Duty.LOOK, account=account.auth_id, call_uuid=call.call_uuid), "now")
        for call in closed
    ]
    if current.watch_all or worker.settings.rules.watches:
        current = _strangers(worker, account.auth_id, current, live)
    return _healed(worker, current, closed=len(closed)), dues


def _strangers(worker: Worker, account: str, current: Round, live: Sequence[str]) -> Round:
    """Which live calls to ask about: those that nobody announced; in a ledger that was erased, all
    without a recording.
    """
    generation = worker.ledger.generation()
    unwatched = set(current.unwatched) & set(live) if generation == current.rules else set()
    calls = _calls(worker, account, set(live) - unwatched)
    pending = [i for i in live if i not in calls and i not in unwatched]
    if current.watch_all:
        pending += [
            i for i, call in calls.items() if not call.recordings and not call.found_live_at
        ]
    pending = [i for i in pending if worker.ledger.a_leg(account, i) == i]
    return replace(
        current, pending=tuple(pending), unwatched=tuple(sorted(unwatched)), rules=generation
    )


def _calls(worker: Worker, account: str, call_uuids: set[str]) -> dict[str, Call]:
    """Those of the calls that are known."""
    return {
        i: replay(account, i, events)
        for i, events in worker.ledger.logs(account, call_uuids).items()
        if events
    }


def _is_open(call: Call) -> bool:
    """Whether a recording of the call still runs as far as we know, or may run. A claim of its end
    has looks of its own; whether the calls of trunks are among the live ones is not known, and
    their recordings end with them.
    """
    if found_live(call):
        return True
    return call.claimed_over_at is None and any(
        not (r.over_at or r.archived or r.gave_up or r.trunk) for r in call.recordings.values()
    )


def _live_call(worker: Worker, account: Account, current: Round) -> Round:
    """One live call that nobody announced is taken up if a rule watches it."""
    call_uuid, *rest = current.pending
    found = worker.vobiz.live_call(account, call_uuid)
    current = replace(current, pending=tuple(rest))
    if found is None:
        return current
    call = Call(
        account=account.auth_id,
        call_uuid=call_uuid,
        from_number=found.from_number,
        to_number=found.to_number,
        direction=found.direction,
    )
    _, terms = worker.settings.rules.choose(call)
    if not (terms.watch or current.watch_all):
        return replace(current, unwatched=(*current.unwatched, call_uuid))
    if not current.watch_all and worker.ledger.size(account.auth_id, call_uuid):
        return current  # announced meanwhile
    event = Event(
        id="found-live",
        kind=Kind.CALL_FOUND_LIVE,
        call_uuid=call_uuid,
        from_number=found.from_number,
        to_number=found.to_number,
        direction=found.direction,
        reason="the ledger was erased" if current.watch_all else None,
    )
    return _healed(worker, current, watched=int(_is_news(worker, account.auth_id, event)))


def _rows(
    worker: Worker, account: Account, scope: Scope, current: Round, now: datetime
) -> tuple[Round, bool]:
    """One page of recordings; the second value is whether it was the last that this round needs."""
    page = worker.vobiz.recordings_page(account, offset=current.offset)
    since = adopts_since(worker)
    ids = tuple(row.recording_id for row in page.rows)
    rows = [
        row
        for row in {row.recording_id: row for row in page.rows}.values()
        if row.recording_id not in current.page
    ]
    current = _healed(
        worker, current.count(rows=len(rows)), **_heal(worker, account.auth_id, rows, since, now)
    )
    offset = next_offset(page, current.offset)
    last = (
        offset is None
        or offset > _MOST_ROWS
        or (bool(ids) and not rows)
        or _below(page.rows, _horizon(scope, current, since, now))
    )
    return replace(current, offset=offset or 0, page=ids), last


def _horizon(scope: Scope, current: Round, since: datetime, now: datetime) -> datetime:
    """What is listed before it needs no look any more."""
    if scope is Scope.NEW:
        return max(since, (current.seen_to or now) - _LATE_ROWS)
    if current.seen_to and current.seen_from and current.seen_from <= since:
        return max(since, current.seen_to - _A_DAY)
    return max(since, now - KEPT_BY_PROVIDER)


def _below(rows: Sequence[Row], horizon: datetime) -> bool:
    """Whether a page, and with it all that follow, is older than the horizon. The order of the list
    is not documented: one that does not go back in time is read to its end.
    """
    moments = [moment for row in rows if (moment := _listed_at(row))]
    return (
        bool(moments)
        and len(moments) == len(rows)
        and max(moments) < horizon
        and moments[0] >= moments[-1]
    )


def _listed_at(row: Row) -> datetime | None:
    return max((t for t in (row.added_at, row.ended_at, row.started_at) if t), default=None)


# Rows
# -----------------------------------------------------------------------------------------------------------------


def _heal(
    worker: Worker, account: str, rows: Sequence[Row], since: datetime, now: datetime
) -> dict[str, int]:
    """Records what these rows tell that the ledger does not know; how many of each kind."""
    ledger, counts = worker.ledger, {"listed": 0, "ended": 0, "restored": 0}
    ours = ledger.calls_of(account, [row.recording_id for row in rows])
    # A row without a call is filed under its own id, as the provider itself does for trunks.
    homes = {
        row.recording_id: row.call_uuid or ours.get(row.recording_id) or row.recording_id
        for row in rows
    }
    logs = ledger.logs(account, {*homes.values(), *ours.values()})
    for row in rows:
        event = listed(homes[row.recording_id], row)
        known = [
            e
            for i in {homes[row.recording_id], ours.get(row.recording_id)}
            if i
            for e in logs[i]
            if e.recording_id == row.recording_id
        ]
        if any(
            e.id == event.id or e.kind in {Kind.MEDIA_ARCHIVED, Kind.GAVE_UP} or is_proven_end(e)
            for e in known
        ):
            continue
        if known:
            counts["ended"] += _is_news(worker, account, event) and is_end(event)
        elif archived := _archived(worker, account, event):
            # What the ledger may have forgotten by now stays forgotten.
            if (_listed_at(row) or now) >= now - worker.settings.history:
                _is_news(worker, account, archived)  # first, so that nobody fetches it meanwhile
                counts["restored"] += _is_news(worker, account, event)
        elif is_adopted(row, since):
            counts["listed"] += _is_news(worker, account, event)
    return counts


def _is_news(worker: Worker, account: str, event: Event) -> bool:
    """Records an event. False when somebody else, perhaps a survey of the other scope, was
    quicker.
    """
    return worker.ledger.record(account, event)[0] is Recorded.NEW


def _archived(worker: Worker, account: str, event: Event) -> Event | None:
    """That the archive holds a recording already, by its receipt."""
    recording_id = event.recording_id or ""
    try:
        # The receipt's own name has no part of the extension.
        place = key_of(
            account,
            recording_id,
            started_at=event.started_at,
            ended_at=event.ended_at,
            duration_s=event.duration_s,
            added_at=event.added_at,
            extension="wav",
        )
        receipt = worker.archive.read_receipt(place)
        media: dict[str, Any] = receipt["media"]
        extension = str(
            media["codec"] if media["container"] == "mp3" else media["container"]
        ).replace("unknown", "bin")
        return Event(
            id=f"archived.{recording_id}",
            kind=Kind.MEDIA_ARCHIVED,
            call_uuid=event.call_uuid,
            recording_id=recording_id,
            archive_key=f"{place.rpartition('.')[0]}.{extension}",
            sha256=str(media["sha256"]),
            bytes=int(media["bytes"]),
            format=extension,
        )
    except (EndtapeError, OSError, ValueError, TypeError, KeyError):
        return None  # none there, or none that can be read: then fetching it decides
