"""One notice to one endpoint: sent when it is due, and what came of it noted.

Where a worker dies between an answer and its note, the notice is sent again, under the same id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from worker import wire
from worker.calls import notices
from worker.calls.call import Call
from worker.calls.notices import Endpoint, Notice
from worker.calls.rules import Rules
from worker.calls.views import call_view, recording_view, rfc3339
from worker.duties import operators_command
from worker.duties.worker import Worker
from worker.ledger.notices import Failing, Tries
from worker.vobiz import webhook
from worker.vobiz.webhook import Outcome

log = structlog.get_logger()
_DOWN = timedelta(seconds=5)  # so long an endpoint is left alone after its first failure
_DOWN_MOST = timedelta(seconds=60)
_DOWN_LOOK = timedelta(minutes=15)
_NUMBERS = {"from", "to"}
_WRITTEN = {"reason", "what", "claimed", "by", "evidence"}  # people may have written a number there
_UNTRIED = "it did not answer others, and this one was not tried"


@dataclass(slots=True)
class Work:
    """The notices of one call, and when to come back. `data`: what a notice says. `check`: raises
    where the work is another worker's by now. `hands_on`: the recording that is handed on, where
    that is what it is about.
    """

    worker: Worker
    account: str
    call_uuid: str
    notices: list[Notice]
    data: Callable[[Notice, Endpoint], dict[str, Any]]
    now: datetime
    check: Callable[[], None] = lambda: None
    hands_on: str | None = None
    waits: list[datetime] = field(default_factory=list)


def wanted(
    work: Work, endpoint: Endpoint, since: datetime, state: dict[str, Tries | None]
) -> Iterator[Notice]:
    """The notices that an endpoint asked for, and that neither arrived nor were given up."""
    for notice in work.notices:
        if notice.type in endpoint.events and notice.at >= since:
            name = f"{endpoint.name} {notice.id}"
            tries = state.get(name)
            is_over = name in state and (tries is None or tries.given_up)
            if not is_over:
                yield notice


def try_notice(
    work: Work, endpoint: Endpoint, notice: Notice, state: dict[str, Tries | None]
) -> bool:
    """Send one notice if it is due. True if nothing is left to do for it."""
    ledger, now = work.worker.ledger, work.now
    name = f"{endpoint.name} {notice.id}"
    before = state.get(name) or Tries(count=0, first_at=now, why="")
    due_at = notices.next_try(before.count, before.first_at)
    if due_at and due_at > now:
        work.waits.append(due_at)
        return False
    if down := ledger.down_until(endpoint.name):
        return _while_down(work, endpoint, notice, before, down)
    outcome = _send(work, endpoint, notice)
    if outcome.arrived:
        ledger.note(work.account, work.call_uuid, {name: None})
        ledger.note_arrived(work.account, work.call_uuid, [name])
        ledger.count({f"notifications_total|{notice.type}": 1})
        log.info(
            "handed on" if work.hands_on else "notified",
            type=notice.type,
            call_uuid=work.call_uuid,
            id=notice.id,
        )
        return True
    return _failed(work, endpoint, notice, before, outcome)


def _failed(
    work: Work, endpoint: Endpoint, notice: Notice, before: Tries, outcome: Outcome
) -> bool:
    ledger = work.worker.ledger
    tries = replace(before, count=before.count + 1, why=outcome.why or "")
    next_at = notices.next_try(tries.count, tries.first_at)
    if outcome.is_refused_for_good or next_at is None:
        tries = replace(tries, given_up=True)
    else:
        work.waits.append(next_at)
    _note(work, endpoint, notice, tries)
    ledger.count({f"notifications_failed_total|{notice.type}": 1})
    if outcome.is_down:
        ledger.set_down(endpoint.name, min(_DOWN * 2 ** min(before.count, 10), _DOWN_MOST))
    return tries.given_up


def _while_down(
    work: Work, endpoint: Endpoint, notice: Notice, before: Tries, down: timedelta
) -> bool:
    """Leave an endpoint alone that does not answer. The three days of a notice begin all the same,
    so that one that was never tried in them is listed as lost, too.
    """
    if work.now - before.first_at >= notices.TRIED_FOR:
        _note(work, endpoint, notice, replace(before, why=before.why or _UNTRIED, given_up=True))
        return True
    if not before.count and not before.why:
        untried = replace(before, why=_UNTRIED)
        name = f"{endpoint.name} {notice.id}"
        work.worker.ledger.note(work.account, work.call_uuid, {name: untried})
    # Of thousands that wait for days, each is looked at the less often the longer it waits.
    work.waits.append(work.now + max(down, min((work.now - before.first_at) / 10, _DOWN_LOOK)))
    return False


def _note(work: Work, endpoint: Endpoint, notice: Notice, tries: Tries) -> None:
    """Note failed tries where a person looks for them, with an alert where they were the last."""
    ledger = work.worker.ledger
    ledger.note(work.account, work.call_uuid, {f"{endpoint.name} {notice.id}": tries})
    ledger.note_failing(
        Failing(
            account=work.account,
            call_uuid=work.call_uuid,
            endpoint=endpoint.name,
            notice=notice.id,
            type=notice.type,
            url=endpoint.shown,
            tries=tries.count,
            why=tries.why,
            given_up=tries.given_up,
            hands_on=work.hands_on,
        )
    )
    if tries.given_up:
        work.worker.alert("notification_lost", call_uuid=work.call_uuid, why=tries.why)


def _send(work: Work, endpoint: Endpoint, notice: Notice) -> Outcome:
    """Raises StaleLease where a command runs on after the work became another worker's."""
    said, worker = work.data(notice, endpoint), work.worker
    if endpoint.command:
        facts = operators_command.facts_of(said, notice.id, worker.settings.public_url)
        return operators_command.run(
            endpoint.command,
            json.dumps(said, ensure_ascii=False),
            facts,
            endpoint.within,
            work.check,
        )
    body = {"type": notice.type, "timestamp": rfc3339(notice.at), "data": said}
    return webhook.send(
        endpoint, notice.id, json.dumps(body, ensure_ascii=False), worker.ledger.now()
    )


# What a notice says
# ------------------------------------------------------------------------------------------------


def recording_or_call(
    call: Call, rules: Rules, now: datetime, notice: Notice, endpoint: Endpoint
) -> dict[str, Any]:
    """The recording or the call as `/v1` shows it, with numbers only where the endpoint gets
    them.
    """
    recording = call.recordings.get(notice.subject or "")
    view = recording_view(call, recording, rules, now) if recording else call_view(call, rules, now)
    facts = {"from": call.from_number, "to": call.to_number, "direction": call.direction}
    whole = {**facts, **view}
    return whole if endpoint.numbers else without_numbers(whole)


def without_numbers(value: Any) -> Any:
    """The same without telephone numbers, also in what people wrote."""
    if isinstance(value, dict):
        return {
            n: wire.without_numbers(v)
            if n in _WRITTEN and isinstance(v, str)
            else without_numbers(v)
            for n, v in value.items()
            if n not in _NUMBERS
        }
    if isinstance(value, list):
        return [without_numbers(v) for v in value]
    return value
