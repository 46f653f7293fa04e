"""What happens now: every recording that is not home yet, and what is wrong. For the console's
first page and for `endtape top`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from worker.calls.call import RUNNING, Phase, StopState
from worker.calls.events import Fault
from worker.calls.views import rfc3339
from worker.catalogue.live import Live, LiveCall
from worker.ledger.client import Ledger
from worker.ledger.presence import ROLES, SEEN_WITHIN

MOST = 5000  # recordings that are looked at, the newest first
FINALIZING = timedelta(minutes=2)  # usually it takes seconds
_WITHOUT_PROOF = {StopState.UNKNOWN, StopState.FAILED}
_ENDED = {Phase.FINALIZING, Phase.FETCHING, Phase.ABANDONED}
_UNDER_WAY = {StopState.DUE, StopState.ACCEPTED}


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """Everything that is not home yet. The views are as `/v1` has them, with whole numbers.

    `running`: what may still record, what is most urgent first; of these, `unproven` are those
    whose stop `is_unproven`, and `in_flight` those whose stop was sent. `failing`: what ended and
    does not come home; of these, `abandoned` is tried rarely or not at all. `waiting`: hand-offs
    without a verdict.
    """

    at: datetime
    running: list[dict[str, Any]]
    unproven: list[dict[str, Any]]
    in_flight: int
    coming: int  # recordings that ended and are on their way home
    failing: list[dict[str, Any]]
    abandoned: list[dict[str, Any]]
    waiting: list[dict[str, Any]]
    halted: list[str]
    degraded: dict[str, str]
    missing: list[str]
    alive: dict[str, int]
    undelivered: int  # notifications
    is_cut: bool  # there are more than MOST


def compute(
    ledger: Ledger,
    live: Live,
    accounts: Sequence[str],
    *,
    breathe: Callable[[], None] = lambda: None,
) -> Board:
    """The board of these accounts at this instant. `breathe` is called now and then, for who shares
    a process with work that must not wait. Raises LedgerUnavailable.
    """
    now = ledger.now()
    sights = list(islice(ledger.live(accounts), MOST + 1))
    views, waiting = list[dict[str, Any]](), list[dict[str, Any]]()
    calls = _calls(ledger, live, accounts, [(s.account, s.recording_id) for s in sights])
    for call in calls:
        breathe()
        views += _views(call, now)
        waiting += _waiting(call, now)
    running = [v for v in views if v["phase"] in RUNNING]
    ended = [v for v in views if v["phase"] in _ENDED]
    failing = [v for v in ended if v["fault"]]
    alive = ledger.alive(SEEN_WITHIN)
    return Board(
        at=now,
        running=sorted(running, key=_urgency),
        unproven=[v for v in running if is_unproven(v["stop"])],
        in_flight=sum(v["phase"] == Phase.STOPPING for v in running),
        coming=len(ended) - len(failing),
        failing=failing,
        abandoned=[v for v in failing if v["phase"] == Phase.ABANDONED],
        waiting=waiting,
        halted=sorted(ledger.halted(accounts)),
        degraded=ledger.degraded(),
        missing=[role for role in ROLES if role not in alive],
        alive={role: len(slots) for role, slots in sorted(alive.items())},
        undelivered=ledger.failing_count(),
        is_cut=len(sights) > MOST,
    )


def _calls(
    ledger: Ledger, live: Live, accounts: Sequence[str], seen: Sequence[tuple[str, str]]
) -> Iterator[LiveCall]:
    """The calls of these recordings, and those with anything to be planned or looked at."""
    for account in accounts:
        ids = [recording_id for whose, recording_id in seen if whose == account]
        tracked = islice(ledger.tracked(account), MOST)
        yield from live.calls(account, {*ledger.calls_of(account, ids).values(), *tracked})


def _views(call: LiveCall, now: datetime) -> Iterator[dict[str, Any]]:
    for recording_id, view in call.shown.views.items():
        yield _with_delay(view, call.over_at.get(recording_id), now)


def _with_delay(view: dict[str, Any], over: datetime | None, now: datetime) -> dict[str, Any]:
    """The view; of a recording whose file the provider does not name for long, with that as its
    problem. `over`: when it was proven over.
    """
    if view["phase"] != Phase.FINALIZING or view["fault"] or not over or over > now - FINALIZING:
        return view
    return view | {
        "fault": Fault.PROVIDER.value,
        "problem": not_listed(over),
    }


def not_listed(over_at: datetime) -> str:
    """The problem of a recording that was proven over then, and whose file no list names."""
    return f"it was over at {over_at:%m-%d %H:%M:%S}, and the provider does not list it yet"


def is_unproven(stop: Mapping[str, Any]) -> bool:
    """Whether a stop, as `/v1` shows it, wants looking at: it was refused, or is not proven after
    all tries; or it was sent again, because the time for its proof was over.
    """
    state = stop["state"]
    return state in _WITHOUT_PROOF or (state in _UNDER_WAY and stop["attempts"] > 1)


def _urgency(view: dict[str, Any]) -> tuple[bool, bool, str]:
    """Unproven first, then by deadline; what has none comes last."""
    stop = view["stop"]
    return not is_unproven(stop), stop["due_at"] is None, stop["due_at"] or ""


def _waiting(call: LiveCall, now: datetime) -> Iterator[dict[str, Any]]:
    for handoff in call.waiting:
        if handoff.until > now - timedelta(minutes=1):
            yield {
                "account": call.account,
                "call_uuid": call.call_uuid,
                "kind": handoff.asked.trigger,
                "asked_at": rfc3339(handoff.asked.at),
                "until": rfc3339(handoff.until),
            }
