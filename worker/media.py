"""What the bytes of a file really are, and how much audio is present. Pure; never raises for what a file holds.

The provider's file names and content types lie (WAV under `.mp3` was seen), so only the bytes are asked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import BinaryIO

from worker import mpeg

_STREAMED = 0x7FFFF000      # writers that cannot seek leave 0, this (sox) or 0xFFFFFFFF (ffmpeg) for the size
_MAX_CHUNKS = 1000
_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """`duration_s` is that of the audio present, found by walking. `problem` is None when all of it is sound."""

    container: str                  # "wav", "mp3", "html", "json", "xml", "empty" or "unknown"
    bytes: int
    extension: str = "bin"
    codec: str | None = None
    channels: int | None = None
    sample_rate: int | None = None
    duration_s: float | None = None
    problem: str | None = None


def examine(file: BinaryIO) -> Media:
    """Walk the whole of an open, seekable file, in constant memory. Only errors of reading it are raised."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(512)
    if not head:
        return Media(container="empty", bytes=0, problem="the file is empty")
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav(file, size)
    start = mpeg.audio_start(file, size)
    end = mpeg.audio_end(file, start, size)
    if mpeg.starts_here(file, start, end):
        return _mpeg(file, start, end, size)
    kind = _text_kind(head)
    if kind:
        return Media(container=kind, bytes=size, extension=kind, problem=f"the bytes are {kind.upper()}, not audio")
    what = "an ID3 tag without MPEG audio behind it" if start else f"they begin with {head[:8].hex(' ')}"
    return Media(container="unknown", bytes=size, problem=f"the bytes are no audio that we know: {what}")


def _text_kind(head: bytes) -> str | None:
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"", "utf-8")):
        if head.startswith(mark):
            text = head.removeprefix(mark).decode(encoding, "replace").lstrip("\ufeff \t\r\n\f\0").lower()
            break
    if text.startswith("<?xml"):
        return "html" if "<html" in text else "xml"
    if text.startswith(("<!doctype html", "<html", "<head", "<body", "<!--", "<script")):
        return "html"
    if (text.startswith("<") and text[1:2].isalpha()) or text.startswith("<!"):
        return "xml"
    return "json" if text.startswith(("{", "[")) and _is_text(text) else None


def _is_text(text: str) -> bool:
    return "\ufffd" not in text[:-4] and all(c.isprintable() or c in "\t\r\n" for c in text)


def _mpeg(file: BinaryIO, start: int, end: int, size: int) -> Media:
    walk = mpeg.walk(file, start, end)
    first = walk.first
    assert first is not None
    problem = walk.problem or (None if walk.frames else "there is not one whole frame")
    return Media(
        container="mp3", bytes=size, extension=f"mp{first.layer}", codec=f"mp{first.layer}", channels=first.channels,
        sample_rate=first.rate, duration_s=walk.duration_s, problem=problem,
    )


def _wav(file: BinaryIO, size: int) -> Media:
    """Walk the chunks of a RIFF file; what follows the audio must be whole chunks, too."""
    media = Media(container="wav", bytes=size, extension="wav")
    at, form, data = 12, b"", (0, 0)
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        header = file.read(8)
        if len(header) < 8 or not all(32 <= c < 127 for c in header[:4]):
            break
        name, length = header[:4], struct.unpack_from("<I", header, 4)[0]
        if name == b"fmt " and not form:
            form = file.read(min(length, 40))
        if name == b"data" and not data[0]:
            if length == 0 or (length >= _STREAMED and at + 8 + length > size):
                length = size - at - 8
            data = (at + 8, length)
        at += 8 + length + length % 2
    if len(form) < 16:
        return replace(media, problem="the file has no format chunk")
    return _with_audio(media, form, data, at)


def _with_audio(media: Media, form: bytes, data: tuple[int, int], walked_to: int) -> Media:
    tag, channels, rate, byte_rate, block, bits = struct.unpack_from("<HHIIHH", form)
    if tag == _EXTENSIBLE and len(form) >= 26:
        tag = struct.unpack_from("<H", form, 24)[0]
    per_second = rate * block if tag in (_PCM, _FLOAT, _ALAW, _MULAW) else byte_rate
    present = max(0, min(data[1], media.bytes - data[0])) if data[0] else 0
    media = replace(media, codec=_codec(tag, bits), channels=channels, sample_rate=rate, duration_s=0.0)
    if not (channels and rate and per_second and block):
        return replace(media, problem="the format chunk has a zero for channels, rate or block")
    return replace(
        media, duration_s=present // block * block / per_second,
        problem=_wav_problem(media.bytes, data, present, walked_to),
    )


def _wav_problem(size: int, data: tuple[int, int], present: int, walked_to: int) -> str | None:
    if not data[0]:
        return "the file has no data chunk"
    if present < data[1]:
        return f"the audio is cut: {present} of {data[1]} bytes are there"
    if not present:
        return "the file holds no audio"
    if walked_to > size + 1:      # one byte of padding may be missing at the very end
        return "the last chunk is cut"
    return f"{size - walked_to} bytes at the end are no chunk" if walked_to < size else None


def _codec(tag: int, bits: int) -> str:
    if tag == _PCM:
        return "pcm_u8" if bits <= 8 else f"pcm_s{bits}le"
    return {_FLOAT: f"pcm_f{bits}le", _ALAW: "pcm_alaw", _MULAW: "pcm_mulaw"}.get(tag, f"wav_0x{tag:04x}")
