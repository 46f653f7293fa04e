"""The catalogue from the archive alone: every receipt, every statement that a recording was given
up, every tombstone, and every fact.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import structlog

from worker.archive import derived, fact_files, facts, keys
from worker.archive.facts import Fact
from worker.archive.filing import Archive
from worker.archive.keys import Key
from worker.catalogue import rows
from worker.catalogue.database import Catalogue
from worker.catalogue.rows import Row
from worker.errors import Conflict

log = structlog.get_logger()
_AT_ONCE = 500


def row_of(archive: Archive, key: str, *, governed: bool = True) -> Row | None:
    """The row of the recording that is filed under a key, which may have any extension where there
    is no audio: that of its tombstone, of its audio, or of its absence. None where there is
    nothing. `governed` False: no fact was written about it and no file made from it, so the archive
    is not asked about that.

    Raises OSError, Unstored, Conflict, and ValueError for a file that is none of ours.
    """
    try:
        return _row_of(archive, key, governed=governed)
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"a part of it is of another kind: {error!r:.200}") from None


def _row_of(archive: Archive, key: str, *, governed: bool) -> Row | None:
    parsed = keys.parse(key)
    if governed and (tombstone := archive.tombstone(key)):
        return rows.of_tombstone(tombstone, parsed.beside(".erased"))
    known = _facts(archive, parsed) if governed else []
    try:
        receipt = json.loads(archive.receipt(key))
    except FileNotFoundError:
        with contextlib.suppress(FileNotFoundError):
            absence = json.loads(archive.absence(key))
            return rows.of_absence(absence, key, held=facts.is_held(known))
        return None
    made = derived.all_of(archive.store, key) if governed else []
    return rows.of_receipt(receipt, key, known, made)


def enter_anew(catalogue: Catalogue, archive: Archive, key: str) -> None:
    """Enter the row of a recording as the archive has it at the end: of two who change something at
    once, the one that enters last may have read first. Raises as `row_of` and `enter` do.
    """
    entered = None
    while (row := row_of(archive, key)) and row != entered:
        catalogue.enter([row])
        entered = row


def _facts(archive: Archive, key: Key) -> list[Fact]:
    account = key.folder.partition("/")[0]
    return fact_files.read_all(archive.store, account, key.recording_id)


def rebuild(
    catalogue: Catalogue, archive: Archive, told: Callable[[int, int], None]
) -> dict[str, int]:
    """Enter every recording of the archive, and remove the rows of which it knows nothing.

    Calls `told` with how many recordings are done, and how many days. Returns how many were
    `archived`, `abandoned`, `erased`, `removed`, and `unreadable`, of which the log names each.
    Raises CatalogueAway, OSError, Unstored.
    """
    kinds = ("archived", "abandoned", "erased", "unreadable", "removed")
    counts = Counter(dict.fromkeys(kinds, 0))
    seen, batch = set[tuple[str, str]](), list[Row]()
    with_facts = {
        account: set(archive.store.level(f"{account}/facts").folders)
        for account in archive.store.level("").folders
    }
    for days, day in enumerate(_days(archive), 1):
        account = day.partition("/")[0]
        for key, has_more in _recordings_of(archive, day):
            recording_id = _recording_id(key)
            seen.add((account, recording_id))
            is_governed = has_more or recording_id in with_facts[account]
            try:
                row = row_of(archive, key, governed=is_governed)
            except (ValueError, Conflict, PermissionError) as error:
                log.warning("a receipt cannot be read", key=key, error=str(error))
                counts["unreadable"] += 1
                continue
            if row:
                batch.append(row)
            if len(batch) >= _AT_ONCE:
                counts.update(_enter(catalogue, batch))
                _catch_up(catalogue, archive, batch)
                batch.clear()
            told(len(seen), days)
    counts.update(_enter(catalogue, batch))
    _catch_up(catalogue, archive, batch)
    counts["removed"] = _remove_strangers(catalogue, archive, seen)
    return dict(counts)


def _enter(catalogue: Catalogue, rows: Sequence[Row]) -> Iterator[str]:
    """Enter these rows. One that the database cannot hold keeps no other out. Yields what became of
    each. Raises CatalogueAway.
    """
    try:
        catalogue.enter(rows)
    except ValueError as error:
        if len(rows) == 1:
            log.warning("a receipt cannot be entered", key=rows[0].key, error=str(error))
            yield "unreadable"
            return
        for row in rows:
            yield from _enter(catalogue, [row])
    else:
        yield from (row.view["phase"] for row in rows)


def _catch_up(catalogue: Catalogue, archive: Archive, entered: Sequence[Row]) -> None:
    """Enter anew what was held, erased or linked to while its row was on its way here: who did that
    entered a newer row before ours.
    """
    while entered:
        newer = list[Row]()
        for row in _governed(archive, entered):
            with contextlib.suppress(ValueError, Conflict, PermissionError):
                now = row_of(archive, row.key)
                newer += [now] if now and now != row else []
        for _ in _enter(catalogue, newer):
            pass
        entered = newer


def _governed(archive: Archive, rows: Sequence[Row]) -> Iterator[Row]:
    """Those of these recordings that have a fact, a tombstone or a file made from them by now."""
    with_facts = {
        account: set(archive.store.level(f"{account}/facts").folders)
        for account in {row.id[0] for row in rows}
    }
    folders = {row.key.rpartition("/")[0] for row in rows}
    more = {
        (folder, _recording_id(entry.name))
        for folder in folders
        for entry in archive.store.level(folder).files
        if entry.last.endswith(".erased.json") or keys.is_derived(entry.last)
    }
    for row in rows:
        account, recording_id = row.id
        beside = (row.key.rpartition("/")[0], recording_id)
        if recording_id in with_facts[account] or beside in more:
            yield row


def _days(archive: Archive) -> Iterator[str]:
    for account in archive.store.level("").folders:
        for year in archive.store.level(account).folders:
            if not (year.isdigit() and len(year) == 4):
                continue
            for month in archive.store.level(f"{account}/{year}").folders:
                for day in archive.store.level(f"{account}/{year}/{month}").folders:
                    yield f"{account}/{year}/{month}/{day}"


def _recordings_of(archive: Archive, day: str) -> Iterator[tuple[str, bool]]:
    """A key for each recording of a day: that of its tombstone, its audio, or its absence; and
    whether there is a tombstone, or a file made from it.
    """
    files = (entry.name for entry in archive.store.list(day))
    for recording_id, group in groupby(files, key=_recording_id):
        names, place = set(group), f"{day}/{recording_id}"
        if f"{place}.erased.json" in names:
            yield f"{place}.erased", True  # whatever a restored backup brought back
        elif f"{place}.json" in names:
            yield _audio(archive, f"{place}.json", names), any(map(keys.is_derived, names))
        elif f"{place}.absent.json" in names:
            yield f"{place}.absent", False


def _recording_id(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0]


def _audio(archive: Archive, receipt: str, names: set[str]) -> str:
    """The key of the audio beside a receipt; the name with its digest goes first."""
    beside = (".json", ".sig", ".peaks")
    audio = sorted(n for n in names if not (n.endswith(beside) or keys.is_derived(n)))
    if len(audio) > 1:
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError, Conflict):
            digest = json.loads(archive.store.read(receipt))["media"]["sha256"][:16]
            named = [name for name in audio if name.split(".")[-2] == digest]
            audio = named or [name for name in audio if name.rpartition("/")[2].count(".") == 1]
    return audio[0] if audio else f"{receipt.removesuffix('.json')}.bin"


def _remove_strangers(catalogue: Catalogue, archive: Archive, seen: set[tuple[str, str]]) -> int:
    """Remove the rows of recordings that were not seen, and are not in the archive now."""
    gone = []
    for account, recording_id in catalogue.ids():
        if (account, recording_id) in seen:
            continue
        row = catalogue.find(recording_id, account)
        # One that was filed meanwhile was perhaps not listed.
        if row and row_of(archive, row.key) is None:
            gone.append((account, recording_id))
    for at in range(0, len(gone), _AT_ONCE):
        catalogue.remove(gone[at : at + _AT_ONCE])
    return len(gone)
