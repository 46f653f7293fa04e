"""What an archive holds of one recording, and removing it.

A tombstone stands before anything is removed; whoever calls this has seen to that. To repeat a step
is harmless, also after a crash at any point.
"""

from __future__ import annotations

from collections.abc import Callable

from worker.archive import facts, keys
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
    folder = facts.folder_of(parsed.folder.partition("/")[0], parsed.recording_id)
    said = [entry.name for entry in store.level(folder).files]
    return [*beside, *sorted(said, key=_number)]


def remove(store: Store, key: str, keep_going: Callable[[], None]) -> int:
    """Remove the files of the recording. Returns how many there were. `keep_going` raises to
    abort.
    """
    names = files_of(store, key)
    for name in names:
        keep_going()
        store.delete(name)
    return len(names)


def _turn(ending: str) -> int:
    return _LAST.index(ending) + 1 if ending in _LAST else 0


def _number(name: str) -> tuple[int, str]:
    last = name.rpartition("/")[2].removesuffix(".sig")
    return facts.number_of(last) or 0, name
