"""One answer of a media host: a whole file, or the rest of it from where the last answer was cut.

It judges the headers, passes the body on to the partial file, and says in the end whether the file
is complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from worker.errors import CorruptMedia, MediaRefused, NotReady, TryAgain
from worker.vobiz import deprecations
from worker.vobiz.partial import Follower, Partial
from worker.vobiz.transport import Head, Patience, Silent, Trouble

_REDIRECTS = (301, 302, 303, 307, 308)
_NOT_YET = (404, 409, 425)
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)
# Without W/: a weak ETag does not promise the same bytes.
_ETAG = re.compile(r'"[!#-~\x80-\xff]{0,500}"')


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """What all tries received. `declared_bytes`: None where the host announced no length."""

    bytes: int
    sha256: str
    declared_bytes: int | None
    content_type: str | None
    hops: int


class CorruptDownload(CorruptMedia):
    """CorruptMedia with what did arrive, all of which is in the sink. A caller can compare it with
    what an earlier try received.
    """

    def __init__(self, message: str, *, check: str, got: Download) -> None:
        super().__init__(message, check=check)
        self.got = got


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How large a file may be, and how slow its host."""

    max_bytes: int
    patience: Patience


@dataclass(frozen=True, kw_only=True, slots=True)
class Hooks:
    """Functions of the caller. Whatever they raise ends the download and passes through."""

    keep_going: Callable[[], None]  # about once a second; raises to abort
    # the bytes to come, before the first; None: not known
    announced: Callable[[int | None], None] = lambda _: None
    follower: Follower | None = None  # sees all bytes of the file, in a thread of ours


class Elsewhere(Exception):
    """A redirect."""

    def __init__(self, location: str | None) -> None:
        super().__init__(location)
        self.location = location


class Misfit(Exception):
    """The host's answer does not continue the bytes that we have."""


class TooMuch(Exception):
    """The host sent more bytes than a recording may have."""


class Piece:
    """One answer of the host: the whole file, or the rest of it from where the last piece was
    cut.
    """

    def __init__(
        self, partial: Partial, limits: Limits, hooks: Hooks, *, may_go_on: bool = True
    ) -> None:
        self.limits = limits
        self._hooks = hooks
        self.host = self.path = ""
        self.status: int | None = None  # None: no head came
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

    # As the answer comes
    # ----------------------------------------------------------------------------------------------

    def on_head(self, head: Head) -> None:
        self.status = head.status
        deprecations.note("GET", f"{self.host}{self.path}", head.get)
        if head.status in _REDIRECTS:
            raise Elsewhere(head.get("location"))
        if self._from and head.status == 416:
            raise Misfit
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
        self._hooks.announced(total)
        validator = _validator(head) if self._may_go_on else None
        if self._from and validator == self._partial.validator:
            # We asked the host to continue this very file, and it began anew. Do not ask again.
            validator = None
        self._partial.begin(total=total, validator=validator)
        self._from = 0

    def _goes_on(self, head: Head) -> None:
        partial = self._partial
        content_range = _RANGE.fullmatch(head.get("content-range") or "")
        if not content_range:
            raise Misfit
        first, last = int(content_range[1]), int(content_range[2])
        total = partial.total if content_range[3] == "*" else int(content_range[3])
        length = _declared_bytes(head, chunked=self._chunked)
        if (
            first != self._from
            or total is None
            or not first <= last < total
            or partial.total not in {None, total}
        ):
            raise Misfit
        if length not in {None, last - first + 1} or not _is_same(head, str(partial.validator)):
            raise Misfit
        self._check_size(total)
        self._hooks.announced(total - first)
        partial.total = total

    def _check_size(self, total: int | None) -> None:
        if total is not None and total > self.limits.max_bytes:
            self._partial.forget()
            raise CorruptMedia(
                f"{total} bytes announced, ENDTAPE_MAX_MEDIA_BYTES allows {self.limits.max_bytes}",
                check="size",
            )

    def on_body(self, block: bytes) -> None:
        room = self.limits.max_bytes + 1 - self._partial.bytes
        self._partial.add(block[:room])
        if len(block) >= room:
            raise TooMuch

    def on_tick(self) -> None:
        self._hooks.keep_going()
        self._partial.tick()

    # When it has ended
    # ----------------------------------------------------------------------------------------------

    def broke_off(self, trouble: Trouble) -> None:
        """Remembers a cut, which `end` judges. Raises for any other trouble."""
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
        """The download if it is complete; None if the next piece can continue it. Raises
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
        # Without a length or a last chunk nothing marks the end of the body. Then an answer with
        # bytes counts as complete, and an empty one as cut.
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
    """The value that identifies these very bytes; None if the host cannot send parts of them.
    See RFC 9110, sections 8.8 and 13.1.5.
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
    """Whether a piece belongs to the same file. The host must repeat an ETag, but may leave out a
    date.
    """
    if validator.startswith('"'):
        return head.get("etag") == validator
    return head.get("last-modified") in {None, validator}


def _date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except ValueError:
        return None
