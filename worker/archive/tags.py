"""Bytes around audio that are no audio: padding, and ID3, APE and Lyrics3 tags, at both ends and in
between. Pure.

A tag is stepped over by the size that it states. Its content is not read.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

_LYRICS_3_AT_MOST = 5100 + 20  # version 1 states no size, but has a limit


def length_at(head: bytes) -> int:
    """The length of the tag that begins with these bytes (128 of them are enough), or 0."""
    if head[:3] == b"ID3" and len(head) >= 10 and head[3] < 0xFF and head[4] < 0xFF:
        return 10 + _id3_size(head[6:10]) + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) >= 32:
        length, _, flags = struct.unpack_from("<III", head, 12)
        return 32 + int(length) if flags & 0x20000000 else 0
    if head[:4] == b"TAG+":
        return 227
    return 128 if head[:3] == b"TAG" else 0


def _id3_size(size: bytes) -> int:
    """The size: seven bits in each byte, or eight where a byte is above 127, as some writers have
    it.
    """
    if max(size) > 127:
        return int.from_bytes(size, "big")
    return size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3]


def behind(file: BinaryIO, at: int, end: int, padding: bytes) -> int:
    """The first offset from `at` on that holds no byte of `padding`; `end` if there is none."""
    length = 256
    while at < end:
        block = _read(file, at, min(end, at + length))
        rest = len(block.lstrip(padding))
        at += len(block) - rest
        if rest or not block:
            break
        length = min(length * 16, 1 << 20)
    return at


def before(file: BinaryIO, start: int, end: int) -> int:
    """The offset at which the trailing tags begin, in any order, also with zeros behind them; `end`
    if there is no tag.
    """
    for _ in range(16):
        begin = _one_before(file, start, end)
        if begin == end:
            padded = end - _zeros_before(file, start, end)
            begin = _one_before(file, start, padded)
            if begin == padded:
                return end
        end = begin
    return end


def _one_before(file: BinaryIO, start: int, end: int) -> int:
    tail = _read(file, max(start, end - _LYRICS_3_AT_MOST), end)
    if tail[-128:-125] == b"TAG":
        return end - (355 if tail[-355:-351] == b"TAG+" else 128)
    if tail[-32:-24] == b"APETAGEX":
        length, _, flags = struct.unpack_from("<III", tail, len(tail) - 20)
        return _if_there(
            end - int(length) - (32 if flags & 0x80000000 else 0), start, end, least=32
        )
    if tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
        return _if_there(end - 15 - int(tail[-15:-9]), start, end, least=15)
    if tail[-9:] == b"LYRICSEND" and b"LYRICSBEGIN" in tail:
        return end - len(tail) + tail.rindex(b"LYRICSBEGIN")
    if tail[-10:-7] == b"3DI" and max(tail[-4:]) < 128:
        return _if_there(end - 20 - _id3_size(tail[-4:]), start, end, least=20)
    return end


def _if_there(begin: int, start: int, end: int, *, least: int) -> int:
    return begin if start <= begin <= end - least else end


def _zeros_before(file: BinaryIO, start: int, end: int) -> int:
    """How many zeros stand before `end`, up to a MiB."""
    tail = _read(file, max(start, end - (1 << 20)), end)
    return len(tail) - len(tail.rstrip(b"\0"))


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(max(0, end - start))
