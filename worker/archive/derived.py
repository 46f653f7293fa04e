"""Files that were made from a recording (a transcript, a redacted copy), beside it in the archive.

Each has a name by its kind and digest, so nothing is ever overwritten, and a signed receipt that
says from what it was made: `{recording}.derived.{kind}.{digest}`, `….json` and `….json.sig`. The
receipt comes after the file, as with the recording itself.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from worker.archive import keys, seals, signing
from worker.archive.signing_key import Signer
from worker.archive.store import Store
from worker.errors import Conflict

SCHEMA = "endtape/derived/1"
KIND = re.compile(r"[a-z0-9_-]{1,32}")
NAME = re.compile(r"([a-z0-9_-]{1,32})\.([0-9a-f]{16})")
# What of a receipt `/v1` shows, beside its `name`.
_SHOWN = ("kind", "content_type", "bytes", "sha256", "at", "who")


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """A file made from a recording. `original`: the SHA-256 of the recording's audio. `who` and
    `claimed`: as in the history.
    """

    account: str
    call_uuid: str
    recording_id: str
    original: str
    kind: str
    content_type: str
    bytes: int
    sha256: str
    at: datetime
    who: str
    claimed: str | None = None

    @property
    def name(self) -> str:
        """Its name among the files made from its recording."""
        return f"{self.kind}.{self.sha256[:16]}"

    def written(self) -> dict[str, Any]:
        """Its receipt as JSON data, unsigned."""
        at = self.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "schema": SCHEMA,
            "account": self.account,
            "call_uuid": self.call_uuid,
            "recording_id": self.recording_id,
            "derived_from": {"recording_id": self.recording_id, "sha256": self.original},
            "kind": self.kind,
            "content_type": self.content_type,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "at": at,
            "who": self.who,
            "claimed": self.claimed,
            "signature": None,
        }


def file_of(key: str, name: str) -> str:
    """Where such a file lies. `key`: of its recording, with any extension. Raises ValueError for
    what is no name.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"not the name of a file made from a recording: {name[:140]!r}")
    return keys.parse(key).beside(f"{keys.DERIVED}{name}")


def publish(
    store: Store, signer: Signer, key: str, part: Path, derived: Derived
) -> tuple[dict[str, Any], bytes]:
    """Put a file and its receipt, signed, for good. Returns what the receipt that stands there
    says, and its bytes.

    Harmless to repeat: the first receipt of the same kind and content stays. Raises Conflict where
    other content stands, Unsigned, and what the store raises.
    """
    place = file_of(key, derived.name)
    store.put_file(place, part, derived.sha256)
    said = derived.written() | {"signature": signer.key().field(signing.RECEIPTS)}
    stored = seals.create_once(store, f"{place}.json", seals.written(said))
    stands = _receipt(stored, f"{place}.json")
    if any(stands.get(f) != said[f] for f in ("account", "recording_id", "kind", "sha256")):
        raise Conflict(f"{place}.json is about another file")
    seals.seal(store, f"{place}.json", stored, signing.RECEIPTS, signer)
    return stands, stored


def remove(store: Store, key: str, name: str) -> None:
    """Take a file back whose recording was erased meanwhile."""
    place = file_of(key, name)
    for one in (place, f"{place}.json", keys.signature_of(f"{place}.json")):
        store.delete(one)


def all_of(store: Store, key: str) -> list[dict[str, Any]]:
    """What was made from the recording with this key, as `/v1` shows it, in the order of time: each
    that has a receipt. Raises Conflict where one cannot be understood, and what the store raises.
    """
    stem = keys.parse(key).beside(keys.DERIVED)
    found = []
    for entry in store.starting(stem):
        name = entry.name.removeprefix(stem).removesuffix(".json")
        if entry.name.endswith(".json") and NAME.fullmatch(name):
            with contextlib.suppress(FileNotFoundError):
                found.append(shown(_receipt(store.read(entry.name), entry.name)))
    return sorted(found, key=lambda one: (one["at"] or "", one["name"]))


def shown(said: Mapping[str, Any]) -> dict[str, Any]:
    """What `/v1` shows of a file, by its receipt."""
    return {
        "name": f"{said.get('kind')}.{str(said.get('sha256'))[:16]}",
        **{field: said.get(field) for field in _SHOWN},
    }


def _receipt(content: bytes, name: str) -> dict[str, Any]:
    try:
        said = json.loads(content)
        if said["schema"] != SCHEMA:
            raise ValueError(f"its schema is {said['schema']!r:.60}")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Conflict(f"{name} is no receipt of a file made from a recording: {error}") from None
    return dict(said)
