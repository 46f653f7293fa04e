"""The archive in a directory.

The law: under a final name there is a whole file or none, and it is never replaced; the receipt
comes after the audio; nothing lies outside the root. How a file gets its name is in `durable`.
Buckets are not here yet.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from worker.archive import durable, keys, signing
from worker.archive.keys import Key
from worker.archive.signing_key import Signer
from worker.archive.spool import Spool
from worker.errors import Conflict, Unstored

SIGNERS = "allowed_signers"  # the directory with a file for each key that signed here
_IDENTITY = ("schema", "account", "call_uuid", "recording_id")
FLOOR_BYTES = 64 * 1024 * 1024  # is left free for other programs


class Archive:
    """The archive, and the spool from which files come into it. Both directories are made when they
    are missing, readable by their owner only. Without a signer no receipt is signed.
    """

    def __init__(self, root: Path, spool: Path, signer: Signer | None = None) -> None:
        self._root, self.spool, self.signer = Path(root), Spool(spool), signer

    def free_bytes(self) -> int:
        """The free bytes of the disk with the archive or of that with the spool, whichever are
        fewer.
        """
        places = [place for place in (self._root, self.spool.place) if place.exists()]
        return min(
            (shutil.disk_usage(place).free for place in places),
            default=shutil.disk_usage(Path.cwd()).free,
        )

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

    def publish(self, part: Path, key: str, sha256: str) -> None:
        """Put the part under its key, on disk for good when this returns, and remove it from the
        spool.

        Harmless to repeat: identical content under the name is a success. Raises Conflict where
        other content or a receipt for other content stands (the part stays in the spool), Unstored
        when the disk is full.
        """
        parsed = keys.parse(key)
        with durable.full_disk(part), self._directory(parsed) as directory:
            _receipt_stands(directory, parsed, sha256)
            durable.put(part, directory, parsed.audio_name, sha256)
        part.unlink(missing_ok=True)

    def publish_receipt(self, key: str, receipt: dict[str, Any]) -> None:
        """Put the receipt beside its audio, then its signature, on disk for good. Raises
        FileNotFoundError where there is no audio.

        Harmless to repeat: a repeat adds the signature that a crash left out. A receipt is never
        replaced: one for the same audio stays as it is, even if it says other things. Raises
        Conflict where one for other audio stands, Unstored when the disk is full, Unsigned where
        the key cannot be used.
        """
        parsed, sha256 = keys.parse(key), receipt["media"]["sha256"]
        if self.signer:
            receipt = receipt | {"signature": self.signer.key().field(signing.RECEIPTS)}
        with self._directory(parsed, make=False) as directory:
            durable.open_regular(parsed.audio_name, directory).close()
            if _receipt_stands(directory, parsed, sha256):
                os.fsync(directory)
            else:
                try:
                    self._write(directory, parsed.receipt_name, _written(receipt))
                except Conflict:
                    # Another attempt was quicker, which is fine if it was about the same audio.
                    if not _receipt_stands(directory, parsed, sha256):
                        raise
            if self.signer:
                self._sign(directory, parsed.receipt_name, receipt, self.signer)

    def publish_absence(self, key: str, absence: dict[str, Any]) -> None:
        """Put the statement that a recording was given up where its receipt would be, and its
        signature, on disk for good. `key`: with any extension.

        Harmless to repeat: the first statement stays. Raises Conflict where one about another
        recording stands, Unstored when the disk is full, Unsigned.
        """
        parsed = keys.parse(key)
        if self.signer:
            absence = absence | {"signature": self.signer.key().field(signing.RECEIPTS)}
        with self._directory(parsed) as directory:
            with contextlib.suppress(Conflict):  # the first one stays
                self._write(directory, parsed.absence_name, _written(absence))
            if self.signer:
                self._sign(directory, parsed.absence_name, absence, self.signer)

    def publish_signer(self, fingerprint: str, line: str) -> str:
        """Put a key's line for `allowed_signers` into the archive, once. Returns the line that
        stands there. Raises OSError, Conflict, Unstored.
        """
        name = signing.file_name(fingerprint)
        durable.make(self._root)
        root = os.open(self._root, durable.DIRECTORY)
        try:
            directory = durable.enter(root, SIGNERS, make=True)
        finally:
            os.close(root)
        try:
            with contextlib.suppress(Conflict):  # a line of another day stays
                self._write(directory, name, f"{line}\n".encode())
            with durable.open_regular(name, directory) as file:
                return file.read().decode("utf-8", "replace").strip()
        finally:
            os.close(directory)

    def open_file(self, key: str) -> BinaryIO:
        """The audio under this key, for reading. Raises FileNotFoundError, Conflict where a link or
        no plain file stands there, ValueError for what is no key.
        """
        parsed = keys.parse(key)
        return self._open(parsed, parsed.audio_name)

    def open_receipt(self, key: str) -> BinaryIO:
        """The receipt beside this key's audio, for reading. Raises as `open_file` does."""
        parsed = keys.parse(key)
        return self._open(parsed, parsed.receipt_name)

    def open_signature(self, key: str) -> BinaryIO:
        """The signature of the receipt beside this key's audio. Raises as `open_file` does."""
        parsed = keys.parse(key)
        return self._open(parsed, parsed.signature_name)

    def read_receipt(self, key: str) -> dict[str, Any]:
        """The receipt beside this key's audio. Raises as `open_file` does, and ValueError if it is
        no JSON object.
        """
        with self.open_receipt(key) as file:
            receipt = json.load(file)
        if not isinstance(receipt, dict):
            raise ValueError(f"the receipt of {key} is no JSON object")  # noqa: TRY004 - as for any unreadable one
        return receipt

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

    def _sign(self, directory: int, name: str, said: dict[str, Any], signer: Signer) -> None:
        """Sign the bytes that stand under the name, unless a good signature does. `said`: what we
        would have written there.
        """
        with durable.open_regular(name, directory) as file:
            stored = file.read()
        if not _is_about(stored, said):
            # Whoever wrote it, we sign no word about another recording.
            raise Conflict(f"{name} is about another recording")
        own = signer.key()
        if not _is_signed(directory, name, stored, {own.public.fingerprint, *signer.known}):
            self._write(directory, keys.signature_of(name), own.sign(stored, signing.RECEIPTS))

    def _write(self, directory: int, name: str, text: bytes) -> None:
        """Put a small file under the name. Raises Conflict where other content stands there."""
        part = self.spool.create("small-file", secrets.randbelow(10**18))
        try:
            with self.spool.writing(part) as file:
                file.write(text)
            with durable.full_disk(part):
                durable.put(part, directory, name, hashlib.sha256(text).hexdigest())
        finally:
            part.unlink(missing_ok=True)

    def _open(self, key: Key, name: str) -> BinaryIO:
        with self._directory(key, make=False) as directory:
            return durable.open_regular(name, directory)

    @contextlib.contextmanager
    def _directory(self, key: Key, *, make: bool = True) -> Iterator[int]:
        """The open directory of a key. Each step is opened without following links, so the
        directory lies below the root.
        """
        if make:
            durable.make(self._root)
        # The root itself may be a link.
        here = os.open(self._root, durable.DIRECTORY)
        try:
            for step in key.folders:
                below = durable.enter(here, step, make=make)
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)


