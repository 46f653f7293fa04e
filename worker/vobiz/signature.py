"""Whether the provider sent a callback: parts of the request and secrets in, Verified or
SignatureRejected out. Pure.

The provider signs the callback's address and a nonce, and nothing of the body (vendor docs,
validating callbacks). So a verified callback is only a claim by somebody who holds the URL, and we
ask the provider for its facts again before we act on them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit


class SignatureRejected(Exception):
    """The callback is not to be trusted. `reason` is one of missing, no_nonce, wrong."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    signed: bool
    scheme: str | None = None
    # The nonce of each signature that verified; of V2 also the signed text. The ledger keeps them,
    # so that nobody uses one again with another body.
    nonces: tuple[str, ...] = ()


def base_url(public_url: str, raw_path: str) -> str:
    """The address that the provider signs: the configured public base and the raw request path,
    without query or fragment.
    """
    return public_url.rstrip("/") + raw_path.partition("?")[0].partition("#")[0]


def verify(
    *,
    base_url: str,
    headers: Mapping[str, str],
    tokens: Sequence[str],
    parent_tokens: Sequence[str] = (),
    query: str = "",
    form: Sequence[tuple[str, str]] = (),
    required: bool = True,
) -> Verified:
    """Accepts any scheme that verifies with any token of the account or its parent. Raises
    SignatureRejected.

    Each comparison takes constant time. The number of comparisons reveals only which variant
    verified, and that only to a sender who knows the secret. V1 counts as no signature, because its
    message is not documented.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    presented = list(_presented(lower, (*tokens, *parent_tokens), parent_tokens))
    schemes: list[str] = []
    nonces: list[str] = []
    for one in presented:
        if not one.nonce or (one.dot and one.dot in one.nonce):
            # With a dot in the nonce the same signature would fit a path that ends at an earlier
            # dot, with the rest as its nonce.
            continue
        messages = _messages(base_url, one.dot, one.nonce, query, form)
        found = _verifying(one.value, one.secrets, messages)
        if found is not None:
            variant, message = found
            schemes.append(f"{one.scheme}{variant}")
            nonces.append(one.nonce)
            if not one.dot:
                # V2 puts nothing between address and nonce. So the same signature fits a longer
                # path with a shorter nonce.
                nonces.append(message)
    if schemes:
        return Verified(signed=True, scheme=schemes[0], nonces=tuple(dict.fromkeys(nonces)))
    if presented:
        is_nonce_missing = any(not one.nonce for one in presented)
        raise SignatureRejected("no_nonce" if is_nonce_missing else "wrong")
    if required:
        raise SignatureRejected("missing")
    return Verified(signed=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Presented:
    """A signature that came with a request, and the secrets that it may have been made with."""

    scheme: str
    value: str
    nonce: str
    dot: str  # stands between address and nonce
    secrets: Sequence[str] = field(repr=False)


def _presented(
    lower: Mapping[str, str], secrets: Sequence[str], parent_secrets: Sequence[str]
) -> Iterator[_Presented]:
    """The signatures among these headers, in the order in which they count."""
    for version, dot in (("v3", "."), ("v2", "")):
        for prefix, secrets_of_it in (("", secrets), ("ma-", parent_secrets)):
            value = lower.get(f"x-vobiz-signature-{prefix}{version}")
            if value is not None:
                yield _Presented(
                    scheme=f"{prefix}{version}",
                    value=value,
                    nonce=lower.get(f"x-vobiz-signature-{version}-nonce", "").strip(),
                    dot=dot,
                    secrets=secrets_of_it,
                )


def _verifying(
    value: str, secrets: Sequence[str], messages: Iterator[tuple[str, str]]
) -> tuple[str, str] | None:
    """The first message that the signature fits, with its variant. The documented variant is tried
    first.
    """
    for variant, message in messages:
        for secret in secrets:
            if _matches(value, secret, message):
                return variant, message
    return None


def verify_trunk(*, body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> Verified:
    """Verify a trunk webhook. It carries a hex HMAC-SHA256 of the raw body, with or without
    `sha256=` before it. Raises SignatureRejected.
    """
    value = (
        {n.lower(): v for n, v in headers.items()}.get("x-vobiz-signature", "")
        .strip()
        .removeprefix("sha256=")
    )
    if not value:
        raise SignatureRejected("missing")
    given = value.lower().encode("utf-8", "replace")
    fits = [
        hmac.compare_digest(given, hmac.new(s.encode(), body, hashlib.sha256).hexdigest().encode())
        for s in secrets
    ]
    if not any(fits):
        raise SignatureRejected("wrong")
    return Verified(signed=True, scheme="trunk")


def _messages(
    base: str, dot: str, nonce: str, query: str, form: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    yield "", f"{base}{dot}{nonce}"
    # The vendor's own samples disagree about port, case, escapes and `;`: all of them spell the
    # same address.
    for spelled in _spellings(base):
        yield "", f"{spelled}{dot}{nonce}"
        if dot and (query or form):
            yield "-params", f"{spelled}{_params(query, form)}{dot}{nonce}"


def _params(query: str, form: Sequence[tuple[str, str]]) -> str:
    # An older SDK of the vendor adds the sorted query and form fields to the V3 message. The API
    # that it descends from does the same.
    sorted_query = "&".join(sorted(query.split("&"))) if query else ""
    fields = "".join(name + value for name, value in sorted(form))
    return f"?{sorted_query}{'.' if query and form else ''}{fields}"


def _spellings(base: str) -> Iterator[str]:
    try:
        parts = urlsplit(base)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return
    port_too = f":{port or {'https': 443, 'http': 80}.get(parts.scheme)}"
    for path in _paths(parts.path):
        for authority in dict.fromkeys((parts.netloc, host, host + port_too)):
            yield f"{parts.scheme}://{authority}{path}"


def _paths(path: str) -> list[str]:
    """The path as it was sent, and as the provider may have signed it before a client or a proxy
    spelled it anew.

    All spellings name the same resource. Two paths that name different calls share no spelling.
    """
    plain = unquote(path)
    escaped = [quote(plain, safe="/;:@&=+$,~!*'()"), quote(plain)]
    spellings = [path, path.rpartition(";")[0] or path, re.sub("/{2,}", "/", path), plain, *escaped]
    spellings += [
        re.sub("%[0-9A-F]{2}", lambda m: m[0].lower(), spelled) for spelled in (path, *escaped)
    ]
    spellings += [
        spelled.replace("~", tilde) for spelled in (path, *escaped) for tilde in ("%7E", "%7e")
    ]
    return list(dict.fromkeys(spellings)) if path else ["", "/"]


def sign(url: str, token: str, nonce: str) -> dict[str, str]:
    """The headers with which the provider signs a callback to this address, by V3."""
    return {
        "X-Vobiz-Signature-V3": _digest(token, f"{url}.{nonce}").decode(),
        "X-Vobiz-Signature-V3-Nonce": nonce,
    }


def _digest(secret: str, message: str) -> bytes:
    keyed = hmac.digest(secret.encode(), message.encode("utf-8", "replace"), "sha256")
    return base64.b64encode(keyed)


def _matches(value: str, secret: str, message: str) -> bool:
    expected = _digest(secret, message)
    given = [part.strip().encode("utf-8", "replace") for part in value.split(",")[:8]]
    # `max` compares all of them; `any` would end at the first that fits.
    return max(hmac.compare_digest(part, expected) for part in given)
