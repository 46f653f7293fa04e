"""The signatures of callbacks, as the provider documents them. Pure.

They cover the address and a nonce, never the body. That is the provider's weakness, kept here on
purpose.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
from dataclasses import dataclass, field
from urllib.parse import urlparse

MODES = ("v3+v2", "v2", "v3", "v1", "ma", "none")
"""Which signatures a callback may carry. `ma`: V2 and V3 with the account's token, MA-V2 and MA-V3
with the parent's."""

# Never seeded: a receiver that remembers nonces would take a repeated one for a replay.
_CHANCE = random.SystemRandom()


def new_nonce() -> str:
    """Twenty random digits, as the provider documents."""
    return str(_CHANCE.randrange(10**19, 10**20))


@dataclass(frozen=True, slots=True)
class Nonces:
    """The nonces of one callback. MA signatures use the same ones."""

    v2: str = field(default_factory=new_nonce)
    v3: str = field(default_factory=new_nonce)


def base_url(url: str) -> str:
    """Scheme, authority and path of the configured address. `urlparse` also cuts `;params`, as the
    vendor's Python sample does.
    """
    parts = urlparse(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _hmac64(token: str, message: str, digest: str = "sha256") -> str:
    return base64.b64encode(hmac.new(token.encode(), message.encode(), digest).digest()).decode()


def v1(token: str, url: str, nonce: str) -> str:
    """The legacy signature. The documentation says HMAC-SHA1 but not of what; base address and
    nonce are the likeliest.
    """
    return _hmac64(token, base_url(url) + nonce, "sha1")


def v2(token: str, url: str, nonce: str) -> str:
    return _hmac64(token, base_url(url) + nonce)


def v3(token: str, url: str, nonce: str) -> str:
    return _hmac64(token, f"{base_url(url)}.{nonce}")


def signature_headers(
    mode: str, url: str, token: str, parent_token: str | None, nonces: Nonces
) -> dict[str, str]:
    """The headers a callback to `url` carries in this mode."""
    headers: dict[str, str] = {}
    if mode == "none":
        return headers
    if mode not in MODES:
        raise ValueError(f"signature mode {mode!r} is none of {', '.join(MODES)}")
    if mode == "v1":
        return {
            "X-Vobiz-Signature": v1(token, url, nonces.v2),
            "X-Vobiz-Signature-V2-Nonce": nonces.v2,
        }
    if mode in {"v3+v2", "v2", "ma"}:
        headers["X-Vobiz-Signature-V2"] = v2(token, url, nonces.v2)
        headers["X-Vobiz-Signature-V2-Nonce"] = nonces.v2
    if mode in {"v3+v2", "v3", "ma"}:
        headers["X-Vobiz-Signature-V3"] = v3(token, url, nonces.v3)
        headers["X-Vobiz-Signature-V3-Nonce"] = nonces.v3
    if mode == "ma":
        parent = parent_token or token
        headers["X-Vobiz-Signature-MA-V2"] = v2(parent, url, nonces.v2)
        headers["X-Vobiz-Signature-MA-V3"] = v3(parent, url, nonces.v3)
    return headers


def trunk_signature(secret: str, body: bytes) -> str:
    """A trunk webhook's signature, which does cover the body: hex HMAC-SHA256."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
