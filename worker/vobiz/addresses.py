"""To which addresses a media request may go: listed hosts, and those of their addresses that are
fit to dial.

A URL is parsed strictly or refused. A host that is not listed gets no request. A host's name is
resolved once for each connection, and we dial the addresses that were vetted. An address that is
not public is dialled only if the operator listed its host exactly.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

IPAddress = IPv4Address | IPv6Address
Listing = Literal["exact", "pattern"]
Resolve = Callable[[str, int], Sequence[str]]

_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"(https?)://([^/?#]+)([/?][^#]*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAT64 = IPv6Network("64:ff9b::/96")
_UNFIT = [
    ip_network(net)
    for net in (
        "192.0.0.0/24",
        "192.88.99.0/24",  # protocol assignments, 6to4 relays
        "168.63.129.16/32",  # a cloud's host agent and metadata, in a public range
        "2001::/23",
        "2002::/16",
        "3fff::/20",  # Teredo and others, 6to4, documentation
    )
]


class Unfit(Exception):
    """An address to which nothing may be sent. `host`: its host, as far as it can be parsed."""

    def __init__(self, reason: str, *, host: str = "") -> None:
        super().__init__(f"{host}: {reason}" if host else reason)
        self.host = host
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """A parsed URL. `target` is its path and query, exactly as given."""

    scheme: str
    host: str  # lower case; an IPv6 address without brackets
    port: int
    target: str

    @property
    def netloc(self) -> str:
        """The value for a `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.target}"


def parse_url(url: str) -> Address:
    """Parse an absolute http or https URL. Raises Unfit for one that two parsers could parse
    differently.

    That is a URL with a user name, a fragment, anything but visible ASCII, a backslash, a trailing
    dot, an empty label, or a number as its host in any but the plain dotted form (some clients dial
    decimal, octal and hexadecimal forms).
    """
    if not all("!" <= c <= "~" for c in url) or "\\" in url or len(url) > 8192:
        raise Unfit("the address holds characters that no address needs, or too many")
    parts = _URL.fullmatch(url)
    if not parts:
        raise Unfit("not a plain http or https address")
    scheme, target = parts[1].lower(), parts[3] or "/"
    host, port = _authority(parts[2])
    return Address(
        scheme=scheme,
        host=host,
        port=port or _PORTS[scheme],
        target=target if target[0] == "/" else f"/{target}",
    )


def _authority(text: str) -> tuple[str, int | None]:
    parts = _AUTHORITY.fullmatch(text.lower())
    if not parts:
        raise Unfit(
            "the host part is not a plain host or host:port", host=text.rpartition("@")[2][:255]
        )
    host, port = parts[1], int(parts[2]) if parts[2] else None
    if port is not None and not 0 < port < 65536:
        raise Unfit("no such port", host=host)
    return _host(host), port


def _host(host: str) -> str:
    if host.startswith("["):
        try:
            return str(IPv6Address(host[1:-1]))
        except ValueError:
            raise Unfit("not an IPv6 address", host=host) from None
    labels = host.split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise Unfit("a number that is not a plain IPv4 address", host=host) from None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Unfit("not a plain host name", host=host)
    return host


class HostList:
    """Hosts as an operator lists them: `host`, `host:port`, `*.suffix`, `*.suffix:port`.

    An entry without a port means the scheme's own port; for `localhost` and loopback addresses it
    means any port. Raises Unfit for an entry that cannot be parsed.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._exact: set[tuple[str, int | None]] = set()
        self._suffixes: set[tuple[str, int | None]] = set()
        for entry in entries:
            wild = entry.startswith("*.")
            host, port = _authority(_bracketed(entry[2:] if wild else entry))
            if wild and _literal(host):
                raise Unfit("an address has no subdomains", host=entry)
            (self._suffixes if wild else self._exact).add((host, port))

    def listing(self, address: Address) -> Listing | None:
        """How the list names this host; None where it does not."""
        if self._names(self._exact, address, address.host):
            return "exact"
        parents = address.host.split(".")[1:] if not _literal(address.host) else []
        if any(
            self._names(self._suffixes, address, ".".join(parents[i:])) for i in range(len(parents))
        ):
            return "pattern"
        return None

    @staticmethod
    def _names(entries: set[tuple[str, int | None]], address: Address, host: str) -> bool:
        any_port = address.port == _PORTS[address.scheme] or _is_loopback_name(address.host)
        return (host, address.port) in entries or (any_port and (host, None) in entries)


def _bracketed(entry: str) -> str:
    return f"[{entry}]" if entry.count(":") > 1 and "[" not in entry else entry


def _literal(host: str) -> IPAddress | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_loopback_name(host: str) -> bool:
    literal = _literal(host)
    return literal.is_loopback if literal else host == "localhost"


def system_resolver(host: str, port: int) -> list[str]:
    """The addresses that this machine's resolver returns, best first. Raises OSError.

    The resolver has its own time limit.
    """
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def resolve_vetted(address: Address, listing: Listing, resolve: Resolve) -> list[str]:
    """Resolve the host now, and return the addresses to dial. Raises Unfit, or OSError when there
    is none.

    Plain http may only go to loopback addresses of hosts that are listed exactly. A host that is
    listed by a pattern must have public addresses only. One private address among them refuses all
    of them: an attacker who controls a name could point it at our network.
    """
    literal = _literal(address.host)
    numbers = [address.host] if literal else list(resolve(address.host, address.port))
    if not numbers:
        raise OSError(f"{address.host} has no address")
    for text in numbers:
        ip = _embedded(ip_address(text))
        if address.scheme == "http" and not (listing == "exact" and ip.is_loopback):
            raise Unfit("plain http is for listed loopback addresses only", host=address.host)
        if listing != "exact" and not is_public(ip):
            raise Unfit(f"resolves to {text}, which is not a public address", host=address.host)
    return numbers


def resolve_any(address: Address, resolve: Resolve) -> list[str]:
    """The addresses to dial for a host that the operator declared private: whatever it resolves
    to, also by plain http. Raises OSError when there is none.
    """
    literal = _literal(address.host)
    numbers = [address.host] if literal else list(resolve(address.host, address.port))
    if not numbers:
        raise OSError(f"{address.host} has no address")
    return numbers


def is_public(ip: IPAddress) -> bool:
    """Whether this is an address of the public Internet. An IPv4 address inside an IPv6 one
    (mapped, NAT64) is judged as the IPv4 address.
    """
    ip = _embedded(ip)
    if isinstance(ip, IPv6Address) and ip not in IPv6Network("2000::/3"):
        return False
    return (
        ip.is_global
        and not ip.is_multicast
        and not ip.is_reserved
        and not any(ip in net for net in _UNFIT)
    )


def _embedded(ip: IPAddress) -> IPAddress:
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped:
            return ip.ipv4_mapped
        if ip in _NAT64:
            return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip
