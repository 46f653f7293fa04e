"""Live recordings as `/v1` shows them, kept per process: a call is replayed only when its log, the
rules, or the clock have changed what it shows.

Redis is asked for every log all the same. So what is shown is never older than the question, and
nothing has to be told when a call changes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.calls.call import Handoff
from worker.calls.replay import replay
from worker.calls.rules import Rules
from worker.calls.views import Shown, recordings_shown
from worker.ledger.calls import SeenAt, readable
from worker.ledger.client import Ledger

# Calls that a process keeps; one takes 3 KB, measured. Those unused for longest go first, and are
# replayed anew.
MOST = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveCall:
    """What a list shows of one call. `over_at`: when each recording that is over was proven so.
    `waiting`: its hand-offs without a verdict.
    """

    account: str
    call_uuid: str
    shown: Shown
    over_at: dict[str, datetime]
    waiting: tuple[Handoff, ...]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A call as it was shown by these rules, and of which log: its length and hash, for a log of
    many failures is longer than all that it shows.
    """

    log: tuple[int, int]
    rules: Rules
    call: LiveCall

    def holds(self, log: tuple[int, int], rules: Rules, now: datetime) -> bool:
        until = self.call.shown.until
        return self.log == log and self.rules is rules and (until is None or now < until)


class Live:
    """Safe to share between threads. `rules` is called for each question, so that a reload takes
    effect.
    """

    def __init__(self, ledger: Ledger, rules: Callable[[], Rules], *, most: int = MOST) -> None:
        """`most`: how many calls are kept."""
        self._ledger, self._rules, self._most = ledger, rules, most
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def views(self, sights: Sequence[SeenAt]) -> Iterator[tuple[SeenAt, dict[str, Any]]]:
        """These recordings, in the same order; without those whose call Redis does not know any
        more. The views are shared: nobody may change them.
        """
        views = dict[tuple[str, str], dict[str, Any]]()
        for account in sorted({sight.account for sight in sights}):
            ids = [sight.recording_id for sight in sights if sight.account == account]
            calls = set(self._ledger.calls_of(account, ids).values())
            for call in self.calls(account, calls):
                views |= {(account, i): view for i, view in call.shown.views.items()}
        for sight in sights:
            view = views.get((sight.account, sight.recording_id))
            if view:
                yield sight, view

    def calls(self, account: str, call_uuids: Iterable[str]) -> Iterator[LiveCall]:
        """What is shown of each of these calls."""
        now, rules = self._ledger.now(), self._rules()
        for call_uuid, text in self._ledger.texts(account, sorted(call_uuids)):
            log, key = (len(text), hash(text)), (account, call_uuid)
            with self._lock:
                kept = self._kept.get(key)
                if kept:
                    self._kept.move_to_end(key)
            if not kept or not kept.holds(log, rules, now):
                kept = _Kept(log, rules, _replayed(account, call_uuid, text, rules, now))
                self._keep(key, kept)
            yield kept.call

    def _keep(self, key: tuple[str, str], kept: _Kept) -> None:
        with self._lock:
            self._kept[key] = kept
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


def _replayed(account: str, call_uuid: str, text: str, rules: Rules, now: datetime) -> LiveCall:
    call = replay(account, call_uuid, readable(text, account, call_uuid))
    return LiveCall(
        account=account,
        call_uuid=call_uuid,
        shown=recordings_shown(call, rules, now),
        over_at={i: r.over_at for i, r in call.recordings.items() if r.over_at},
        waiting=tuple(h for h in call.handoffs.values() if h.decided is None),
    )
