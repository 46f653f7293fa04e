"""What an archive holds of one recording, and removing it.

A tombstone stands before anything is removed; whoever calls this has seen to that. To repeat a step
is harmless, also after a crash at any point.
"""

from __future__ import annotations

from collections.abc import Callable

from worker.archive import facts, keys, object_lock
from worker.archive.keys import Key
from worker.archive.store import Store

# In this order, after the audio.
_LAST = (".peaks", ".json.sig", ".json", ".absent.json.sig", ".absent.json")


def files_of(store: Store, key: str) -> list[str]:
    """The files of the recording with this key, all but its tombstone, in the order in which they
    are removed: the audio, then what speaks about it, then the facts, the last one last. `key`:
    with any extension.
    """
    parsed = keys.parse(key)
    stem = parsed.beside(".")
    beside = [
        entry.name for entry in store.starting(stem) if not entry.name.startswith(parsed.tombstone)
    ]
    beside.sort(key=lambda name: (_turn(name.removeprefix(stem[:-1])), name))
    said = [entry.name for entry in store.level(_facts_of(parsed)).files]
    return [*beside, *sorted(said, key=_number)]


def remove(store: Store, key: str, keep_going: Callable[[], None]) -> int:
    """Remove the files of the recording, in a bucket that keeps versions all of them. Returns how
    many files there were. `keep_going` raises to abort.
    """
    names = files_of(store, key)
    for name in names:
        keep_going()
        store.delete(name)
    parsed = keys.parse(key)
    stems = (parsed.beside("."), f"{_facts_of(parsed)}/")
    object_lock.remove_versions(store, stems, parsed.tombstone)
    return len(names)


def beside(store: Store, key: str) -> list[str]:
    """The same without the facts."""
    facts_of = _facts_of(keys.parse(key))
    return [name for name in files_of(store, key) if not name.startswith(f"{facts_of}/")]


def _facts_of(key: Key) -> str:
    return facts.folder_of(key.folder.partition("/")[0], key.recording_id)


def _turn(ending: str) -> int:
    return _LAST.index(ending) + 1 if ending in _LAST else 0


def _number(name: str) -> tuple[int, str]:
    last = name.rpartition("/")[2].removesuffix(".sig")
    return facts.number_of(last) or 0, name
