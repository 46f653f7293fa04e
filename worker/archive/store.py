"""Where an archive's files lie: what a directory and a bucket both can do.

A name is a key of the contract, relative to the archive's root, with slashes between its steps. A
step that begins with a dot is unfinished, and no operation shows it. Under a name there is a whole
file or none, and no operation replaces it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file of the archive. `modified`: seconds since 1970. `is_plain`: False for a link, a pipe
    and the like in a directory, which nothing opens. `etag`: the mark that a bucket gave it.
    """

    name: str
    bytes: int
    modified: float
    is_plain: bool = True
    etag: str | None = None

    @property
    def last(self) -> str:
        """The last step of the name."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """What stands directly below a folder, each in the order of the names. `folders`: their last
    steps.
    """

    folders: list[str] = field(default_factory=list)
    files: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A file that is open for reading. `file` can seek, and reads no more than it is asked for
    and a buffer of bounded size.
    """

    entry: Entry
    file: BinaryIO

    def __enter__(self) -> BinaryIO:
        return self.file

    def __exit__(self, *_: object) -> None:
        self.file.close()


class Store(Protocol):
    """A directory or a bucket.

    Each operation raises Unstored or OSError where the store does not answer, refuses or is full;
    the text says what was refused and the way out. To repeat an operation is harmless.
    """

    def within(self, name: str) -> AbstractContextManager[None]:
        """For several operations of one thread in the folder of this file, which is made: the way
        to it is gone once.
        """

    def create(self, name: str, data: bytes) -> None:
        """Put a small file under the name, for good when this returns. Identical content there is
        a success. Raises Conflict where other content stands.
        """

    def put_file(self, name: str, part: Path, sha256: str) -> None:
        """Put the content of a file of this machine under the name, as `create` does. The part
        stays where it is. Raises Conflict, and CorruptMedia where a copy differs from `sha256`.
        """

    def read(self, name: str) -> bytes:
        """A small file, whole. Raises FileNotFoundError, Conflict where no plain file stands."""

    def open(self, name: str) -> Opened:
        """A file for reading, never whole in memory. Raises as `read` does."""

    def head(self, name: str) -> Entry:
        """What is known of a file without reading it. Raises as `read` does."""

    def level(self, folder: str) -> Level:
        """What stands directly below the folder ("" is the root); nothing where there is none."""

    def list(self, folder: str) -> Iterator[Entry]:
        """Every file below the folder, a few at a time, in the order of the bytes of the names."""

    def starting(self, stem: str) -> Sequence[Entry]:
        """The files in one folder whose names begin with `stem`, in order. `stem`: from the
        archive's root, with a part of the last step.
        """

    def delete(self, name: str) -> None:
        """Remove a file for good; done where there is none. Only erasing, and a trial of its own
        file, may ask for it.
        """

    def put_is_named_by_digest(self, size: int) -> bool:
        """Whether a file of so many bytes must have a name that carries its digest, because the
        store cannot put it in one step.
        """

    def free_bytes(self) -> int | None:
        """The free bytes of the disk below; None where nobody can say."""