def _receipt_stands(directory: int, key: Key, sha256: str) -> bool:
    """Whether a receipt for this content stands in the directory. Raises Conflict where one for
    other content stands.
    """
    try:
        with durable.open_regular(key.receipt_name, directory) as file:
            stands = json.load(file)["media"]["sha256"]
    except FileNotFoundError:
        return False
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Conflict(f"the receipt of {key.audio_name} cannot be read") from None
    if stands != sha256:
        raise Conflict(f"a receipt for other content stands beside {key.audio_name}")
    return True


def _written(said: dict[str, Any]) -> bytes:
    text = json.dumps(said, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def _is_about(stored: bytes, said: dict[str, Any]) -> bool:
    """Whether a stored file is about the same recording as this one."""
    try:
        stands = json.loads(stored)
        return all(stands.get(name) == said.get(name) for name in _IDENTITY)
    except (ValueError, AttributeError, RecursionError):
        return False


def _is_signed(directory: int, name: str, stored: bytes, trusted: set[str]) -> bool:
    """Whether one of these keys signed what is stored under the name. Raises Conflict where any
    other signature stands.
    """
    try:
        with durable.open_regular(keys.signature_of(name), directory) as file:
            by = signing.verify(stored, file.read(), signing.RECEIPTS)
    except FileNotFoundError:
        return False
    except signing.BadSignature as error:
        raise Conflict(f"the signature of {name} is wrong: {error}") from None
    if by.fingerprint not in trusted:
        raise Conflict(f"{name} is signed with another key than ours")
    return True


def _numbered(place: Path, digits: int) -> list[Path]:
    """The directories in `place` whose names are numbers of so many digits, in order."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(
            step
            for step in place.iterdir()
            if re.fullmatch(f"[0-9]{{{digits}}}", step.name) and step.is_dir()
        )
    return []
