"""How many recordings there are in each phase, for `/metrics`: counted by one process for all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice

from worker.calls.call import Phase
from worker.calls.replay import replay
from worker.calls.rules import Rules
from worker.calls.views import recording_view
from worker.ledger.board import UNPROVEN
from worker.ledger.calls import SeenAt
from worker.ledger.client import Ledger

EVERY = timedelta(seconds=15)
_SHARE = 20  # a census that took long is taken again after so many times as long
_AT_ONCE = 500
PHASES = tuple(p.value for p in Phase if p not in {Phase.ARCHIVED, Phase.ERASED})


class Census:
    """For one process. It takes its turn with the others, and more rarely where that takes long."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._every = ledger, EVERY

    def turn(self, rules: Rules, accounts: Iterable[str]) -> None:
        """Takes the census, unless a process did lately. Raises LedgerUnavailable."""
        if self._ledger.once_per("census", "all", every=self._every):
            began = time.monotonic()
            take(self._ledger, rules, accounts)
            took = timedelta(seconds=time.monotonic() - began)
            self._every = max(EVERY, _SHARE * took)


def take(ledger: Ledger, rules: Rules, accounts: Iterable[str]) -> None:
    """Counts the recordings of these accounts that are not home, and those whose stop has no proof
    after all tries, and publishes both as gauges. Raises LedgerUnavailable.
    """
    gauges = dict[str, float]()
    for account in accounts:
        counts = Counter[str](dict.fromkeys(PHASES, 0))
        unproven, sights = 0, ledger.live([account])
        while some := list(islice(sights, _AT_ONCE)):
            for phase, is_unproven in _states(ledger, rules, account, some):
                if phase in counts:
                    counts[phase] += 1
                unproven += is_unproven
        gauges |= {f"recordings|{account}|{phase}": n for phase, n in counts.items()}
        gauges[f"stops_unproven|{account}"] = unproven
    ledger.publish_gauges(gauges)


def _states(
    ledger: Ledger, rules: Rules, account: str, sights: Sequence[SeenAt]
) -> Iterator[tuple[str, bool]]:
    """Phase, and whether the stop is unproven, of each of these recordings."""
    call_of, now = ledger.calls_of(account, [s.recording_id for s in sights]), ledger.now()
    for call_uuid, events in ledger.logs(account, set(call_of.values())).items():
        call = replay(account, call_uuid, events)
        for recording_id, recording in call.recordings.items():
            if call_of.get(recording_id) == call_uuid and not recording.archived:
                view = recording_view(call, recording, rules, now)
                running = view["phase"] in {Phase.RECORDING.value, Phase.STOPPING.value}
                yield view["phase"], running and view["stop"]["state"] in UNPROVEN
