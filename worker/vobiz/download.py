"""One media download, from the vetted address to the last byte, on connections of its own.

We follow each redirect ourselves, send credentials to listed media hosts only, and dial the very
address that we vetted. A download may last as long as bytes come. A download that was cut continues
where it was cut, if the host can do that and the file is still the same. In doubt it begins anew.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urljoin

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from worker.errors import TryAgain, WrongPath
from worker.vobiz import measured
from worker.vobiz.addresses import Address, HostList, Resolve, Unfit, parse_url, resolve_vetted
from worker.vobiz.partial import Notes, Partial
from worker.vobiz.piece import Download, Elsewhere, Hooks, Limits, Misfit, Piece, TooMuch
from worker.vobiz.transport import Request, Trouble, perform

MAX_REDIRECTS = 3
# Answers in one try, each from where the last was cut; the next try goes on from there.
MAX_PIECES = 20


class RedirectRefused(TryAgain):
    """The media host redirects to an address that is not listed. `host` is for the alert."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(
            f"redirect to {host or 'an unreadable address'} refused: {reason}; "
            "see VOBIZ_REDIRECT_HOSTS"
        )
        self.host = host


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaHosts:
    """Where downloads may go."""

    media: HostList  # hosts that get credentials
    redirect: HostList  # hosts that a redirect may lead to, without credentials
    resolve: Resolve
    ca_file: str | None  # None: the certificates that `requests` ships


def download(
    hosts: MediaHosts,
    url: str,
    credentials: Mapping[str, str],
    sink: BinaryIO,
    limits: Limits,
    hooks: Hooks,
    notes: Notes | None = None,
) -> Download:
    """Write the body behind `url` to `sink`. The promises are those of `Vobiz.download`."""
    first = _first(hosts, url)
    with Partial(sink, notes, first.url.partition("?")[0], hooks.follower) as partial:
        partial.recall(hooks.keep_going)
        for _ in range(MAX_PIECES):
            piece = Piece(partial, limits, hooks)
            try:
                got = _follow(hosts, first, credentials, piece)
            except Misfit:
                partial.begin(total=None, validator=None)
                piece = Piece(partial, limits, hooks, may_go_on=False)
                got = _follow(hosts, first, credentials, piece)
            if got:
                return got
        raise TryAgain(f"cut off {MAX_PIECES} times, after {partial.bytes} bytes in all")


def _first(hosts: MediaHosts, url: str) -> Address:
    try:
        address = parse_url(url)
    except Unfit as unfit:
        raise WrongPath(f"media address refused: {unfit}") from None
    if hosts.media.listing(address) is None:
        raise WrongPath(
            f"media host {address.netloc} is not listed: "
            "add it to VOBIZ_MEDIA_HOSTS if it is the provider's"
        )
    return address


def _follow(
    hosts: MediaHosts, address: Address, credentials: Mapping[str, str], piece: Piece
) -> Download | None:
    """The download if it is complete now; None if it was cut and can be continued."""
    secret = True
    for hop in range(MAX_REDIRECTS + 1):
        try:
            _get(hosts, address, credentials if secret else {}, piece, hop=hop)
        except Elsewhere as elsewhere:
            address, secret = _next(hosts, address, elsewhere.location)
        else:
            return piece.end(hops=hop)
    raise TryAgain(f"more than {MAX_REDIRECTS} redirects, the last one to {address.host}")


def _next(hosts: MediaHosts, here: Address, location: str | None) -> tuple[Address, bool]:
    if not location:
        raise TryAgain(f"{here.host} redirects to nowhere")
    try:
        # `urljoin` strips tabs and newlines and would let them pass, so the raw value is checked
        # first.
        if not all("!" <= c <= "~" for c in location) or "\\" in location:
            raise Unfit("the address holds characters that no address needs")
        address = parse_url(urljoin(here.url, location))
    except (Unfit, ValueError) as problem:
        raise RedirectRefused(
            getattr(problem, "host", ""), getattr(problem, "reason", "unreadable")
        ) from None
    if hosts.media.listing(address):
        return address, True
    if hosts.redirect.listing(address):
        return address, False
    raise RedirectRefused(address.netloc, "not listed")


def _get(
    hosts: MediaHosts, address: Address, credentials: Mapping[str, str], piece: Piece, *, hop: int
) -> None:
    own = {
        "User-Agent": "endtape",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    request = Request(
        address=address,
        numbers=_numbers(hosts, address, hop=hop),
        headers=own | piece.range_headers() | dict(credentials),
        ca_file=hosts.ca_file or DEFAULT_CA_BUNDLE_PATH,
        patience=piece.limits.patience,
    )
    piece.host, piece.path = address.host, address.target
    began = time.monotonic()
    try:
        with contextlib.suppress(TooMuch):  # `piece.end` finds it out by the size
            perform(request, piece)
    except Trouble as trouble:
        piece.broke_off(trouble)
    finally:
        measured.answered("media", piece.status, time.monotonic() - began)


def _numbers(hosts: MediaHosts, address: Address, *, hop: int) -> list[str]:
    """The addresses to dial. They are vetted before each connection, because a name can move."""
    listing = hosts.media.listing(address) or hosts.redirect.listing(address) or "pattern"
    try:
        return resolve_vetted(address, listing, hosts.resolve)
    except Unfit as unfit:
        if hop:
            raise RedirectRefused(address.netloc, unfit.reason) from None
        raise WrongPath(
            f"media host {unfit}: if that is right, name it exactly in VOBIZ_MEDIA_HOSTS"
        ) from None
    except OSError as error:
        raise TryAgain(f"no answer from {address.host}: {type(error).__name__}: {error}") from error
