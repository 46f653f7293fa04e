"""The provider's media host: a recording's file for its owner's credentials, and the ways to spoil
it.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from emulator.audio import CONTENT_TYPES
from emulator.bad_days import deprecation
from emulator.http import Exchange
from emulator.state import Recording
from emulator.switchboard import Switchboard

Hit = Callable[[str], dict[str, Any] | None]

_MEDIA = re.compile(r"/v1/Account/([^/]+)/Recording/([^/.]+)\.(\w+)")
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)")
_PAGES = {
    "html-media": b"<!doctype html><html><body>Please sign in</body></html>",
    "json-media": b'{"api_id": "7d0c", "error": "Recording not found"}',
    "empty-media": b"",
}


@dataclass(frozen=True, slots=True)
class File:
    """What is sent. `announced` is the Content-Length (None: chunks); `sent` limits the bytes that
    leave, `pause_s` is the pause after each block.
    """

    blocks: Iterable[bytes]
    size: int
    announced: int | None
    sent: int | None = None
    pause_s: float = 0
    encoding: str = ""
    odd: bool = False  # not the recording's own bytes, so it gets another ETag
    piece: Piece | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """The headers about ranges, and the range that is sent: the whole file when `begin` is None."""

    headers: dict[str, str]
    begin: int | None = None
    end: int = 0  # the first byte that is not sent


def serve(provider: Switchboard, exchange: Exchange) -> None:
    match = _MEDIA.fullmatch(exchange.url_path)
    recording = provider.ready(match[1], match[2]) if match else None
    if (
        match is None
        or exchange.command != "GET"
        or recording is None
        or recording.container != match[3]
    ):
        exchange.error(404, "not found")
        return
    if not provider.authorised(match[1], exchange.headers):
        exchange.refuse()
        return

    def hit(name: str) -> dict[str, Any] | None:
        return provider.faults.hit(
            name,
            call_uuid=recording.call_uuid,
            recording_id=recording.recording_id,
            account=recording.account,
            route="media",
        )

    exchange.further = deprecation(hit("deprecated"))
    if held := hit("media-timeout"):
        provider.hold(float(held["seconds"]))
        exchange.drop()
    elif failing := hit("media-5xx"):
        exchange.upstream(int(failing["status"]))
    elif sent := hit("redirect-media"):
        exchange.answer(int(sent["status"]), None, {"Location": str(sent["location"])})
    else:
        _send(
            provider,
            exchange,
            _ranged(_file(recording, hit), exchange, hit("ranged-media")),
            recording.container,
        )


def _file(recording: Recording, hit: Hit) -> File:
    """The file as the bad days spoil it: first its content, then its transport."""
    audio = recording.audio()
    if hit("lying-container"):
        audio = replace(audio, container={"mp3": "wav", "wav": "mp3"}[audio.container])
    if short := hit("short-media"):
        audio = replace(audio, duration_ms=audio.duration_ms * float(short["fraction"]))
    if huge := hit("huge-media"):
        audio = replace(audio, bytes_wanted=int(huge["bytes"]))
    page = next((body for name, body in _PAGES.items() if hit(name)), None)
    blocks: Iterable[bytes] = audio.stream() if page is None else [page]
    size = audio.size if page is None else len(page)
    if padded := hit("padded-media"):
        blocks, size = chain([bytes(int(padded["bytes"]))], blocks), size + int(padded["bytes"])
    if hit("gzip-media"):
        return File(_gzipped(blocks), size, None, encoding="gzip")
    cut, slow = hit("truncated-media"), hit("trickled-media")
    return File(
        _small(blocks, int(slow["bytes"])) if slow else blocks,
        size,
        None if hit("no-length-media") else size,
        int(size * float(cut["fraction"])) if cut else None,
        float(slow["pause_s"]) if slow else 0,
        odd=page is not None or audio != recording.audio(),
    )


def _ranged(file: File, exchange: Exchange, day: dict[str, Any] | None) -> File:
    """The file, or the range that the request asks for, as `ranged-media` has it."""
    if day is None or file.encoding:
        return file
    size, etag = (
        file.size,
        f'"{time.time_ns()}"' if day["changing"] or file.odd else str(day["etag"]),
    )
    validator, name = (str(day["modified"]), "Last-Modified") if day["modified"] else (etag, "ETag")
    headers = {"Accept-Ranges": "bytes", name: validator}
    asked = _RANGE.fullmatch(exchange.headers.get("Range") or "")
    same = day["blind"] or exchange.headers.get("If-Range") in {None, validator}
    if asked is None or day["ignored"] or not same:
        return replace(file, piece=Piece(headers))
    begin, end = int(asked[1]) + int(day["shifted"]), min(int(asked[2] or size), size - 1) + 1
    if begin >= size:
        return replace(
            file, piece=Piece({**headers, "Content-Range": f"bytes */{size}"}, begin, begin)
        )
    return replace(
        file,
        piece=Piece({**headers, "Content-Range": f"bytes {begin}-{end - 1}/{size}"}, begin, end),
        blocks=_between(file.blocks, begin, end),
        announced=None if file.announced is None else end - begin,
        sent=None if file.sent is None else (end - begin) * file.sent // size,
    )


def _between(blocks: Iterable[bytes], begin: int, end: int) -> Iterator[bytes]:
    at = 0
    for block in blocks:
        if at >= end:
            return
        if at + len(block) > begin:
            yield block[max(0, begin - at) : end - at]
        at += len(block)


def _send(provider: Switchboard, exchange: Exchange, file: File, container: str) -> None:
    piece = file.piece or Piece({})
    exchange.note("media", announced=file.announced, begin=piece.begin or 0)
    if piece.begin is not None and piece.begin == piece.end:
        exchange.answer(416, None, piece.headers)
        return
    exchange.send_response(200 if piece.begin is None else 206)
    for name, value in piece.headers.items():
        exchange.send_header(name, value)
    exchange.send_header("Content-Type", CONTENT_TYPES[container])
    if file.encoding:
        exchange.send_header("Content-Encoding", file.encoding)
    if file.announced is None:
        exchange.send_header("Transfer-Encoding", "chunked")
    else:
        exchange.send_header("Content-Length", str(file.announced))
    exchange.end_headers()
    sent = 0
    try:
        for block in _first(file.blocks, file.sent):
            exchange.wfile.write(
                b"%x\r\n%b\r\n" % (len(block), block) if file.announced is None else block
            )
            sent += len(block)
            if file.pause_s:
                exchange.wfile.flush()
                if provider.hold(file.pause_s):
                    break
    finally:
        exchange.note("media.sent", bytes=sent)
    if file.sent is not None:
        exchange.close_connection = True
    elif file.announced is None:
        exchange.wfile.write(b"0\r\n\r\n")


def _first(blocks: Iterable[bytes], limit: int | None) -> Iterator[bytes]:
    """At most `limit` bytes of the blocks. It never yields an empty block, which would end a
    chunked body.
    """
    left = limit
    for block in blocks:
        if left is not None:
            block = block[:left]  # noqa: PLW2901
            left -= len(block)
        if not block:
            return
        yield block


def _small(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    for block in blocks:
        for start in range(0, len(block), size):
            yield block[start : start + size]


def _gzipped(blocks: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=31)
    for block in blocks:
        if packed := packer.compress(block):
            yield packed
    yield packer.flush()
