"""WAV and its relatives: RIFF, RIFX (the other byte order), RF64 and BW64 (sizes of 64 bits),
Wave64. Pure.

Many headers are wrong, and players play the files all the same. Writers that cannot seek leave
sizes open; others include the header in the size, state a wrong block alignment, or leave out
padding. So a size counts only where it fits the bytes, and the duration of uncompressed audio
follows from channels, bits and rate alone, as players compute it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from worker.archive import mpeg, pages, tags
from worker.archive.pages import FoundPages
from worker.archive.sound import Sound

# Writers that cannot seek leave 0 for a size, this or more (sox, Android), or 0xFFFFFFFF (ffmpeg).
_OPEN = 0x7FFF0000
_OPEN_64 = 1 << 62
_MAX_CHUNKS = 10_000
# Codings by the tag of the format chunk
_PCM = 1
_MS_ADPCM = 2
_FLOAT = 3
_ALAW = 6
_MULAW = 7
_IMA_ADPCM = 0x11
_GSM = 0x31
_EXTENSIBLE = 0xFFFE
_MPEG = (0x50, 0x55)
_FIXED_WIDTH = (_PCM, _FLOAT, _ALAW, _MULAW)
_KNOWN = (
    b"fmt ",
    b"data",
    b"LIST",
    b"fact",
    b"JUNK",
    b"junk",
    b"PAD ",
    b"bext",
    b"id3 ",
    b"ID3 ",
    b"cue ",
    b"ds64",
    b"PEAK",
    b"iXML",
    b"smpl",
)
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")  # the GUID that Wave64 begins with


@dataclass(frozen=True, slots=True)
class _Chunk:
    name: bytes
    at: int  # of its content
    length: int


@dataclass(frozen=True, slots=True)
class _Audio:
    """Where audio lies, in bytes. `counted`: its length by the header; `length`: how much of that
    is present.
    """

    at: int
    length: int
    counted: int


@dataclass(frozen=True, slots=True)
class _Form:
    """The format chunk. `tag` is the coding; only compressed audio needs `block`."""

    tag: int
    channels: int
    rate: int
    byte_rate: int
    block: int
    bits: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Pcm:
    """Where uncompressed samples lie. `length`: bytes of them that are present, without a last one
    that is cut; `frame`: bytes of one sample of each channel; `top`: which of a sample's `width`
    bytes is the highest. `coding`: "signed", "unsigned", "alaw" or "mulaw".
    """

    at: int
    length: int
    channels: int
    rate: int
    width: int
    top: int
    coding: str

    @property
    def frame(self) -> int:
        return self.width * self.channels


def is_here(head: bytes) -> bool:
    """Whether a file of this family begins with these bytes (28 of them are enough)."""
    return (head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE") or (
        head[:16] == _W64 and head[24:28] == b"wave"
    )


def extension(head: bytes) -> str:
    return "w64" if head[:16] == _W64 else "wav"


def measure(file: BinaryIO, start: int, size: int, found: FoundPages | None = None) -> Sound:
    """Walk the chunks from `start` on. Bytes behind the audio matter only if they are an error
    page.
    """
    riff = _opened(file, start, size)
    form, audio = riff.read()
    if form is None:
        return Sound(problem="the file has no format chunk")
    sound = Sound(
        codec=_codec(form, riff.order),
        channels=form.channels,
        sample_rate=form.rate,
        duration_s=0.0,
    )
    if audio is None:
        return _but(sound, "the file has no data chunk")
    behind = audio.at + audio.length
    if pages.amid(file, audio.at, behind, found) or pages.amid(file, behind, size, found):
        return _but(sound, "an error page stands amid the audio")
    if form.tag in _MPEG and audio.length:
        return _with_mpeg(file, audio, sound, found)
    per_second = _bytes_per_second(form)
    if not (form.channels and form.rate and per_second):
        return _but(sound, "the format chunk has a zero for channels, rate or block")
    missing = audio.counted - audio.length
    duration_s = _whole(audio.length, form) / per_second
    problem = None if duration_s else "the file holds no audio"
    if missing:
        problem = f"the audio is cut: {audio.length} of {audio.counted} bytes are there"
    return replace(
        sound,
        duration_s=duration_s,
        problem=problem,
        lost_s=missing / per_second if missing and duration_s else None,
    )


def pcm(file: BinaryIO, start: int, size: int) -> Pcm | None:
    """Where the samples of an uncompressed file lie; None for compressed audio, fractions (floating
    point), or where the header says too little.
    """
    riff = _opened(file, start, size)
    form, audio = riff.read()
    if form is None or audio is None or not (form.channels and form.rate and _width(form)):
        return None
    coding = {_ALAW: "alaw", _MULAW: "mulaw", _PCM: "signed"}.get(form.tag)
    if coding is None:
        return None
    width = _width(form)
    return Pcm(
        at=audio.at,
        length=_whole(audio.length, form),
        channels=form.channels,
        rate=form.rate,
        width=width,
        top=0 if riff.order == ">" else width - 1,
        coding="unsigned" if coding == "signed" and width == 1 else coding,
    )


def _but(sound: Sound, problem: str) -> Sound:
    return replace(sound, duration_s=0.0, problem=problem)


def _opened(file: BinaryIO, start: int, size: int) -> _Riff:
    file.seek(start)
    head = file.read(28)
    return _Wave64(file, start, size) if head[:16] == _W64 else _Riff(file, start, size, head[:4])


def _with_mpeg(file: BinaryIO, audio: _Audio, sound: Sound, found: FoundPages | None) -> Sound:
    walked = mpeg.walk(file, audio.at, audio.at + audio.length, found).sound
    return walked or _but(sound, "the format chunk says MPEG, and there is none")


class _Riff:
    """The chunks of a RIFF file. The file size in its header is ignored: too often it is wrong."""

    header = 12
    open = _OPEN

    def __init__(self, file: BinaryIO, start: int, size: int, name: bytes) -> None:
        self._file, self._start, self._size = file, start, size
        self.order = ">" if name == b"RIFX" else "<"
        self._wide = name in (b"RF64", b"BW64")
        self._data_64 = 0

    def read(self) -> tuple[_Form | None, _Audio | None]:
        """The format, and the first data chunk that holds audio; None for what is missing."""
        form: _Form | None = None
        audio: _Audio | None = None
        for chunk in self.chunks(self._start + self.header):
            if chunk.name == b"fmt " and form is None:
                form = self._form(self._bytes(chunk.at, min(chunk.length, 40)))
            elif chunk.name == b"ds64" and self._wide:
                self._data_64 = int.from_bytes(self._bytes(chunk.at + 8, 8), "little")
            elif chunk.name == b"data":
                audio = audio if audio and audio.counted else self._audio(chunk)
        return form, audio

    def chunks(self, at: int) -> Iterator[_Chunk]:
        """All chunks in turn. Zeros between them are stepped over."""
        for _ in range(_MAX_CHUNKS):
            chunk = self._chunk(at) or self._chunk(tags.behind(self._file, at, self._size, b"\0"))
            if chunk is None:
                return
            yield chunk
            if chunk.name == b"data":
                part = self._audio(chunk)
                chunk = _Chunk(chunk.name, part.at, part.length)
            at = self._next(chunk)

    def _chunk(self, at: int) -> _Chunk | None:
        head = self._bytes(at, 8)
        if len(head) < 8 or not _is_name(head[:4]):
            return None
        return _Chunk(head[:4], at + 8, struct.unpack_from(self.order + "I", head, 4)[0])

    def _next(self, chunk: _Chunk) -> int:
        """Where the next chunk begins: behind the byte that pads an odd length, unless the writer
        left that out.
        """
        end = chunk.at + chunk.length
        if (
            chunk.length % 2
            and self._bytes(end, 4) in _KNOWN
            and self._bytes(end + 1, 4) not in _KNOWN
        ):
            return end
        return end + chunk.length % 2

    def _audio(self, chunk: _Chunk) -> _Audio:
        counted, there = chunk.length, max(0, self._size - chunk.at)
        if self._wide and counted == 0xFFFFFFFF:
            counted = self._data_64
        if counted == 0 or (counted >= self.open and counted > there):
            counted = 0 if self._is_chunks(chunk.at) else there
        elif (
            counted in (self._size - self._start, self._size - self._start - 8) and counted > there
        ):
            counted = there  # the writer included the header in the size
        return _Audio(chunk.at, min(counted, there), counted)

    def _is_chunks(self, at: int) -> bool:
        """Whether chunks lead from here exactly to the end, or to a data chunk. If so, this is no
        audio whose length was left open.
        """
        for _ in range(_MAX_CHUNKS):
            chunk = self._chunk(at)
            if chunk is None:
                return False
            if chunk.name == b"data":
                return True
            at = self._next(chunk)
            if at >= self._size:
                return at <= self._size + 1
        return False

    def _form(self, form: bytes) -> _Form | None:
        """The format, or None if the chunk is too short. The oldest kind of chunk ends before
        `bits`; the newest (extensible) names its coding further down.
        """
        if len(form) < 14:
            return None
        tag, channels, rate, byte_rate, block, bits = struct.unpack_from(
            self.order + "HHIIHH", form.ljust(16, b"\0")
        )
        if tag == _EXTENSIBLE:
            tag = struct.unpack_from(self.order + "H", form, 24)[0] if len(form) >= 26 else _PCM
        return _Form(tag or _PCM, channels, rate, byte_rate, block, bits)

    def _bytes(self, at: int, length: int) -> bytes:
        self._file.seek(at)
        return self._file.read(max(0, min(length, self._size - at)))


class _Wave64(_Riff):
    """The chunks of a Wave64 file. Names are GUIDs that begin with RIFF's names, sizes have 64 bits
    and include the chunk's header, and chunks begin at multiples of 8.
    """

    header = 40
    open = _OPEN_64

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        super().__init__(file, start, size, b"riff")

    def _chunk(self, at: int) -> _Chunk | None:
        head = self._bytes(at, 24)
        if len(head) < 24 or not _is_name(head[:4]):
            return None
        length: int = struct.unpack_from("<Q", head, 16)[0]
        return _Chunk(head[:4], at + 24, max(0, length - 24))

    def _next(self, chunk: _Chunk) -> int:
        end = chunk.at + chunk.length
        padding = -(end - self._start) % 8
        return end + padding


def _is_name(name: bytes) -> bool:
    return all(32 <= c < 127 for c in name)


def _width(form: _Form) -> int:
    """The bytes of one sample of uncompressed audio; 0 where the format does not say."""
    if form.tag in (_ALAW, _MULAW):
        return 1
    if 1 <= form.bits <= 64:
        return (form.bits + 7) // 8
    return form.block // form.channels if form.channels else 0


def _bytes_per_second(form: _Form) -> float:
    """The rate by which players compute a duration. Where a coding fixes how many samples a block
    holds, that number decides.
    """
    channels, block = form.channels, form.block
    if form.tag in _FIXED_WIDTH:
        return _width(form) * channels * form.rate
    samples = 0
    if form.tag == _IMA_ADPCM and channels and block > 4 * channels:
        samples = (block - 4 * channels) * 2 // channels + 1
    elif form.tag == _MS_ADPCM and channels and block > 7 * channels:
        samples = (block - 7 * channels) * 2 // channels + 2
    elif form.tag == _GSM:
        block, samples = 65, 320
    if samples:
        return block * form.rate / samples
    return form.byte_rate or form.bits * channels * form.rate / 8


def _whole(length: int, form: _Form) -> int:
    """The length in bytes, without a last sample that is cut."""
    frame = _width(form) * form.channels if form.tag in _FIXED_WIDTH else 1
    return length - length % frame


def _codec(form: _Form, order: str) -> str:
    ending = "be" if order == ">" else "le"
    if form.tag == _PCM:
        width = _width(form)
        return "pcm_u8" if width <= 1 else f"pcm_s{8 * width}{ending}"
    if form.tag in _MPEG:
        return "mp2" if form.tag == 0x50 else "mp3"
    return {_FLOAT: f"pcm_f{form.bits}{ending}", _ALAW: "pcm_alaw", _MULAW: "pcm_mulaw"}.get(
        form.tag, f"wav_0x{form.tag:04x}"
    )
