"""The spool: where files are while they are downloaded, before they belong to the archive.

A living attempt holds a lock on its file, so a file without a holder was left by a dead attempt.
The next attempt at that recording goes on with it if notes lie beside it, else a sweep removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from worker import wire
from worker.archive import durable
from worker.errors import StaleLease

_SPOOL_FILE = re.compile(r"\.[A-Za-z0-9_-]{1,128}\.[0-9]{1,20}\.(part|notes|new)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A file in the spool, open, that this attempt alone writes to, and the notes beside it."""

    path: Path
    file: BinaryIO
    notes: Path  # what a later attempt needs to continue the file; the download writes it

    def remove(self) -> None:
        self.notes.unlink(missing_ok=True)
        self.notes.with_suffix(".new").unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


class Spool:
    """The directory is made when it is missing, readable by its owner only."""

    def __init__(self, place: Path) -> None:
        self.place = Path(place)

    def create(self, recording_id: str, fence: int) -> Path:
        """Make a new, empty file for this attempt alone, and return its path.

        Raises StaleLease if this attempt has a file already, Unstored when the disk is full,
        ValueError for what is no recording id.
        """
        if wire.identifier(recording_id) != recording_id:
            raise ValueError(f"not a recording id: {recording_id[:140]!r}")
        path = self.place / f".{recording_id}.{int(fence):d}.part"
        with durable.full_disk(path):
            durable.make(self.place)
            try:
                os.close(os.open(path, durable.CREATE, 0o600))
            except FileExistsError:
                raise StaleLease(f"attempt {fence} at {recording_id} has a file already") from None
        return path

    @contextlib.contextmanager
    def part(self, recording_id: str, fence: int) -> Iterator[Part]:
        """The file for an attempt's download: what a dead attempt left with notes to it, else a new
        one.

        The file is removed at the end. If the attempt fails and there are notes, the file stays for
        the next attempt. Raises as `create` does.
        """
        part = self._leftover(recording_id) or self._new(recording_id, fence)
        with durable.full_disk(part.path), part.file:
            try:
                yield part
            except BaseException as error:
                if isinstance(error, OSError) or not part.notes.exists():
                    part.remove()
                raise
            part.remove()

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[BinaryIO]:
        """A file that `create` made, open for writing and reading. On a full disk the file is
        removed, and Unstored raised.
        """
        with durable.full_disk(path), os.fdopen(os.open(path, durable.WRITE), "r+b") as file:
            yield file

    def drop_leftovers(self) -> None:
        """Remove every file that a dead attempt left with notes, so that its disk space is free."""
        for part in self._leftovers("."):
            _drop(part)

    def sweep(self, older_than_s: float) -> int:
        """Remove the files of dead attempts: those that nobody holds and that nobody has written to
        for `older_than_s`. Returns how many were removed.

        Harmless to repeat. `older_than_s` is how long an unfinished download may wait for its next
        attempt.
        """
        removed, horizon = 0, time.time() - older_than_s
        with contextlib.suppress(FileNotFoundError), os.scandir(self.place) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if _is_dead(entry, horizon):
                        Path(entry.path).unlink()
                        removed += 1
        return removed

    def _new(self, recording_id: str, fence: int) -> Part:
        path = self.create(recording_id, fence)
        file = os.fdopen(os.open(path, durable.WRITE), "r+b")
        # On a file system without locks nobody can take the file over, so none is needed.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Part(path=path, file=file, notes=path.with_suffix(".notes"))

    def _leftover(self, recording_id: str) -> Part | None:
        """The youngest file of this recording that a dead attempt left; older ones are removed."""
        if wire.identifier(recording_id) != recording_id:
            return None
        parts = list(self._leftovers(f".{recording_id}."))
        parts.sort(key=lambda part: os.fstat(part.file.fileno()).st_mtime)
        for part in parts[:-1]:
            _drop(part)
        return parts[-1] if parts else None

    def _leftovers(self, begin: str) -> Iterator[Part]:
        """What dead attempts left with notes, of the files whose names begin so."""
        # Without a pattern: the standard library would keep that of each recording, some 3 KB.
        paths = list[Path]()
        with contextlib.suppress(FileNotFoundError):
            paths = [path for path in self.place.iterdir() if path.name.startswith(begin)]
        return filter(None, map(_taken_over, (p for p in paths if p.suffix == ".notes")))


def _drop(part: Part) -> None:
    part.remove()
    part.file.close()


def _taken_over(notes: Path) -> Part | None:
    """The file to these notes, locked by us from now on. None where a living attempt holds it, or
    where it is no spool file any more.
    """
    path = notes.with_suffix(".part")
    try:
        file = os.fdopen(os.open(path, durable.WRITE), "r+b")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        opened, named = os.fstat(file.fileno()), path.stat(follow_symlinks=False)
        # A file with a second name, or with another name than this, lies in the archive already:
        # never write to that.
        is_single = stat.S_ISREG(opened.st_mode) and opened.st_nlink == 1
        if is_single and os.path.samestat(opened, named):
            return Part(path=path, file=file, notes=notes)
    except OSError:
        pass
    file.close()
    return None


def _is_dead(entry: os.DirEntry[str], horizon: float) -> bool:
    """Whether this is a spool file that was last written before `horizon` and that nobody holds."""
    return (
        _SPOOL_FILE.fullmatch(entry.name) is not None
        and entry.is_file(follow_symlinks=False)
        and entry.stat(follow_symlinks=False).st_mtime < horizon
        and not _is_held(Path(entry.path))
    )


def _is_held(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False
