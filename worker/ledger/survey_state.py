"""How far an account's surveys have come, kept in Redis between their steps.

    {endtape}:survey:ACCOUNT:SCOPE   string a `SurveyState` as JSON;  {endtape}:erased: when this ledger was found erased (ms)

Its law: a round only says where to go on and how far everything was seen. Whatever of it is lost or
written twice, the next round asks again, and what it finds again is recorded once.
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
    """How deep a survey looks. In an obligation it stands in the place of the call, whose ids have
    no dots.
    """

    NEW = ".new"  # live calls, and what was listed since the last time
    SWEEP = ".sweep"  # all that was listed in the last day; the first time, all that can be ours


class Stage(StrEnum):
    """What the next step of a round asks for."""

    CALLS = "calls"  # the list of live calls
    CALL = "call"  # one live call that nobody announced
    ROWS = "rows"  # one page of the list of recordings


@dataclass(frozen=True, kw_only=True, slots=True)
class SurveyState:
    """One pass of a survey, and what is remembered from one to the next. `began_at` None: none is
    under way.
    """

    began_at: datetime | None = None
    stage: Stage = Stage.CALLS
    watch_all: bool = False  # the ledger was found erased: every live call is watched, once
    pending: tuple[str, ...] = ()  # live calls to ask about
    offset: int = 0
    page: tuple[str, ...] = ()  # the recordings of the page before
    found: dict[str, int] = field(default_factory=dict)
    problem: str | None = None  # why the last step failed
    # from one round to the next
    seen_to: datetime | None = None  # everything listed before it was seen,
    seen_from: datetime | None = None  # from here on
    unwatched: tuple[str, ...] = ()  # live calls that no rule watches
    rules: int = 0  # the generation of the rules that said so
    done_began_at: datetime | None = None  # of the last round that came to its end
    done_found: dict[str, int] = field(default_factory=dict)

    def count(self, **more: int) -> SurveyState:
        counts = {name: self.found.get(name, 0) + n for name, n in more.items() if n}
        return replace(self, found={**self.found, **counts})

    def ended(self) -> SurveyState:
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
    """Sees to it that each account is surveyed: at once if nobody ever was told to, else when it is
    due anyway.
    """
    ledger.ensure_due(obligation(account, scope) for account in accounts for scope in Scope)


def load(ledger: Ledger, account: str, scope: Scope) -> SurveyState | None:
    """None when this account was never surveyed so, as far as the ledger knows."""
    text = ledger.command("GET", _key(ledger, account, scope))
    return _decode(text) if text else None


def save(ledger: Ledger, account: str, scope: Scope, given: SurveyState) -> None:
    ledger.command("SET", _key(ledger, account, scope), _encode(given))


def note_erased(ledger: Ledger) -> bool:
    """For a day, in which every account has its first survey again. True when this is news."""
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
    found: dict[str, Any] = {k: v for k, v in json.loads(text).items() if k in _KNOWN}
    found |= {name: from_ms(found[name]) for name in _INSTANTS & found.keys()}
    found |= {name: tuple(found[name]) for name in _TUPLES & found.keys()}
    return SurveyState(**{**found, "stage": Stage(found.get("stage", Stage.CALLS))})
