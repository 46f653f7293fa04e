"""The duty FACTS: write into the archive what changed after the receipts of a call's recordings, of
consent and of restrictions.

What the archive says is read first, so the work is harmless to repeat: where a process died after
a fact was written, the next one finds it there. It concerns the call's recordings that Redis knows
and those that only the catalogue knows. While archive or catalogue are away, the obligation waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from worker import wire
from worker.archive import fact_files, facts
from worker.archive.facts import Fact, FactKind
from worker.calls import consent, restriction
from worker.calls.call import Call, Phase, Recording
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty
from worker.calls.planner import plan
from worker.calls.replay import replay
from worker.calls.stop_state import judge
from worker.calls.timing import index_at
from worker.catalogue.rebuild import row_of
from worker.catalogue.rows import Row
from worker.duties import trials
from worker.duties.leases import LeaseKeeper
from worker.duties.outcomes import do_or_report, kept_for, obligation, tell, wait_until
from worker.duties.worker import Worker
from worker.errors import EndtapeError, Gone, LedgerUnavailable, StaleLease, Unstored
from worker.governing.facts import write
from worker.ledger.codec import from_ms, to_ms
from worker.ledger.obligations import Claim, Commit, Loaded

log = structlog.get_logger()
_AGAIN = timedelta(seconds=30)
_SAID = (Kind.CONSENT_GIVEN, Kind.CONSENT_WITHDRAWN)


class _SaidAlready(EndtapeError):
    """The archive says so: another worker wrote it meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Filed:
    """What the archive says of one recording."""

    account: str
    recording_id: str
    key: str
    receipt: Mapping[str, Any]
    known: Sequence[Fact]


def files(worker: Worker, claims: Sequence[Claim]) -> None:
    """Tell the archive about the claimed calls, one after the other. Raises LedgerUnavailable."""
    for claim in claims:
        now, (loaded,) = worker.ledger.load([claim])
        if loaded is not None:
            work = partial(_work, worker, claim, loaded, now)
            do_or_report(worker, claim, work, "the archive cannot be told of a consent")


def _work(worker: Worker, claim: Claim, loaded: Loaded, now: datetime) -> None:
    if trials.on_this_machine("archive") in worker.ledger.degraded():
        _wait(worker, claim, loaded, now)  # an archive that hangs holds no slot
        return
    owed = claim.obligation
    call = replay(owed.account, owed.call_uuid, loaded.events)
    with LeaseKeeper(worker.ledger, claim) as check_lease:
        try:
            events = [
                _of_live(worker, call, recording, now)
                for recording in call.recordings.values()
                if recording.archived and not recording.erasing
            ]
            _of_past(worker, call, now)
        except (LedgerUnavailable, StaleLease):
            raise
        except (OSError, EndtapeError, ValueError, KeyError, TypeError) as error:
            worker.alert(
                "facts_wait", account=call.account, call_uuid=call.call_uuid, error=str(error)
            )
            if isinstance(error, (OSError, Unstored)) and not isinstance(error, FileNotFoundError):
                trials.no_room(worker.ledger, worker.settings, error)
            _wait(worker, claim, loaded, now)
            return
        check_lease()
    _commit(worker, claim, loaded, call, [event for event in events if event], now)


def _wait(worker: Worker, claim: Claim, loaded: Loaded, now: datetime) -> None:
    """Until the archive takes files again, or half a minute."""
    worker.ledger.wait_for_archive(claim.obligation)
    wait_until(worker, claim, loaded, now + _AGAIN)


def _commit(
    worker: Worker,
    claim: Claim,
    loaded: Loaded,
    call: Call,
    events: Sequence[Event],
    now: datetime,
) -> None:
    """The archive has been told of what is known now; when to come back is what the plan says."""
    after = replay(call.account, call.call_uuid, [*call.events, *events])
    what = plan(after, worker.settings.rules, now, generation=worker.generation or 0)
    is_over = not (what.plan_at or what.look_at or what.facts_at or any(what.fetch_at.values()))
    index = [(obligation(call, Duty.INDEX), index_at(now))] if events else []
    commit = Commit(
        claim=claim,
        events=events,
        seen=loaded.size,
        dues=((claim.obligation, what.facts_at), *index),
        keep=kept_for(worker, call) if is_over else None,
    )
    ids = worker.ledger.commit([commit])[0]
    if ids is not None:
        tell(worker, [(call, [event for event in events if event.id in ids])])


def _of_live(worker: Worker, call: Call, recording: Recording, now: datetime) -> Event | None:
    """Write what the archive lacks of a recording that Redis knows. Returns the event that it is
    told; None where it was.
    """
    assert recording.archived is not None
    limits = restriction.limits_of(recording, worker.settings.rules.choose(call)[1])
    stop = judge(call, recording, worker.settings.rules, now)
    reasons = restriction.restricted_by(call, recording, limits, stop, now)
    if restriction.is_filed(call, recording, reasons):
        return None
    filed = _filed(worker, call.account, recording.recording_id, recording.archived.archive_key)
    _write(worker, call, filed, _statements(filed, call), reasons)
    return Event(
        id=f"facts.{recording.recording_id}.{to_ms(now)}",
        kind=Kind.FACTS_FILED,
        call_uuid=call.call_uuid,
        at=now,
        recording_id=recording.recording_id,
        digest=restriction.digest(call, reasons),
    )


