"""The outline of a recording for a waveform: how loud it is, bucket by bucket. Pure; reads in
blocks, so memory stays constant.

WAV: the loudest sample of each bucket. MP3: an estimate from the frames' side information, without
decoding. It tells speech from pauses; docs/decisions/0019-peaks.md says how well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from worker.archive import loudness, media, mpeg_levels, wav
from worker.archive.wav import Pcm

SCHEMA = "endtape/peaks/1"
MOST_BUCKETS = 2000
LEAST_MS = 20  # the shortest bucket
MOST_CHANNELS = 8
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    """For each channel, the peak of each bucket: 0 is silence, 255 full scale."""

    bucket_ms: int
    channels: Sequence[Sequence[int]]


def written(outline: Outline) -> bytes:
    """The content of `{recording_id}.peaks`: the same audio gives the same bytes."""
    said = {
        "schema": SCHEMA,
        "bucket_ms": outline.bucket_ms,
        "channels": [list(channel) for channel in outline.channels],
    }
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def outline(file: BinaryIO) -> Outline | None:
    """The outline of an open, seekable file, in linear time; None for audio that nothing here can
    measure. No content makes it raise, only the errors of reading (OSError).
    """
    size = file.seek(0, 2)
    start = media.behind_tags(file, size)
    file.seek(start)
    if wav.is_here(file.read(28)):
        pcm = wav.pcm(file, start, size)
        return _of_pcm(file, pcm) if pcm and pcm.channels <= MOST_CHANNELS else None
    return _of_mpeg(file, start, size)


def _bucket_ms(duration_ms: float, least_ms: float) -> int:
    return max(LEAST_MS, math.ceil(least_ms), math.ceil(duration_ms / MOST_BUCKETS))


def _of_pcm(file: BinaryIO, pcm: Pcm) -> Outline | None:
    frames = pcm.length // pcm.frame
    if not frames:
        return None
    bucket_ms = _bucket_ms(frames * 1000 / pcm.rate, 0)
    peaks: list[list[int]] = [[] for _ in range(pcm.channels)]
    table = loudness.table(pcm.coding)
    file.seek(pcm.at)
    first = 0
    while first < frames:
        # The first frame of the next bucket, so that no rounding adds up
        behind = min(frames, (len(peaks[0]) + 1) * bucket_ms * pcm.rate // 1000)
        behind = max(behind, first + 1)
        loudest = _loudest(file, pcm, behind - first, table)
        for channel, peak in zip(peaks, loudest, strict=True):
            channel.append(peak)
        first = behind
    return Outline(bucket_ms=bucket_ms, channels=peaks)


def _loudest(file: BinaryIO, pcm: Pcm, frames: int, table: bytes) -> list[int]:
    """The peak of each channel in the next frames of the file."""
    peaks, left = [0] * pcm.channels, frames * pcm.frame
    most = _BLOCK - _BLOCK % pcm.frame
    while left and (block := file.read(min(left, most))):
        left -= len(block)
        for channel, peak in enumerate(peaks):
            top = block[channel * pcm.width + pcm.top :: pcm.frame]
            peaks[channel] = max(peak, loudness.loudest(top.translate(table)))
    return peaks


def _of_mpeg(file: BinaryIO, start: int, end: int) -> Outline | None:
    heard = mpeg_levels.listen(file, start, end)
    if heard is None:
        return None
    # Each bucket but the first has a frame that was looked at.
    bucket_ms = _bucket_ms(heard.duration_ms, heard.longest_gap_ms)
    count = math.ceil(heard.duration_ms / bucket_ms)
    peaks = [[0] * count for _ in range(heard.channels)]
    for at, levels in heard.levels:
        bucket = min(count - 1, int(at * heard.granule_ms / bucket_ms))
        for channel, level in zip(peaks, levels, strict=True):
            channel[bucket] = max(channel[bucket], level)
    return Outline(bucket_ms=bucket_ms, channels=peaks)
