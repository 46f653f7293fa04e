"""The headers of MPEG audio frames (1, 2 and 2.5, layers I to III). Pure.

Tables: ISO 11172-3 and 13818-3; 2.5 is the common extension of the latter.
"""

from __future__ import annotations

from dataclasses import dataclass

_NOTES = (b"Xing", b"Info")
_KBPS_1 = {
    1: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_KBPS_2_LAYER_1 = (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
_KBPS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = (44100, 48000, 32000)
_HALVED = {3: 0, 2: 1, 0: 2}  # by the version's bits (1, 2, 2.5): how often a rate is halved


@dataclass(frozen=True, slots=True)
class Frame:
    """What the four bytes of a frame header say. `rate` in Hz, `length` in bytes."""

    layer: int
    rate: int
    channels: int
    samples: int
    length: int
    side_info: int  # bytes of layer III's side information


def read_header(word: int, free: int = 0) -> Frame | None:
    """The frame that these 32 bits announce, or None.

    A frame of free bit rate does not state its length: `free` is that length in bytes, without
    padding.
    """
    version, layer = word >> 19 & 3, 4 - (word >> 17 & 3)
    bit_rate, rate, padding, mode = word >> 12 & 15, word >> 10 & 3, word >> 9 & 1, word >> 6 & 3
    if (
        word >> 21 != 0x7FF
        or version == 1
        or layer == 4
        or bit_rate == 15
        or rate == 3
        or not (bit_rate or free)
    ):
        return None
    first_version = version == 3
    hertz = _RATES[rate] >> _HALVED[version]
    table, samples = _KBPS_1[layer] if first_version else _KBPS_2, 1152
    if layer == 1:
        table, samples = _KBPS_1[1] if first_version else _KBPS_2_LAYER_1, 384
    elif layer == 3 and not first_version:
        samples = 576
    slot = 4 if layer == 1 else 1
    plain = samples // 8 // slot * table[bit_rate - 1] * 1000 // hertz * slot if bit_rate else free
    mono = mode == 3
    side_info = (17 if mono else 32) if first_version else (9 if mono else 17)
    return Frame(layer, hertz, 1 if mono else 2, samples, plain + padding * slot, side_info)


def holds_notes(head: bytes, first: Frame) -> bool:
    """Whether the frame that begins with these bytes (68 are enough) holds an encoder's notes
    (Xing, Info, VBRI) in place of audio.
    """
    at = 4 + first.side_info
    return first.layer == 3 and (
        head[at : at + 4] in _NOTES or head[at + 2 : at + 6] in _NOTES or head[36:40] == b"VBRI"
    )
