"""The archive in a directory, and the spool where files are before they belong to it.

The law: under a final name there is a whole file or none, and it is never replaced; the receipt
comes after the audio; nothing lies outside the root. How a file gets its name is in `durable`.
Buckets are not here yet.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from worker import wire
from worker.archive import durable
from worker.archive.receipts import checks, failed, key, receipt
from worker.errors import Conflict, StaleLease, Unstored
from worker.vobiz.partial import Notes

__all__ = ["Archive", "checks", "failed", "key", "receipt"]

FLOOR_BYTES = 64 * 1024 * 1024  # what is left free for everybody else
_KEY = re.compile(
    r"([A-Za-z0-9_-]{1,128})/([0-9]{4})/([0-9]{2})/([0-9]{2})/([A-Za-z0-9_-]{1,128})\.([a-z0-9]{1,8})"
)
_PART = re.compile(r"\.[A-Za-z0-9_-]{1,128}\.[0-9]{1,20}\.(part|notes|new)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Spooled:
    """A file in the spool that this attempt alone writes to, and the notes beside it."""

    path: Path
    file: BinaryIO
    notes: Notes

    def remove(self) -> None:
        self.notes.forget()
        self.path.unlink(missing_ok=True)


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
    def spooled(self, recording_id: str, fence: int) -> Iterator[Spooled]:
        """The file for an attempt's download: what a dead attempt left with notes to it, else a new
        one.

        Where the attempt fails, it stays for the next one if there are notes to it. Raises as
        `spool_file` does.
        """
        found = self._leftover(recording_id) or self._new(recording_id, fence)
        with durable.full_disk(found.path), found.file:
            try:
                yield found
            except BaseException as error:
                if isinstance(error, OSError) or not found.notes.exist():
                    found.remove()
                raise
            found.remove()

    def _new(self, recording_id: str, fence: int) -> Spooled:
        path = self.spool_file(recording_id, fence)
        file = os.fdopen(os.open(path, durable.WRITE), "r+b")
        with contextlib.suppress(
            OSError
        ):  # a file system without locks: then nobody goes on with it, either
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Spooled(path=path, file=file, notes=Notes(path.with_suffix(".notes")))

    def _leftover(self, recording_id: str) -> Spooled | None:
        """The youngest file of this recording that somebody left; older ones are removed."""
        if wire.identifier(recording_id) != recording_id:
            return None
        left = [
            spooled
            for spooled in map(_taken_over, self._spool.glob(f".{recording_id}.*.notes"))
            if spooled
        ]
        left.sort(key=lambda spooled: os.fstat(spooled.file.fileno()).st_mtime)
        for spooled in left[:-1]:
            spooled.remove()
            spooled.file.close()
        return left[-1] if left else None

    @contextlib.contextmanager
    def writing(self, part: Path) -> Iterator[BinaryIO]:
        """The part, open for writing and reading. On a full disk it is removed, and Unstored
        raised.
        """
        with durable.full_disk(part), os.fdopen(os.open(part, durable.WRITE), "r+b") as file:
            yield file

    def free_bytes(self) -> int:
        """Bytes that the fuller of the two disks has left for us."""
        places = [place for place in (self._root, self._spool) if place.exists()]
        return min(
            (shutil.disk_usage(place).free for place in places),
            default=shutil.disk_usage(Path.cwd()).free,
        )

    def reserve(self, declared_bytes: int | None) -> None:
        """Raises Unstored when less than FLOOR_BYTES would be left free after so many bytes more.

        Before it comes to that, what dead attempts left is given up.
        """
        left = self.free_bytes() - (declared_bytes or 0)
        if left < FLOOR_BYTES:
            for spooled in filter(None, map(_taken_over, self._spool.glob(".*.notes"))):
                spooled.remove()
                spooled.file.close()
            left = self.free_bytes() - (declared_bytes or 0)
        if left < FLOOR_BYTES:
            raise Unstored(
                f"the disk is full: {left} bytes would be left, the floor is {FLOOR_BYTES}"
            )

    def sweep(self, older_than_s: float) -> int:
        """Remove files that nobody has written to for so long and nobody holds: those of dead
        attempts. Returns how many.

        Harmless to repeat; `older_than_s` is how long what was cut off may wait for its next
        attempt.
        """
        removed, horizon = 0, time.time() - older_than_s
        with contextlib.suppress(FileNotFoundError), os.scandir(self._spool) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if (
                        _PART.fullmatch(entry.name)
                        and entry.is_file(follow_symlinks=False)
                        and (
                            entry.stat(follow_symlinks=False).st_mtime < horizon
                            and not _is_held(Path(entry.path))
                        )
                    ):
                        Path(entry.path).unlink()
                        removed += 1
        return removed

    # ── the archive ────────────────────────────────────────────────────────────────────────────────────────────────

    def publish(self, part: Path, key: str, sha256: str) -> None:
        """Put the part under its key, on disk for good when this returns, and remove it from the
        spool.

        To repeat it is harmless: identical content under the name is a success. Raises Conflict
        where other content or a receipt for other content stands (the part stays in the spool),
        Unstored when the disk is full.
        """
        name = _name(key)
        with durable.full_disk(part), self._directory(key) as directory:
            self._receipt_stands(directory, name, sha256)
            durable.put(part, directory, name, sha256)
        part.unlink(missing_ok=True)

    def publish_receipt(self, key: str, receipt: dict[str, Any]) -> None:
        """Put the receipt beside its audio, in the same manner. Raises FileNotFoundError where
        there is no audio.

        A receipt is never replaced: one for the same audio stays as it is, also when its
        bookkeeping differs. Raises Conflict where one for other audio stands, Unstored when the
        disk is full.
        """
        name, sha256 = _name(key), receipt["media"]["sha256"]
        text = (
            json.dumps(
                receipt, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False
            ).encode()
            + b"\n"
        )
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
                    durable.put(
                        part, directory, _receipt_name(name), hashlib.sha256(text).hexdigest()
                    )
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
        """The receipt beside this key's audio. Raises FileNotFoundError, ValueError if it is no
        JSON object.
        """
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
                            return datetime(
                                int(year.name), int(month.name), int(day.name), tzinfo=UTC
                            )
        return None

    def _open(self, key: str, name: str) -> BinaryIO:
        with self._directory(key, make=False) as directory:
            return durable.open_regular(name, directory)

    @staticmethod
    def _receipt_stands(directory: int, name: str, sha256: str) -> bool:
        """Whether a receipt for this content stands beside the name. Raises Conflict where another
        does.
        """
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
        """The open directory of a key. Each step is opened without following links, so it lies
        below the root.
        """
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


def _taken_over(notes: Path) -> Spooled | None:
    """The file to these notes, ours from now on; None where a living attempt has it, or it is no
    spool file any more.
    """
    path = notes.with_suffix(".part")
    try:
        file = os.fdopen(os.open(path, durable.WRITE), "r+b")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours, named = os.fstat(file.fileno()), path.stat(follow_symlinks=False)
        # With a second name, or under another one, it lies in the archive: never write to that.
        if stat.S_ISREG(ours.st_mode) and ours.st_nlink == 1 and os.path.samestat(ours, named):
            return Spooled(path=path, file=file, notes=Notes(notes))
    except OSError:
        pass
    file.close()
    return None


def _is_held(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


def _numbered(place: Path, digits: int) -> list[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(
            step
            for step in place.iterdir()
            if re.fullmatch(f"[0-9]{{{digits}}}", step.name) and step.is_dir()
        )
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