def _of_past(worker: Worker, call: Call, now: datetime) -> None:
    """Write what the archive lacks of the call's recordings that only the catalogue knows, and
    enter their rows anew.
    """
    if not call.consents:
        return
    rows = list[Row]()
    for row in worker.catalogue.of_call(call.call_uuid, call.account):
        if row.id[1] in call.recordings or row.view["phase"] != Phase.ARCHIVED:
            continue
        filed = _filed(worker, *row.id, row.key)
        said = _statements(filed, call)
        _write(worker, call, filed, said, _restricted_by(call, filed, said, now))
        rows += [new] if (new := row_of(worker.archive, row.key)) else []
    worker.catalogue.enter(rows)


def _filed(worker: Worker, account: str, recording_id: str, key: str | None) -> _Filed:
    return _Filed(
        account=account,
        recording_id=recording_id,
        key=key or "",
        receipt=worker.archive.read_receipt(key or ""),
        known=fact_files.read_all(worker.archive.store, account, recording_id),
    )


def _statements(filed: _Filed, call: Call) -> list[dict[str, Any]]:
    """Every statement about consent, those of the archive and those of the call, by their own
    instants and without telephone numbers.
    """
    known = [*facts.statements(filed.receipt, filed.known), *map(consent.statement, call.consents)]
    plain = [consent.without_numbers(said) for said in known]
    once = [said for number, said in enumerate(plain) if said not in plain[:number]]
    return sorted(once, key=lambda said: consent.of_statement(said).at)


def _restricted_by(
    call: Call, filed: _Filed, said: Sequence[Mapping[str, Any]], now: datetime
) -> tuple[str, ...]:
    """Why a recording of which Redis knows nothing is restricted, by the limits in its receipt."""
    before = facts.restricted_by(filed.receipt, filed.known)
    limits = filed.receipt.get("restriction") or {}
    needed_by = wire.parse_rfc3339(limits.get("consent_by"))
    started_at = wire.parse_rfc3339(filed.receipt.get("started_at"))
    if needed_by is None or started_at is None:
        return tuple(before)
    known = Call(
        account=call.account,
        call_uuid=call.call_uuid,
        consents=tuple(map(consent.of_statement, said)),
    )
    lacks_from = consent.lacks_from(known, started_at, needed_by)
    lacks = [restriction.NO_CONSENT] if lacks_from and lacks_from <= now else []
    return (*lacks, *(why for why in before if why != restriction.NO_CONSENT))


# Writing
# --------------------------------------------------------------------------------------------------


def _write(
    worker: Worker,
    call: Call,
    filed: _Filed,
    said: Sequence[dict[str, Any]],
    reasons: Sequence[str],
) -> None:
    """Write the facts that the archive lacks, and sign what a process left unsigned that died."""
    if worker.archive.signer and not all(fact.signed for fact in filed.known):
        fact_files.sign_all(worker.archive.store, worker.archive.signer, filed.known)
    stands = [consent.without_numbers(one) for one in facts.statements(filed.receipt, filed.known)]
    if said and list(said) != stands:
        _add(worker, filed, _consent(worker, call, filed, said))
    if sorted(reasons) != sorted(facts.restricted_by(filed.receipt, filed.known)):
        _add(worker, filed, _restriction(worker, call, filed, reasons))


def _consent(worker: Worker, call: Call, filed: _Filed, said: Sequence[dict[str, Any]]) -> Fact:
    told = next((event.by for event in reversed(call.events) if event.kind in _SAID), None)
    return Fact(
        account=filed.account,
        recording_id=filed.recording_id,
        kind=FactKind.CONSENT,
        at=_now(worker),
        who=told or "api",
        particulars={**said[-1], "statements": list(said)},
    )


def _restriction(worker: Worker, call: Call, filed: _Filed, reasons: Sequence[str]) -> Fact:
    return Fact(
        account=filed.account,
        recording_id=filed.recording_id,
        kind=FactKind.RESTRICTED,
        at=_now(worker),
        who=f"rule:{worker.settings.rules.choose(call)[0]}",
        reason=", ".join(reasons) or None,
        particulars={"on": bool(reasons), "restricted_by": list(reasons)},
    )


def _now(worker: Worker) -> datetime:
    return from_ms(to_ms(worker.ledger.now()))  # as exactly as it is written


def _add(worker: Worker, filed: _Filed, fact: Fact) -> None:
    """Write a fact, unless another worker wrote the same meanwhile, or the recording is being
    erased.
    """

    def may(known: list[Fact]) -> None:
        last = facts.last_of(known, fact.kind)
        if last and last.signed and last.particulars == fact.particulars:
            raise _SaidAlready

    try:
        write(worker, fact, may, key=filed.key)
    except _SaidAlready:
        return
    except Gone:
        log.info("it is being erased: no fact is written", recording_id=filed.recording_id)
