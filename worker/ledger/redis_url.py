"""The address of one Redis, `redis://`, `rediss://` or `unix://`, as each of its two clients spells
it.

The ledger uses redis-py, Celery's queues use kombu. They spell the same options differently, and
neither reports an unknown option before it connects. So this module parses an address, and writes
it anew for each of the two.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

SCHEMES = ("redis://", "rediss://", "unix://")
_ANYWHERE = ("db", "username", "password")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS = ("ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_path", "ssl_password", *_FILES)
_REQUIREMENTS = ("none", "optional", "required")
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A parsed address."""

    scheme: str
    place: str  # host and port, or the path of the socket
    db: int
    username: str
    password: str = field(repr=False)
    tls: dict[str, str] = field(repr=False)  # options by the names of redis-py

    def for_redis(self) -> str:
        query = urlencode(self.tls, quote_via=quote)
        if self.scheme == "unix":
            return f"unix://{self._login()}{quote(self.place)}?db={self.db}"
        return f"{self.scheme}://{self._login()}{self.place}/{self.db}" + (
            f"?{query}" if query else ""
        )

    def for_celery(self) -> str:
        if self.scheme == "unix":
            return f"redis+socket://{self._login()}{quote(self.place)}?virtual_host={self.db}"
        if self.scheme == "redis":
            return self.for_redis()
        # Without `ssl_cert_reqs` kombu verifies nothing, whereas redis-py verifies everything.
        options = {
            **self.tls,
            "ssl_cert_reqs": f"CERT_{self.tls.get('ssl_cert_reqs', 'required').upper()}",
        }
        if options["ssl_cert_reqs"] == "CERT_NONE":
            options["ssl_check_hostname"] = "false"
        return (
            f"rediss://{self._login()}{self.place}/{self.db}?{urlencode(options, quote_via=quote)}"
        )

    def _login(self) -> str:
        if not (self.username or self.password):
            return ""
        return f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@"


def parse(url: str) -> Server:
    """Raises ValueError, whose text says what to write instead and shows no secret."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # urlsplit's text may show a part of the password
        raise ValueError("must be a host, and a number as its port") from None
    # A `+` means itself here, not a space.
    pairs = parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True)
    query = dict(pairs)
    if parts.fragment or len(query) != len(pairs):
        raise ValueError("must have no `#`, and no parameter twice")
    _refuse_unknown(parts.scheme, query)
    number = query.pop("db", "") or (parts.path.removeprefix("/") if parts.scheme != "unix" else "")
    if not (number or "0").isascii() or not (number or "0").isdigit() or len(number) > 4:
        raise ValueError(
            "must end with the number of a database, like /0, or with nothing after the port"
        )
    return Server(
        scheme=parts.scheme,
        place=_place(url),
        db=int(number or 0),
        username=query.pop("username", "") or unquote(parts.username or ""),
        password=query.pop("password", "") or unquote(parts.password or ""),
        tls=_tls(query),
    )


def _refuse_unknown(scheme: str, query: dict[str, str]) -> None:
    allowed = (*_ANYWHERE, *_TLS) if scheme == "rediss" else _ANYWHERE
    for name in query:
        if name in _TLS and name not in allowed:
            raise ValueError(f"{name} goes with rediss:// only")
        if name not in allowed:
            raise ValueError(
                f"{name[:40]!r} is no parameter that is understood; known: {', '.join(allowed)}"
            )


def _place(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme == "unix":
        if host or not parts.path.strip("/"):
            raise ValueError("must name a socket by its whole path, like unix:///run/redis.sock")
        return unquote(parts.path)
    if not parts.hostname or parts.port == 0:
        raise ValueError("must name a host")
    return host.removesuffix(":")


def _tls(query: dict[str, str]) -> dict[str, str]:
    options = dict(query)
    if "ssl_cert_reqs" in options:
        required = options["ssl_cert_reqs"].lower().removeprefix("cert_")
        if required not in _REQUIREMENTS:
            raise ValueError(
                f"ssl_cert_reqs must be one of {', '.join(_REQUIREMENTS)}, "
                "or CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED"
            )
        options["ssl_cert_reqs"] = required
    if "ssl_check_hostname" in options:
        checked = options["ssl_check_hostname"].lower()
        if checked not in (*_TRUE, *_FALSE):
            raise ValueError("ssl_check_hostname must be true or false")
        options["ssl_check_hostname"] = "true" if checked in _TRUE else "false"
    for name in _FILES:
        if name in options and not os.access(options[name], os.R_OK):
            raise ValueError(
                f"{name} names {options[name]!r}, which is no file that this user can read"
            )
    return options
