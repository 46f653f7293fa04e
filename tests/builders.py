"""What many tests make."""

from datetime import timedelta

from tests.constants import ACCOUNT
from worker.calls.obligations import Duty, Obligation
from worker.ledger.client import Ledger


def obligation(duty, call_uuid, recording_id=None, account=ACCOUNT):
    return Obligation(duty=duty, account=account, call_uuid=call_uuid, recording_id=recording_id)


def with_leases(ledger, *, seconds):
    """The same ledger, seen by a process whose leases have this length."""
    leases = dict.fromkeys(Duty, timedelta(seconds=seconds))
    return Ledger(ledger.redis, ledger.prefix, leases=leases)
