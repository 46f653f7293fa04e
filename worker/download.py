"""One media download, from the vetted address to the last byte, on connections of its own.

Written on `http.client`, below `requests`: nothing in the environment reaches it, a redirect is followed only by our
own hand, headers go only where they are meant to, and the socket is connected to the very address that was vetted.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urljoin

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from worker.addresses import Address, HostList, Resolve, Unfit, read, vetted
from worker.deadline import Deadline
from worker.errors import CorruptMedia, MediaRefused, NotReady, TryAgain, WrongPath

CHUNK = 256 * 1024
MAX_REDIRECTS = 3
CONNECT_S = 5.0
READ_S = 20.0
_REDIRECTS = (301, 302, 303, 307, 308)
_NOT_YET = (404, 409, 425)


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """What arrived. `declared_bytes` is None where no length was announced."""

    bytes: int
    sha256: str
    declared_bytes: int | None
    content_type: str | None
    hops: int


class RedirectRefused(TryAgain):
    """The media host sent us to an address off the lists. `host` is for the alert."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"redirect to {host or 'an unreadable address'} refused: {reason}; see VOBIZ_REDIRECT_HOSTS")
        self.host = host


class CorruptDownload(CorruptMedia):
    """CorruptMedia with what did arrive (all of it is in the sink), so that identical failures can be told."""

    def __init__(self, message: str, *, check: str, got: Download) -> None:
        super().__init__(message, check=check)
        self.got = got

    @property
    def bytes(self) -> int:
        return self.got.bytes

    @property
    def sha256(self) -> str:
        return self.got.sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class Ways:
    """Where downloads may go: with credentials, without them; how names are resolved; whose certificates count.

    Without a `ca_file` those that `requests` ships.
    """

    media: HostList
    redirect: HostList
    resolve: Resolve
    ca_file: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """`alive` is called before each chunk and may raise; `announced` once, with the declared length, before the first."""

    max_bytes: int
    deadline: Deadline
    alive: Callable[[], None]
    announced: Callable[[int | None], None]


def download(ways: Ways, url: str, credentials: Mapping[str, str], sink: BinaryIO, limits: Limits) -> Download:
    """Write the body behind `url` to `sink`. The promises are those of `Vobiz.download`."""
    address, secret = _first(ways, url), True
    for hop in range(MAX_REDIRECTS + 1):
        with _get(ways, address, credentials if secret else {}, limits.deadline, hop=hop) as response:
            if response.status not in _REDIRECTS:
                _expect_media(response, address.host)
                return _receive(response, sink, limits, hops=hop)
            address, secret = _next(ways, address, response.headers.get("Location"))
    raise TryAgain(f"more than {MAX_REDIRECTS} redirects, the last one to {address.host}")


def _first(ways: Ways, url: str) -> Address:
    try:
        address = read(url)
    except Unfit as unfit:
        raise WrongPath(f"media address refused: {unfit}") from None
    if ways.media.listing(address) is None:
        raise WrongPath(f"media host {address.netloc} is not listed: add it to VOBIZ_MEDIA_HOSTS if it is the provider's")
    return address


def _next(ways: Ways, here: Address, location: str | None) -> tuple[Address, bool]:
    if not location:
        raise TryAgain(f"{here.host} redirects to nowhere")
    try:
        # Joining strips tabs and newlines and would let them pass, so the raw value is looked at first.
        if not all("!" <= c <= "~" for c in location) or "\\" in location:
            raise Unfit("the address holds characters that no address needs")
        address = read(urljoin(here.url, location))
    except (Unfit, ValueError) as problem:
        raise RedirectRefused(getattr(problem, "host", ""), getattr(problem, "reason", "unreadable")) from None
    if ways.media.listing(address):
        return address, True
    if ways.redirect.listing(address):
        return address, False
    raise RedirectRefused(address.netloc, "not listed")


@contextlib.contextmanager
def _get(
    ways: Ways, address: Address, credentials: Mapping[str, str], deadline: Deadline, *, hop: int,
) -> Iterator[http.client.HTTPResponse]:
    with contextlib.ExitStack() as open_things:
        with _network_trouble(address.host, deadline):
            sock = open_things.enter_context(_connect(ways, address, deadline, hop=hop))
            response = open_things.enter_context(_ask(sock, address, credentials))
        yield response


def _ask(sock: socket.socket, address: Address, credentials: Mapping[str, str]) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(address.host, address.port)
    connection.sock = sock
    connection.putrequest("GET", address.target, skip_host=True, skip_accept_encoding=True)
    own = {"Host": address.netloc, "User-Agent": "endtape", "Accept-Encoding": "identity", "Connection": "close"}
    for name, value in (own | dict(credentials)).items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


