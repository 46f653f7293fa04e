"""MPEG audio (1, 2 and 2.5, layers I to III) walked frame by frame. Pure; reads in blocks, so
memory stays constant.

Only a walk shows the duration for certain: bit rates vary, and a header that announces a length
describes what was meant to be written, not what is there.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from typing import BinaryIO

from worker.archive import pages, tags
from worker.archive.mpeg_frame import Frame, holds_notes, read_header
from worker.archive.pages import FoundPages
from worker.archive.sound import Sound

_BLOCK = 1 << 20
_MARGIN = 1 << 15  # bytes read beyond a block, so that a run of frames can be followed
_SURE = 4  # frames of one stream in a row; random bytes hold that with a chance of 1 in 10^20
_LONGEST = 2881  # layer II, 160 kbit/s at 8 kHz, padded
_LONGEST_FREE = 6000
# Limits against a file that was made to be slow: after so many gaps, joins, or false beginnings of
# frames the walk ends.
_MAX_LOSSES = 64
_MAX_PAUSES = 2000
_MAX_TRIES = 20_000  # and one more for each KiB, four times what random bytes need
_MARK = re.compile(rb"\xff(?=[\xe2-\xe7\xf2-\xf7\xfa-\xff][\x00-\xef])|ID3|APETAGEX|TAG", re.DOTALL)
_WORD = struct.Struct(">I")
# Sync, version, layer, bit rate, rate, padding, channel mode; not CRC, private, mode extension,
# copyright and so on.
_MATTERS = 0xFFFEFEC0
_STREAM = 0xFFFE0C00  # what stays the same from frame to frame: sync, version, layer, sample rate


@dataclass(frozen=True, kw_only=True, slots=True)
class Walk:
    """What a walk found. `first`: the first frame, None where there was no audio. `problem` names
    the bytes that are neither frame, tag nor padding.

    `lost_s` is how many seconds of audio those bytes would hold; None where they are an error page,
    or too many to say.
    """

    first: Frame | None = None
    duration_s: float = 0.0
    problem: str | None = None
    lost_s: float | None = None

    @property
    def sound(self) -> Sound | None:
        """The audio that was walked, or None where there was none."""
        if self.first is None:
            return None
        return Sound(
            codec=f"mp{self.first.layer}",
            channels=self.first.channels,
            sample_rate=self.first.rate,
            duration_s=self.duration_s,
            problem=self.problem,
            lost_s=self.lost_s,
        )


def walk(file: BinaryIO, start: int, end: int, found: FoundPages | None = None) -> Walk:
    """Walk every frame between the two offsets, in linear time.

    These are no problem: tags and padding at both ends and between tags; a partial frame at both
    ends and before a tag; a stream that goes on with other channels or another rate. A first frame
    that only holds an encoder's notes (Xing, Info, VBRI) is no audio. After any other bytes the
    walk goes on where frames follow, so the duration is that of all the audio present.
    """
    steps = _Steps(file, end)
    steps.run(start)
    if steps.first is None:
        return Walk(first=_rump(file, start, end), problem="there is not one whole frame")
    walked = steps.walked()
    if pages.amid(file, start, end, found):  # a page may hide within a frame
        return replace(walked, problem="an error page stands amid the audio", lost_s=None)
    return walked


def _rump(file: BinaryIO, start: int, end: int) -> Frame | None:
    """The frame that begins here and is not all there."""
    file.seek(start)
    head = file.read(4)
    frame = read_header(int.from_bytes(head, "big"))
    return frame if frame and start + frame.length > end else None


class _Steps:
    """The state of a walk: what the headers of this stream look like, how many frames there were,
    and which gaps.
    """

    def __init__(self, file: BinaryIO, end: int) -> None:
        self._file, self._end = file, end
        self._word, self._channels, self._free = 0, 0, 0
        self._lengths: dict[int, int] = {}
        self._length = 0  # of the last frame
        self.first: Frame | None = None
        self._rates: dict[tuple[int, int], int] = {}  # frames by (samples, rate)
        self._now = (0, 1)
        self._gaps: list[tuple[int, int]] = []
        self._lost_s, self._page, self._gave_up = 0.0, False, False
        self._tries, self._tags = _MAX_TRIES + max(0, end) // 1024, _MAX_PAUSES

    @property
    def _frames(self) -> int:
        return sum(self._rates.values())

    def walked(self) -> Walk:
        duration_s = sum(count * samples / rate for (samples, rate), count in self._rates.items())
        problem = self._problem()
        return Walk(
            first=self.first,
            duration_s=duration_s,
            problem=problem,
            lost_s=self._lost_s if self._gaps and not self._page and not self._gave_up else None,
        )

    def _problem(self) -> str | None:
        if not self._gaps:
            return None if self._frames else "there is not one whole frame"
        at, length = self._gaps[0]
        more = f" and {len(self._gaps) - 1} more gaps" if len(self._gaps) > 1 else ""
        what = "an error page stands amid the audio: " if self._page else ""
        return f"{what}{length} bytes that are no frame at byte {at}{more}"

    def run(self, at: int) -> None:
        pauses = 0
        while at < self._end:
            if len(self._gaps) == _MAX_LOSSES or pauses == _MAX_PAUSES:
                self._gap(at, self._end)
                self._gave_up = True
                return
            at = self._stride(self._beyond(at))
            pauses += 1

    # Frames

    def _stride(self, at: int) -> int:
        """Step from frame to frame; returns the offset where no frame follows. The inner loop is
        the hot one.
        """
        unpack, lengths = _WORD.unpack_from, self._lengths
        frames, length, size = 0, self._length, _MARGIN
        while at < self._end:
            block = self._read(at, size)
            size = _BLOCK
            pos, last, before = 0, len(block) - 4, frames
            while pos <= last:
                word = unpack(block, pos)[0] & _MATTERS
                step = lengths.get(word) or self._learn(word)
                if not step:
                    break
                pos += step
                length = step
                frames += 1
            at += pos
            if pos <= last or frames == before:
                break
        if at > self._end:
            frames -= 1  # the last one is not all there
        self._length = length
        if frames:
            self._rates[self._now] = self._rates.get(self._now, 0) + frames
        return at

    def _learn(self, word: int) -> int:
        """The length of a frame with this header, kept for later; 0 if the header does not belong
        to this stream.
        """
        frame = read_header(word, self._free)
        if frame is None or (word ^ self._word) & _STREAM or frame.channels != self._channels:
            return 0
        return self._lengths.setdefault(word, frame.length)

    def _adopt(self, at: int, free: int) -> int:
        """Take the stream that begins here for the current one. Returns where its audio begins,
        which is behind an encoder's notes.
        """
        head = self._read(at, 4 + 64)
        word = int.from_bytes(head[:4], "big")
        frame = read_header(word, free)
        assert frame is not None
        if holds_notes(head, frame):
            at += frame.length
            behind = self._read(at, 4)
            after = read_header(int.from_bytes(behind, "big"), free)
            if after is not None:
                frame, word = after, int.from_bytes(behind, "big")
        self._word, self._channels, self._free = word & _MATTERS, frame.channels, free
        self._lengths.clear()
        self._length, self._now = frame.length, (frame.samples, frame.rate)
        self.first = self.first or frame
        return at

    # Bytes that are no frame

    def _beyond(self, at: int) -> int:
        """Step over bytes that are no frame, to where frames follow or the walk ends. Notes a gap
        where audio may be missing.
        """
        behind, tagged = self._skip(at)
        if behind >= self._end:
            return self._end
        first, plain = self.first is None, behind == at
        free = self._run_at(behind, enough=2 if first or tagged else _SURE)
        if free is not None and (first or tagged or plain):
            return self._adopt(behind, free)
        found, free = self._search(behind if first or tagged else max(at - self._length + 4, 0))
        # Where frames begin before `at`, the last frame was cut by the beginning of others.
        is_cut = found < at
        if is_cut and self._rates.get(self._now):
            self._rates[self._now] -= 1
        harmless = self._is_harmless(behind, found, free)
        gap_at = at - self._length if is_cut else at
        begins = found if free is None else self._adopt(found, free)
        if not harmless:
            self._gap(gap_at, found)
        return begins

    def _skip(self, at: int) -> tuple[int, bool]:
        """Step over zeros and tags. Returns the offset behind them (the end of the walk at the
        most), and whether there was a tag.
        """
        tagged = False
        while True:
            behind = self._over(at, b"\0")
            length = tags.length_at(self._read(behind, 128))
            if (
                not length
                or not self._tags
                or (behind + length > self._end and self.first is not None)
            ):
                return behind, tagged
            self._tags -= 1
            at, tagged = min(behind + length, self._end), True

    def _over(self, at: int, byte: bytes) -> int:
        return tags.behind(self._file, at, self._end, byte)

    def _is_harmless(self, behind: int, found: int, free: int | None) -> bool:
        """Whether the bytes from `behind` to `found` are nothing that is missing: less than a frame
        at either end or at a join, and padding of any length.
        """
        at_end = found >= self._end
        head = self.first is None
        if not (head or at_end or free is None or holds_notes(*self._noted(found, free))):
            return False
        limit = _LONGEST if head else self._length
        begin = min(self._over(behind, b"\xff") if head or at_end else behind, found)
        rump = self._read(begin, min(limit, max(0, found - begin))).rstrip(b"\0")
        return not pages.kind(rump) and self._over(begin + len(rump), b"\0") >= found

    def _noted(self, found: int, free: int) -> tuple[bytes, Frame]:
        head = self._read(found, 68)
        frame = read_header(int.from_bytes(head[:4], "big"), free)
        assert frame is not None
        return head, frame

    def _gap(self, at: int, found: int) -> None:
        self._gaps.append((at, found - at))
        if self.first is None:
            return
        self._page = self._page or pages.kind(self._read(at, min(512, found - at))) is not None
        samples, rate = self._now
        if self._length:
            self._lost_s += (found - at) / self._length * samples / rate

    def _search(self, at: int) -> tuple[int, int | None]:
        """The next offset at which a tag stands (with None), or a sure run of frames (with their
        free length); or the end of the walk (with None).
        """
        while at < self._end and self._tries > 0:
            block = self._read(at, _BLOCK + _MARGIN)
            for match in _MARK.finditer(block, 0, _BLOCK + 3):
                pos = match.start()
                self._tries -= 1
                if self._tries <= 0 or pos >= _BLOCK:
                    break
                if block[pos] != 0xFF:
                    length = tags.length_at(block[pos : pos + 128])
                    if length and self._is_tag(at + pos, length):
                        return at + pos, None
                    continue
                free = self._run(block, pos, at_end=at + len(block) >= self._end, enough=_SURE)
                if free is not None:
                    return at + pos, free
            at += _BLOCK
        return self._end, None

    def _is_tag(self, at: int, length: int) -> bool:
        """Whether a tag of this length stands here. Three letters are no proof: the end, frames,
        padding or another tag must follow.
        """
        if self.first is None or at + length > self._end:
            return False
        behind = at + length
        padding = self._read(behind, 4096)
        behind += len(padding) - len(padding.lstrip(b"\0"))
        return (
            behind >= self._end
            or bool(tags.length_at(self._read(behind, 128)))
            or self._run_at(behind, enough=2) is not None
        )

    def _run_at(self, at: int, enough: int) -> int | None:
        block = self._read(at, _MARGIN)
        return self._run(block, 0, at_end=at + len(block) >= self._end, enough=enough)

    def _run(self, block: bytes, pos: int, *, at_end: bool, enough: int) -> int | None:
        """Find `enough` whole frames of one stream in a row, or half as many up to the end.

        Returns the length of a frame of free bit rate (0 for the others), None where there are no
        such frames.
        """
        if len(block) < pos + 4:
            return None
        (word,) = _WORD.unpack_from(block, pos)
        if word >> 12 & 15 or read_header(word, 1) is None:
            return 0 if self._chain(block, pos, 0, at_end=at_end, enough=enough) else None
        again = pos + 23
        for _ in range(8):  # the distance to the next such header is the length of this frame
            again = block.find(block[pos : pos + 2], again + 1, pos + _LONGEST_FREE)
            free = again - pos - (word >> 9 & 1) * (4 if word >> 17 & 3 == 3 else 1)
            if again < 0 or self._chain(block, pos, free, at_end=at_end, enough=_SURE):
                return free if again >= 0 else None
        return None

    def _chain(self, block: bytes, pos: int, free: int, *, at_end: bool, enough: int) -> bool:
        (first,) = _WORD.unpack_from(block, pos)
        count = 0
        while count < enough:
            if pos + 4 > len(block):
                return at_end and count >= enough // 2
            (word,) = _WORD.unpack_from(block, pos)
            frame = None if (word ^ first) & _STREAM else read_header(word, free)
            if frame is None:
                return False
            if pos + frame.length > len(block):
                return at_end and count >= enough // 2
            pos += frame.length
            count += 1
        return True

    def _read(self, at: int, length: int) -> bytes:
        self._file.seek(at)
        return self._file.read(max(0, min(length, self._end - at)))
