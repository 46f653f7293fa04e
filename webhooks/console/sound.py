"""The waveform of a recording, with what happened to it on the sound's own axis. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from worker import wire

WIDTH, LANE = 1000, 60  # units of the drawing: all of it, and one channel
_POINTS = 500
_BESIDE = 1.25  # marks beyond so many times the sound are listed and not drawn
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
    """`at_ms`: after the start of the recording. `x`: where in the drawing; None: outside of it."""

    word: str
    meaning: str
    at_ms: float
    x: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """The drawing. `lanes`: the path of each channel. `tail`: where what was recorded after the
    trigger begins, and its width.
    """

    duration_ms: float
    end_x: float
    lanes: list[str]
    marks: list[Mark]
    tail: tuple[float, float] | None

    @property
    def height(self) -> int:
        return LANE * max(1, len(self.lanes))


def drawn(view: Mapping[str, Any], outline: Mapping[str, Any] | None) -> Sound | None:
    """The drawing of a recording, given as `/v1` shows it, and its outline; None where nothing is
    known about its length.
    """
    channels: Sequence[Sequence[int]] = outline["channels"] if outline else ()
    length = outline["bucket_ms"] * len(channels[0]) if outline and channels else 0
    duration = float(view["duration_ms"] or length)
    if not duration:
        return None
    found = list(_marks(view))
    most = max([duration, *(at for _, _, at in found if 0 <= at <= duration * _BESIDE)])
    scale = WIDTH / most
    marks = [
        Mark(word, meaning, at, round(at * scale, 1) if 0 <= at <= most else None)
        for word, meaning, at in found
    ]
    end_x = round(duration * scale, 1)
    trigger = next((mark.x for mark in marks if mark.word == "trigger"), None)
    has_tail = trigger is not None and trigger < end_x and view["stop"]["tail_ms"] is not None
    return Sound(
        duration_ms=duration,
        end_x=end_x,
        lanes=[_path(peaks, end_x) for peaks in channels],
        marks=marks,
        tail=(trigger, round(end_x - trigger, 1)) if has_tail and trigger is not None else None,
    )


def _marks(view: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    start = wire.rfc3339(view["started_at"] or "")
    for word, meaning, field in _MARKS:
        instant = wire.rfc3339((view["stop"].get(field) or view.get(field)) or "")
        if start and instant:
            yield word, meaning, (instant - start) / timedelta(milliseconds=1)


def _path(peaks: Sequence[int], width: float) -> str:
    """A closed outline, mirrored at the middle of its lane."""
    step = max(1, -(-len(peaks) // _POINTS))
    loud = [max(peaks[i : i + step]) for i in range(0, len(peaks), step)]
    each, middle = width / max(1, len(loud)), LANE / 2
    heights = [1 + peak / 255 * (middle - 3) for peak in loud]
    points = [(f"{i * each:.1f}", high) for i, high in enumerate([*heights, *heights[-1:]])]
    upper = [f"{x},{middle - high:.1f}" for x, high in points]
    lower = [f"{x},{middle + high:.1f}" for x, high in points]
    return "M" + " L".join([*upper, *reversed(lower)]) + " Z"
