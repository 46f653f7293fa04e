"""One media download, from the vetted address to the last byte, on connections of its own.

We follow each redirect ourselves, send credentials to listed media hosts only, and dial the very
address that we vetted. A download may last as long as bytes come. One that was cut goes on where it
was cut, if the host can do that and the file is still the same; in doubt it begins anew.
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

from worker.errors import CorruptMedia, MediaRefused, NotReady, TryAgain, WrongPath
from worker.vobiz.addresses import Address, HostList, Resolve, Unfit, read, vetted
from worker.vobiz.partial import Notes, Partial
from worker.vobiz.transport import Head, Patience, Request, Silent, Trouble, perform

MAX_REDIRECTS = 3
MAX_PIECES = (
    20  # answers in one try, each from where the last was cut; the next try goes on from there
)
_REDIRECTS = (301, 302, 303, 307, 308)
_NOT_YET = (404, 409, 425)
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)
_ETAG = re.compile(
    r'"[!#-~\x80-\xff]{0,500}"'
)  # without W/: a weak ETag does not promise the same bytes


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
        super().__init__(
            f"redirect to {host or 'an unreadable address'} refused: {reason}; see VOBIZ_REDIRECT_HOSTS"
        )
        self.host = host


class CorruptDownload(CorruptMedia):
    """CorruptMedia with what did arrive, all of which is in the sink: two identical failures can be
    told from two different ones.
    """

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
    """Where downloads may go."""

    media: HostList  # hosts that get credentials
    redirect: HostList  # hosts that a redirect may lead to, without credentials
    resolve: Resolve
    ca_file: str | None  # None: the certificates that `requests` ships


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """`alive` is called about once a second and may raise. `announced` is called before the first
    byte, with the number to come.
    """

    max_bytes: int
    patience: Patience
    alive: Callable[[], None]
    announced: Callable[[int | None], None]


def download(
    ways: Ways,
    url: str,
    credentials: Mapping[str, str],
    sink: BinaryIO,
    limits: Limits,
    notes: Notes | None = None,
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
        raise WrongPath(
            f"media host {address.netloc} is not listed: add it to VOBIZ_MEDIA_HOSTS if it is the provider's"
        )
    return address


def _follow(
    ways: Ways, address: Address, credentials: Mapping[str, str], piece: _Piece
) -> Download | None:
    """The download if it is complete now. None if it was cut, and can go on."""
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
        # `urljoin` strips tabs and newlines and would let them pass, so the raw value is checked
        # first.
        if not all("!" <= c <= "~" for c in location) or "\\" in location:
            raise Unfit("the address holds characters that no address needs")
        address = read(urljoin(here.url, location))
    except (Unfit, ValueError) as problem:
        raise RedirectRefused(
            getattr(problem, "host", ""), getattr(problem, "reason", "unreadable")
        ) from None
    if ways.media.listing(address):
        return address, True
    if ways.redirect.listing(address):
        return address, False
    raise RedirectRefused(address.netloc, "not listed")


def _get(
    ways: Ways, address: Address, credentials: Mapping[str, str], piece: _Piece, *, hop: int
) -> None:
    own = {
        "User-Agent": "endtape",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    request = Request(
        address=address,
        numbers=_numbers(ways, address, hop=hop),
        headers=own | piece.range_headers() | dict(credentials),
        ca_file=ways.ca_file or DEFAULT_CA_BUNDLE_PATH,
        patience=piece.limits.patience,
    )
    piece.host = address.host
    try:
        with contextlib.suppress(_TooMuch):  # `piece.end` finds it out by the size
            perform(request, piece)
    except Trouble as trouble:
        piece.broke_off(trouble)


def _numbers(ways: Ways, address: Address, *, hop: int) -> list[str]:
    """The addresses to dial. They are vetted before each connection, because a name can move."""
    listing = ways.media.listing(address) or ways.redirect.listing(address) or "pattern"
    try:
        return vetted(address, listing, ways.resolve)
    except Unfit as unfit:
        if hop:
            raise RedirectRefused(address.netloc, unfit.reason) from None
        raise WrongPath(
            f"media host {unfit}: if that is right, name it exactly in VOBIZ_MEDIA_HOSTS"
        ) from None
    except OSError as error:
        raise TryAgain(f"no answer from {address.host}: {type(error).__name__}: {error}") from error


class _Elsewhere(Exception):
    """A redirect."""

    def __init__(self, location: str | None) -> None:
        super().__init__(location)
        self.location = location


class _Misfit(Exception):
    """The host cannot go on with what we have."""


class _TooMuch(Exception):
    """More bytes came than a recording may have."""


class _Piece:
    """One answer of the host: the whole file, or the rest of it from where the last piece was
    cut.
    """

    def __init__(self, partial: Partial, limits: Limits, *, may_go_on: bool = True) -> None:
        self.limits = limits
        self.host = ""
        self._partial, self._may_go_on = partial, may_go_on
        self._from = partial.bytes if partial.validator else 0
        self._head: Head | None = None
        self._chunked = False
        self._trouble: Trouble | None = None

    def range_headers(self) -> dict[str, str]:
        """The headers that ask for the rest, if the file is still the same."""
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
        self._head, self._chunked = (
            head,
            any("chunked" in coding.lower() for coding in head.all("transfer-encoding")),
        )
        if head.status == 206:
            self._goes_on(head)
        else:
            self._begins(head)

    def _begins(self, head: Head) -> None:
        total = _declared_bytes(head, chunked=self._chunked)
        self._check_size(total)
        self.limits.announced(total)
        validator = _validator(head) if self._may_go_on else None
        if self._from and validator == self._partial.validator:
            validator = (
                None  # it was asked to go on with this very file and did not: do not ask again
            )
        self._partial.begin(total=total, validator=validator)
        self._from = 0

    def _goes_on(self, head: Head) -> None:
        partial = self._partial
        content_range = _RANGE.fullmatch(head.get("content-range") or "")
        if not content_range:
            raise _Misfit
        first, last = int(content_range[1]), int(content_range[2])
        total = partial.total if content_range[3] == "*" else int(content_range[3])
        length = _declared_bytes(head, chunked=self._chunked)
        if (
            first != self._from
            or total is None
            or not first <= last < total
            or partial.total not in {None, total}
        ):
            raise _Misfit
        if length not in {None, last - first + 1} or not _is_same(head, str(partial.validator)):
            raise _Misfit
        self._check_size(total)
        self.limits.announced(total - first)
        partial.total = total

    def _check_size(self, total: int | None) -> None:
        if total is not None and total > self.limits.max_bytes:
            self._partial.forget()
            raise CorruptMedia(
                f"{total} bytes announced, ENDTAPE_MAX_MEDIA_BYTES allows {self.limits.max_bytes}",
                check="size",
            )

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
        """Keeps a mere cut for `end`. Raises for any other trouble."""
        if trouble.encoded:
            raise CorruptMedia(
                f"{self.host} sent the file encoded although asked not to: {trouble}",
                check="encoding",
            ) from trouble
        if isinstance(trouble, Silent) and self._head:
            raise TryAgain(
                f"{self.host} was {trouble}, after {self._partial.bytes} bytes in all"
            ) from trouble
        if not self._head and not (trouble.cut and trouble.status == 200):
            raise TryAgain(f"no answer from {self.host}: {trouble}") from trouble
        self._trouble = trouble

    def end(self, *, hops: int) -> Download | None:
        """The download if it is complete. None if the next piece can go on from here. Raises
        CorruptDownload.
        """
        partial = self._partial
        partial.settle()
        content_type = self._head.get("content-type") if self._head else None
        got = Download(
            bytes=partial.bytes,
            sha256=partial.sha256,
            declared_bytes=partial.total,
            hops=hops,
            content_type=(content_type or "")[:100] or None,
        )
        if got.bytes > self.limits.max_bytes:
            partial.forget()
            raise CorruptDownload(
                f"more than the {self.limits.max_bytes} bytes that ENDTAPE_MAX_MEDIA_BYTES allows",
                check="size",
                got=got,
            )
        ended = self._head is not None and self._trouble is None
        # Without a length or a last chunk nothing marks the end. Then an answer with bytes counts
        # as whole, an empty one as cut.
        is_whole = (
            bool(got.bytes or self._chunked)
            if got.declared_bytes is None
            else got.bytes == got.declared_bytes
        )
        if ended and is_whole:
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
        raise CorruptMedia(
            f"{host} sent the file encoded ({codings[-1][:40]!r}) although asked not to",
            check="encoding",
        )


def _declared_bytes(head: Head, *, chunked: bool) -> int | None:
    lengths = set(head.all("content-length"))
    if chunked or not lengths:
        return None
    length, *others = lengths
    if others or not re.fullmatch(r"[0-9]{1,18}", length):
        raise TryAgain("the announced length cannot be read")
    return int(length)


def _validator(head: Head) -> str | None:
    """What identifies these very bytes, if the host says that it can go on with them: RFC 9110,
    sections 8.8 and 13.1.5.
    """
    if (head.get("accept-ranges") or "").lower() != "bytes":
        return None
    etag = head.get("etag")
    if etag is not None:
        return etag if _ETAG.fullmatch(etag) else None
    modified, sent = _date(head.get("last-modified")), _date(head.get("date"))
    # A file can change twice within one second and keep its date.
    is_settled = modified is not None and sent is not None and sent - modified >= 1
    return head.get("last-modified") if is_settled else None


def _is_same(head: Head, validator: str) -> bool:
    """Whether a piece is of the same file. An ETag must be repeated; a date may be left out."""
    if validator.startswith('"'):
        return head.get("etag") == validator
    return head.get("last-modified") in {None, validator}


def _date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except ValueError:
        return None
