"""How loud uncompressed samples are, from 0 to 255. Pure.

One byte a sample is enough: the byte that holds the sign and the seven highest bits, or the whole
byte of A-law and mu-law (ITU-T G.711). So the work is left to `bytes.translate`, which is far
quicker than a look at each sample.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

_FEW = 512  # up to so many values, `max` is quicker than a search
_LOUDER = [bytes(range(limit)) for limit in range(257)]  # all values below a limit, to be deleted


@lru_cache(maxsize=8)
def table(coding: str) -> bytes:
    """The loudness for each value of a byte. `coding`: "signed" (the highest byte of such a
    sample), "unsigned", "alaw" or "mulaw".
    """
    return bytes(map(_CODINGS[coding], range(256)))


def loudest(values: bytes) -> int:
    """The greatest of these loudnesses, 0 where there is none."""
    low, high = 0, 256
    while len(values) > _FEW and high - low > 1:
        middle = (low + high) // 2
        louder = values.translate(None, _LOUDER[middle])
        if louder:
            values, low = louder, middle
        else:
            high = middle
    return low if high - low == 1 else max(values, default=0)


def _of_128(magnitude: int) -> int:
    return 2 * magnitude + 1 if magnitude else 0


def _signed(byte: int) -> int:
    return _of_128(byte if byte < 128 else 255 - byte)


def _unsigned(byte: int) -> int:
    return _of_128(byte - 128 if byte >= 128 else 127 - byte)


def _alaw(byte: int) -> int:
    byte ^= 0x55
    segment, magnitude = byte >> 4 & 7, (byte & 15) << 4
    magnitude = magnitude + 0x108 << segment - 1 if segment else magnitude + 8
    return magnitude * 255 // 32768


def _mulaw(byte: int) -> int:
    byte ^= 0xFF
    magnitude = (((byte & 15) << 3) + 0x84 << (byte >> 4 & 7)) - 0x84
    return magnitude * 255 // 32768


_CODINGS: dict[str, Callable[[int], int]] = {
    "signed": _signed,
    "unsigned": _unsigned,
    "alaw": _alaw,
    "mulaw": _mulaw,
}
