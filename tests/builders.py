"""What many tests make."""

from datetime import timedelta

from tests.constants import ACCOUNT
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty, Obligation
from worker.ledger.client import Ledger


def obligation(duty, call_uuid, recording_id=None, account=ACCOUNT):
    return Obligation(duty=duty, account=account, call_uuid=call_uuid, recording_id=recording_id)


def with_leases(ledger, *, seconds):
    """The same ledger, seen by a process whose leases have this length."""
    leases = dict.fromkeys(Duty, timedelta(seconds=seconds))
    return Ledger(ledger.redis, ledger.prefix, leases=leases)


def started(event_id="e1", call="c", recording="r"):
    """A recording of the account MA_1 began, as a signed callback reports it."""
    return Event(
        id=event_id,
        kind=Kind.RECORDING_STARTED,
        call_uuid=call,
        signed=True,
        recording_id=recording,
        url=f"https://media.vobiz.ai/v1/Account/MA_1/Recording/{recording}.mp3",
        format="mp3",
        to_number="91",
    )
