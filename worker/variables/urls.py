"""The kinds of values that are addresses and hosts."""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from worker.ledger import redis_url, sentinel_url
from worker.variables.kinds import NOTHING, RABBIT, Kind, Unaccepted, split
from worker.vobiz.addresses import HostList, Unfit

_WEB = re.compile(r"https?://[^\s?#@\\]+")  # what stands in a request line as it is
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?\.?", re.IGNORECASE)
_RABBIT_OPTIONS = {
    "heartbeat": re.compile(r"[0-9]{1,4}"),
    "connect_timeout": re.compile(r"[0-9]{1,4}"),
    "login_method": re.compile(r"[A-Z-]{1,20}"),
}


class Hosts(Kind):
    def read(self, text: str) -> tuple[str, ...]:
        hosts = split(text)
        try:
            HostList(hosts)
        except Unfit as error:
            raise Unaccepted(
                f"must be hosts with commas between (host, host:port or *.suffix): {error}"
            ) from None
        return hosts


class WebUrl(Kind):
    """The address of a web server, without login, query and a slash at its end."""

    def read(self, text: str) -> str:
        parts = _parsed(text, ("https", "http"))
        if parts is None or not _WEB.fullmatch(text) or not _is_host(parts.hostname):
            raise Unaccepted(
                "must be a URL like https://host, https://host:port or https://host/path (or "
                "http://), without user, query and fragment",
                secret="@" in text,
            )
        return text.rstrip("/")


class Host(Kind):
    """An address of this machine, or a name of one."""

    def read(self, text: str) -> str:
        if not _is_host(text):
            raise Unaccepted("must be an address or a host name, like 127.0.0.1, :: or localhost")
        return text


@dataclass(frozen=True)
class ServerUrl(Kind):
    """The address of a Redis or of a broker; of RabbitMQ also several, with semicolons between."""

    schemes: tuple[str, ...]

    def read(self, text: str) -> str:
        if text.startswith(sentinel_url.SCHEME):
            try:
                sentinel_url.parse(text)
            except ValueError:  # its text may show a part of the password
                raise Unaccepted(f"must be {sentinel_url.FORM}", secret=True) from None
        elif text.startswith(redis_url.SCHEMES):
            try:
                redis_url.parse(text)
            except ValueError as error:
                raise Unaccepted(str(error), secret=True) from None
        elif fixes := list(self._mistakes(text)):
            raise Unaccepted(*fixes, secret=True)
        return text

    def _mistakes(self, text: str) -> Iterator[str]:
        rabbit = text.startswith(tuple(f"{scheme}://" for scheme in RABBIT))
        several = rabbit and ";" in text
        for url in text.split(";") if rabbit else [text]:
            schemes = RABBIT if several else self.schemes
            if url and _parsed(url, schemes) is None:
                yield _must_begin_with(schemes)
            options = parse_qsl(url.partition("?")[2], keep_blank_values=True)
            unknown = [
                name
                for name, value in options
                if not _RABBIT_OPTIONS.get(name, NOTHING).fullmatch(value)
            ]
            if unknown:
                yield (
                    f"{', '.join(unknown)[:80]}: RabbitMQ's client does not take this; "
                    f"known: {', '.join(_RABBIT_OPTIONS)}"
                )

    def shown(self, value: Any) -> str:
        """Each address without name, password and options."""
        return ";".join(_without_login(url) for url in value.split(";"))


class CatalogUrl(Kind):
    """The address of an SQLite file, or of a database of PostgreSQL."""

    def read(self, text: str) -> str:
        scheme, _, rest = text.partition("://")
        if scheme == "sqlite":
            if not rest.startswith("/") or len(rest) < 2 or "?" in rest:
                raise Unaccepted("must be sqlite:///FILE, or sqlite:////FILE with a whole path")
            return text
        if scheme != "postgresql+psycopg" or _parsed(text, (scheme,)) is None:
            raise Unaccepted(
                "must be sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE",
                secret="@" in text,
            )
        if importlib.util.find_spec("psycopg") is None:
            raise Unaccepted(
                "PostgreSQL needs the extra `postgresql`: pip install 'endtape[postgresql]'",
                secret=True,
            )
        return text

    def shown(self, value: Any) -> str:
        """The address without name, password and options."""
        return _without_login(value)


def in_folder(url: str | None, folder: Path) -> str | None:
    """The address of a catalogue; an SQLite file with a relative path lies in the folder."""
    if url is None or not url.startswith("sqlite:///"):
        return url
    return f"sqlite:///{(folder / url.removeprefix('sqlite:///')).absolute()}"


def _parsed(url: str, schemes: tuple[str, ...]) -> Any:
    """The parts of a URL that has one of these schemes, a host and no fragment; else None."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError for one that is no number
    except ValueError:
        return None
    has_place = bool(parts.hostname) or parts.scheme == "unix"
    return parts if parts.scheme in schemes and has_place and not parts.fragment else None


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return bool(_HOST_NAME.fullmatch(text))
    return True


def _must_begin_with(schemes: tuple[str, ...]) -> str:
    return f"must be a URL that begins with {' or '.join(f'{s}://' for s in schemes)}"


def _without_login(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"
