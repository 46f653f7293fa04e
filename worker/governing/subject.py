"""The recording that is to be held or erased, whoever knows it: Redis, or the catalogue alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker import wire
from worker.archive.keys import key_of
from worker.calls import stop_state
from worker.calls.call import Call, Phase, Recording
from worker.calls.obligations import Duty, Obligation
from worker.calls.rules import Rules
from worker.calls.views import stop_view
from worker.catalogue.rows import Row
from worker.governing.places import Places
from worker.ledger.whose import find_recording


@dataclass(frozen=True, kw_only=True, slots=True)
class By:
    """Who wants something, and why. `who` and `claimed`: as in the history."""

    who: str
    reason: str
    claimed: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is known of the recording. `key`: under which it is, or would be, filed; of its
    extension nothing is said. `is_live`: whether Redis knows it. `is_over`: whether it has ended,
    proven, or nobody waits for its end any more. `stop`: as `/v1` shows it.
    """

    account: str
    call_uuid: str
    recording_id: str
    key: str
    first_seen_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    sha256: str | None
    retain_until: datetime | None
    stop: Mapping[str, Any]
    is_live: bool
    is_over: bool
    is_held: bool
    is_erased: bool

    @property
    def rule(self) -> str | None:
        """The rule of its stop."""
        rule: str | None = self.stop["rule"]
        return rule

    @property
    def erasing(self) -> Obligation:
        """The obligation to erase it."""
        return Obligation(
            duty=Duty.ERASE,
            account=self.account,
            call_uuid=self.call_uuid,
            recording_id=self.recording_id,
        )


def find(
    places: Places, accounts: Iterable[str], recording_id: str, account: str | None = None
) -> Subject | None:
    """The recording of this id, from the first of these accounts that knows it; None where none
    does. `account`: whose row of the catalogue is meant, where that matters.

    Raises LedgerUnavailable, and CatalogueAway where Redis does not know it.
    """
    known = find_recording(places.ledger, accounts, recording_id)
    if known:
        return of_recording(*known, places.rules, places.ledger.now())
    row = places.catalogue.find(recording_id, account)
    return of_row(row) if row else None


def of_recording(call: Call, recording: Recording, rules: Rules, now: datetime) -> Subject:
    """One that Redis knows."""
    filed, done = recording.archived or recording.absence, recording.archived
    begun = recording.erasing
    key = begun.archive_key if begun else filed.archive_key if filed else None
    given_up = bool(recording.gave_up or recording.abandoned)
    return Subject(
        account=call.account,
        call_uuid=call.call_uuid,
        recording_id=recording.recording_id,
        key=key or _key_of(call, recording),
        first_seen_at=recording.first_seen_at or recording.known_at,
        started_at=recording.started_at,
        ended_at=recording.ended_at,
        sha256=done.sha256 if done else begun.sha256 if begun else None,
        retain_until=done.retain_until if done else None,
        stop=stop_view(stop_state.judge(call, recording, rules, now)),
        is_live=True,
        is_over=bool(recording.over_at or done or given_up),
        is_held=recording.held,
        is_erased=recording.erased is not None,
    )


def of_row(row: Row) -> Subject:
    """One that the catalogue knows."""
    view = row.view

    def instant(name: str) -> datetime | None:
        return wire.parse_rfc3339(view.get(name))

    return Subject(
        account=view["account"],
        call_uuid=view["call_uuid"],
        recording_id=view["recording_id"],
        key=row.key,
        first_seen_at=instant("first_seen_at"),
        started_at=instant("started_at"),
        ended_at=instant("ended_at"),
        sha256=view["sha256"],
        retain_until=instant("retain_until"),
        stop=view["stop"],
        is_live=False,
        is_over=True,
        is_held=bool(view["held"]),
        is_erased=view["phase"] == Phase.ERASED,
    )


def _key_of(call: Call, recording: Recording) -> str:
    """Where it would be filed."""
    return key_of(
        call.account,
        recording.recording_id,
        started_at=recording.provider_started_at,
        ended_at=recording.ended_at,
        duration_s=recording.duration_s,
        added_at=recording.added_at or recording.known_at,
        extension="erased",
    )
