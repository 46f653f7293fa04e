"""Warns before the provider deletes a recording that is not home."""

from __future__ import annotations

from datetime import datetime

from worker.calls import timing
from worker.calls.call import Call, Recording
from worker.calls.fetch_times import kept_until
from worker.calls.views import rfc3339
from worker.duties.worker import Worker


def warn(worker: Worker, call: Call, recording: Recording, now: datetime) -> None:
    """Raise the alert `provider_deletes_soon`, once when 7 days are left and once when 2 are.

    Called whenever somebody looks after the recording, which is at least once a day. Raises
    LedgerUnavailable.
    """
    until = kept_until(call, recording)
    if recording.archived or recording.gave_up or until is None or now >= until:
        return
    passed = [before for before in timing.WARN_BEFORE_DELETION if now >= until - before]
    if passed and worker.ledger.once_per(
        "leaving",
        f"{call.account}.{recording.recording_id}.{min(passed).days}",
        every=timing.KEPT_BY_PROVIDER,
    ):
        worker.alert(
            "provider_deletes_soon",
            account=call.account,
            call_uuid=call.call_uuid,
            recording_id=recording.recording_id,
            days_left=(until - now).days,
            keeps_until=rfc3339(until),
            problem=recording.failures[-1].reason if recording.failures else None,
        )
