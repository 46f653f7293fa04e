"""Real audio of any length, generated while it is sent, in constant memory. Pure.

WAV is 8 kHz 16-bit PCM with a different tone in each channel. MP3 is silent MPEG-2.5 Layer III at 8
kHz and 64 kbit/s. Every file carries its recording's id: WAV as its first, inaudible samples, MP3
as ancillary data of each frame. A test can thus tell whether the right bytes were archived under a
name.
"""

from __future__ import annotations

import math
import struct
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

RATE = 8000
FRAME_MS = 72
"""576 samples at 8 kHz."""
FRAME_BYTES = 576
"""72 × 64,000 bit/s ÷ 8,000 Hz."""
WAV_HEADER_BYTES = 44
_TONES = range(300, 620, 10)
_BLOCK = 1 << 18
CONTENT_TYPES = {"mp3": "audio/mpeg", "wav": "audio/wav"}


@dataclass(frozen=True, slots=True)
class Audio:
    """One file. `mark` is the id that it carries; `bytes_wanted` overrides the length that follows
    from the duration.
    """

    container: str
    channels: int
    duration_ms: float
    mark: str
    bytes_wanted: int | None = None

    @property
    def size(self) -> int:
        if self.bytes_wanted is not None:
            return self.bytes_wanted
        if self.container == "wav":
            return WAV_HEADER_BYTES + samples(self.duration_ms) * 2 * self.channels
        return frames(self.duration_ms) * FRAME_BYTES

    def stream(self) -> Iterator[bytes]:
        """Yields exactly `size` bytes, in blocks."""
        left = self.size
        for block in self._endless():
            if left <= len(block):
                if left:
                    yield block[:left]
                return
            left -= len(block)
            yield block

    def _endless(self) -> Iterator[bytes]:
        if self.container == "wav":
            second = tone(self.mark, self.channels)
            yield wav_header(self.size - WAV_HEADER_BYTES, self.channels) + _marked(
                second, self.mark, self.channels
            )
        else:
            second = mp3_frame(self.mark, self.channels)
        block = second * max(1, _BLOCK // len(second))
        while True:
            yield block


def samples(duration_ms: float) -> int:
    return round(max(duration_ms, 0) * RATE / 1000)


def frames(duration_ms: float) -> int:
    """The number of MP3 frames. An encoder fills its last frame, so a part of one counts as one."""
    return math.ceil(round(max(duration_ms, 0), 3) / FRAME_MS)


def wav_header(data_bytes: int, channels: int) -> bytes:
    data_bytes = min(max(data_bytes, 0), 0xFFFFFFFF - 36)
    block = 2 * channels
    return (
        b"RIFF"
        + struct.pack("<I", 36 + data_bytes)
        + b"WAVEfmt "
        + struct.pack(
            "<IHHIIHH",
            16,
            1,
            channels,
            RATE,
            RATE * block,
            block,
            16,
        )
        + b"data"
        + struct.pack("<I", data_bytes)
    )


def tone(mark: str, channels: int) -> bytes:
    """One second of sine in each channel. The pitch is in whole hertz, so that seconds join without
    a click.
    """
    first = zlib.crc32(mark.encode()) % len(_TONES)
    return _second(
        tuple(_TONES[(first + 7 * channel) % len(_TONES)] for channel in range(channels))
    )


@lru_cache(maxsize=128)
def _second(hertz: tuple[int, ...]) -> bytes:
    sound = array("h", bytes(2 * RATE * len(hertz)))
    for channel, pitch in enumerate(hertz):
        step = 2 * math.pi * pitch / RATE
        sound[channel :: len(hertz)] = array(
            "h", [round(8000 * math.sin(step * n)) for n in range(RATE)]
        )
    return sound.tobytes()


def _marked(second: bytes, mark: str, channels: int) -> bytes:
    spelled = array("h", [ord(letter) & 0x7F for letter in mark for _ in range(channels)]).tobytes()
    return spelled + second[len(spelled) :]


def mp3_frame(mark: str, channels: int) -> bytes:
    """A silent frame: MPEG-2.5, Layer III, no checksum, 64 kbit/s, 8 kHz, all side information
    zero.
    """
    head = bytes([0xFF, 0xE3, 0x88, 0x00 if channels == 2 else 0xC0])
    side = bytes(17 if channels == 2 else 9)
    # part2_3_length is zero, so the rest is ancillary data, which decoders skip.
    return (head + side + b"id:" + mark.encode("ascii", "replace")[:200]).ljust(FRAME_BYTES, b"\0")
