"""Re-reads the closed days of an archive, and names what of them is missing, altered or cut off.

A day is believed for its signature alone. It vouches for its list of files, its history and the day
before; so nothing of a closed day can be removed or changed without a trace, but for the last days
together. Those only a head shows that somebody else has kept (`heads`).
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

from worker import wire
from worker.archive import days, history_file, keys, signing
from worker.archive.store import Entry, Store
from worker.archive.verify import Report, Trust
from worker.errors import Conflict

_FRESH_S = 3600.0  # a day that is being closed may lack a file for so long
_ENDS = {"days": (".json", ".sha256"), "history": (".jsonl",)}
_ERASED = ".erased.json"
_STATEMENTS = (".json", ".absent.json", ".erased.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A closed day that somebody else than the archive knows, by the SHA-256 of its `.json`."""

    day: date
    sha256: str


class DaysVerifier:
    """Checks the days of the archive in a store, a unit at a time. `heads`: by account.

    A unit is named `{account}/days` for all of them together, `{account}/days/{YYYY-MM}` for those
    of a month. Raises Unstored where a bucket does not answer.
    """

    def __init__(self, store: Store, trust: Trust, heads: Mapping[str, Head]) -> None:
        self._store, self._trust, self._heads = store, trust, heads
        self._now = time.time()

    def units(self) -> list[str]:
        """The units of all accounts, in order."""
        found: list[str] = []
        for account in self._store.level("").folders:
            if wire.identifier(account) != account:
                continue
            folders = self._store.level(account).folders
            if account in self._heads or {"days", "history"} & set(folders):
                months = {f"{day:%Y-%m}" for day in self._closed(account)}
                found += [f"{account}/days", *(f"{account}/days/{m}" for m in sorted(months))]
        return found

    def check(self, unit: str, readers: ThreadPoolExecutor) -> Report:
        """The report of one unit."""
        report = Report()
        account, _, month = unit.partition("/days")
        if month:
            for day in self._closed(account):
                if f"/{day:%Y-%m}" == month:
                    _Checked(self._store, self._trust, account, day).check(report, readers)
        else:
            self._together(account, report)
        return report

    def _closed(self, account: str) -> list[date]:
        """The days that have a `.json`, in order."""
        files = self._store.level(f"{account}/days").files
        return sorted(day for entry in files if (day := days.day_of(entry.last)))

    def _together(self, account: str, report: Report) -> None:
        """Check what only all days together show: gaps, the end, strangers, what no list names."""
        closed = self._closed(account)
        for before, after in pairwise(closed):
            for n in range(1, (after - before).days):
                gone = before + timedelta(days=n)
                report.add("day_missing", f"{account}/{days.day_name(gone)}", "a day is missing")
        self._head(account, set(closed), report)
        for folder, ends in _ENDS.items():
            self._strangers(f"{account}/{folder}", ends, set(closed), report)
        if closed:
            self._unlisted(account, closed, report)

    def _head(self, account: str, closed: set[date], report: Report) -> None:
        head = self._heads.get(account)
        if head is None:
            return
        name = f"{account}/{days.day_name(head.day)}"
        if head.day not in closed:
            report.add("day_missing", name, "it was closed, and is not there: the end was cut off")
            return
        try:
            same = _sha256(self._store.read(name)) == head.sha256
        except (OSError, Conflict):
            same = False
        if not same:
            report.add("altered", name, "it is another than the one that was closed")

    def _strangers(
        self, folder: str, ends: tuple[str, ...], closed: set[date], report: Report
    ) -> None:
        """Name what belongs to no closed day."""
        level = self._store.level(folder)
        for step in level.folders:
            report.add("unreferenced", f"{folder}/{step}", "nobody knows it")
        for entry in level.files:
            plain = entry.last.removesuffix(".sig")
            end = next((e for e in ends if plain.endswith(e)), "")
            day = days.day_of(f"{plain.removesuffix(end)}.json") if end else None
            if day is None or not entry.is_plain:
                report.add("unreferenced", entry.name, "nobody knows it")
            elif day in closed:
                continue
            elif -_FRESH_S < self._now - entry.modified < _FRESH_S:
                report.counts["unfinished"] += 1
            else:
                report.add("day_missing", entry.name, "there is no .json of its day")

    def _unlisted(self, account: str, closed: list[date], report: Report) -> None:
        """Name receipts and the like that no day's list has, although their time says that one
        should. Whoever holds the key can sign with an earlier date; the lists cannot be earlier.
        """
        listed = set[str]()
        for day in closed:
            listed |= self._statements(f"{account}/{days.list_name(day)}")
        for entry in self._store.list(account):
            name = entry.name.partition("/")[2]
            if not days.is_of_recording(name) or not name.endswith(_STATEMENTS) or name in listed:
                continue
            try:
                at = _time_of(self._store.read(entry.name))
            except (OSError, Conflict):
                continue  # the check of its folder names it
            # On the first day an older release may have archived, which makes no lists. A recording
            # whose download took long is in the list of the day when it came home.
            if at and closed[0] < at.date() < closed[-1]:
                report.add("unlisted", entry.name, "no day's list names it")

    def _statements(self, name: str) -> set[str]:
        """The receipts and the like of a list; none where it cannot be read, which the day's own
        check tells.
        """
        try:
            found = days.read_list(self._store.read(name))
        except (OSError, Conflict, ValueError):
            return set()
        return {one for one in found if one.endswith(_STATEMENTS)}


