"""The ledger as the processes use it: all parts over one connection."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from worker.calls.events import Event, Kind
from worker.ledger.calls import Calls
from worker.ledger.counters import Counters
from worker.ledger.daybook import Daybook
from worker.ledger.limits import Limits
from worker.ledger.notices import Notices
from worker.ledger.obligations import Obligations
from worker.ledger.presence import Presence
from worker.ledger.recording import Recorded, Recording
from worker.ledger.signing_keys import SigningKeys


class Ledger(
    Recording, Calls, Obligations, Limits, Presence, Counters, SigningKeys, Daybook, Notices
):
    """One per process; safe to share between threads, never across a fork.

    What concerns one subject stands in its part. Here is what concerns two of them.
    """

    def record(
        self, account: str, event: Event | None, *, nonces: Sequence[str] = (), body: bytes = b""
    ) -> tuple[Recorded, datetime]:
        """As `Recording.record`. A retry that a person orders also resets the tries of its
        recording.
        """
        if event and event.kind is Kind.RETRY_ORDERED:
            # Before the event is written, so that a retry in the log never finds old tries.
            self.reset_tries(account, event.call_uuid, event.recording_id)
        return super().record(account, event, nonces=nonces, body=body)

    def before_sending(
        self, calls: Sequence[tuple[str, str]], accounts: Collection[str]
    ) -> tuple[list[int], set[str]]:
        """The sizes of these calls' logs, each call named by account and call, and which of these
        accounts are halted: one round trip.
        """
        names = sorted(accounts)
        with self.pipeline() as pipe:
            for account in names:
                pipe.exists(self.key("halted", account))
            for account, call_uuid in calls:
                pipe.strlen(self.call_key(account, call_uuid))
            answers = pipe.execute()
        halted = {name for name, is_halted in zip(names, answers, strict=False) if is_halted}
        return [int(size) for size in answers[len(names) :]], halted

    def reload(self) -> int:
        """Orders every process on every machine to read its settings again, and tries again at once
        what those may have mended. Returns the number of the reload.
        """
        generation = self.next_generation()
        self.retry_all()
        return generation
