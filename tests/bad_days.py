"""Recordings that end on bad days, and failures that seem older than they are."""

from tests import redis_view
from tests.constants import ACCOUNT
from worker.calls.events import Kind


def ended(house, *, seconds=0, days_ago=0, fault=None, container="mp3", **params):
    """A recording that ended by itself, of about that many seconds, so long ago, on a day as bad as
    that."""
    call = house.provider.call()
    if fault:
        house.provider.faults.switch_on(fault, call_uuid=call.call_uuid, **params)
    recording = house.provider.record(call.call_uuid, container=container)
    house.provider.faults.switch_on("slow-finalise", call_uuid=call.call_uuid, seconds=0.2)
    recording.started_at -= seconds + 86400 * days_ago
    house.provider.end(recording.recording_id, "FinishedOnKey")
    recording.ended_at -= 86400 * days_ago
    return call.call_uuid, recording


def failures(house, call_uuid):
    return [e for e in house.ledger.events(ACCOUNT, call_uuid) if e.kind is Kind.FETCH_FAILED]


def made_older(ledger, call_uuid, kind, by):
    """As if events of that kind had been recorded earlier: the ledger's own clock cannot be put
    forward."""
    lines = []
    for line in redis_view.log_of(ledger, ACCOUNT, call_uuid).splitlines():
        event_id, at, rest = line.split(" ", 2)
        older = (
            int(at) - round(by.total_seconds() * 1000) if f'"k":"{kind.value}"' in rest else int(at)
        )
        lines.append(f"{event_id} {older} {rest}\n")
    redis_view.set_log(ledger, ACCOUNT, call_uuid, "".join(lines))
