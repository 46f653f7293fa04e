"""The duty HAND_ON: tell whoever the rule names that a recording is home.

The obligation is put down in the commit that says that the file is archived, and stays until the
address or the command took it, or three days are over: the guarantees of notifications. A command
that was interrupted is run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from worker.calls import notices
from worker.calls.replay import replay
from worker.duties import telling
from worker.duties.leases import LeaseKeeper
from worker.duties.outcomes import do_or_report, wait_until
from worker.duties.telling import Work
from worker.duties.worker import Worker
from worker.errors import Ending
from worker.ledger.obligations import Claim, Loaded


def hands_on(worker: Worker, claims: Sequence[Claim]) -> None:
    """Hand on what is claimed, one recording after the other. Raises LedgerUnavailable."""
    for claim in claims:
        now, (loaded,) = worker.ledger.load([claim])
        if loaded is not None:
            work = partial(_hand_on, worker, claim, loaded, now)
            do_or_report(worker, claim, work, "a recording cannot be handed on")


def _hand_on(worker: Worker, claim: Claim, loaded: Loaded, now: datetime) -> None:
    owed = claim.obligation
    call = replay(owed.account, owed.call_uuid, loaded.events)
    recording = call.recordings.get(owed.recording_id or "")
    wanted = worker.settings.rules.choose(call)[1].after_archive
    if recording is None or recording.archived is None or recording.erasing or wanted is None:
        wait_until(worker, claim, loaded, None)
        return
    endpoint = worker.settings.hand_ons[wanted]
    notice = notices.handed_on(call, recording.archived)
    with LeaseKeeper(worker.ledger, claim) as check_lease:

        def check() -> None:
            check_lease()
            if worker.ending():  # the command ends with this process, and another one begins anew
                raise Ending(str(owed))

        work = Work(
            worker=worker,
            account=owed.account,
            call_uuid=owed.call_uuid,
            notices=[notice],
            data=partial(telling.recording_or_call, call, worker.settings.rules, now),
            now=now,
            check=check,
            hands_on=owed.recording_id,
        )
        state = worker.ledger.notices(owed.account, owed.call_uuid)
        try:
            for one in telling.wanted(work, endpoint, notice.at, state):
                telling.try_notice(work, endpoint, one, state)
        except Ending:
            work.waits.append(now)
        check_lease()
    wait_until(worker, claim, loaded, min(work.waits, default=None))
