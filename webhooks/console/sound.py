"""The waveform of a recording, with what happened to it on the sound's own axis. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from worker import wire

WIDTH, LANE, STRIP = 1000, 60, 8  # units of a drawing: all of it, one channel, the least gap
_ONE_MS = timedelta(milliseconds=1)
_TOUCHES_MS = 1000.0  # a gap begins at the end of a segment: by two clocks
_POINTS = 500
_BESIDE = 1.25  # marks beyond so many times the sound are listed and not drawn
_LEAST_AROUND_MS = 300.0  # around the marks of the end
# What is marked: the word, what it means, the field of the recording or of its stop.
_MARKS = (
    ("trigger", "the stop was due", "due_at"),
    ("DELETE", "our request left", "requested_at"),
    ("204", "the provider said yes", "accepted_at"),
    ("end", "the sound ends, by the provider", "ended_at"),
    ("proof", "the end was proven", "confirmed_at"),
)


@dataclass(frozen=True, slots=True)
class Mark:
    """`at_ms`: after the start of the recording. `after_ms`: after the trigger, where there is
    one.
    """

    word: str
    meaning: str
    at_ms: float
    after_ms: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A part of the sound, WIDTH wide. `lanes`: the path of each channel. `marks`: the words of
    those that lie in it, and where. `end_x`: where the sound ends. `tail`: where what was recorded
    after the trigger begins, and its width. `gaps`: the same of each declared gap; one that lies
    before or after the sound is a narrow strip at its edge.
    """

    from_ms: float
    to_ms: float
    lanes: list[str]
    marks: list[tuple[str, float]]
    end_x: float
    tail: tuple[float, float] | None
    gaps: list[tuple[float, float]]

    @property
    def ticks(self) -> list[tuple[float, float]]:
        """Instants on the axis: percent of the width, and ms after the start."""
        return [(25 * i, self.from_ms + (self.to_ms - self.from_ms) * i / 4) for i in range(5)]

    @property
    def height(self) -> int:
        return LANE * max(1, len(self.lanes))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """`near`: the end again, larger; None where all of it shows the marks well enough."""

    duration_ms: float
    marks: list[Mark]
    whole: Drawing
    near: Drawing | None


def drawn(
    view: Mapping[str, Any],
    outline: Mapping[str, Any] | None,
    gaps: Iterable[Mapping[str, Any]] = (),
) -> Sound | None:
    """The drawings of a recording, given as `/v1` shows it, its outline, and the gaps of its
    logical recording; None where nothing is known about its length.
    """
    channels: Sequence[Sequence[int]] = outline["channels"] if outline else ()
    bucket_ms = float(outline["bucket_ms"]) if outline else 0.0
    duration = float(view["duration_ms"] or (bucket_ms * len(channels[0]) if channels else 0))
    if not duration:
        return None
    marks = _marks(view)
    sheet = _Sheet(channels, bucket_ms, duration, marks, _gaps(view, gaps, duration))
    most = max([duration, *(m.at_ms for m in marks if m.at_ms <= duration * _BESIDE)])
    return Sound(
        duration_ms=duration, marks=marks, whole=sheet.part(0, most), near=_near(sheet, most)
    )


def is_outline(said: Any) -> bool:
    """Whether it is an outline that can be drawn: what stands in an archive, anybody may have
    written who can write there.
    """
    if not isinstance(said, dict) or not isinstance(said.get("channels"), list):
        return False
    bucket_ms = said.get("bucket_ms")
    is_span = isinstance(bucket_ms, (int, float)) and 0 < bucket_ms < math.inf
    return is_span and all(
        isinstance(heights, list) and all(isinstance(h, int) and 0 <= h <= 255 for h in heights)
        for heights in said["channels"]
    )


def _marks(view: Mapping[str, Any]) -> list[Mark]:
    start = wire.parse_rfc3339(view["started_at"])
    instants = {
        word: wire.parse_rfc3339(view["stop"].get(field) or view.get(field))
        for word, _, field in _MARKS
    }
    trigger = instants["trigger"]
    return [
        Mark(
            word,
            meaning,
            (instant - start) / _ONE_MS,
            (instant - trigger) / _ONE_MS if trigger and word != "trigger" else None,
        )
        for word, meaning, _ in _MARKS
        if start and (instant := instants[word])
    ]


