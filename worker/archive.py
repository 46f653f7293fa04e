"""The archive in a directory, and the spool where files are before they belong to it.

The law: under a final name there is a whole file or none, and it is never replaced; the receipt comes after the audio;
nothing lies outside the root. How a file gets its name is in `durable`. Buckets are not here yet.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from worker import durable, wire
from worker.errors import Conflict, StaleLease, Unstored
from worker.receipts import checks, failed, key, receipt

__all__ = ["Archive", "checks", "failed", "key", "receipt"]

FLOOR_BYTES = 64 * 1024 * 1024     # what is left free for everybody else
_KEY = re.compile(r"([A-Za-z0-9_-]{1,128})/([0-9]{4})/([0-9]{2})/([0-9]{2})/([A-Za-z0-9_-]{1,128})\.([a-z0-9]{1,8})")
_PART = re.compile(r"\.[A-Za-z0-9_-]{1,128}\.[0-9]{1,20}\.part")


class Archive:
    """Both directories are made when they are missing, readable by their owner only."""

    def __init__(self, root: Path, spool: Path) -> None:
        self._root, self._spool = Path(root), Path(spool)

    # ── the spool ──────────────────────────────────────────────────────────────────────────────────────────────────

    def spool_file(self, recording_id: str, fence: int) -> Path:
        """A new, empty file for this attempt alone.

        Raises StaleLease if this attempt has one already, Unstored when the disk is full.
        """
        if wire.identifier(recording_id) != recording_id:
            raise ValueError(f"not a recording id: {recording_id[:140]!r}")
        part = self._spool / f".{recording_id}.{int(fence):d}.part"
        with durable.full_disk(part):
            durable.make(self._spool)
            try:
                os.close(os.open(part, durable.CREATE, 0o600))
            except FileExistsError:
                raise StaleLease(f"attempt {fence} at {recording_id} has a file already") from None
        return part

    @contextlib.contextmanager
    def writing(self, part: Path) -> Iterator[BinaryIO]:
        """The part, open for writing and reading. On a full disk it is removed, and Unstored raised."""
        with durable.full_disk(part), os.fdopen(os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b") as file:
            yield file

    def free_bytes(self) -> int:
        """Bytes that the fuller of the two disks has left for us."""
        places = [place for place in (self._root, self._spool) if place.exists()]
        return min((shutil.disk_usage(place).free for place in places), default=shutil.disk_usage(Path.cwd()).free)

    def reserve(self, declared_bytes: int | None) -> None:
        """Raises Unstored when less than FLOOR_BYTES would be left free after a file of this size."""
        left = self.free_bytes() - (declared_bytes or 0)
        if left < FLOOR_BYTES:
            raise Unstored(f"the disk is full: {left} bytes would be left, the floor is {FLOOR_BYTES}")

    def sweep(self, older_than_s: float) -> int:
        """Remove parts that nobody has written to for so long: those of dead attempts. Returns how many.

        Harmless to repeat; `older_than_s` must exceed the longest transfer's silence.
        """
        removed, horizon = 0, time.time() - older_than_s
        with contextlib.suppress(FileNotFoundError), os.scandir(self._spool) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False) and (
                        entry.stat(follow_symlinks=False).st_mtime < horizon
                    ):
                        Path(entry.path).unlink()
                        removed += 1
        return removed

    # ── the archive ────────────────────────────────────────────────────────────────────────────────────────────────

    def publish(self, part: Path, key: str, sha256: str) -> None:
        """Put the part under its key, on disk for good when this returns, and remove it from the spool.

        To repeat it is harmless: identical content under the name is a success. Raises Conflict where other content
        or a receipt for other content stands (the part stays in the spool), Unstored when the disk is full.
        """
        name = _name(key)
        with durable.full_disk(part), self._directory(key) as directory:
            self._receipt_stands(directory, name, sha256)
            durable.put(part, directory, name, sha256)
        part.unlink(missing_ok=True)

    def publish_receipt(self, key: str, receipt: dict[str, Any]) -> None:
        """Put the receipt beside its audio, in the same manner. Raises FileNotFoundError where there is no audio.

        A receipt is never replaced: one for the same audio stays as it is, also when its bookkeeping differs.
        Raises Conflict where one for other audio stands, Unstored when the disk is full.
        """
        name, sha256 = _name(key), receipt["media"]["sha256"]
        text = json.dumps(receipt, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._directory(key, make=False) as directory:
            durable.open_regular(name, directory).close()
            if self._receipt_stands(directory, name, sha256):
                os.fsync(directory)
                return
            part = self.spool_file(_key_parts(key)[4], secrets.randbelow(10**18))
            try:
                with self.writing(part) as file:
                    file.write(text)
                with durable.full_disk(part):
                    durable.put(part, directory, _receipt_name(name), hashlib.sha256(text).hexdigest())
            except Conflict:
                # Another attempt was quicker, which is fine if it was about the same audio.
                if not self._receipt_stands(directory, name, sha256):
                    raise
            finally:
                part.unlink(missing_ok=True)

    def open_file(self, key: str) -> BinaryIO:
        """The audio under this key, for reading. Raises FileNotFoundError."""
        return self._open(key, _name(key))

    def read_receipt(self, key: str) -> dict[str, Any]:
        """The receipt beside this key's audio. Raises FileNotFoundError, ValueError if it is no JSON object."""
        with self._open(key, _receipt_name(_name(key))) as file:
            found = json.load(file)
        if not isinstance(found, dict):
            raise ValueError(f"the receipt of {key} is no JSON object")  # noqa: TRY004 - as for any unreadable one
        return found

    def first_day(self, account: str) -> datetime | None:
        """The earliest day under which anything of this account is filed; None where nothing is."""
        for year in _numbered(self._root / account, 4):
            for month in _numbered(year, 2):
                for day in _numbered(month, 2):
                    with contextlib.suppress(ValueError):
                        if any(not inside.name.startswith(".") for inside in day.iterdir()):
                            return datetime(int(year.name), int(month.name), int(day.name), tzinfo=UTC)
        return None

    def _open(self, key: str, name: str) -> BinaryIO:
        with self._directory(key, make=False) as directory:
            return durable.open_regular(name, directory)

    @staticmethod
    def _receipt_stands(directory: int, name: str, sha256: str) -> bool:
        """Whether a receipt for this content stands beside the name. Raises Conflict where another does."""
        try:
            with durable.open_regular(_receipt_name(name), directory) as file:
                stands = json.load(file)["media"]["sha256"]
        except FileNotFoundError:
            return False
        except (ValueError, TypeError, KeyError, RecursionError):
            raise Conflict(f"the receipt of {name} cannot be read") from None
        if stands != sha256:
            raise Conflict(f"a receipt for other content stands beside {name}")
        return True

    @contextlib.contextmanager
    def _directory(self, key: str, *, make: bool = True) -> Iterator[int]:
        """The open directory of a key. Each step is opened without following links, so it lies below the root."""
        if make:
            durable.make(self._root)
        # The root itself may be a link.
        here = os.open(self._root, durable.DIRECTORY)
        try:
            for step in _key_parts(key)[:4]:
                below = durable.enter(here, step, make=make)
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)


def _numbered(place: Path, digits: int) -> list[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(step for step in place.iterdir() if re.fullmatch(f"[0-9]{{{digits}}}", step.name) and step.is_dir())
    return []


def _key_parts(key: str) -> tuple[str, ...]:
    parts = _KEY.fullmatch(key)
    if not parts or parts[6] == "json":
        raise ValueError(f"not a key of the archive: {key[:300]!r}")
    return parts.groups()


def _name(key: str) -> str:
    *_, recording_id, extension = _key_parts(key)
    return f"{recording_id}.{extension}"


def _receipt_name(name: str) -> str:
    return name.rpartition(".")[0] + ".json"
