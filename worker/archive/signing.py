"""Signatures in OpenSSH's format SSHSIG, and the public keys that they are checked with. Pure.

`ssh-keygen -Y verify` checks what `sign` makes, and `verify` checks what `ssh-keygen -Y sign`
makes. A signature covers the exact bytes of a file and one namespace: it is good for no other file
and for no other use.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "sshsig"
RECEIPTS = "endtape-receipt"
DAYS = "endtape-day"
HISTORY = "endtape-history"
NAMESPACES = (RECEIPTS, DAYS, HISTORY)

_MAGIC, _VERSION = b"SSHSIG", 1
_ED25519 = b"ssh-ed25519"
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_OURS = b"sha512"  # what `ssh-keygen -Y sign` takes as well
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_LINE = 70
_MOST = 16_384  # characters; a signature of Ed25519 has some 300


class BadSignature(Exception):
    """The signature is none, or not one of this content in this namespace. The text says why."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key of Ed25519: its 32 bytes."""

    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """The key of a line `ssh-ed25519 AAAA… [comment]`. Raises ValueError for any other text."""
        words = text.split()
        if len(words) < 2 or words[0].encode() != _ED25519:
            raise ValueError("not an Ed25519 key in OpenSSH's format (ssh-ed25519 AAAA…)")
        return cls.of_blob(base64.b64decode(words[1], validate=True))

    @classmethod
    def of_blob(cls, blob: bytes) -> PublicKey:
        """The key in SSH's wire format. Raises ValueError for any other bytes."""
        reader = _Reader(blob)
        kind, raw = reader.string(), reader.string()
        if kind != _ED25519 or len(raw) != 32 or reader.rest():
            raise ValueError("not an Ed25519 key")
        return cls(raw)

    @property
    def blob(self) -> bytes:
        """The key in SSH's wire format."""
        return _string(_ED25519) + _string(self.raw)

    @property
    def text(self) -> str:
        """`ssh-ed25519 AAAA…`"""
        return f"{_ED25519.decode()} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as `ssh-keygen -lf` prints it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode()
        return f"SHA256:{digest.rstrip('=')}"


def file_name(fingerprint: str) -> str:
    """A fingerprint as the name of a file, with _ and - for the characters / and +."""
    return fingerprint.replace("/", "_").replace("+", "-")


def sign(message: bytes, namespace: str, key: PublicKey, raw: Callable[[bytes], bytes]) -> bytes:
    """The armored signature of `message`. `raw` makes the 64 bytes of Ed25519 over what it is
    given, with the private half of `key`.
    """
    signed = raw(_covered(message, namespace.encode(), _OURS))
    blob = (
        _MAGIC
        + _VERSION.to_bytes(4, "big")
        + _string(key.blob)
        + _string(namespace.encode())
        + _string(b"")  # reserved
        + _string(_OURS)
        + _string(_string(_ED25519) + _string(signed))
    )
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return "\n".join([_BEGIN, *lines, _END, ""]).encode()


def verify(message: bytes, armored: bytes, namespace: str) -> PublicKey:
    """The key that signed `message` in this namespace; whether to trust it is up to the caller.

    Raises BadSignature.
    """
    try:
        key, found, digest, signed = _parsed(armored)
    except (ValueError, binascii.Error) as error:
        raise BadSignature(f"not a signature that can be read: {error}") from None
    if found != namespace.encode():
        shown = found.decode("utf-8", "replace")
        raise BadSignature(f"made for the namespace {shown[:60]!r}, not for {namespace!r}")
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signed, _covered(message, found, digest))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise BadSignature("not the signature of this content") from None
    return key


def _covered(message: bytes, namespace: bytes, digest: bytes) -> bytes:
    """What a signature covers: a digest of the message, and the namespace."""
    return (
        _MAGIC
        + _string(namespace)
        + _string(b"")
        + _string(digest)
        + _string(_HASHES[digest](message).digest())
    )


def _parsed(armored: bytes) -> tuple[PublicKey, bytes, bytes, bytes]:
    """Key, namespace, name of the digest, and the 64 bytes of Ed25519. Raises ValueError."""
    lines = armored[:_MOST].decode("ascii").replace("\r\n", "\n").strip("\n").split("\n")
    if len(lines) < 3 or (lines[0], lines[-1]) != (_BEGIN, _END):
        raise ValueError("it lacks its first or its last line")
    text = "".join(lines[1:-1])
    blob = base64.b64decode(text, validate=True)
    if base64.b64encode(blob).decode() != text:
        raise ValueError("its base64 has bits that mean nothing")
    reader = _Reader(blob)
    if reader.take(len(_MAGIC)) != _MAGIC or reader.number() != _VERSION:
        raise ValueError("it is no SSHSIG of version 1")
    key = PublicKey.of_blob(reader.string())
    namespace, _reserved, digest = reader.string(), reader.string(), reader.string()
    if digest not in _HASHES:
        raise ValueError("its digest is neither sha256 nor sha512")
    inner = _Reader(reader.string())
    kind, signed = inner.string(), inner.string()
    if kind != _ED25519 or len(signed) != 64 or reader.rest() or inner.rest():
        raise ValueError("it is not of Ed25519")
    return key, namespace, digest, signed


def _string(content: bytes) -> bytes:
    """A string of SSH's wire format: its length in four bytes, then its bytes."""
    return len(content).to_bytes(4, "big") + content


class _Reader:
    """Reads SSH's wire format. Raises ValueError where it ends too early."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def take(self, count: int) -> bytes:
        taken = self._content[self._at : self._at + count]
        if len(taken) != count:
            raise ValueError("it ends too early")
        self._at += count
        return taken

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.number())

    def rest(self) -> bytes:
        return self._content[self._at :]
