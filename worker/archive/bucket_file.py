"""A file of a bucket, for reading: it can seek, and asks for a few MiB at a time, so that a slow
reader holds no connection and no memory.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO, cast

import obstore
from obstore.exceptions import PreconditionError
from obstore.store import ObjectStore

from worker.archive.store import Entry, Opened
from worker.errors import Conflict

_FIRST, _MOST = 256 * 1024, 4 * 1024 * 1024  # bytes of the first request, and of later ones


class _Reader(io.RawIOBase):
    """Reads an object in ranges, each of them whole. `client_for`: the client for a range of so
    many bytes. `asking` turns the client's errors into ours.
    """

    def __init__(
        self,
        client_for: Callable[[int], ObjectStore],
        entry: Entry,
        asking: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__()
        self._client_for, self._entry, self._asking = client_for, entry, asking
        self._at = self._begins = 0
        self._block = memoryview(b"")
        self._ask = _FIRST

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._entry.bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: object) -> int:
        into = memoryview(cast("bytearray", buffer)).cast("B")
        if self._at >= self._entry.bytes or not len(into):
            return 0
        if not self._begins <= self._at < self._begins + len(self._block):
            self._fetch()
        have = self._block[self._at - self._begins :][: len(into)]
        into[: len(have)] = have
        self._at += len(have)
        return len(have)

    def _fetch(self) -> None:
        """Get the block at the place. The first is small, since many want no more."""
        end = min(self._at + self._ask, self._entry.bytes)
        self._ask = _MOST
        options: dict[str, object] = {"range": (self._at, end)}
        if self._entry.etag:
            options["if_match"] = self._entry.etag
        with self._asking():
            try:
                client = self._client_for(end - self._at)
                got = obstore.get(client, self._entry.name, options=options)  # type: ignore[arg-type]
                self._block = memoryview(got.bytes())
            except PreconditionError:
                raise Conflict(f"{self._entry.name} changed while it was read") from None
        self._begins = self._at


def opened(
    client_for: Callable[[int], ObjectStore],
    entry: Entry,
    asking: Callable[[], AbstractContextManager[None]],
) -> Opened:
    """The object as a file."""
    return Opened(entry=entry, file=cast("BinaryIO", _Reader(client_for, entry, asking)))
