"""One recording to bring home, and the claim that this worker holds on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.calls.call import Call, Recording
from worker.calls.events import Event, Fault, Kind
from worker.duties.worker import Worker
from worker.ledger.obligations import Claim, Commit, Loaded


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchTask:
    """`call` and `recording` are as of `now`, when the work began; `loaded` is the call's log."""

    worker: Worker
    claim: Claim
    loaded: Loaded
    call: Call
    recording: Recording
    now: datetime

    def commit(self, *events: Event, filed: Sequence[str] = ()) -> Commit:
        """What came of this try. `filed`: the lines of the files that were archived."""
        return Commit(claim=self.claim, events=events, seen=self.loaded.size, filed=filed)

    def failure(self, fault: Fault, reason: str) -> Event:
        """FETCH_FAILED of this try. Each claim has one such event at most."""
        return Event(
            id=f"fetch.{self.claim.fence}",
            kind=Kind.FETCH_FAILED,
            call_uuid=self.claim.obligation.call_uuid,
            recording_id=self.recording.recording_id,
            reason=reason[:300],
            fault=fault,
            generation=self.worker.generation,
        )
