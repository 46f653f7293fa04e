"""The key that signs: a file in OpenSSH's format, made where it is missing, or one that an agent
holds. Signs with it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from worker.archive import durable, signing, signing_agent
from worker.archive.signing import PublicKey
from worker.errors import Conflict, Unsigned

_MOST_BYTES = 65_536
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that can sign. `raw` makes the 64 bytes of Ed25519, and raises Unsigned where it
    cannot.
    """

    public: PublicKey
    raw: Callable[[bytes], bytes]

    def sign(self, message: bytes, namespace: str) -> bytes:
        """The armored signature of the message. Raises Unsigned."""
        return signing.sign(message, namespace, self.public, self.raw)

    def field(self, namespace: str) -> dict[str, str]:
        """What a signed file says about its signature."""
        return {
            "format": signing.FORMAT,
            "namespace": namespace,
            "key": self.public.fingerprint,
        }


class Signer:
    """Who signs: a name, and the key in a file. The file is read, or made, at the first use.

    `told_at`: when this process last made the key known, by the monotonic clock; None before.
    `known`: the fingerprints of all keys that signed in this service.
    """

    def __init__(self, place: Path, name: str) -> None:
        self.place, self.name = place, name
        self.told_at: float | None = None
        self.known: frozenset[str] = frozenset()
        self._key: SigningKey | None = None
        self._loading = threading.Lock()

    def key(self) -> SigningKey:
        """Raises Unsigned."""
        with self._loading:
            if self._key is None:
                self._key = load_or_make(self.place)
            return self._key


def load_or_make(place: Path) -> SigningKey:
    """The key in this file, made if there is none. Two processes that make one at once get the
    same. Raises Unsigned where that cannot be done.
    """
    key = load(place)
    if key is None:
        _make(place)
        key = load(place)
    if key is None:
        raise Unsigned(f"ENDTAPE_SIGNING_KEY: {place.name} vanished while it was made")
    return key


def load(place: Path) -> SigningKey | None:
    """The key in this file; None where there is no file. Raises Unsigned for a file that holds no
    Ed25519 key, or a private one that others can read, or cannot be read.
    """
    try:
        with durable.open_regular(place.resolve()) as file:
            mode, text = os.fstat(file.fileno()).st_mode, file.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, Conflict) as error:
        reason = getattr(error, "strerror", None) or "it is no plain file"
        raise Unsigned(f"ENDTAPE_SIGNING_KEY: {place.name} cannot be read ({reason})") from None
    if text.startswith(b"ssh-"):
        return _held_by_the_agent(place, text)
    if mode & _OTHERS:
        raise Unsigned(
            f"ENDTAPE_SIGNING_KEY: {place.name} can be read by others than its owner; "
            "make another key if somebody may have read it, else `chmod 600` it"
        )
    return _private(place, text)


def _private(place: Path, text: bytes) -> SigningKey:
    private: object = None
    with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):
        private = load_ssh_private_key(text, password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise Unsigned(
            f"ENDTAPE_SIGNING_KEY: {place.name} holds no Ed25519 key in OpenSSH's format without "
            "passphrase (`ssh-keygen -t ed25519` makes one; an agent can hold one with passphrase)"
        )
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return SigningKey(PublicKey(public), private.sign)


def _held_by_the_agent(place: Path, text: bytes) -> SigningKey:
    try:
        public = PublicKey.parse(text.decode("ascii"))
    except ValueError as error:
        raise Unsigned(f"ENDTAPE_SIGNING_KEY: {place.name}: {error}") from None
    return SigningKey(public, partial(signing_agent.sign, public))


def _make(place: Path) -> None:
    """Put a new key under the name, whole and on disk for good, unless one stands there."""
    text = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    beside = place.with_name(f".{place.name}.{secrets.token_hex(8)}.part")
    try:
        durable.make(place.parent)
        with os.fdopen(os.open(beside, durable.CREATE, 0o600), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(beside, place)
        durable.sync_directory(place.parent)
    except OSError as error:
        raise Unsigned(
            f"ENDTAPE_SIGNING_KEY: {place.name} cannot be made ({error.strerror}); "
            "give this user the right to write there, or name another file"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
