"""Re-reads the facts about recordings that came after their receipts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from worker import wire
from worker.archive import facts, keys
from worker.archive.store import Store
from worker.archive.verify import Report, Trust, level_of
from worker.errors import Conflict

_END = "/facts"


class FactsVerifier:
    """Checks the facts in a store, an account at a time. A unit is named `{account}/facts`. Raises
    Unstored where a bucket does not answer.
    """

    def __init__(self, store: Store, trust: Trust) -> None:
        self._store, self._trust = store, trust

    def units(self) -> list[str]:
        """The units of all accounts, in order."""
        return [
            f"{account}{_END}"
            for account in level_of(self._store, "").folders
            if wire.identifier(account) == account
            and "facts" in level_of(self._store, account).folders
        ]

    def check(self, unit: str, readers: ThreadPoolExecutor) -> Report:
        """The report of one unit."""
        report = Report()
        level = level_of(self._store, unit, report)
        for entry in level.files:
            report.add("unreferenced", entry.name, "nobody knows it")
        for part in readers.map(partial(self._recording, unit), level.folders):
            report.take(part)
        return report

    def _recording(self, unit: str, recording_id: str) -> Report:
        report, folder = Report(), f"{unit}/{recording_id}"
        level = level_of(self._store, folder, report)
        names = {entry.last for entry in level.files if entry.is_plain}
        numbers = {n for name in names if (n := facts.number_of(name))}
        known = {end for n in numbers for end in (f"{n}.json", f"{n}.json.sig")}
        strange = [*level.folders, *(e.last for e in level.files if e.last not in known)]
        for last in strange:
            report.add("unreferenced", f"{folder}/{last}", "nobody knows it")
        for gone in sorted(set(range(1, max(numbers, default=0))) - numbers):
            report.add("fact_missing", f"{folder}/{gone}.json", "a later one is there")
        for n in sorted(numbers):
            self._fact(f"{folder}/{n}.json", report, signed=f"{n}.json.sig" in names)
        return report

    def _fact(self, name: str, report: Report, *, signed: bool) -> None:
        report.counts["facts"] += 1
        try:
            content = self._store.read(name)
            at = facts.parse(content, name, signed=signed).at
            signature = self._store.read(keys.signature_of(name)) if signed else None
        except ValueError as error:
            report.add("misplaced", name, str(error))
            return
        except (OSError, Conflict) as error:
            report.add("unreadable", name, str(error))
            return
        if signature is not None:
            wrong = self._trust.judge(content, signature, at)
        else:
            wrong = ("unsigned", "its signature is missing")
        if wrong:
            report.add(wrong[0], name, wrong[1])
        report.counts["signed"] += wrong is None
