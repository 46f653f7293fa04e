"""A batch of claimed calls: what each call's log says, what follows from it, and its commit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import structlog

from worker.calls import planner, timing
from worker.calls.call import Call, Handoff, Start
from worker.calls.events import Event, Kind
from worker.calls.history import stops_by_rules
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.calls.replay_answers import replay_on
from worker.calls.stop_requests import Send
from worker.duties.outcomes import kept_for, notices_due, obligation, tell
from worker.duties.worker import Worker
from worker.errors import LedgerUnavailable
from worker.ledger.obligations import Claim, Commit, Loaded
from worker.vobiz.client import StopOutcome

log = structlog.get_logger()
# Claims come a little early, so that each request leaves on time.
HORIZON = timedelta(milliseconds=95)
# A plan follows a decision at once, or when an outage ends. To find that all is told is cheap.
_LATELY = timedelta(days=1)
LATENESS_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.0, 15.0, 60.0)


@dataclass(frozen=True, slots=True)
class SentStop:
    """A stop that left at `requested_at` by Redis's clock."""

    send: Send
    requested_at: datetime
    outcome: Future[StopOutcome]


@dataclass(slots=True)
class Work:
    """One claimed call on its way through a batch."""

    claim: Claim
    loaded: Loaded
    call: Call
    plan: planner.Plan
    found: list[Event] = field(default_factory=list)  # to be recorded with the commit
    replayed: int = 0  # how many of these `call` includes
    sends: list[Send] = field(default_factory=list)  # stops that may leave
    once: list[Start | Handoff] = field(default_factory=list)  # what may go out only once
    sent: list[SentStop] = field(default_factory=list)
    sent_once: list[Future[list[Event]]] = field(default_factory=list)
    retry_at: datetime | None = None  # something due could not be sent now
    late_s: list[float] = field(default_factory=list)
    broken: bool = False  # by a fault of ours: nothing is recorded

    @property
    def requests(self) -> list[Send | Start | Handoff]:
        return [*self.sends, *self.once]

    @property
    def unanswered(self) -> set[Future[Any]]:
        """The requests under way."""
        answers: list[Future[Any]] = [*(stop.outcome for stop in self.sent), *self.sent_once]
        return {answer for answer in answers if not answer.done()}

    @property
    def was_accepted(self) -> bool:
        """Whether the provider accepted our credentials for one of its stops."""
        return any(e.kind in {Kind.STOP_ACCEPTED, Kind.CALL_FOUND_OVER} for e in self.found)

    def retry_by(self, instant: datetime) -> None:
        """Come back at this instant at the latest."""
        self.retry_at = min(self.retry_at or instant, instant)


