"""The spool: where files are while they are downloaded, before they belong to the archive.

A living attempt holds a lock on its file, so a file without a holder was left by a dead attempt.
The next attempt at that recording goes on with it if notes lie beside it, else a sweep removes it.
A whole file that the archive refused is kept, with a note beside it of what is known about it.
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

_SPOOL_FILE = re.compile(r"\.[A-Za-z0-9_-]{1,128}\.[0-9]{1,20}\.(part|notes|new|kept)")
_KEPT_S = 7 * 86_400.0  # longer than nobody touched it: another machine brought the recording home
_ANEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A file in the spool, open, that this attempt alone writes to, and the notes beside it."""

    path: Path
    file: BinaryIO
    notes: Path  # what a later attempt needs to continue the file; the download writes it

    @property
    def kept(self) -> bytes | None:
        """What `keep` noted; None where the file was not kept."""
        try:
            return self._note.read_bytes()
        except FileNotFoundError:
            return None

    def keep(self, note: bytes) -> None:
        """Keep the file, which is whole, for a later attempt, on disk for good."""
        if self.kept is None:
            os.fsync(self.file.fileno())
            beside = self.path.with_suffix(".new")
            with os.fdopen(os.open(beside, _ANEW, 0o600), "wb") as file:
                file.write(note)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._note)
            durable.sync_directory(self.path.parent)
        os.utime(self.path)

    @property
    def _note(self) -> Path:
        return self.path.with_suffix(".kept")

    def remove(self) -> None:
        self._note.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)
        self.notes.with_suffix(".new").unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


class Spool:
    """The directory is made when it is missing, readable by its owner only."""

    def __init__(self, place: Path) -> None:
        self.place = Path(place)
        self.swept_at = 0.0  # when this process last swept it, by the monotonic clock

    def path(self, recording_id: str, fence: int) -> Path:
        """The path of the file for this attempt. Makes the directory, not the file. Raises
        ValueError for what is no recording id.
        """
        if wire.identifier(recording_id) != recording_id:
            raise ValueError(f"not a recording id: {recording_id[:140]!r}")
        path = self.place / f".{recording_id}.{int(fence):d}.part"
        with durable.full_disk(path):
            durable.make(self.place)
        return path

    def create(self, recording_id: str, fence: int) -> Path:
        """Make a new, empty file for this attempt alone, and return its path.

        Raises StaleLease if this attempt has a file already, Unstored when the disk is full,
        ValueError for what is no recording id.
        """
        path = self.path(recording_id, fence)
        with durable.full_disk(path):
            try:
                os.close(os.open(path, durable.CREATE, 0o600))
            except FileExistsError:
                raise StaleLease(f"attempt {fence} at {recording_id} has a file already") from None
        return path

    @contextlib.contextmanager
    def part(self, recording_id: str, fence: int) -> Iterator[Part]:
        """The file for an attempt's download: what a dead attempt left with notes to it, else a new
        one.

        The file is removed at the end. If the attempt fails and the file was kept, or there are
        notes, the file stays for the next attempt. Raises as `create` does.
        """
        part = self._leftover(recording_id) or self._new(recording_id, fence)
        with durable.full_disk(part.path), part.file:
            try:
                yield part
            except BaseException as error:
                goes_on = part.notes.exists() and not isinstance(error, OSError)
                if part.kept is None and not goes_on:
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

    def kept_bytes(self) -> int:
        """How much is kept for the archive."""
        kept = 0
        for note in self.place.glob(".*.kept"):
            with contextlib.suppress(FileNotFoundError):
                kept += note.with_suffix(".part").stat().st_size
        return kept

    def drop_leftovers(self) -> None:
        """Remove every file that a dead attempt left with notes, so that its disk space is free."""
        for part in self._leftovers("."):
            if part.kept is None:
                _drop(part)
            else:
                part.file.close()

    def left(self, older_than_s: float) -> set[str]:
        """The recordings of which attempts left something to go on with that nobody has written to
        for so long.
        """
        horizon, found = time.time() - older_than_s, set[str]()
        with contextlib.suppress(FileNotFoundError), os.scandir(self.place) as entries:
            for entry in entries:
                if _SPOOL_FILE.fullmatch(entry.name) and entry.name.endswith((".notes", ".kept")):
                    with contextlib.suppress(FileNotFoundError):
                        if entry.stat(follow_symlinks=False).st_mtime < horizon:
                            found.add(entry.name.split(".")[1])
        return found

    def forget(self, recording_id: str) -> None:
        """Remove what attempts at this recording left. A file that an attempt holds stays."""
        while part := self._leftover(recording_id):
            with part.file:
                part.remove()

    def sweep(self, older_than_s: float) -> int:
        """Remove the files of dead attempts: those that nobody holds and that nobody has written to
        for `older_than_s`. Returns how many were removed.

        Harmless to repeat. `older_than_s` is how long an unfinished download may wait for its next
        attempt.
        """
        self.swept_at = time.monotonic()
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
        parts.sort(key=lambda part: part.kept is not None)  # one that is whole is the best
        for part in parts[:-1]:
            _drop(part)
        return parts[-1] if parts else None

    def _leftovers(self, begin: str) -> Iterator[Part]:
        """What dead attempts left with notes, or kept whole, of the files whose names begin so."""
        # Without a pattern: the standard library would keep that of each recording, some 3 KB.
        paths = list[Path]()
        with contextlib.suppress(FileNotFoundError):
            paths = [path for path in self.place.iterdir() if path.name.startswith(begin)]
        marks = {p.with_suffix(".notes") for p in paths if p.suffix in {".notes", ".kept"}}
        return filter(None, map(_taken_over, sorted(marks)))


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
        part = Part(path=path, file=file, notes=notes)
        # A file with a second name, or with another name than this, lies in the archive already:
        # never write to that. Nobody writes to one that was kept.
        may_be_ours = opened.st_nlink == 1 or part.kept is not None
        is_ours = stat.S_ISREG(opened.st_mode) and may_be_ours
        if is_ours and os.path.samestat(opened, named):
            return part
    except OSError:
        pass
    file.close()
    return None


def _is_dead(entry: os.DirEntry[str], horizon: float) -> bool:
    """Whether this is a spool file that was last written before `horizon` and that nobody holds."""
    part = Path(entry.path).with_suffix(".part")
    if part.with_suffix(".kept").exists():
        with contextlib.suppress(FileNotFoundError):
            return part.stat().st_mtime < time.time() - _KEPT_S and not _is_held(part)
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
