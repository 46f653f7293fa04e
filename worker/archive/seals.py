"""Files that are written once and signed beside: created, or read where another was first; then
signed as they stand.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from worker.archive import keys, signing
from worker.archive.signing_key import Signer
from worker.archive.store import Store
from worker.errors import Conflict


def written(said: Mapping[str, Any]) -> bytes:
    """JSON data as the archive writes it."""
    text = json.dumps(said, sort_keys=True, ensure_ascii=False, allow_nan=False)
    # The standard library indents in Python, which takes three times as long.
    return msgspec.json.format(text, indent=2).encode() + b"\n"


def create_once(store: Store, name: str, content: bytes) -> bytes:
    """Put a file under the name unless one stands there. Returns what stands there, for good.
    Raises what the store raises, but not Conflict where another writer was first.
    """
    with contextlib.suppress(Conflict):
        store.create(name, content)
        return content
    stands = store.read(name)
    store.create(name, stands)  # whoever wrote it may have died before it was there for good
    return stands


def seal(store: Store, name: str, stored: bytes, namespace: str, signer: Signer) -> None:
    """Sign the bytes that stand under the name, unless a good signature of ours does.

    Harmless to repeat. Raises Conflict where any other signature stands, Unsigned, and what the
    store raises.
    """
    own = signer.key()
    try:
        store.create(keys.signature_of(name), own.sign(stored, namespace))
    except Conflict:
        # Another key of ours may have signed it, before a rotation or in the middle of one.
        if not is_sealed(store, name, stored, namespace, {own.public.fingerprint, *signer.known}):
            raise


def is_sealed(store: Store, name: str, stored: bytes, namespace: str, trusted: set[str]) -> bool:
    """Whether one of these keys signed what is stored under the name. Raises Conflict where any
    other signature stands.
    """
    try:
        by = signing.verify(stored, store.read(keys.signature_of(name)), namespace)
    except FileNotFoundError:
        return False
    except signing.BadSignature as error:
        raise Conflict(f"the signature of {name} is wrong: {error}") from None
    if by.fingerprint not in trusted:
        raise Conflict(f"{name} is signed with another key than ours")
    return True
