"""What happens now: every recording that is not home yet, and what is wrong. For the console's
first page and for `endtape top`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from worker import wire
from worker.calls.call import Call, Phase, Recording
from worker.calls.events import Fault
from worker.calls.replay import replay
from worker.calls.rules import Rules
from worker.calls.views import recording_view, rfc3339
from worker.ledger.calls import readable
from worker.ledger.client import Ledger
from worker.ledger.presence import ROLES, SEEN_WITHIN

MOST = 5000  # recordings that are looked at, the newest first
_BREATH = 10  # calls; each takes some 60 µs
_STAYS = timedelta(seconds=10)
_FINALIZING = timedelta(minutes=2)  # usually it takes seconds
UNPROVEN = {"unknown", "failed"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """Everything that is not home yet. The views are as `/v1` has them, with whole numbers.

    `running`: what may still record, what is most urgent first; of these, `unproven` are those
    whose stop has no proof after all tries, or was refused, and `in_flight` those whose stop was
    sent. `failing`: what ended and does not come home; of these, `abandoned` is tried rarely or
    not at all. `waiting`: hand-offs without a verdict.
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


@dataclass(frozen=True, slots=True)
class _Found:
    """What the board has of one call, whose log is `text`; the same until that instant."""

    text: str
    until: datetime
    views: list[dict[str, Any]]
    waiting: list[dict[str, Any]]


class Memory:
    """What a board found of each call, for the next board: most calls are as they were."""

    def __init__(self) -> None:
        self._rules: Rules | None = None
        self._known: dict[tuple[str, str], _Found] = {}

    def of(self, rules: Rules) -> dict[tuple[str, str], _Found]:
        """What was found by these rules."""
        return self._known if rules is self._rules else {}

    def keep(self, rules: Rules, known: dict[tuple[str, str], _Found]) -> None:
        self._rules, self._known = rules, known


def compute(
    ledger: Ledger,
    rules: Rules,
    accounts: Sequence[str],
    *,
    memory: Memory | None = None,
    breathe: Callable[[], None] = lambda: None,
) -> Board:
    """The board of these accounts at this instant. Raises LedgerUnavailable.

    `memory`: of the boards before. `breathe` is called now and then, for who shares a process with
    work that must not wait.
    """
    now, memory = ledger.now(), memory or Memory()
    sights = list(islice(ledger.live(accounts), MOST + 1))
    before, found, count = memory.of(rules), dict[tuple[str, str], _Found](), 0
    for key, text in _texts(ledger, accounts, [(s.account, s.recording_id) for s in sights]):
        same = before.get(key)
        if same and same.until > now and same.text == text:
            found[key] = same
            continue
        if count % _BREATH == 0:
            breathe()
        found[key], count = _look(key, text, rules, now), count + 1
    memory.keep(rules, found)
    views = [view for one in found.values() for view in one.views]
    waiting = [handoff for one in found.values() for handoff in one.waiting]
    running = [v for v in views if v["phase"] in {"recording", "stopping"}]
    ended = [v for v in views if v["phase"] in {"finalizing", "fetching", "abandoned"}]
    failing = [v for v in ended if v["fault"]]
    alive = ledger.alive(SEEN_WITHIN)
    return Board(
        at=now,
        running=sorted(running, key=_urgency),
        unproven=[v for v in running if v["stop"]["state"] in UNPROVEN],
        in_flight=sum(v["phase"] == "stopping" for v in running),
        coming=len(ended) - len(failing),
        failing=failing,
        abandoned=[v for v in failing if v["phase"] == "abandoned"],
        waiting=waiting,
        halted=sorted(ledger.halted(accounts)),
        degraded=ledger.degraded(),
        missing=[role for role in ROLES if role not in alive],
        alive={role: len(slots) for role, slots in sorted(alive.items())},
        undelivered=len(ledger.failing()),
        is_cut=len(sights) > MOST,
    )


def _texts(
    ledger: Ledger, accounts: Sequence[str], seen: Sequence[tuple[str, str]]
) -> Iterator[tuple[tuple[str, str], str]]:
    """The logs of the calls of these recordings, and of those with anything to be planned or looked
    at: account and call, and the log as stored.
    """
    for account in accounts:
        ids = [recording_id for whose, recording_id in seen if whose == account]
        tracked = islice(ledger.tracked(account), MOST)
        calls = {*ledger.calls_of(account, ids).values(), *tracked}
        for call_uuid, text in ledger.texts(account, sorted(calls)):
            yield (account, call_uuid), text


def _look(key: tuple[str, str], text: str, rules: Rules, now: datetime) -> _Found:
    call = replay(*key, readable(text, *key))
    views, waiting = list(_views(call, rules, now)), list(_waiting(call, now))
    # Not all at once: what was found together is looked at anew at different instants.
    stays = _STAYS * (0.5 + hash(key) % 100 / 100)
    until = min((_same_until(view, now, stays) for view in views), default=now + stays)
    return _Found(text, now if waiting else until, views, waiting)


def _same_until(view: dict[str, Any], now: datetime, stays: timedelta) -> datetime:
    """Until when a recording looks the same while nothing is heard of it, at most `stays`. What is
    on its way home, or being stopped, is looked at anew each time.
    """
    phase, stop = view["phase"], view["stop"]
    if phase == Phase.ABANDONED:
        return now + stays
    if phase != Phase.RECORDING or stop["requested_at"]:
        return now
    due = wire.rfc3339(stop["due_at"] or "")
    return min(due, now + stays) if due else now + stays


def _views(call: Call, rules: Rules, now: datetime) -> Iterator[dict[str, Any]]:
    for recording in call.recordings.values():
        if not recording.archived and recording.recording_id:
            view = recording_view(call, recording, rules, now)
            yield _with_delay(view, recording, now)


def _with_delay(view: dict[str, Any], recording: Recording, now: datetime) -> dict[str, Any]:
    """The view; of a recording whose file the provider does not name for long, with that as its
    problem.
    """
    over = recording.over_at
    if view["phase"] != Phase.FINALIZING or view["fault"] or not over or over > now - _FINALIZING:
        return view
    return view | {
        "fault": Fault.PROVIDER.value,
        "problem": f"it was over at {over:%m-%d %H:%M:%S}, and the provider does not list it yet",
    }


def _urgency(view: dict[str, Any]) -> tuple[bool, bool, str]:
    """Unproven first, then by deadline; what has none comes last."""
    stop = view["stop"]
    return stop["state"] not in UNPROVEN, stop["due_at"] is None, stop["due_at"] or ""


def _waiting(call: Call, now: datetime) -> Iterator[dict[str, Any]]:
    for handoff in call.handoffs.values():
        if handoff.decided is None and handoff.until > now - timedelta(minutes=1):
            yield {
                "account": call.account,
                "call_uuid": call.call_uuid,
                "kind": handoff.asked.trigger,
                "asked_at": rfc3339(handoff.asked.at),
                "until": rfc3339(handoff.until),
            }
