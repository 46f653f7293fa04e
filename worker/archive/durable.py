"""Gives a file its name: whole or not at all, never replaced, and on disk for good before anybody
is told.

The file is written elsewhere, forced to disk, linked to its name (a link fails where the name is
taken, unlike a rename), and then the directory is forced to disk. So the file system must support
hard links.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from worker.errors import Conflict, CorruptMedia, Unstored

_DEAD_S = 3600.0  # an unfinished copy that is older than this belongs to a dead process
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LINK_FROM_THERE = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK, opening a named pipe would wait for its writer.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
WRITE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def make(place: Path) -> None:
    """Make the directory and all above it, on disk for good. New ones are readable by their owner
    only.
    """
    if place.is_dir():
        return
    make(place.parent)
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
    sync_directory(place.parent)


def sync_directory(place: Path) -> None:
    """Force the names in the directory to disk."""
    directory = os.open(place, DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def enter(parent: int, step: str, *, make: bool) -> int:
    """The open directory `step` in `parent`, made if asked for. Raises Conflict where it is a link
    or no directory.
    """
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(step, 0o700, dir_fd=parent)
        # Also if the directory was there: the process that made it may have died before its fsync.
        os.fsync(parent)
    try:
        return os.open(step, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise Conflict(f"{step} in the archive is a link or no directory") from None
        raise


def open_regular(name: str | Path, directory: int | None = None) -> BufferedReader:
    """A plain file, for reading. Raises Conflict for links, pipes and the like,
    FileNotFoundError.
    """
    try:
        file = os.fdopen(os.open(name, _READ, dir_fd=directory), "rb")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Conflict(f"{name} is a link") from None
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Conflict(f"{name} is no plain file")
    return file


def put(part: Path, directory: int, name: str, sha256: str) -> None:
    """Put the part's content under the name, on disk for good. The part stays where it is.

    Harmless to repeat. Raises Conflict where other content stands under the name, CorruptMedia when
    a copy differs, Unstored where the file system has no hard links.
    """
    with open_regular(part) as source:
        _give_name(source, part, directory, name, sha256)


def create(part: Path, data: bytes, directory: int, name: str) -> None:
    """Put a small file under the name, on disk for good, by way of a new file `part` that nobody
    has seen. Raises as `put` does.
    """
    number = os.open(part, CREATE, 0o600)
    try:
        with os.fdopen(number, "w+b") as source:
            source.write(data)
            source.flush()
            source.seek(0)
            _give_name(source, part, directory, name, hashlib.sha256(data).hexdigest())
    finally:
        part.unlink(missing_ok=True)


def _give_name(source: BinaryIO, part: Path, directory: int, name: str, sha256: str) -> None:
    """Force the file, which is open as `source`, to disk, and link it to its name."""
    os.fsync(source.fileno())
    try:
        _link(part, directory, name, sha256)
    except OSError as error:
        if error.errno not in _NO_LINK_FROM_THERE:
            raise
        _copy_and_link(source, directory, name, sha256)


def _link(
    part: str | Path, directory: int, name: str, sha256: str, *, source: int | None = None
) -> None:
    """Give the file its name. Done, too, if the same content stands under the name already. Raises
    Conflict where other content stands there.
    """
    try:
        os.link(part, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
    except FileExistsError:
        with open_regular(name, directory) as stands:
            if hashlib.file_digest(stands, "sha256").hexdigest() != sha256:
                raise Conflict(f"other content stands under {name}") from None
            os.fsync(stands.fileno())
    os.fsync(directory)


def _copy_and_link(source: BinaryIO, directory: int, name: str, sha256: str) -> None:
    """Bring the file from another file system: copy it beside the name, under a name of its own,
    then link the copy.
    """
    _forget_leftovers(directory, name)
    beside = f".{name}.{secrets.token_hex(8)}.part"
    try:
        with os.fdopen(os.open(beside, CREATE, 0o600, dir_fd=directory), "w+b") as copy:
            shutil.copyfileobj(source, copy, 1024 * 1024)
            copy.flush()
            os.fsync(copy.fileno())
            copy.seek(0)
            if hashlib.file_digest(copy, "sha256").hexdigest() != sha256:
                raise CorruptMedia(
                    "the copy in the archive differs from what was downloaded", check="sha256"
                )
            _link(beside, directory, name, sha256, source=directory)
    except OSError as error:
        if error.errno in _NO_LINK_FROM_THERE:
            raise Unstored(
                f"cannot make a link in the archive ({error.strerror}):"
                " its file system needs hard links, and its directories must be writable"
            ) from error
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=directory)


def _forget_leftovers(directory: int, name: str) -> None:
    """Remove unfinished copies for this name that are older than an hour: no living process still
    writes to those.
    """
    for leftover in os.listdir(directory):
        if leftover.startswith(f".{name}.") and leftover.endswith(".part"):
            with contextlib.suppress(FileNotFoundError):
                if (
                    os.stat(leftover, dir_fd=directory, follow_symlinks=False).st_mtime
                    < time.time() - _DEAD_S
                ):
                    os.unlink(leftover, dir_fd=directory)


def is_full(error: OSError) -> bool:
    """Whether a disk or a quota is full."""
    return error.errno in _FULL


@contextlib.contextmanager
def full_disk(part: Path) -> Iterator[None]:
    """Remove the part and raise Unstored when the disk or a quota runs full inside."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        part.unlink(missing_ok=True)
        raise Unstored("the disk is full") from error
