"""Re-reads a whole archive, a unit at a time: folders of recordings, closed days, facts.

An interrupted run goes on after the unit that was checked last.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from worker.archive.store import Store
from worker.archive.verify import Report, Trust, Verifier
from worker.archive.verify_days import DaysVerifier, Head
from worker.archive.verify_facts import FactsVerifier


class WholeArchive:
    """The archive in a store. `quick` leaves the audio unread. `heads`: by account, a closed day
    that somebody else than the archive knows. Raises Unstored where a bucket does not answer.
    """

    def __init__(
        self, store: Store, trust: Trust, *, quick: bool, heads: Mapping[str, Head] | None = None
    ) -> None:
        self._recordings = Verifier(store, trust, quick=quick)
        self._days = DaysVerifier(store, trust, heads or {})
        self._facts = FactsVerifier(store, trust)

    def units(self, report: Report) -> list[str]:
        """The units, in the order of `place_of`. What nobody knows on the way to them is added to
        the report.
        """
        found = [*self._recordings.folders(report), *self._days.units(), *self._facts.units()]
        return sorted(found, key=place_of)

    def check(self, unit: str, readers: ThreadPoolExecutor) -> Report:
        """The report of one unit."""
        match unit.split("/")[1]:
            case "days":
                return self._days.check(unit, readers)
            case "facts":
                return self._facts.check(unit, readers)
            case _:
                return self._recordings.check(unit, readers)


def place_of(unit: str) -> list[str]:
    """By what units are ordered; that of no unit ("") comes before all."""
    return unit.split("/")
