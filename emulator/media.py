"""The provider's media host: a recording's file for its owner's credentials, and the many ways to get it wrong."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from emulator.audio import CONTENT_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from emulator.http import Exchange
    from emulator.provider import Provider
    from emulator.state import Recording

    Hit = Callable[[str], dict[str, Any] | None]

_MEDIA = re.compile(r"/v1/Account/([^/]+)/Recording/([^/.]+)\.(\w+)")
_PAGES = {
    "html-media": b"<!doctype html><html><body>Please sign in</body></html>",
    "json-media": b'{"api_id": "7d0c", "error": "Recording not found"}',
    "empty-media": b"",
}


@dataclass(frozen=True, slots=True)
class File:
    """What is sent: blocks, the length that is announced (None: chunks), the share of it that arrives, the hurry."""

    blocks: Iterable[bytes]
    announced: int | None
    sent: int | None = None
    pause_s: float = 0
    encoding: str = ""


def serve(provider: Provider, exchange: Exchange) -> None:
    match = _MEDIA.fullmatch(exchange.url_path)
    recording = provider.ready(match[1], match[2]) if match else None
    if match is None or exchange.command != "GET" or recording is None or recording.container != match[3]:
        exchange.error(404, "not found")
        return
    if not provider.authorised(match[1], exchange.headers):
        exchange.refuse()
        return

    def hit(name: str) -> dict[str, Any] | None:
        return provider.faults.hit(name, call_uuid=recording.call_uuid, recording_id=recording.recording_id, account=recording.account,
                                   route="media")

    if held := hit("media-timeout"):
        provider.hold(float(held["seconds"]))
        exchange.drop()
    elif failing := hit("media-5xx"):
        exchange.upstream(int(failing["status"]))
    elif sent := hit("redirect-media"):
        exchange.answer(int(sent["status"]), None, {"Location": str(sent["location"])})
    else:
        _send(provider, exchange, _file(recording, hit), recording.container)


def _file(recording: Recording, hit: Hit) -> File:
    """The file as this day spoils it: first what it is, then how it travels."""
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
        return File(_gzipped(blocks), None, encoding="gzip")
    cut, slow = hit("truncated-media"), hit("trickled-media")
    return File(
        _small(blocks, int(slow["bytes"])) if slow else blocks, None if hit("no-length-media") else size,
        int(size * float(cut["fraction"])) if cut else None, float(slow["pause_s"]) if slow else 0)


def _send(provider: Provider, exchange: Exchange, file: File, container: str) -> None:
    exchange.note("media", announced=file.announced)
    exchange.send_response(200)
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
            exchange.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if file.announced is None else block)
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
    """All of it, or so many bytes; never an empty block, which would end a chunked body."""
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
            yield block[start:start + size]


def _gzipped(blocks: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=31)
    for block in blocks:
        if packed := packer.compress(block):
            yield packed
    yield packer.flush()
