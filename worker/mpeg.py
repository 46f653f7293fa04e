"""MPEG audio (1, 2 and 2.5, layers I to III) walked frame by frame. Pure; reads in blocks, so memory stays constant.

Only a walk tells the duration for certain: bit rates vary, and headers that announce a length describe what was meant
to be written, not what is there. Tables: ISO 11172-3 and 13818-3; 2.5 is the common extension of the latter.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

_BLOCK = 1 << 20
_MAX_LOSSES = 64         # after so many gaps the rest is not looked at
_WORD = struct.Struct(">I")
# Sync, version, layer, bit rate, rate, padding, channel mode; not CRC, private, mode extension, copyright and so on.
_MATTERS = 0xFFFEFEC0
_STREAM = 0xFFFE0C00     # what stays the same from frame to frame: sync, version, layer, sample rate

_KBPS_1 = {
    1: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_KBPS_2_LAYER_1 = (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
_KBPS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = (44100, 48000, 32000)


@dataclass(frozen=True, slots=True)
class Frame:
    """What the four bytes of a frame header say."""

    layer: int
    rate: int
    channels: int
    samples: int
    length: int
    side_info: int    # bytes of layer III's side information


@dataclass(frozen=True, kw_only=True, slots=True)
class Walk:
    """`frames` whole frames were found; `first` is None where there was none. `problem` says what else was."""

    first: Frame | None
    frames: int
    problem: str | None

    @property
    def duration_s(self) -> float:
        return self.frames * self.first.samples / self.first.rate if self.first else 0.0


def read_header(word: int) -> Frame | None:
    """The frame that these 32 bits announce, or None. Frames of free bit rate are not read: they tell no length."""
    version, layer = word >> 19 & 3, 4 - (word >> 17 & 3)
    bit_rate, rate, padding, mode = word >> 12 & 15, word >> 10 & 3, word >> 9 & 1, word >> 6 & 3
    if word >> 21 != 0x7FF or version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return None
    first_version = version == 3
    table = _KBPS_1[layer] if first_version else _KBPS_2_LAYER_1 if layer == 1 else _KBPS_2
    hertz = _RATES[rate] >> (0 if first_version else 1 if version == 2 else 2)
    samples = 384 if layer == 1 else 576 if layer == 3 and not first_version else 1152
    slot = 4 if layer == 1 else 1
    length = (samples // 8 // slot * table[bit_rate - 1] * 1000 // hertz + padding) * slot
    mono = mode == 3
    side_info = (17 if mono else 32) if first_version else (9 if mono else 17)
    return Frame(layer, hertz, 1 if mono else 2, samples, length, side_info)


def audio_start(file: BinaryIO, size: int) -> int:
    """Where the audio begins: behind any ID3v2 tags, whose sizes are believed up to the end of the file."""
    at = 0
    while True:
        file.seek(at)
        tag = file.read(10)
        if len(tag) < 10 or tag[:3] != b"ID3" or max(tag[6:10]) > 127:
            return min(at, size)
        length = tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9]
        at += 10 + length + (10 if tag[5] & 0x10 else 0)


def audio_end(file: BinaryIO, start: int, size: int) -> int:
    """Where the audio ends: before an ID3v1 and an APE tag, in either order."""
    end = size
    for _ in range(4):
        shorter = _before_tail(file, start, end)
        if shorter == end:
            break
        end = shorter
    return end


def _before_tail(file: BinaryIO, start: int, end: int) -> int:
    file.seek(max(start, end - 128))
    tail = file.read(min(128, end - start))
    if len(tail) == 128 and tail.startswith(b"TAG"):
        return end - 128
    footer = tail[-32:]
    if len(footer) == 32 and footer.startswith(b"APETAGEX"):
        length, _, flags = struct.unpack_from("<III", footer, 12)
        begin = end - int(length) - (32 if flags & 0x80000000 else 0)
        if length >= 32 and begin >= start:
            return begin
    return end


def starts_here(file: BinaryIO, start: int, end: int) -> bool:
    """Whether two frames of one stream follow each other here, or one and the end."""
    file.seek(start)
    head = file.read(4)
    frame = read_header(_WORD.unpack(head)[0]) if len(head) == 4 else None
    if frame is None:
        return False
    if start + frame.length + 4 > end:
        return True
    file.seek(start + frame.length)
    word: int = _WORD.unpack(file.read(4))[0]
    return word & _STREAM == _WORD.unpack(head)[0] & _STREAM and read_header(word) is not None


def walk(file: BinaryIO, start: int, end: int) -> Walk:
    """Walk every frame between the two offsets. One partial frame at the end is no problem; any gap is.

    After a gap the walk goes on where frames of the same stream follow, so that the duration is that of all the
    audio present. A first frame that only holds an encoder's notes (Xing, Info, VBRI) is no audio.
    """
    file.seek(start)
    head = file.read(4 + 64)
    first = read_header(_WORD.unpack_from(head)[0]) if len(head) >= 4 else None
    if first is None:
        return Walk(first=None, frames=0, problem=f"no MPEG frame at byte {start}")
    steps = _Steps(file, end, _WORD.unpack_from(head)[0], first)
    steps.run(start)
    frames = steps.frames - (1 if _holds_notes(head, first) and steps.frames else 0)
    return Walk(first=first, frames=frames, problem=steps.problem())


def _holds_notes(head: bytes, first: Frame) -> bool:
    at = 4 + first.side_info
    return first.layer == 3 and (head[at:at + 4] in (b"Xing", b"Info") or head[36:40] == b"VBRI")


class _Steps:
    """The walk's own state: what a header of this stream looks like, how many frames, which gaps."""

    def __init__(self, file: BinaryIO, end: int, word: int, first: Frame) -> None:
        self._file, self._end, self._word, self._channels = file, end, word, first.channels
        self._lengths: dict[int, int] = {}
        byte_1, rate_bits = word >> 16 & 0xFF, word >> 8 & 0x0C
        thirds = bytes(b for b in range(256) if b & 0x0C == rate_bits and b >> 4 not in (0, 15))
        self._sync = re.compile(b"\xff[" + re.escape(bytes({byte_1, byte_1 ^ 1})) + b"][" + re.escape(thirds) + b"]")
        self.frames = 0
        self._gaps: list[tuple[int, int]] = []

    def problem(self) -> str | None:
        if not self._gaps:
            return None
        at, length = self._gaps[0]
        more = f" and {len(self._gaps) - 1} more gaps" if len(self._gaps) > 1 else ""
        return f"{length} bytes that are no frame at byte {at}{more}"

    def run(self, at: int) -> None:
        while at < self._end and len(self._gaps) < _MAX_LOSSES:
            at, block = self._stride(at)
            if at < self._end:
                found = self._search(at, block)
                self._gaps.append((at, found - at))
                at = found

    def _stride(self, at: int) -> tuple[int, bytes]:
        """Step from frame to frame; returns where that ended and the bytes there. The inner loop is the hot one."""
        unpack, lengths = _WORD.unpack_from, self._lengths
        while True:
            block = self._read(at)
            pos, last, frames = 0, len(block) - 4, 0
            while pos <= last:
                word = unpack(block, pos)[0] & _MATTERS
                length = lengths.get(word) or self._learn(word)
                if not length:
                    break
                pos += length
                frames += 1
            self.frames += frames
            at += pos
            if at > self._end:
                self.frames -= 1      # the last one is not all there
            if at >= self._end or (pos == 0 and self._is_rump(block)):
                return self._end, b""
            if pos <= last or not frames:
                return at, block[pos:]

    def _is_rump(self, block: bytes) -> bool:
        """Fewer than four bytes are left, and they could be the beginning of a frame."""
        return len(block) < 4 and _WORD.pack(self._word & _STREAM).startswith(block[:1]) and (
            len(block) < 2 or block[1] & 0xFE == self._word >> 16 & 0xFE
        )

    def _learn(self, word: int) -> int:
        """The length of a frame with this header, kept; 0 if it is none of this stream."""
        frame = read_header(word)
        if frame is None or (word ^ self._word) & _STREAM or frame.channels != self._channels:
            return 0
        return self._lengths.setdefault(word, frame.length)

    def _search(self, at: int, block: bytes) -> int:
        """The offset of the next frame that is followed by another, or the end."""
        begin = 1
        while True:
            for match in self._sync.finditer(block, begin):
                if self._is_followed(block, match.start()):
                    return at + match.start()
            if at + len(block) >= self._end or not block:
                return self._end
            at += max(1, len(block) - 3)
            block, begin = self._read(at), 0

    def _is_followed(self, block: bytes, pos: int) -> bool:
        if pos + 4 > len(block):
            return False
        length = self._learn(_WORD.unpack_from(block, pos)[0] & _MATTERS)
        beyond = pos + length
        if not length or beyond + 4 > len(block):
            return bool(length)
        return bool(self._learn(_WORD.unpack_from(block, beyond)[0] & _MATTERS))

    def _read(self, at: int) -> bytes:
        self._file.seek(at)
        return self._file.read(max(0, min(_BLOCK, self._end - at)))
