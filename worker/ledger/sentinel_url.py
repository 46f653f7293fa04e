"""The address of a Redis that Sentinels watch:
`sentinel://[[user]:password@]host:port,host:port,host:port/master-name[/db]`.

`user` and `password` are those of the servers. Sentinels with their own get
`?sentinel_username=…&sentinel_password=…`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.backoff import NoBackoff
from redis.retry import Retry

SCHEME = "sentinel://"
FORM = "sentinel://[[user]:password@]host:port,host:port,host:port/master-name[/db]"
_DEFAULT_PORT = 26379
_OWN = {"sentinel_username", "sentinel_password"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A parsed address: the Sentinels, and the name under which they watch the primary."""

    sentinels: tuple[tuple[str, int], ...]
    name: str
    db: int
    username: str | None
    password: str | None = field(repr=False)
    sentinel_username: str | None
    sentinel_password: str | None = field(repr=False)

    def asking(self, timeout_s: float) -> dict[str, Any]:
        """Options of redis-py for a connection to a Sentinel. It fails soon, without a retry, and
        the caller asks again.
        """
        return {
            "username": self.sentinel_username,
            "password": self.sentinel_password,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": min(timeout_s, 1.0),
            "retry": Retry(NoBackoff(), 0),
        }


def parse(url: str) -> Watched:
    """Parses an address of the form FORM. Raises ValueError."""
    parts = urlsplit(url)
    userinfo, _, hosts = parts.netloc.rpartition("@")
    username, _, password = userinfo.partition(":")
    sentinels = tuple(_place(host) for host in hosts.split(","))
    name, _, db = parts.path.strip("/").partition("/")
    # Not parse_qsl: in a password a `+` means itself, not a space.
    pairs = (pair.partition("=") for pair in parts.query.split("&") if pair)
    more = {key: unquote(value) for key, _, value in pairs}
    if (
        parts.scheme + "://" != SCHEME
        or not name
        or not (db or "0").isdecimal()
        or parts.fragment
        or set(more) - _OWN
        or not all(more.values())
    ):
        raise ValueError("not the address of a Redis that Sentinels watch")
    return Watched(
        sentinels=sentinels,
        name=unquote(name),
        db=int(db or 0),
        username=unquote(username) or None,
        password=unquote(password) or None,
        sentinel_username=more.get("sentinel_username"),
        sentinel_password=more.get("sentinel_password"),
    )


def _place(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if not parts.hostname or host.rpartition("]")[2].endswith(":"):
        raise ValueError("a Sentinel has no host or no port")
    return parts.hostname, parts.port or _DEFAULT_PORT
