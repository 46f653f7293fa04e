"""Records what came of a piece of work, and reports it: log lines, alerts, counters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import structlog

from worker.calls import timing
from worker.calls.call import Call
from worker.calls.events import FINISHED, Event, Kind
from worker.calls.notices import TRIED_FOR, is_told
from worker.calls.obligations import Duty, Obligation
from worker.duties import traces
from worker.duties.histograms import CONFIRMATION, HOME, TAIL, observe
from worker.duties.worker import Worker
from worker.errors import LedgerUnavailable, StaleLease
from worker.ledger.obligations import Claim, Commit, Loaded

log = structlog.get_logger()
_SAFETY_DUE = timedelta(
    seconds=60
)  # a safety net: due again by then if no plan sets an earlier instant

_OFFLOAD_WITHIN = timedelta(days=1)
_TOLD_WITHIN = timedelta(days=1)
_ALERTS = {Kind.STOP_UNKNOWN, Kind.ABANDONED, Kind.GAVE_UP}


def do_or_report(worker: Worker, claim: Claim, work: Callable[[], None], complaint: str) -> bool:
    """Do the work of one claim, so that a fault of ours does not hold up the other claims.

    A lost lease ends the work: another worker does it. Any other exception is logged as `complaint`
    with its traceback and raises the alert `poison`. The obligation then stays unfinished: the
    ledger counts that, and hands it out less and less often. False after such an exception. Raises
    LedgerUnavailable.
    """
    try:
        work()
    except StaleLease:
        return True
    except LedgerUnavailable:
        raise
    except Exception:
        log.exception(complaint, obligation=str(claim.obligation))
        worker.alert("poison", **_about(claim.obligation))
        return False
    return True


def _about(o: Obligation) -> dict[str, str | None]:
    if o.duty in {Duty.FETCH, Duty.ERASE, Duty.OFFLOAD, Duty.HAND_ON}:
        return {"account": o.account, "recording_id": o.recording_id}
    if o.duty in {Duty.SURVEY, Duty.DAY, Duty.CDRS}:
        return {"account": o.account}
    return {"account": o.account, "call_uuid": o.call_uuid}


def commit_and_plan(
    worker: Worker,
    found: Commit,
    call: Call,
    *,
    now: datetime,
    counts: dict[str, float] | None = None,
) -> bool:
    """Record what was found, and make the call's plan due at once: the plan decides what follows.

    `counts`: where the caller counts what was recorded, and tells the counters later; None: they
    are told at once. False when the lease was lost: then nothing is recorded. Raises
    LedgerUnavailable.
    """
    o = found.claim.obligation
    plan = replace(o, duty=Duty.PLAN, recording_id=None)
    # The plan sets the next instant of this obligation. If the plan dies with its worker, the
    # obligation is due again after a minute.
    index = replace(o, duty=Duty.INDEX, recording_id=None)
    is_finished = any(e.kind in FINISHED for e in found.events)
    commit = replace(
        found,
        dues=(
            (o, now + _SAFETY_DUE),
            (plan, "soon" if is_finished else "now"),
            *([(index, timing.index_at(now))] if is_finished else []),
            *_retained(call, found.events),
            *_offloads_due(worker, call, found.events, now),
            *_hand_ons_due(worker, call, found.events),
            *notices_due(worker, call, found.events),
        ),
    )
    ids = worker.ledger.commit([commit])[0]
    if ids is None:
        return False
    recorded = [(call, [e for e in found.events if e.id in ids])]
    if counts is None:
        tell(worker, recorded)
    else:
        report(worker, recorded, counts)
    return True


def _retained(call: Call, events: Sequence[Event]) -> list[tuple[Obligation, datetime]]:
    """When the rules want the recordings erased that are archived with these events."""
    return [
        (obligation(call, Duty.ERASE, event.recording_id), event.retain_until)
        for event in events
        if event.retain_until
    ]


def _offloads_due(
    worker: Worker, call: Call, events: Sequence[Event], now: datetime
) -> list[tuple[Obligation, datetime]]:
    """When the rules want the provider's copy deleted of what is archived with these events."""
    keep = worker.settings.rules.choose(call)[1].keep_at_provider
    if keep is None:
        return []
    return [
        (obligation(call, Duty.OFFLOAD, event.recording_id), now + keep)
        for event in events
        if event.kind is Kind.MEDIA_ARCHIVED and event.check is None
    ]


