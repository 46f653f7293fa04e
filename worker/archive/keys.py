"""The keys of the archive: under which name each recording is filed. Pure; the only grammar of
keys.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from worker import wire

_KEY = re.compile(
    r"([A-Za-z0-9_-]{1,128})/([0-9]{4})/([0-9]{2})/([0-9]{2})/"
    r"([A-Za-z0-9_-]{1,128})(?:\.([0-9a-f]{16}))?\.([a-z0-9]{1,8})"
)
DERIVED = ".derived."  # follows the recording's id in the names of files that were made from it


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A key taken apart. `folder`: account, year, month and day. `digest`: the first 16 digits of
    the audio's SHA-256 where its name carries them, else "".

    Each name is whole, from the archive's root.
    """

    folder: str
    recording_id: str
    digest: str
    extension: str

    @property
    def audio(self) -> str:
        digest = f".{self.digest}" if self.digest else ""
        return self.beside(f"{digest}.{self.extension}")

    @property
    def receipt(self) -> str:
        return self.beside(".json")

    @property
    def absence(self) -> str:
        return self.beside(".absent.json")

    @property
    def tombstone(self) -> str:
        return self.beside(".erased.json")

    @property
    def signature(self) -> str:
        return signature_of(self.receipt)

    @property
    def peaks(self) -> str:
        return self.beside(".peaks")

    def beside(self, ending: str) -> str:
        """The name of another file of this recording: `ending` follows its id."""
        return f"{self.folder}/{self.recording_id}{ending}"

    def with_digest(self, sha256: str) -> Key:
        """The key of audio whose name carries its digest."""
        return replace(self, digest=sha256[:16])

    def plain(self) -> Key:
        """The key of audio whose name carries no digest."""
        return replace(self, digest="")


def is_derived(name: str) -> bool:
    """Whether a file of the archive was made from a recording, or is the receipt of one."""
    return DERIVED in name.rpartition("/")[2]


def signature_of(name: str) -> str:
    """The name of the signature beside a file."""
    return f"{name}.sig"


def parse(key: str) -> Key:
    """The parts of a key. Raises ValueError for any other text, also for the name of a receipt."""
    parts = _KEY.fullmatch(key)
    if not parts or parts[7] == "json":
        raise ValueError(f"not a key of the archive: {key[:300]!r}")
    account, year, month, day, recording_id, digest, extension = parts.groups(default="")
    return Key(
        folder=f"{account}/{year}/{month}/{day}",
        recording_id=recording_id,
        digest=digest,
        extension=extension,
    )


def key_of(
    account: str,
    recording_id: str,
    *,
    started_at: datetime | None,
    ended_at: datetime | None,
    duration_s: float | None,
    added_at: datetime | None,
    extension: str,
) -> str:
    """`{account}/{YYYY}/{MM}/{DD}/{recording_id}.{extension}` by the start in UTC.

    Where the start is unknown, the day is that of the end minus the duration, else that of the
    provider's add_time. Raises ValueError where none of them is known, and for ids and extensions
    that are not safe as names.
    """
    derived = ended_at - timedelta(seconds=duration_s) if ended_at and duration_s else None
    day = started_at or derived or added_at
    if day is None:
        raise ValueError(f"no time is known by which recording {recording_id} could be filed")
    for name in (account, recording_id, extension):
        if wire.identifier(name) != name:
            raise ValueError(f"not fit for a file name: {name[:140]!r}")
    return f"{account}/{day.astimezone(UTC):%Y/%m/%d}/{recording_id}.{extension}"