def _connect(ways: Ways, address: Address, deadline: Deadline, *, hop: int) -> socket.socket:
    listing = ways.media.listing(address) or ways.redirect.listing(address) or "pattern"
    try:
        numbers = vetted(address, listing, ways.resolve)
    except Unfit as unfit:
        if hop:
            raise RedirectRefused(address.netloc, unfit.reason) from None
        raise WrongPath(f"media host {unfit}: if that is right, name it exactly in VOBIZ_MEDIA_HOSTS") from None
    sock = _dial(numbers, address.port, deadline)
    deadline.watch(sock)
    try:
        if address.scheme == "https":
            sock = _trust(ways.ca_file).wrap_socket(sock, server_hostname=address.host)
        sock.settimeout(READ_S)
    except BaseException:
        sock.close()
        raise
    return sock


@functools.cache
def _trust(ca_file: str | None) -> ssl.SSLContext:
    # Reading the certificates takes about 20 ms. A file that is named keeps the environment's out of it.
    return ssl.create_default_context(cafile=ca_file or DEFAULT_CA_BUNDLE_PATH)


def _dial(numbers: list[str], port: int, deadline: Deadline) -> socket.socket:
    problem: OSError | None = None
    for number in numbers[:4]:
        try:
            # A timeout of 0 would mean "do not block" to a socket.
            return socket.create_connection((number, port), timeout=min(CONNECT_S, max(deadline.left(), 0.001)))
        except OSError as error:
            problem = error
    raise problem or OSError("no address")


@contextlib.contextmanager
def _network_trouble(host: str, deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        why = "the deadline of the transfer passed" if deadline.passed else f"{type(error).__name__}: {error}"
        raise TryAgain(f"no answer from {host}: {why}") from error


def _expect_media(response: http.client.HTTPResponse, host: str) -> None:
    status = response.status
    if status in _NOT_YET:
        raise NotReady(f"{host} does not have the file yet ({status})", status=status)
    if status in (401, 403):
        raise MediaRefused(f"{host} refuses the file ({status})", status=status)
    if status != 200:
        raise TryAgain(f"{host} answered {status}", status=status)
    codings = [response.headers.get("Content-Encoding") or "identity"]
    codings += [c for c in response.headers.get_all("Transfer-Encoding") or [] if c.strip().lower() != "chunked"]
    if any(coding.strip().lower() != "identity" for coding in codings):
        raise CorruptMedia(f"{host} sent the file encoded ({codings[-1][:40]!r}) although asked not to", check="encoding")


def _declared_bytes(response: http.client.HTTPResponse) -> int | None:
    said = {value.strip() for value in response.headers.get_all("Content-Length") or []}
    if response.chunked or not said:
        return None
    if len(said) > 1 or not re.fullmatch(r"[0-9]{1,18}", min(said)):
        raise TryAgain("the announced length cannot be read")
    return int(min(said))


def _receive(response: http.client.HTTPResponse, sink: BinaryIO, limits: Limits, *, hops: int) -> Download:
    declared = _declared_bytes(response)
    if declared is not None and declared > limits.max_bytes:
        raise CorruptMedia(f"{declared} bytes announced, ENDTAPE_MAX_MEDIA_BYTES allows {limits.max_bytes}", check="size")
    limits.announced(declared)
    digest, total, cut = hashlib.sha256(), 0, False
    while True:
        limits.alive()
        try:
            # Whatever has come is taken at once, so that a slow sender does not keep `alive` waiting.
            block = response.read1(min(CHUNK, limits.max_bytes + 1 - total))
        except TimeoutError as error:
            raise TryAgain(f"silent for {READ_S:g} s after {total} bytes") from error
        except (OSError, http.client.HTTPException):
            block, cut = b"", True
        if not block:
            break
        sink.write(block)
        digest.update(block)
        total += len(block)
        if total > limits.max_bytes:
            break
    got = Download(
        bytes=total, sha256=digest.hexdigest(), declared_bytes=declared, hops=hops,
        content_type=(response.headers.get("Content-Type") or "")[:100] or None,
    )
    _expect_all(got, limits, cut=cut, framed=declared == total or response.chunked)
    return got


def _expect_all(got: Download, limits: Limits, *, cut: bool, framed: bool) -> None:
    """`framed`: the end that was reached was marked as one, by a length or by a last chunk."""
    if got.bytes > limits.max_bytes:
        raise CorruptDownload(f"more than the {limits.max_bytes} bytes that ENDTAPE_MAX_MEDIA_BYTES allows", check="size", got=got)
    if (cut or not framed) and limits.deadline.passed:
        raise TryAgain(f"the deadline of the transfer passed after {got.bytes} bytes")
    # Headers that are cut off pass for complete (http.client); then no length is known, and nothing follows.
    if cut or (not framed and (got.declared_bytes or not got.bytes)):
        announced = "no end" if got.declared_bytes is None else f"{got.declared_bytes} announced"
        raise CorruptDownload(f"{got.bytes} bytes arrived, {announced}", check="length", got=got)
