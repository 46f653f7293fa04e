"""How far an account's surveys have come, stored in Redis between their steps.

    {endtape}:survey:ACCOUNT:SCOPE  string  a `SurveyState` as JSON
    {endtape}:erased                string  when this ledger was found erased (ms)

One pass of a survey is a round. Its state only says where to go on, and how far everything was
seen. If a state is lost or written twice, the next round asks again; what it finds again is
recorded once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from worker.calls.obligations import Duty, Obligation
from worker.ledger.client import Ledger
from worker.ledger.codec import from_ms, to_ms


class Scope(StrEnum):
    """How far back a survey reads. An obligation holds it in the place of the call's id, which has
    no dots.
    """

    NEW = ".new"  # live calls, and what was listed since the last time
    SWEEP = ".sweep"  # all that was listed in the last day; the first time, all that can be ours


class Stage(StrEnum):
    """What the next step of a round requests."""

    CALLS = "calls"  # the list of live calls
    CALL = "call"  # one live call that nobody announced
    ROWS = "rows"  # one page of the list of recordings


@dataclass(frozen=True, kw_only=True, slots=True)
class SurveyState:
    """One round of a survey, and what is remembered from one round to the next. `began_at` None: no
    round is under way.
    """

    began_at: datetime | None = None
    stage: Stage = Stage.CALLS
    watch_all: bool = False  # the ledger was found erased: every live call is watched, once
    pending: tuple[str, ...] = ()  # live calls to ask about
    offset: int = 0
    page: tuple[str, ...] = ()  # the recordings of the page before
    found: dict[str, int] = field(default_factory=dict)
    problem: str | None = None  # why the last step failed
    # remembered from one round to the next
    seen_to: datetime | None = None  # everything that was listed before this was seen,
    seen_from: datetime | None = None  # and after this
    unwatched: tuple[str, ...] = ()  # live calls that no rule watches
    rules: int = 0  # the generation of those rules
    done_began_at: datetime | None = None  # when the last finished round began
    done_found: dict[str, int] = field(default_factory=dict)

    def count(self, **more: int) -> SurveyState:
        """Adds to what was found."""
        counts = {name: self.found.get(name, 0) + n for name, n in more.items() if n}
        return replace(self, found={**self.found, **counts})

    def ended(self) -> SurveyState:
        """The state after the end of this round."""
        return replace(
            self,
            began_at=None,
            stage=Stage.CALLS,
            watch_all=False,
            pending=(),
            offset=0,
            page=(),
            found={},
            problem=None,
            seen_to=self.began_at,
            done_began_at=self.began_at,
            done_found=self.found,
        )


_INSTANTS = {"began_at", "seen_to", "seen_from", "done_began_at"}
_TUPLES = {"pending", "page", "unwatched"}
_KNOWN = {f.name for f in fields(SurveyState)}


def obligation(account: str, scope: Scope) -> Obligation:
    return Obligation(duty=Duty.SURVEY, account=account, call_uuid=scope)


def keep_due(ledger: Ledger, accounts: Iterable[str]) -> None:
    """Makes due the surveys of each account that are not owed yet. Others keep their due time."""
    ledger.ensure_due(obligation(account, scope) for account in accounts for scope in Scope)


def load(ledger: Ledger, account: str, scope: Scope) -> SurveyState | None:
    """None if this account had no survey of this scope yet, as far as the ledger knows."""
    text = ledger.command("GET", _key(ledger, account, scope))
    return _decode(text) if text else None


def save(ledger: Ledger, account: str, scope: Scope, given: SurveyState) -> None:
    ledger.command("SET", _key(ledger, account, scope), _encode(given))


def note_erased(ledger: Ledger) -> bool:
    """Remembers for 24 h that the ledger was erased; in that time every account gets its first
    survey again. True for the first caller only.
    """
    return bool(ledger.command("SET", ledger.key("erased"), to_ms(ledger.now()), "NX", "EX", 86400))


def was_erased(ledger: Ledger) -> bool:
    return bool(ledger.command("EXISTS", ledger.key("erased")))


def _key(ledger: Ledger, account: str, scope: Scope) -> str:
    return ledger.key("survey", account, scope.removeprefix("."))


def _encode(given: SurveyState) -> str:
    plain = {name: getattr(given, name) for name in sorted(_KNOWN)}
    return json.dumps(
        {
            k: to_ms(v) if isinstance(v, datetime) else v
            for k, v in plain.items()
            if v not in (None, (), {})
        },
        separators=(",", ":"),
    )


def _decode(text: str) -> SurveyState:
    values: dict[str, Any] = {k: v for k, v in json.loads(text).items() if k in _KNOWN}
    values |= {name: from_ms(values[name]) for name in _INSTANTS & values.keys()}
    values |= {name: tuple(values[name]) for name in _TUPLES & values.keys()}
    return SurveyState(**{**values, "stage": Stage(values.get("stage", Stage.CALLS))})