class Batch:
    """Claimed calls that were loaded together at `now`, by Redis's clock."""

    def __init__(self, worker: Worker, now: datetime) -> None:
        self.worker = worker
        self.generation = worker.generation  # of the settings that all of this is planned with
        self.halted: set[str] = set()  # accounts that were halted just before a stop of theirs left
        self._ahead_s = now.timestamp() - time.time()  # Redis's clock against ours

    def now(self) -> datetime:
        """The instant by Redis's clock."""
        return self.at(time.time())

    def at(self, our_time: float) -> datetime:
        """The instant of Redis's clock for one of `time.time()`."""
        return datetime.fromtimestamp(our_time + self._ahead_s, UTC)

    def begin(self, claim: Claim, loaded: Loaded, now: datetime) -> Work | None:
        """The work for a call; None, with an alert, for one that cannot be planned.

        Such a call is a fault of ours and must not hold up the others. Its claim stays open: the
        ledger counts the unfinished try, and hands the call out less and less often.
        """
        owed = claim.obligation
        try:
            call = replay(owed.account, owed.call_uuid, loaded.events)
            work = Work(claim=claim, loaded=loaded, call=call, plan=planner.Plan())
            self._think(work, now, HORIZON)
        except Exception:
            log.exception("a call cannot be planned", obligation=str(owed))
            self.worker.alert("poison", account=owed.account, call_uuid=owed.call_uuid)
            return None
        return work

    def _think(self, work: Work, at: datetime, horizon: timedelta) -> None:
        """Plan the call, take the plan's conclusions as recorded, and plan again until nothing new
        follows. Adds those conclusions to `found`.
        """
        rules = self.worker.settings.rules
        while True:
            new = work.found[work.replayed :]
            if new:
                work.call, work.replayed = replay_on(work.call, new), len(work.found)
            work.plan = planner.plan(
                work.call, rules, at, horizon=horizon, generation=self.generation or 0
            )
            known = {event.id for event in work.found}
            follows = [replace(e, at=at) for e in work.plan.conclusions if e.id not in known]
            if not follows:  # a conclusion can repeat when Redis's clock goes back
                return
            work.found.extend(follows)

    def finish(self, works: Sequence[Work]) -> None:
        """Record what was found for these calls, and when each is due next.

        Where one of them cannot be recorded, its lease brings it back, and the others are recorded.
        """
        ready = [(work, commit) for work in works if (commit := self._commit(work))]
        outcomes = self.worker.ledger.commit_each([commit for _, commit in ready])
        recorded, counts = [], dict[str, float]()
        for (work, commit), ids in zip(ready, outcomes, strict=True):
            if isinstance(ids, LedgerUnavailable):
                self._complain(work, "redis did not take what was found for a call", error=str(ids))
            elif ids is not None:
                recorded.append((work.call, [e for e in commit.events if e.id in ids]))
                _count_lateness(counts, work.late_s)
        tell(self.worker, recorded, counts)

    def _commit(self, work: Work) -> Commit | None:
        """What to record of a call, with what follows from the answers; None for a broken one."""
        if work.broken:
            return None
        try:
            if work.requests:
                self._think(work, self.now(), timedelta(0))
            plan, call = work.plan, work.call
            dues: list[tuple[Obligation, datetime | None]] = [
                (work.claim.obligation, self._due_again(work)),
                (obligation(call, Duty.LOOK), plan.look_at),
            ]
            dues += [
                (obligation(call, Duty.FETCH, r), timing.fetch_at(t) if t else None)
                for r, t in plan.fetch_at.items()
            ]
            if plan.facts_at:  # what else makes it due is not taken back
                dues.append((obligation(call, Duty.FACTS), plan.facts_at))
            again: list[tuple[Obligation, Literal["now"]]] = [
                (obligation(call, Duty.ERASE, r), "now") for r in plan.erase_again
            ]
            told = [*work.found, *_decided_lately(call, self.now())]
        except Exception as error:  # noqa: BLE001 - a fault of ours in one call, not in the others
            self._complain(work, "a call cannot be planned after its answers", exc_info=error)
            return None
        is_over = all(t is None for _, t in dues)
        return Commit(
            claim=work.claim,
            events=work.found,
            seen=work.loaded.size,
            dues=(*dues, *again, *notices_due(self.worker, call, told)),
            keep=kept_for(self.worker, call) if is_over else None,
            generation=self.generation,
            history=stops_by_rules(work.loaded.events, work.found),
        )

    def _complain(self, work: Work, complaint: str, **facts: object) -> None:
        """A fault of ours concerns one call: its lease runs out, and brings it back."""
        owed = work.claim.obligation
        log.error(complaint, obligation=str(owed), **facts)
        self.worker.alert("poison", account=owed.account, call_uuid=owed.call_uuid)

    def _due_again(self, work: Work) -> datetime | None:
        """When the call must be planned again."""
        plan = work.plan
        instants = [plan.plan_at, work.retry_at]
        if work.retry_at is None:
            instants += [send.at for send in plan.sends]
            instants += [self.now() for _ in (*plan.starts, *plan.transfers)]
        return min((instant for instant in instants if instant), default=None)


def _decided_lately(call: Call, now: datetime) -> list[Event]:
    """Decisions on hand-offs that the web process recorded, which commits nothing itself. The plan
    that follows at once sees them here.
    """
    decided = [h.decided for h in call.handoffs.values() if h.decided]
    return [e for e in decided if e.at and e.at > now - _LATELY]


def _count_lateness(counts: dict[str, float], late_s: Sequence[float]) -> None:
    for late in late_s:
        counts["lateness_sum"] = counts.get("lateness_sum", 0) + late
        counts["lateness_count"] = counts.get("lateness_count", 0) + 1
        for top in LATENESS_BUCKETS:
            if late <= top:
                counts[f"lateness_bucket|{top:g}"] = counts.get(f"lateness_bucket|{top:g}", 0) + 1
