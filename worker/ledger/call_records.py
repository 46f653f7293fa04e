"""The answered calls that a rule wants recorded, by the provider's call records (CDRs).

{endtape}:cdrs:ACCOUNT:DAY  hash    call → when it ended (ms), numbers, direction, its other leg;
                                    `.read` → until when (ms) the day's records were read
{endtape}:cdrs-at:ACCOUNT   string  how far the reading has come, as JSON

A call belongs to the UTC day on which it was answered. The hash expires with `ENDTAPE_HISTORY`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from worker.calls.completeness import AnsweredCall
from worker.ledger.client import Ledger
from worker.ledger.codec import from_ms, to_ms
from worker.ledger.store import as_dict, span_ms

_READ = ".read"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far the reading of an account's records has come: the next page of those since the day
    `first`. `began_at` None: no round is under way.
    """

    began_at: datetime | None = None
    first: date | None = None
    page: int = 1
    problem: str | None = None  # why the last step failed


def note(
    ledger: Ledger, day: date, calls: Iterable[AnsweredCall], account: str, keep: timedelta
) -> None:
    """Notes calls of a day. Harmless to repeat."""
    key = _key(ledger, account, day)
    with ledger.pipeline() as pipe:
        for call in calls:
            told = [to_ms(call.ended_at), call.from_number, call.to_number]
            pipe.hset(key, call.call_uuid, json.dumps([*told, call.direction, call.bridge]))
        pipe.pexpire(key, span_ms(keep))


def note_read(ledger: Ledger, account: str, day: date, until: datetime, keep: timedelta) -> None:
    """Notes that every record of the day that there was at `until` is noted."""
    key = _key(ledger, account, day)
    with ledger.pipeline() as pipe:
        pipe.hset(key, _READ, to_ms(until))
        pipe.pexpire(key, span_ms(keep))


def of_day(ledger: Ledger, account: str, day: date) -> tuple[list[AnsweredCall], datetime | None]:
    """The calls of a day, and until when its records were read; None: never whole."""
    stored = as_dict(ledger.command("HGETALL", _key(ledger, account, day)))
    read = stored.pop(_READ, None)
    return [_call(account, i, text) for i, text in stored.items()], from_ms(
        int(read)
    ) if read else None


def read_to(ledger: Ledger, account: str, day: date) -> datetime | None:
    """Until when the records of a day were read; None: never whole."""
    read = ledger.command("HGET", _key(ledger, account, day), _READ)
    return from_ms(int(read)) if read else None


def progress(ledger: Ledger, account: str) -> Progress:
    text = ledger.command("GET", ledger.key("cdrs-at", account))
    if not text:
        return Progress()
    began_ms, first, page, problem = json.loads(text)
    return Progress(
        began_at=from_ms(began_ms) if began_ms else None,
        first=date.fromisoformat(first) if first else None,
        page=page,
        problem=problem,
    )


def set_progress(ledger: Ledger, account: str, given: Progress) -> None:
    began_ms = to_ms(given.began_at) if given.began_at else None
    first = given.first.isoformat() if given.first else None
    told = [began_ms, first, given.page, given.problem]
    ledger.command("SET", ledger.key("cdrs-at", account), json.dumps(told))


def _key(ledger: Ledger, account: str, day: date) -> str:
    return ledger.key("cdrs", account, day.isoformat())


def _call(account: str, call_uuid: str, text: str) -> AnsweredCall:
    ended_ms, from_number, to_number, direction, bridge = json.loads(text)
    return AnsweredCall(
        account=account,
        call_uuid=call_uuid,
        ended_at=from_ms(ended_ms),
        from_number=from_number,
        to_number=to_number,
        direction=direction,
        bridge=bridge,
    )
