"""The archive's files in a directory. How a file gets its name is in `durable`.

Each step of a name is opened without following links, so nothing lies outside the root. The root
itself may be a link.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from worker.archive import durable
from worker.archive.spool import Spool
from worker.archive.store import Entry, Level, Opened
from worker.errors import Conflict, Unstored

_MOST_MADE = 1000  # folders that a process remembers; each is a day of an account


class Directory:
    """A store in a directory, which is made when it is missing, readable by its owner only. Small
    files are written in the spool first.
    """

    def __init__(self, root: Path, spool: Spool) -> None:
        self.root, self._spool = Path(root), spool
        self._made = set[str]()  # folders that this process has seen on disk for good
        self._of_thread = threading.local()  # `held`: the folder that `within` keeps open

    @contextlib.contextmanager
    def within(self, name: str) -> Iterator[None]:
        with self._folder(name, make=True) as (here, _):
            self._of_thread.held = (name.rpartition("/")[0], here)
            try:
                yield
            finally:
                self._of_thread.held = None

    def create(self, name: str, data: bytes) -> None:
        part = self._spool.path("small-file", secrets.randbelow(10**18))
        with _full_disk(), self._folder(name, make=True) as (folder, last):
            durable.create(part, data, folder, last)

    def put_file(self, name: str, part: Path, sha256: str) -> None:
        with _full_disk(), self._folder(name, make=True) as (folder, last):
            durable.put(part, folder, last, sha256)

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read()

    def open(self, name: str) -> Opened:
        with self._folder(name) as (folder, last):
            file = durable.open_regular(last, folder)
        return Opened(entry=_entry(name, os.fstat(file.fileno())), file=file)

    def head(self, name: str) -> Entry:
        with self._folder(name) as (folder, last):
            entry = _entry(name, os.stat(last, dir_fd=folder, follow_symlinks=False))
        if not entry.is_plain:
            raise Conflict(f"{last} is no plain file")
        return entry

    def level(self, folder: str) -> Level:
        level, before = Level(), f"{folder}/" if folder else ""
        try:
            with self._folder(f"{before}any") as (here, _), os.scandir(here) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        level.folders.append(entry.name)
                    else:
                        with contextlib.suppress(FileNotFoundError):
                            status = entry.stat(follow_symlinks=False)
                            level.files.append(_entry(before + entry.name, status))
        except (FileNotFoundError, Conflict):  # nothing, a link, or a file
            return Level()
        level.folders.sort()
        level.files.sort(key=lambda entry: entry.name)
        return level

    def list(self, folder: str) -> Iterator[Entry]:
        level, before = self.level(folder), f"{folder}/" if folder else ""
        files = {entry.name: entry for entry in level.files}
        # A folder's place among the files is that of its name with the slash.
        for name in sorted([*files, *(f"{before}{step}/" for step in level.folders)]):
            if name in files:
                yield files[name]
            else:
                yield from self.list(name[:-1])

    def starting(self, stem: str) -> Sequence[Entry]:
        found, folder = list[Entry](), stem.rpartition("/")[0]
        with contextlib.suppress(FileNotFoundError, Conflict), self._folder(stem) as (here, last):
            with os.scandir(here) as entries:
                some = [entry for entry in entries if entry.name.startswith(last)]
            for entry in some:
                if not entry.is_dir(follow_symlinks=False):
                    status = os.stat(entry.name, dir_fd=here, follow_symlinks=False)
                    found.append(_entry(f"{folder}/{entry.name}", status))
        return sorted(found, key=lambda entry: entry.name)

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._folder(name) as (folder, last):
            os.unlink(last, dir_fd=folder)
            os.fsync(folder)

    def put_is_named_by_digest(self, size: int) -> bool:  # noqa: ARG002 - a link is one step
        return False

    def free_bytes(self) -> int | None:
        return shutil.disk_usage(self.root).free if self.root.exists() else None

    @contextlib.contextmanager
    def _folder(self, name: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The open folder of a file, and the last step of its name. Raises ValueError for a name
        that leads elsewhere.
        """
        *steps, last = name.split("/")
        if not all(step and not step.startswith(".") for step in (*steps, last)):
            raise ValueError(f"not a name in the archive: {name[:300]!r}")
        folder = "/".join(steps)
        held = getattr(self._of_thread, "held", None)
        if held and held[0] == folder:
            yield held[1], last
            return
        if make and folder not in self._made:
            durable.make(self.root)
            os.close(self._enter(steps, make=True))
            if len(self._made) >= _MOST_MADE:
                self._made.clear()
            self._made.add(folder)
        try:
            here = self._enter(steps, make=False)
        except FileNotFoundError:
            if not make:
                raise
            durable.make(self.root)  # somebody has removed it since
            here = self._enter(steps, make=True)
        try:
            yield here, last
        finally:
            os.close(here)

    def _enter(self, steps: Sequence[str], *, make: bool) -> int:
        """The open folder at the end of these steps."""
        here = os.open(self.root, durable.DIRECTORY)
        try:
            for step in steps:
                below = durable.enter(here, step, make=make)
                os.close(here)
                here = below
        except BaseException:
            os.close(here)
            raise
        return here


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    """Raises Unstored when the disk or a quota runs full inside."""
    try:
        yield
    except OSError as error:
        if not durable.is_full(error):
            raise
        raise Unstored("the disk is full") from error


def _entry(name: str, status: os.stat_result) -> Entry:
    return Entry(
        name=name,
        bytes=status.st_size,
        modified=status.st_mtime,
        is_plain=stat.S_ISREG(status.st_mode),
    )
