"""One media download, from the vetted address to the last byte, on connections of its own.

A redirect is followed only by our own hand, headers go only where they are meant to, and the address that is dialled is
the very one that was vetted. It may last as long as bytes come. What was cut off goes on where it was cut, if the host
can do that and the file is still the same; in doubt it begins anew.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import BinaryIO
from urllib.parse import urljoin

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from worker.addresses import Address, HostList, Resolve, Unfit, read, vetted
from worker.errors import CorruptMedia, MediaRefused, NotReady, TryAgain, WrongPath
from worker.partial import Notes, Partial
from worker.transport import Head, Patience, Request, Silent, Trouble, perform

MAX_REDIRECTS = 3
MAX_PIECES = 20         # so often one try goes on after a cut; the next try goes on from there
_REDIRECTS = (301, 302, 303, 307, 308)
_NOT_YET = (404, 409, 425)
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)
_ETAG = re.compile(r'"[!#-~\x80-\xff]{0,500}"')      # without W/, which would vouch for the meaning and not for the bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """What arrived, all tries together. `declared_bytes` is None where no length was announced."""

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
    """`alive` is called about once a second and may raise; `announced` with the bytes to come, before the first of them."""

    max_bytes: int
    patience: Patience
    alive: Callable[[], None]
    announced: Callable[[int | None], None]


def download(
    ways: Ways, url: str, credentials: Mapping[str, str], sink: BinaryIO, limits: Limits, notes: Notes | None = None,
) -> Download:
    """Write the body behind `url` to `sink`. The promises are those of `Vobiz.download`."""
    first = _first(ways, url)
    with Partial(sink, notes, first.url.partition("?")[0]) as partial:
        partial.recall(limits.alive)
        for _ in range(MAX_PIECES):
            piece = _Piece(partial, limits)
            try:
                got = _follow(ways, first, credentials, piece)
            except _Misfit:
                partial.begin(total=None, validator=None)
                piece = _Piece(partial, limits, may_go_on=False)
                got = _follow(ways, first, credentials, piece)
            if got:
                return got
        raise TryAgain(f"cut off {MAX_PIECES} times, after {partial.bytes} bytes in all")


def _first(ways: Ways, url: str) -> Address:
    try:
        address = read(url)
    except Unfit as unfit:
        raise WrongPath(f"media address refused: {unfit}") from None
    if ways.media.listing(address) is None:
        raise WrongPath(f"media host {address.netloc} is not listed: add it to VOBIZ_MEDIA_HOSTS if it is the provider's")
    return address


def _follow(ways: Ways, address: Address, credentials: Mapping[str, str], piece: _Piece) -> Download | None:
    """All that is still to come; None if that was cut off, and can go on."""
    secret = True
    for hop in range(MAX_REDIRECTS + 1):
        try:
            _get(ways, address, credentials if secret else {}, piece, hop=hop)
        except _Elsewhere as elsewhere:
            address, secret = _next(ways, address, elsewhere.location)
        else:
            return piece.end(hops=hop)
    raise TryAgain(f"more than {MAX_REDIRECTS} redirects, the last one to {address.host}")


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


def _get(ways: Ways, address: Address, credentials: Mapping[str, str], piece: _Piece, *, hop: int) -> None:
    own = {"User-Agent": "endtape", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
    request = Request(
        address=address, numbers=_numbers(ways, address, hop=hop), headers=own | piece.range_headers() | dict(credentials),
        ca_file=ways.ca_file or DEFAULT_CA_BUNDLE_PATH, patience=piece.limits.patience,
    )
    piece.host = address.host
    try:
        with contextlib.suppress(_TooMuch):     # which `end` finds out
            perform(request, piece)
    except Trouble as trouble:
        piece.broke_off(trouble)


def _numbers(ways: Ways, address: Address, *, hop: int) -> list[str]:
    """The addresses to dial. They are vetted before each connection, for a name may have moved."""
    listing = ways.media.listing(address) or ways.redirect.listing(address) or "pattern"
    try:
        return vetted(address, listing, ways.resolve)
    except Unfit as unfit:
        if hop:
            raise RedirectRefused(address.netloc, unfit.reason) from None
        raise WrongPath(f"media host {unfit}: if that is right, name it exactly in VOBIZ_MEDIA_HOSTS") from None
    except OSError as error:
        raise TryAgain(f"no answer from {address.host}: {type(error).__name__}: {error}") from error


class _Elsewhere(Exception):
    def __init__(self, location: str | None) -> None:
        super().__init__(location)
        self.location = location


class _Misfit(Exception):
    """The host cannot continue what we have."""


class _TooMuch(Exception):
    pass


class _Piece:
    """One answer of the host: the whole file, or the rest of it from where the last piece was cut."""

    def __init__(self, partial: Partial, limits: Limits, *, may_go_on: bool = True) -> None:
        self.limits = limits
        self.host = ""
        self._partial, self._may_go_on = partial, may_go_on
        self._from = partial.bytes if partial.validator else 0
        self._head: Head | None = None
        self._chunked = False
        self._trouble: Trouble | None = None

    def range_headers(self) -> dict[str, str]:
        """What asks for the rest, if the file is still the same."""
        if not self._from or not self._partial.validator:
            return {}
        return {"Range": f"bytes={self._from}-", "If-Range": self._partial.validator}

    # ── as the answer comes ────────────────────────────────────────────────────────────────────────────────────────

    def on_head(self, head: Head) -> None:
        if head.status in _REDIRECTS:
            raise _Elsewhere(head.get("location"))
        if self._from and head.status == 416:
            raise _Misfit
        _expect_media(head, self.host, whole=not self._from)
        self._head, self._chunked = head, any("chunked" in coding.lower() for coding in head.all("transfer-encoding"))
        if head.status == 206:
            self._goes_on(head)
        else:
            self._begins(head)

    def _begins(self, head: Head) -> None:
        total = _declared_bytes(head, chunked=self._chunked)
        self._check_size(total)
        self.limits.announced(total)
        validator = _validator(head) if self._may_go_on else None
        # A host that was asked to go on and did not, though the file is the same, need not be asked again.
        self._partial.begin(total=total, validator=None if self._from and validator == self._partial.validator else validator)
        self._from = 0

    def _goes_on(self, head: Head) -> None:
        partial, fits = self._partial, _RANGE.fullmatch(head.get("content-range") or "")
        if not fits:
            raise _Misfit
        first, last, total = int(fits[1]), int(fits[2]), partial.total if fits[3] == "*" else int(fits[3])
        length = _declared_bytes(head, chunked=self._chunked)
        if first != self._from or total is None or not first <= last < total or partial.total not in {None, total}:
            raise _Misfit
        if length not in {None, last - first + 1} or not _is_same(head, str(partial.validator)):
            raise _Misfit
        self._check_size(total)
        self.limits.announced(total - first)
        partial.total = total

    def _check_size(self, total: int | None) -> None:
        if total is not None and total > self.limits.max_bytes:
            self._partial.forget()
            raise CorruptMedia(f"{total} bytes announced, ENDTAPE_MAX_MEDIA_BYTES allows {self.limits.max_bytes}", check="size")

    def on_body(self, block: bytes) -> None:
        self.limits.alive()
        room = self.limits.max_bytes + 1 - self._partial.bytes
        self._partial.add(block[:room])
        if len(block) >= room:
            raise _TooMuch

    def on_tick(self) -> None:
        self.limits.alive()

    # ── when it has ended ──────────────────────────────────────────────────────────────────────────────────────────

    def broke_off(self, trouble: Trouble) -> None:
        """What is not simply a cut is raised."""
        if trouble.encoded:
            raise CorruptMedia(f"{self.host} sent the file encoded although asked not to: {trouble}", check="encoding") from trouble
        if isinstance(trouble, Silent) and self._head:
            raise TryAgain(f"{self.host} was {trouble}, after {self._partial.bytes} bytes in all") from trouble
        if not self._head and not (trouble.cut and trouble.status == 200):
            raise TryAgain(f"no answer from {self.host}: {trouble}") from trouble
        self._trouble = trouble

    def end(self, *, hops: int) -> Download | None:
        """What arrived, if that is all; None if it can go on from here. Raises CorruptDownload."""
        partial = self._partial
        partial.settle()
        got = Download(
            bytes=partial.bytes, sha256=partial.sha256, declared_bytes=partial.total, hops=hops,
            content_type=((self._head.get("content-type") if self._head else None) or "")[:100] or None,
        )
        if got.bytes > self.limits.max_bytes:
            partial.forget()
            raise CorruptDownload(f"more than the {self.limits.max_bytes} bytes that ENDTAPE_MAX_MEDIA_BYTES allows", check="size", got=got)
        ended = self._head is not None and self._trouble is None
        # Where no end is marked, by a length or by a last chunk, only bytes tell an end from a cut.
        if ended and (got.bytes == got.declared_bytes or (got.declared_bytes is None and (got.bytes or self._chunked))):
            partial.forget()
            return got
        if partial.validator and got.bytes > self._from:
            return None
        partial.forget()
        announced = "no end" if got.declared_bytes is None else f"{got.declared_bytes} announced"
        raise CorruptDownload(f"{got.bytes} bytes arrived, {announced}", check="length", got=got)


def _expect_media(head: Head, host: str, *, whole: bool) -> None:
    status = head.status
    if status in _NOT_YET:
        raise NotReady(f"{host} does not have the file yet ({status})", status=status)
    if status in (401, 403):
        raise MediaRefused(f"{host} refuses the file ({status})", status=status)
    if status != 200 and (whole or status != 206):
        raise TryAgain(f"{host} answered {status}", status=status)
    codings = [head.get("content-encoding") or "identity"]
    codings += [c for c in head.all("transfer-encoding") if c.strip().lower() != "chunked"]
    if any(coding.strip().lower() != "identity" for coding in codings):
        raise CorruptMedia(f"{host} sent the file encoded ({codings[-1][:40]!r}) although asked not to", check="encoding")


def _declared_bytes(head: Head, *, chunked: bool) -> int | None:
    said = set(head.all("content-length"))
    if chunked or not said:
        return None
    if len(said) > 1 or not re.fullmatch(r"[0-9]{1,18}", min(said)):
        raise TryAgain("the announced length cannot be read")
    return int(min(said))


def _validator(head: Head) -> str | None:
    """What names these very bytes, where the host says that it can go on with them: RFC 9110, sections 8.8 and 13.1.5."""
    if (head.get("accept-ranges") or "").lower() != "bytes":
        return None
    etag = head.get("etag")
    if etag is not None:
        return etag if _ETAG.fullmatch(etag) else None
    modified, sent = _date(head.get("last-modified")), _date(head.get("date"))
    # Within the second in which it was changed, a file can be changed again and keep its date.
    return head.get("last-modified") or None if modified is not None and sent is not None and sent - modified >= 1 else None


def _is_same(head: Head, validator: str) -> bool:
    """Whether a piece is of the same file. One with an ETag must repeat it; a date may be left out."""
    if validator.startswith('"'):
        return head.get("etag") == validator
    return head.get("last-modified") in {None, validator}


def _date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except ValueError:
        return None