class _Checked:
    """One closed day."""

    def __init__(self, store: Store, trust: Trust, account: str, day: date) -> None:
        self._store, self._trust, self._account, self._day = store, trust, account, day
        self._folders: dict[str, dict[str, Entry]] = {}
        self._erased: set[str] | None = None  # the ids of what was erased, once they are needed
        self._reading = threading.Lock()

    def check(self, report: Report, readers: ThreadPoolExecutor) -> None:
        name = self._name(days.day_name(self._day))
        content = self._get(name, "day_missing", report)
        if content is None:
            return
        try:
            said = days.read(content)
        except ValueError as error:
            report.add("unreadable", name, str(error))
            return
        report.counts["days"] += 1
        if (said["account"], said["day"]) != (self._account, self._day.isoformat()):
            report.add("misplaced", name, "it is about another account or day")
        closed_at = wire.parse_rfc3339(str(said.get("closed_at")))
        self._signed(name, content, (signing.DAYS, closed_at), report)
        before = self._before(said, name, report)
        self._history(said, before, closed_at, report)
        self._list(said, closed_at, report, readers)

    # The chain
    # --------------------------------------------------------------------------------------------

    def _before(self, said: Mapping[str, Any], name: str, report: Report) -> str | None:
        """Check the link to the day before. Returns the head of the history then; None where that
        day cannot say.
        """
        told = said.get("before")
        earlier = self._day - timedelta(days=1)
        place = self._name(days.day_name(earlier))
        try:
            content = self._store.read(place)
        except (FileNotFoundError, Conflict):
            if told:
                report.add("day_missing", place, f"{name} has its digest, and it is not there")
                return None
            return history_file.NO_LINE  # the first day
        expected = {"day": earlier.isoformat(), "sha256": _sha256(content)}
        if told != expected:
            report.add("chain_broken", name, "it does not follow the file of the day before")
        try:
            return str(days.read(content)["history"]["head"])
        except ValueError:
            return None

    def _history(
        self,
        said: Mapping[str, Any],
        head: str | None,
        at: datetime | None,
        report: Report,
    ) -> None:
        name, told = self._name(days.history_name(self._day)), said["history"]
        if not told.get("entries"):
            if _stands(self._store, name):
                report.add("unreferenced", name, "its day says that nothing was done")
            elif head is not None and told["head"] != head:
                report.add("chain_broken", name, "the history's head changed without an entry")
            return
        content = self._get(name, "history_missing", report)
        if content is None:
            return
        self._signed(name, content, (signing.HISTORY, at), report)
        lines = content.count(b"\n")
        report.counts["entries"] += lines
        if lines < told["entries"]:
            cut = f"it has {lines} lines, its day says {told['entries']}"
            report.add("history_cut", name, cut)
        elif _sha256(content) != told.get("sha256"):
            report.add("altered", name, "its SHA-256 is not the day's")
        if head is None:
            return
        try:
            last = history_file.read(content, head)[1]
        except history_file.Broken as error:
            report.add("chain_broken", name, str(error))
            return
        if last != told["head"] and lines >= told["entries"]:
            report.add("chain_broken", name, "its last line is not the one that the day names")

    # The files that were filed
    # --------------------------------------------------------------------------------------------

    def _list(
        self,
        said: Mapping[str, Any],
        at: datetime | None,
        report: Report,
        readers: ThreadPoolExecutor,
    ) -> None:
        name = self._name(days.list_name(self._day))
        content = self._get(name, "list_missing", report)
        if content is None:
            return
        self._signed(name, content, (signing.DAYS, at), report)
        if _sha256(content) != said["files"]["sha256"]:
            report.add("altered", name, "its SHA-256 is not the day's")
        try:
            lines = days.read_list(content)
        except ValueError as error:
            report.add("unreadable", name, str(error))
            return
        report.counts["listed"] += len(lines)
        for part in readers.map(partial(self._listed, lines), lines):
            report.take(part)

    def _listed(self, lines: Mapping[str, str], name: str) -> Report:
        """Check one file of the list. Audio is not read: its receipt's digest counts."""
        report, path = Report(), self._name(name)
        folder, _, last = path.rpartition("/")
        if last not in self._level(folder):
            self._gone(path, report)
        elif name.endswith((".json", ".sha256", ".jsonl")):
            content = self._get(path, "file_missing", report)
            if content is not None and _sha256(content) != lines[name]:
                report.add("altered", path, f"its SHA-256 is not that of {self._day}")
        else:
            is_derived = keys.is_derived(last)
            receipt = f"{path}.json" if is_derived else f"{folder}/{last.partition('.')[0]}.json"
            if _stands(self._store, receipt):
                said = _object(self._store.read(receipt))
                media = said if is_derived else said.get("media")
                digest = media.get("sha256") if isinstance(media, dict) else None
                if digest != lines[name]:
                    report.add("altered", path, f"its SHA-256 is not that of {self._day}")
        return report

    def _gone(self, path: str, report: Report) -> None:
        """A file that was filed and is not there: erased with a tombstone, or lost."""
        folder, _, last = path.rpartition("/")
        if path.startswith(f"{self._account}/facts/"):
            erased = self._is_erased(folder.rpartition("/")[2])
        else:
            erased = f"{last.partition('.')[0]}{_ERASED}" in self._level(folder)
        if erased:
            report.counts["gone_erased"] += 1
        else:
            report.add("file_missing", path, f"it was filed on {self._day}, and is not there")

    def _is_erased(self, recording_id: str) -> bool:
        """Whether a tombstone of the recording stands anywhere in the account: its facts do not say
        in which folder.
        """
        with self._reading:
            if self._erased is None:
                names = (entry.last for entry in self._store.list(self._account))
                self._erased = {n.removesuffix(_ERASED) for n in names if n.endswith(_ERASED)}
        return recording_id in self._erased

    def _level(self, folder: str) -> dict[str, Entry]:
        if folder not in self._folders:
            self._folders[folder] = {e.last: e for e in self._store.level(folder).files}
        return self._folders[folder]

    # Small things
    # --------------------------------------------------------------------------------------------

    def _get(self, name: str, missing: str, report: Report) -> bytes | None:
        try:
            return self._store.read(name)
        except FileNotFoundError:
            report.add(missing, name, "it is not there")
        except (OSError, Conflict) as error:
            report.add("unreadable", name, str(error))
        return None

    def _signed(
        self, name: str, content: bytes, use: tuple[str, datetime | None], report: Report
    ) -> None:
        namespace, at = use
        try:
            signature = self._store.read(keys.signature_of(name))
        except (FileNotFoundError, Conflict):
            report.add("unsigned", name, "its signature is missing")
            return
        wrong = self._trust.judge(content, signature, at, namespace)
        if wrong:
            report.add(wrong[0], name, wrong[1])
        report.counts["signed"] += wrong is None

    def _name(self, name: str) -> str:
        return f"{self._account}/{name}"


def _stands(store: Store, name: str) -> bool:
    """Whether a file stands under the name."""
    try:
        store.head(name)
    except (FileNotFoundError, Conflict):
        return False
    return True


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _object(content: bytes) -> dict[str, Any]:
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _time_of(content: bytes) -> datetime | None:
    """When a receipt or the like was written, by its own words."""
    said = _object(content)
    fetch = said.get("fetch")
    text = fetch.get("fetched_at") if isinstance(fetch, dict) else said.get("at")
    return wire.parse_rfc3339(text) if isinstance(text, str) else None
