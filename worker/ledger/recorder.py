"""Records what an event loop hands over, in groups: one thread sends all that wait in one round
trip, and each is answered after its own reply.

With `appendfsync always` Redis syncs once for all that it was sent at once, so a group costs no
more waiting for the disk than one callback, and nothing is less durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, SimpleQueue

import structlog

from worker.errors import LedgerUnavailable
from worker.ledger.recording import Recorded, Recording, Report

log = structlog.get_logger()
MOST_WAITING = 2000  # 64 KiB each at most; at 2,000 a second Redis may pause for a second
PATIENCE_S = 0.8  # a sender is answered within a second
_TOGETHER_S = 0.05
_GROUP = 200  # Redis answers so many in a tenth of the time that it has for an answer

Outcome = tuple[Recorded, datetime] | Exception


@dataclass(frozen=True, slots=True)
class _Waiting:
    report: Report
    answer: asyncio.Future[Outcome]


class Recorder:
    """One for each event loop. Its thread begins with the first report, so never before a fork.

    `most`: how many reports may wait for their turn. `patience_s`: how long one may wait for its
    reply.
    """

    def __init__(
        self, ledger: Recording, *, most: int = MOST_WAITING, patience_s: float = PATIENCE_S
    ) -> None:
        self._ledger, self._most, self._patience_s = ledger, most, patience_s
        self._queue: SimpleQueue[_Waiting] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._together: list[asyncio.Future[Outcome]] = []
        self._together_until = 0.0  # by the loop's clock

    async def record(self, report: Report) -> Recorded:
        """What became of a report, once Redis has answered for it.

        Raises LedgerUnavailable if it refuses, if it does not answer in time, or if too many wait:
        the report may have been written or not.
        """
        if self._queue.qsize() >= self._most:
            raise LedgerUnavailable(f"{self._most} callbacks wait for Redis already")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcome] = loop.create_future()
        self._queue.put(_Waiting(report, answer))
        self._see_to_thread()
        self._limit(answer, loop)
        outcome = await answer
        if isinstance(outcome, Exception):
            raise outcome
        return outcome[0]

    def _limit(self, answer: asyncio.Future[Outcome], loop: asyncio.AbstractEventLoop) -> None:
        """Settles an answer when the patience with it ends."""
        # One timer for all that come within _TOGETHER_S: one for each costs 7 µs.
        now = loop.time()
        if now >= self._together_until:
            self._together, self._together_until = [], now + _TOGETHER_S
            loop.call_at(now + self._patience_s, _give_up, self._together)
        self._together.append(answer)

    def _see_to_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            # Nobody waits any more for an answer that came too late: its sender comes again.
            group = [w for w in self._next_group() if not w.answer.done()]
            if group:
                outcomes = self._outcomes([waiting.report for waiting in group])
                answers = [waiting.answer for waiting in group]
                with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                    answers[0].get_loop().call_soon_threadsafe(_settle, answers, outcomes)

    def _next_group(self) -> list[_Waiting]:
        group = [self._queue.get()]
        with contextlib.suppress(Empty):
            while len(group) < _GROUP:
                group.append(self._queue.get_nowait())
        return group

    def _outcomes(self, reports: Sequence[Report]) -> Sequence[Outcome]:
        try:
            return self._ledger.record_each(reports)
        except LedgerUnavailable as error:
            return [error] * len(reports)
        except Exception as error:  # a fault of ours: one report must not spoil the others
            log.exception("callbacks could not be recorded together", count=len(reports))
            if len(reports) == 1:
                return [error]
            return [outcome for report in reports for outcome in self._outcomes([report])]


def _give_up(answers: Sequence[asyncio.Future[Outcome]]) -> None:
    _settle(answers, [LedgerUnavailable("Redis did not answer in time")] * len(answers))


def _settle(answers: Sequence[asyncio.Future[Outcome]], outcomes: Sequence[Outcome]) -> None:
    for answer, outcome in zip(answers, outcomes, strict=True):
        if not answer.done():  # else its sender was answered already, or has gone
            answer.set_result(outcome)