def _hand_ons_due(
    worker: Worker, call: Call, events: Sequence[Event]
) -> list[tuple[Obligation, Literal["now"]]]:
    """Whom the rules want told of the recordings that are archived with these events."""
    if worker.settings.rules.choose(call)[1].after_archive is None:
        return []
    return [
        (obligation(call, Duty.HAND_ON, event.recording_id), "now")
        for event in events
        if event.kind is Kind.MEDIA_ARCHIVED
    ]


def kept_for(worker: Worker, call: Call) -> timedelta:
    """How long a finished call's log is kept: until the provider's copies are gone at least, and
    until whoever is handed a recording took it or was given up.
    """
    keep = worker.settings.rules.choose(call)[1].keep_at_provider
    offloaded_in = keep + _OFFLOAD_WITHIN if keep is not None else timedelta(0)
    told_in = TRIED_FOR + _TOLD_WITHIN if worker.settings.hand_ons else timedelta(0)
    return max(worker.settings.history, offloaded_in, told_in)


def notices_due(
    worker: Worker, call: Call, events: Sequence[Event]
) -> list[tuple[Obligation, Literal["now"]]]:
    """What is owed to the operator's applications for these events of a call."""
    if not worker.settings.notify or not any(is_told(event.kind) for event in events):
        return []
    return [(obligation(call, Duty.NOTIFY), "now")]


def wait_until(worker: Worker, claim: Claim, loaded: Loaded, instant: datetime | None) -> None:
    """End a claim without an outcome. The obligation is due at `instant`; None: it is done."""
    worker.ledger.commit(
        [Commit(claim=claim, seen=loaded.size, dues=((claim.obligation, instant),))]
    )


def tell(
    worker: Worker,
    recorded: Sequence[tuple[Call, Collection[Event]]],
    more: dict[str, float] | None = None,
) -> None:
    """Report newly recorded events: a log line and a count for each, and the alerts among them.

    `more`: further counts.
    """
    counts = dict(more or {})
    report(worker, recorded, counts)
    worker.ledger.count(counts)


def report(
    worker: Worker, recorded: Sequence[tuple[Call, Collection[Event]]], counts: dict[str, float]
) -> None:
    """A log line for each of these events, and the alerts among them. Adds to `counts`."""
    for call, events in recorded:
        for event in events:
            log.info(
                event.kind.value,
                account=call.account,
                call_uuid=call.call_uuid,
                recording_id=event.recording_id,
                reason=event.reason,
                trigger=event.trigger,
                rule=event.rule,
            )
            _count(counts, call, event)
            if event.kind in _ALERTS or (event.kind is Kind.MEDIA_ARCHIVED and event.check):
                _alert(worker, call, event)


def _count(counts: dict[str, float], call: Call, event: Event) -> None:
    _add(counts, f"events_total|{event.kind.value}")
    if event.kind is Kind.MEDIA_ARCHIVED:
        _count_home(counts, call, event)
    if event.kind is Kind.ABANDONED:
        _add(counts, f"abandoned_total|{event.fault}")
    if event.kind is Kind.STOP_CONFIRMED and event.due_at and event.proven_at:
        observe(counts, CONFIRMATION, event.proven_at - event.due_at)
        if event.ended_at:
            observe(counts, TAIL, event.ended_at - event.due_at)


def _count_home(counts: dict[str, float], call: Call, event: Event) -> None:
    """A recording that came home: its bytes, how long that took since its end, and its trace."""
    _add(counts, f"archived_total|{call.account}")
    _add(counts, f"archived_bytes_total|{call.account}", event.bytes or 0)
    recording = call.recordings.get(event.recording_id or "")
    if recording and recording.over_at:
        observe(counts, HOME, datetime.now(UTC) - recording.over_at)
    traces.archived(call, event)


def _add(counts: dict[str, float], name: str, amount: float = 1) -> None:
    counts[name] = counts.get(name, 0) + amount


def _alert(worker: Worker, call: Call, event: Event) -> None:
    worker.alert(
        event.kind.value,
        account=call.account,
        call_uuid=call.call_uuid,
        recording_id=event.recording_id,
        reason=event.reason,
        **({"fault": event.fault.value} if event.fault else {}),
    )


def obligation(call: Call, duty: Duty, recording_id: str | None = None) -> Obligation:
    return Obligation(
        duty=duty, account=call.account, call_uuid=call.call_uuid, recording_id=recording_id
    )
