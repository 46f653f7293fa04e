"""The archive: what is filed about a recording, in which order, over any store.

The law: the receipt comes after the audio, its signature after the receipt; nothing is replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from worker.archive import bucket, keys, seals, signing
from worker.archive.directory import Directory
from worker.archive.keys import Key
from worker.archive.places import Bucket, Place
from worker.archive.signing_key import Signer
from worker.archive.spool import Spool
from worker.archive.store import Entry, Opened, Store
from worker.errors import Conflict, Unstored

T = TypeVar("T")
SIGNERS = "allowed_signers"  # the folder with a file for each key that signed here
_IDENTITY = ("schema", "account", "call_uuid", "recording_id")
_REST_S = 3.0
FLOOR_BYTES = 64 * 1024 * 1024  # is left free for other programs


class Archive:
    """The archive, and the spool from which files come into it. Directories are made when they are
    missing, readable by their owner only. Without a signer no receipt is signed.

    Every operation raises Unstored or OSError where the store does not take or give a file.
    """

    def __init__(
        self,
        place: Place,
        spool: Path,
        signer: Signer | None = None,
        *,
        fallback: Place | None = None,
    ) -> None:
        """`fallback`: where files are looked for that the archive does not have or give."""
        self.spool, self.signer = Spool(spool), signer
        self.store = store_of(place, self.spool)
        self.fallback: Archive | None = None
        self._refused: tuple[Exception | None, float] = (None, 0.0)
        self.told_at = 0.0  # when this process last said that it works, by the monotonic clock
        self._named_by_digest = [self.store.put_is_named_by_digest]
        if fallback is not None:
            self.fallback = Archive(fallback, spool, signer)
            # A file keeps its name when it moves.
            self.fallback._named_by_digest += self._named_by_digest  # noqa: SLF001 - of our own

    def may_be_asked(self) -> None:
        """Raises Unstored for some seconds after the store refused, so that those who wait do not
        all ask one that hangs.
        """
        error, at = self._refused
        if error is not None and time.monotonic() - at < _REST_S:
            raise Unstored(str(getattr(error, "strerror", None) or error)) from error

    def answered(self, error: Exception | None) -> None:
        """What came of the last put: None where the store took it."""
        if error is None or error.__cause__ is None or error.__cause__ is not self._refused[0]:
            self._refused = (error, time.monotonic())
        if error is not None:
            self.told_at = 0.0

    def free_bytes(self) -> int:
        """The free bytes of the disk with the archive or of that with the spool, whichever are
        fewer.
        """
        spool = self.spool.place
        free = shutil.disk_usage(spool if spool.exists() else Path.cwd()).free
        below = self.store.free_bytes()
        return free if below is None else min(free, below)

    def reserve(self, declared_bytes: int | None) -> None:
        """Raises Unstored when so many bytes more would leave less than FLOOR_BYTES free.

        Before it raises, it removes what dead attempts left in the spool, and measures again.
        """
        left = self.free_bytes() - (declared_bytes or 0)
        if left < FLOOR_BYTES:
            self.spool.drop_leftovers()
            left = self.free_bytes() - (declared_bytes or 0)
        if left < FLOOR_BYTES:
            raise Unstored(
                f"the disk is full: {left} bytes would be left, the floor is {FLOOR_BYTES}"
            )

    def publish(self, part: Path, key: str, sha256: str) -> str:
        """Put the part under its key, for good when this returns. It stays in the spool. Returns
        the key under which it stands, which carries the digest where other content has the name, or
        where the store cannot put so large a file in one step.

        Harmless to repeat: identical content under the name is a success. Raises Conflict where a
        receipt for other content stands.
        """
        parsed = keys.parse(key)
        self._receipt_stands(parsed, sha256)
        size = part.stat().st_size
        if any(needs_digest(size) for needs_digest in self._named_by_digest):
            parsed = parsed.with_digest(sha256)
        try:
            self.store.put_file(parsed.audio, part, sha256)
        except Conflict:
            if parsed.digest:
                raise
            parsed = parsed.with_digest(sha256)
            self.store.put_file(parsed.audio, part, sha256)
        return parsed.audio

    def publish_receipt(self, key: str, receipt: dict[str, Any]) -> str:
        """Put the receipt beside its audio, then its signature, for good. `key`: as `publish`
        returned it. Returns the SHA-256 of the receipt that stands there. Raises FileNotFoundError
        where there is no audio.

        Harmless to repeat: a repeat adds the signature that a crash left out. A receipt is never
        replaced: one for the same audio stays as it is, even if it says other things. Raises
        Conflict where one for other audio stands, Unsigned where the key cannot be used.
        """
        parsed, sha256 = keys.parse(key), receipt["media"]["sha256"]
        stands = self.store.head(parsed.audio)
        if stands.bytes != receipt["media"].get("bytes", stands.bytes):
            raise Unstored(f"{parsed.audio} has {stands.bytes} bytes, which is not what was put")
        try:
            self.store.create(parsed.receipt, self.as_written(receipt))
        except Conflict:
            # Another attempt was quicker, which is fine if it was about the same audio.
            if not self._receipt_stands(parsed, sha256):
                raise
            # Whoever wrote it may have died before it was on disk for good.
            self.store.create(parsed.receipt, self.store.read(parsed.receipt))
        return self._signed(parsed.receipt, receipt)

    def as_written(self, said: dict[str, Any]) -> bytes:
        """The bytes of a receipt, or of what stands in its place, as this archive writes them.
        Raises Unsigned.
        """
        if self.signer:
            said = said | {"signature": self.signer.key().field(signing.RECEIPTS)}
        return seals.written(said)

    def publish_absence(self, key: str, absence: dict[str, Any]) -> str:
        """Put the statement that a recording was given up where its receipt would be, and its
        signature, for good. `key`: with any extension. Returns the SHA-256 of the statement that
        stands there.

        Harmless to repeat: the first statement stays. Raises Conflict where one about another
        recording stands, Unsigned.
        """
        return self._publish_statement(keys.parse(key).absence, absence)

    def publish_tombstone(self, key: str, tombstone: dict[str, Any]) -> str:
        """Put the tombstone of a recording beside its receipt, and its signature, for good. `key`:
        with any extension. Returns the SHA-256 of the tombstone that stands there; raises as
        `publish_absence` does.
        """
        return self._publish_statement(keys.parse(key).tombstone, tombstone)

    def tombstone(self, key: str) -> dict[str, Any] | None:
        """The tombstone of the recording with this key, which may have any extension; None where
        there is none. Raises Conflict where it cannot be understood.
        """
        name = keys.parse(key).tombstone
        try:
            said = json.loads(self.store.read(name))
            return {str(field): value for field, value in said.items()}
        except FileNotFoundError:
            return None
        except (ValueError, AttributeError, RecursionError):
            raise Conflict(f"{name} cannot be read") from None

    def publish_peaks(self, key: str, peaks: bytes) -> None:
        """Put the outline of this key's audio beside it, unless one stands there."""
        with contextlib.suppress(Conflict):
            self.store.create(keys.parse(key).peaks, peaks)

    def publish_signer(self, fingerprint: str, line: str) -> str:
        """Put a key's line for `allowed_signers` into the archive, once. Returns the line that
        stands there. Raises Conflict where no plain file stands.
        """
        name = f"{SIGNERS}/{signing.file_name(fingerprint)}"
        with contextlib.suppress(Conflict):  # a line of another day stays
            self.store.create(name, f"{line}\n".encode())
        return self.store.read(name).decode("utf-8", "replace").strip()

    def open_file(self, key: str) -> Opened:
        """The audio under this key, for reading. Raises FileNotFoundError, Conflict where a link or
        no plain file stands there, ValueError for what is no key.
        """
        name = keys.parse(key).audio
        return self._from_either(lambda store: store.open(name))

    def head(self, key: str) -> Entry:
        """What is known of the audio under this key. Raises as `open_file` does."""
        name = keys.parse(key).audio
        return self._from_either(lambda store: store.head(name))

    def receipt(self, key: str) -> bytes:
        """The receipt beside this key's audio. Raises as `open_file` does."""
        name = keys.parse(key).receipt
        return self._from_either(lambda store: store.read(name))

    def absence(self, key: str) -> bytes:
        """The statement that this key's recording was given up. Raises as `open_file` does."""
        name = keys.parse(key).absence
        return self._from_either(lambda store: store.read(name))

    def signature(self, key: str) -> bytes:
        """The signature of the receipt beside this key's audio. Raises as `open_file` does."""
        name = keys.parse(key).signature
        return self._from_either(lambda store: store.read(name))

    def peaks(self, key: str) -> bytes:
        """The outline of this key's audio. Raises as `open_file` does."""
        name = keys.parse(key).peaks
        return self._from_either(lambda store: store.read(name))

    def read_receipt(self, key: str) -> dict[str, Any]:
        """The receipt beside this key's audio. Raises as `open_file` does, and ValueError if it is
        no JSON object.
        """
        try:
            receipt = json.loads(self.receipt(key))
        except RecursionError:
            receipt = None  # an alteration: no receipt is so deep
        if not isinstance(receipt, dict):
            raise ValueError(f"the receipt of {key} is no JSON object")  # noqa: TRY004 - as for any unreadable one
        return receipt

    def audio_of(self, key: str, sha256: str) -> str:
        """The key of the audio with this digest: that with the digest in its name, where a file
        stands there, else that without. Raises as `open_file` does, but not for a file that is
        missing.
        """
        parsed = keys.parse(key)
        with contextlib.suppress(FileNotFoundError):
            return self._from_either(
                lambda store: store.head(parsed.with_digest(sha256).audio)
            ).name
        return parsed.plain().audio

    def first_day(self, account: str) -> datetime | None:
        """The earliest day under which anything of this account is filed; None where nothing is."""
        for year in self._numbered(account, 4):
            for month in self._numbered(year, 2):
                for day in self._numbered(month, 2):
                    level = self.store.level(day)
                    with contextlib.suppress(ValueError):
                        if level.files or level.folders:
                            return datetime.strptime(day[-10:], "%Y/%m/%d").replace(tzinfo=UTC)
        return None

    def _from_either(self, read: Callable[[Store], T]) -> T:
        """What the archive has, else what its fallback has."""
        try:
            return read(self.store)
        except (OSError, Unstored):
            if self.fallback is None:
                raise
            try:
                return read(self.fallback.store)
            except FileNotFoundError:
                pass
            raise

    def _numbered(self, folder: str, digits: int) -> Iterator[str]:
        """The folders directly below one whose names are numbers of so many digits, in order."""
        for step in self.store.level(folder).folders:
            if re.fullmatch(f"[0-9]{{{digits}}}", step):
                yield f"{folder}/{step}"

    def _receipt_stands(self, key: Key, sha256: str) -> bool:
        """Whether a receipt for this content stands. Raises Conflict where one for other content
        stands.
        """
        try:
            stands = json.loads(self.store.read(key.receipt))["media"]["sha256"]
        except FileNotFoundError:
            return False
        except (ValueError, TypeError, KeyError, RecursionError):
            raise Conflict(f"the receipt of {key.audio} cannot be read") from None
        if stands != sha256:
            raise Conflict(f"a receipt for other content stands beside {key.audio}")
        return True

    def _publish_statement(self, name: str, said: dict[str, Any]) -> str:
        with contextlib.suppress(Conflict):  # the first one stays
            self.store.create(name, self.as_written(said))
        return self._signed(name, said)

    def _signed(self, name: str, said: dict[str, Any]) -> str:
        """Sign the bytes that stand under the name, unless a good signature does. Returns their
        SHA-256. `said`: what we would have written there.
        """
        stored = self.store.read(name)
        if self.signer:
            if not _is_about(stored, said):
                # Whoever wrote it, we sign no word about another recording.
                raise Conflict(f"{name} is about another recording")
            seals.seal(self.store, name, stored, signing.RECEIPTS, self.signer)
        return hashlib.sha256(stored).hexdigest()


def store_of(place: Place, spool: Spool) -> Store:
    """The store in a place. Makes nothing and sends nothing."""
    return bucket.store_at(place) if isinstance(place, Bucket) else Directory(place, spool)


def reading(place: Place) -> Store:
    """The store in a place, to read from it alone."""
    return store_of(place, Spool(Path(os.devnull)))


def _is_about(stored: bytes, said: dict[str, Any]) -> bool:
    """Whether a stored file is about the same recording as this one."""
    try:
        stands = json.loads(stored)
        return all(stands.get(name) == said.get(name) for name in _IDENTITY)
    except (ValueError, AttributeError, RecursionError):
        return False