def _gaps(
    view: Mapping[str, Any], gaps: Iterable[Mapping[str, Any]], duration_ms: float
) -> list[tuple[float, float]]:
    """Those gaps that touch the sound: from and to, in ms after its start."""
    start, found = wire.parse_rfc3339(view["started_at"]), list[tuple[float, float]]()
    if start is None:
        return found
    for gap in gaps:
        begin, end = (wire.parse_rfc3339(gap[name]) for name in ("from", "to"))
        from_ms = (begin - start) / _ONE_MS if begin else duration_ms
        to_ms = (end - start) / _ONE_MS if end else math.inf
        if from_ms <= duration_ms + _TOUCHES_MS and to_ms >= -_TOUCHES_MS:
            found.append((min(from_ms, duration_ms), max(to_ms, 0.0)))
    return found


@dataclass(frozen=True, slots=True)
class _Sheet:
    channels: Sequence[Sequence[int]]
    bucket_ms: float
    duration_ms: float
    marks: list[Mark]
    gaps: list[tuple[float, float]]

    def part(self, from_ms: float, to_ms: float) -> Drawing:
        def x(at_ms: float) -> float:
            return round((at_ms - from_ms) / (to_ms - from_ms) * WIDTH, 1)

        end_x = min(float(WIDTH), x(self.duration_ms))
        at = {mark.word: mark.at_ms for mark in self.marks}
        tail = None
        if "trigger" in at and "end" in at and at["trigger"] < at["end"]:
            left = max(0.0, x(at["trigger"]))
            tail = (left, max(0.0, round(min(x(at["end"]), WIDTH) - left, 1)))
        return Drawing(
            from_ms=from_ms,
            to_ms=to_ms,
            lanes=[self._path(peaks, from_ms, to_ms, end_x) for peaks in self.channels],
            marks=[(m.word, x(m.at_ms)) for m in self.marks if from_ms <= m.at_ms <= to_ms],
            end_x=end_x,
            tail=tail,
            gaps=[
                _strip(x(max(begin, from_ms)), x(min(end, to_ms)))
                for begin, end in self.gaps
                if begin <= to_ms and end >= from_ms
            ],
        )

    def _path(self, peaks: Sequence[int], from_ms: float, to_ms: float, end_x: float) -> str:
        """The `d` of a closed outline, mirrored at the middle of its lane; empty without sound.
        `peaks`: 0 to 255 for each bucket; of several that share a point the loudest is drawn.
        """
        first = int(from_ms / self.bucket_ms)
        some = peaks[first : int(min(to_ms, self.duration_ms) / self.bucket_ms) + 1]
        step = max(1, math.ceil(len(some) / _POINTS))
        loud = [max(some[i : i + step]) for i in range(0, len(some), step)]
        each = step * self.bucket_ms / (to_ms - from_ms) * WIDTH
        begin = (first * self.bucket_ms - from_ms) / (to_ms - from_ms) * WIDTH
        middle, upper, lower = LANE / 2, list[str](), list[str]()
        for i, peak in enumerate([*loud, *loud[-1:]]):
            across = min(max(0.0, begin + i * each), end_x)
            high = 1 + peak / 255 * (middle - 3)
            upper.append(f"{across:.1f},{middle - high:.1f}")
            lower.append(f"{across:.1f},{middle + high:.1f}")
        return "M" + " L".join([*upper, *reversed(lower)]) + " Z" if loud else ""


def _strip(left: float, right: float) -> tuple[float, float]:
    """Where a strip begins, and its width, which is never less than STRIP."""
    left = min(left, WIDTH - STRIP)
    return round(left, 1), round(max(STRIP, right - left), 1)


def _near(sheet: _Sheet, most_ms: float) -> Drawing | None:
    """The end of the sound with a margin of half of what its marks span."""
    instants = [mark.at_ms for mark in sheet.marks if mark.at_ms >= 0]
    if not instants:
        return None
    around = max(_LEAST_AROUND_MS, (max(instants) - min(instants)) / 2)
    begin, end = max(0.0, min(instants) - around), max(instants) + around
    return sheet.part(begin, end) if end - begin < most_ms / 2 else None
