"""A file that is being downloaded, and the notes that a later try needs to continue it.

A later try trusts the notes alone. It throws away the bytes that the notes do not cover. If the
digest of the others is not as noted, it throws away all. So it does not matter when a process died,
or what the disk kept of its last seconds.

Downloads write such a file and the archive names it, so this module lies below both rooms.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

BLOCK = 1024 * 1024
NOTE_EVERY_S = 2.0
NOTE_EVERY_BYTES = 16 * BLOCK


@dataclass(frozen=True, kw_only=True, slots=True)
class Noted:
    """What the notes say of a partial file. `source`: its URL without the query, which may hold a
    token.
    """

    source: str
    validator: str  # an ETag, or a date of Last-Modified: goes back in If-Range
    total: int | None  # bytes that the whole file has
    have: int  # bytes that are in the partial file
    sha256: str  # of these bytes


class Notes:
    """The notes beside a partial file. Only the file's owner can read them. Each write replaces
    them as a whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def exist(self) -> bool:
        return self._path.exists()

    def read(self) -> Noted | None:
        """The notes; None where there are none, or they cannot be parsed."""
        try:
            noted = Noted(**json.loads(self._path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        texts = all(isinstance(text, str) for text in (noted.source, noted.validator, noted.sha256))
        numbers = type(noted.have) is int and (noted.total is None or type(noted.total) is int)
        return noted if texts and numbers else None

    def write(self, noted: Noted) -> None:
        beside = self._path.with_suffix(".new")
        with os.fdopen(
            os.open(
                beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            ),
            "w",
        ) as file:
            json.dump(asdict(noted), file)
        beside.replace(self._path)

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)
        self._path.with_suffix(".new").unlink(missing_ok=True)


class Follower(Protocol):
    """Reads a file along while it comes, so that nobody has to read it again afterwards."""

    def begin(self) -> None:
        """The file begins, or begins anew."""

    def add(self, block: memoryview) -> None:
        """The next bytes of the file. The block is used again for others after the call."""


class Partial:
    """Takes the blocks of one file, and knows the digest of all bytes in it.

    While this thread fills one block, a second thread writes the block before it and shows it to
    the follower, and a third one hashes it: in one thread a download would take twice as long. If
    one of them raises, the next `add` or `settle` raises the same.
    """

    def __init__(
        self, file: BinaryIO, notes: Notes | None, source: str, follower: Follower | None = None
    ) -> None:
        self.bytes = 0
        self.total: int | None = None
        self.validator: str | None = None  # None: a later try cannot go on with it
        self._file, self._notes, self._source = file, notes, source
        self._follower = follower
        self._digest = hashlib.sha256()
        # Room for more than one block, and the threads, are made when there is more than one.
        self._filling, self._other = bytearray(BLOCK), bytearray()
        self._filled = self._noted = 0
        self._written_at = self._noted_at = time.monotonic()
        self._threads: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = None
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is not None and self.validator:
                with contextlib.suppress(
                    OSError
                ):  # `error` matters more than a disk that is full by now
                    self.settle()
                    self._note()
        finally:
            for thread in self._threads or ():
                thread.shutdown()

    @property
    def sha256(self) -> str:
        """The digest of all bytes in the file. Call `settle` before."""
        return self._digest.hexdigest()

    def recall(self, keep_going: Callable[[], None]) -> None:
        """Continue what an earlier try left of the same source, if its bytes are as noted; else
        begin anew. Calls `keep_going`, which may raise, while it hashes them.
        """
        noted = self._notes.read() if self._notes else None
        if (
            noted
            and noted.source == self._source
            and noted.have > 0
            and (noted.total is None or noted.have < noted.total)
        ):
            self._begin_reading()
            self._file.seek(0)
            left = noted.have
            while left and (block := self._file.read(min(BLOCK, left))):
                keep_going()
                self._read(memoryview(block))
                left -= len(block)
            if not left and self.sha256 == noted.sha256:
                self._file.seek(noted.have)
                self._file.truncate()
                self.bytes = noted.have
                self.total, self.validator = noted.total, noted.validator
                return
        self.begin(total=None, validator=None)

    def begin(self, *, total: int | None, validator: str | None) -> None:
        """Throw away all bytes. `validator`: it identifies the file that comes now; None if a later
        try cannot continue that file.
        """
        self._wait()
        if self._notes:
            self._notes.forget()
        self._file.seek(0)
        self._file.truncate()
        self._begin_reading()
        self.bytes = self._filled = self._noted = 0
        self.total, self.validator = total, validator

    def add(self, block: bytes) -> None:
        """`block`: BLOCK bytes at most."""
        if self._filled + len(block) > BLOCK:
            self._hand_over()
        self._filling[self._filled : self._filled + len(block)] = block
        self._filled += len(block)
        self.bytes += len(block)

    def tick(self) -> None:
        """Hand over a block that is not full, where the bytes come slowly."""
        if self._filled and time.monotonic() - self._written_at >= NOTE_EVERY_S:
            self._hand_over()

    def settle(self) -> None:
        """Hand all bytes to the operating system."""
        self._wait()
        block, self._filled = memoryview(self._filling)[: self._filled], 0
        self._file.write(block)
        self._read(block)
        self._file.flush()

    def forget(self) -> None:
        """Delete the notes: the file is complete, or of no use."""
        self.validator = None
        if self._notes:
            self._notes.forget()

    def _hand_over(self) -> None:
        self._wait()
        self._written_at = time.monotonic()
        block = memoryview(self._filling)[: self._filled]
        if self._threads is None:
            self._threads = (ThreadPoolExecutor(1, "spool"), ThreadPoolExecutor(1, "digest"))
        writer, hasher = self._threads
        reading = hasher.submit(self._digest.update, block)
        self._writing = writer.submit(self._write, block, self.bytes, reading)
        self._filling, self._other, self._filled = self._other or bytearray(BLOCK), self._filling, 0

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def _begin_reading(self) -> None:
        self._digest = hashlib.sha256()
        if self._follower:
            self._follower.begin()

    def _read(self, block: memoryview) -> None:
        self._digest.update(block)
        if self._follower:
            self._follower.add(block)

    def _write(self, block: memoryview, upto: int, reading: Future[None]) -> None:
        try:
            self._file.write(block)
            if self._follower:
                self._follower.add(block)
        finally:
            reading.result()  # nobody hashes it any more when it is filled again
        if (
            upto - self._noted >= NOTE_EVERY_BYTES
            or time.monotonic() - self._noted_at >= NOTE_EVERY_S
        ):
            self._note(upto)

    def _note(self, upto: int | None = None) -> None:
        have = self.bytes if upto is None else upto
        if self._notes and self.validator and have:
            self._file.flush()
            self._notes.write(
                Noted(
                    source=self._source,
                    validator=self.validator,
                    total=self.total,
                    have=have,
                    sha256=self._digest.hexdigest(),
                )
            )
        self._noted, self._noted_at = have, time.monotonic()
