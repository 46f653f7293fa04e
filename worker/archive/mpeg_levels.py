"""How loud the frames of an MP3 (layer III) are, read from their side information. Pure.

Nothing is decoded. In each granule `global_gain` says by how much its values are multiplied, and
`part2_3_length` how many bits they take, which grows with their size (ISO 11172-3, 2.4.1.7). The
level follows from both by a line that was fitted to speech (docs/decisions/0019-peaks.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from worker.archive.mpeg_frame import Frame, holds_notes, read_header

_DB_PER_GAIN = 1.27
_DB_PER_BIT = 7.7  # a bit for each value
_DB_AT_0 = -252.0
MOST_LOOKED_AT = 16_384  # twice as many at the most, however long the file is
_MOST_TRIES = 20_000  # false beginnings of frames, after which the rest is left out
_BLOCK = 1 << 20
_VALUES = 576  # of a channel in a granule
_HEAD = 4 + 2 + 32  # header, checksum, side information
_WORD = struct.Struct(">I")
_STREAM = 0xFFFE0C00  # what stays the same from frame to frame: sync, version, layer, sample rate
_MATTERS = 0xFFFEFEC0  # without the bits that change neither length nor layout


@dataclass(kw_only=True, slots=True)
class Heard:
    """`levels`: for each granule of each frame whose number can be divided by `every`, when it is
    heard, in granules from the beginning, and the level of each channel, from 0 to 255.
    """

    channels: int
    granule_ms: float
    granules: int  # in a frame
    every: int = 1
    frames: int = 0  # in all
    levels: list[tuple[int, Sequence[int]]] = field(default_factory=list)

    @property
    def duration_ms(self) -> float:
        return self.frames * self.granules * self.granule_ms

    @property
    def longest_gap_ms(self) -> float:
        """From one frame that was looked at to the next."""
        return self.every * self.granules * self.granule_ms

    def add(self, number: int, levels: list[list[int]]) -> None:
        for granule, values in enumerate(levels):
            # A decoder's filters and overlaps delay a granule by about its own length.
            at = number * self.granules + granule + 1
            like_first = len(values) == self.channels
            self.levels.append((at, values if like_first else [max(values)] * self.channels))
        if len(self.levels) > 2 * MOST_LOOKED_AT * self.granules:
            self.every *= 2
            step = self.every * self.granules
            self.levels = [one for one in self.levels if (one[0] - 1) % step < self.granules]


def listen(file: BinaryIO, start: int, end: int) -> Heard | None:
    """Walk the frames between two offsets, in linear time, and look at some of them. None where
    there is no frame of layer III.
    """
    heard: Heard | None = None
    for number, head, frame, word in _frames(file, start, end):
        if heard is None:
            if frame.layer != 3:
                return None
            heard = Heard(
                channels=frame.channels,
                granule_ms=_VALUES * 1000 / frame.rate,
                granules=frame.samples // _VALUES,
                every=max(1, (end - start) // max(1, frame.length) // MOST_LOOKED_AT),
            )
        heard.frames = number + 1
        if number % heard.every == 0 and not (number == 0 and holds_notes(head, frame)):
            heard.add(number, levels_of(head, word, frame))
    return heard


def levels_of(head: bytes, word: int, frame: Frame) -> list[list[int]]:
    """For each granule the level of each channel, from 0 to 255. `head`: the first bytes of the
    frame (38 are enough), `word`: the first 32 bits.
    """
    at = 4 if word >> 16 & 1 else 6  # a checksum stands between header and side information
    size = 8 * frame.side_info
    side = int.from_bytes(head[at : at + frame.side_info].ljust(frame.side_info, b"\0"), "big")
    channels, first_version = frame.channels, word >> 19 & 3 == 3
    # Behind main_data_begin, private bits and scfsi
    bit = (18 if channels == 1 else 20) if first_version else 8 + channels
    is_mid_and_side = word >> 6 & 3 == 1 and word >> 5 & 1
    granules = []
    for _ in range(frame.samples // _VALUES):
        levels = []
        for _ in range(channels):
            three = side >> size - bit - 29  # part2_3_length 12, big_values 9, global_gain 8
            levels.append(_level(three & 0xFF, (three >> 17 & 0xFFF) / _VALUES))
            bit += 59 if first_version else 63
        granules.append([max(levels)] * channels if is_mid_and_side else levels)
    return granules


def _level(gain: int, bits_a_value: float) -> int:
    if not bits_a_value:
        return 0
    db = _DB_PER_GAIN * gain + _DB_PER_BIT * bits_a_value + _DB_AT_0
    return int(min(255.0, 255 * 10 ** (min(db, 0.0) / 20)))


def _goes_on(block: bytes, behind: int, word: int, stream: int) -> bool:
    """Whether a frame belongs to the stream; a first one (`stream` is 0) where another follows."""
    if stream:
        return not (word ^ stream) & _STREAM
    return behind + 4 > len(block) or not (_WORD.unpack_from(block, behind)[0] ^ word) & _STREAM


def _frames(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, bytes, Frame, int]]:
    """Number, first bytes, header and its 32 bits of each frame, as far as there are frames. Other
    bytes are stepped over.
    """
    known: dict[int, Frame | None] = {}
    at, number, tries, stream = start, 0, _MOST_TRIES, 0
    while at < end and tries:
        file.seek(at)
        block = file.read(min(_BLOCK + _HEAD, end - at))
        if len(block) < _HEAD:
            return
        pos, last = 0, len(block) - _HEAD
        while pos <= last and tries:
            (word,) = _WORD.unpack_from(block, pos)
            key = word & _MATTERS
            if key in known:
                frame = known[key]
            else:
                frame = known[key] = read_header(word)
            if frame is None or not _goes_on(block, pos + frame.length, word, stream):
                tries -= 1
                found = block.find(b"\xff", pos + 1)
                pos = found if found >= 0 else last + 1
                continue
            stream = word
            yield number, block[pos : pos + _HEAD], frame, word
            number += 1
            pos += frame.length
        at += pos
