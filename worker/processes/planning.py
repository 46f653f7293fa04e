"""Claims and plans calls in a thread of a child of `stops`, which blocks on hints in Redis.

Stops take this way because the other one, by clock, broker and Celery's parent, costs 12 ms and as
many processor ms as the stop itself. A hint carries nothing: whoever takes it claims what is due,
under the same leases as everywhere. Where a hint is lost, a clock gives the next one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from worker import logs
from worker.calls.obligations import Duty
from worker.duties.plan_calls import plan_calls, plan_loaded
from worker.errors import EndtapeError
from worker.ledger.dues import Hint
from worker.ledger.obligations import Claimed
from worker.processes import draining
from worker.processes.batches import LEAD, batches, tell_of_poison
from worker.processes.settings_in_force import (
    FollowingWorker,
    following_worker,
    warn_redis_is_away,
)

log = structlog.get_logger()
# Calls in a batch. With more, a machine that can hardly keep up would need longer for a batch than
# its lease.
MOST = 50
MOST_OUTSTANDING = 1200  # of all workers; even a slow machine begins so many within their leases
COMPANY_S = 0.004  # so long callbacks and looks wait for others: a batch costs as much as ten calls
_LISTEN_S = 1.0
_REDIS_IS_AWAY_S = 0.2
_END_S = 3.0  # a batch waits 0.1 s for its instant and 0.1 s for answers


class Planning:
    """One for each child."""

    def __init__(self, own: Callable[[], FollowingWorker] = following_worker) -> None:
        self._own = own
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="planning", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Takes no more hints, and returns when what is claimed is done."""
        self._ending.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        while not self._ends():
            try:
                self._turn(self._own())
            except EndtapeError as error:
                # Nothing is lost: the leases run out.
                warn_redis_is_away(error)
                self._ending.wait(_REDIS_IS_AWAY_S)
            except Exception as error:
                if logs.seldom("planning", error):
                    log.exception("calls could not be planned; their leases bring them back")
                self._ending.wait(_REDIS_IS_AWAY_S)

    def _ends(self) -> bool:
        return self._ending.is_set() or bool(draining.since_s())

    def _turn(self, own: FollowingWorker) -> None:
        ledger = own.ledger
        hint = ledger.wait_for_hint(_LISTEN_S)
        if hint is None:
            return
        if hint is Hint.SOON:
            self._ending.wait(COMPANY_S)
        if self._ends():
            ledger.hint()  # for another child
            return
        claimed = ledger.claim(lead=LEAD, batch=MOST, free={Duty.PLAN: MOST_OUTSTANDING})
        self._plan(own, claimed)

    def _plan(self, own: FollowingWorker, claimed: Claimed) -> None:
        worker = own.current(claimed.generation)
        begun = [claim for claim in claimed.claims if claim.loaded]
        plan_loaded(worker, begun, [claim.loaded for claim in begun], claimed.now)
        tell_of_poison(own.ledger, claimed.claims)
        for batch in batches([c for c in claimed.claims if not c.loaded], MOST):
            plan_calls(worker, batch)
