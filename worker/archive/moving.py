"""Moves what a fallback took into the archive: copied, read back, and only then removed there.

A file moves after those that it speaks about: audio, receipt, signature. Whatever dies between two
steps, the next run finds each file in one place or in both.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from worker.archive import keys
from worker.archive.filing import SIGNERS, Archive
from worker.archive.store import Entry, Store
from worker.errors import Conflict, Unstored

_SMALL = 1024 * 1024
_BLOCK = 1024 * 1024
_ABSENT = ".absent.json"
_LAST = (".json", ".sig", ".peaks")  # in this order, after all other files of a folder


@dataclass(slots=True)
class Moved:
    """How many files moved, and those that stay because other content has their name."""

    files: int = 0
    stay: list[str] = field(default_factory=list)


def move_back(archive: Archive, keep_going: Callable[[], bool]) -> Moved:
    """Move all that the archive's fallback holds, while `keep_going`. Harmless to repeat, and to do
    twice at once. Raises Unstored and OSError where one of the two does not answer.
    """
    moved = Moved()
    if archive.fallback is not None:
        _folder(archive, archive.fallback.store, "", moved, keep_going)
    return moved


def _folder(
    archive: Archive, source: Store, folder: str, moved: Moved, keep_going: Callable[[], bool]
) -> None:
    level = source.level(folder)
    for entry in sorted(level.files, key=_turn):
        if not keep_going():
            return
        with contextlib.suppress(FileNotFoundError):  # another process moved it
            if entry.is_plain and _one(archive, source, entry):
                _remove_if_erased(archive, entry.name)
                source.delete(entry.name)
                moved.files += 1
            else:
                moved.stay.append(entry.name)
    for step in level.folders:
        _folder(archive, source, f"{folder}/{step}" if folder else step, moved, keep_going)


def _remove_if_erased(archive: Archive, name: str) -> None:
    """Remove what was moved just now, where its recording was erased meanwhile: whoever erased it
    may have looked before it came.
    """
    key = f"{name.rpartition('/')[0]}/{name.rpartition('/')[2].partition('.')[0]}.any"
    with contextlib.suppress(ValueError):  # it belongs to no recording
        if ".erased.json" not in name and archive.tombstone(key):
            archive.store.delete(name)


def _turn(entry: Entry) -> tuple[int, str]:
    ending = next((n for n, last in enumerate(_LAST, 1) if entry.name.endswith(last)), 0)
    return ending, entry.name


def _one(archive: Archive, source: Store, entry: Entry) -> bool:
    """Copy a file and read it back. False where other content has its name."""
    try:
        if entry.bytes <= _SMALL:
            content = source.read(entry.name)
            sha256 = hashlib.sha256(content).hexdigest()
            archive.store.create(entry.name, content)
        else:
            sha256 = _copied(archive, source, entry)
    except Conflict:
        return _says_the_same(archive, source, entry.name)
    with archive.store.open(entry.name) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:  # type: ignore[arg-type]
            raise Unstored(f"{entry.name} was not read back as it was copied")
    return True


def _copied(archive: Archive, source: Store, entry: Entry) -> str:
    """Copy a file by way of the spool. Returns its digest."""
    part = archive.spool.create("moving", secrets.randbelow(10**18))
    try:
        digest = hashlib.sha256()
        with archive.spool.writing(part) as file, source.open(entry.name) as stands:
            while block := stands.read(_BLOCK):
                digest.update(block)
                file.write(block)
        archive.store.put_file(entry.name, part, digest.hexdigest())
        return digest.hexdigest()
    finally:
        part.unlink(missing_ok=True)


def _says_the_same(archive: Archive, source: Store, name: str) -> bool:
    """Whether what the archive has under a name makes the fallback's copy needless: the receipt of
    the same audio or the statement about the same recording, signed; an outline; a key's line.

    A put that seemed to fail may have succeeded, and the recording was filed in both places.
    """
    # An outline is derived from the same audio, and a line is about the key that names it: the
    # archive's own is as good.
    if name.endswith(".peaks") or name.startswith(f"{SIGNERS}/"):
        return True
    said = name.removesuffix(".sig")
    if not said.endswith(".json"):
        return False
    try:
        theirs = json.loads(source.read(said))
        if said.endswith(_ABSENT):
            archive.publish_absence(f"{said.removesuffix(_ABSENT)}.any", theirs)
            return True
        return _is_of_the_same_audio(archive, said, theirs)
    except FileNotFoundError:
        # The receipt moved before its signature: the archive's own is signed by then.
        return name.endswith(".sig")
    except (ValueError, TypeError, KeyError, Conflict):
        return False


def _is_of_the_same_audio(archive: Archive, receipt: str, theirs: dict[str, Any]) -> bool:
    key = f"{receipt.removesuffix('.json')}.any"
    keys.parse(key)
    sha256 = theirs["media"]["sha256"]
    if json.loads(archive.store.read(receipt))["media"]["sha256"] != sha256:
        return False
    extension = _extension(archive.store, receipt)
    archive.publish_receipt(archive.audio_of(f"{key[:-3]}{extension}", sha256), theirs)
    return True


def _extension(store: Store, receipt: str) -> str:
    """The extension of the audio beside a receipt."""
    folder, _, name = receipt.rpartition("/")
    before = f"{name.removesuffix('.json')}."
    endings = (
        entry.last.rpartition(".")[2]
        for entry in store.level(folder).files
        if entry.last.startswith(before)
        and not (entry.last.endswith((".json", ".sig", ".peaks")) or keys.is_derived(entry.last))
    )
    return next(endings, "any")
