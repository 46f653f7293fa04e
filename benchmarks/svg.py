"""A curve as a picture: a few lines over a logarithmic axis, as SVG that reads on light and on dark
pages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 150, 40, 50  # margins; the names of the lines stand on the right
_STYLE = """
text { font: 12px sans-serif; fill: #24292f; } .title { font-weight: bold; font-size: 14px; }
.axis { stroke: #57606a; } .grid { stroke: #d0d7de; } .line { fill: none; stroke-width: 2; }
.c0 { stroke: #0550ae; } .c1 { stroke: #bc4c00; } .c2 { stroke: #116329; } .c3 { stroke: #8250df; }
text.c0, text.c1, text.c2, text.c3 { stroke: none; }
text.c0 { fill: #0550ae; } text.c1 { fill: #bc4c00; }
text.c2 { fill: #116329; } text.c3 { fill: #8250df; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .axis { stroke: #8d96a0; } .grid { stroke: #30363d; }
.c0 { stroke: #79c0ff; } .c1 { stroke: #ffa657; } .c2 { stroke: #7ee787; } .c3 { stroke: #d2a8ff; }
text.c0 { fill: #79c0ff; } text.c1 { fill: #ffa657; }
text.c2 { fill: #7ee787; } text.c3 { fill: #d2a8ff; }
}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """`lines`: by name, a figure for each of `xs`; four at most, each in a colour of its own."""

    title: str
    x_label: str
    y_label: str
    xs: Sequence[float]
    lines: Mapping[str, Sequence[float]]

    def svg(self) -> str:
        top = _round_up(max(max(ys) for ys in self.lines.values()))
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'role="img" aria-label="{escape(self.title)}">',
            f"<style>{_STYLE}</style>",
            _text(_LEFT, 20, self.title, "title"),
            *self._x_axis(),
            *self._y_axis(top),
            *self._drawn(top),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _x(self, x: float) -> float:
        low, high = math.log10(self.xs[0]), math.log10(self.xs[-1])
        part = (math.log10(x) - low) / ((high - low) or 1)
        return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, y: float, top: float) -> float:
        return _HEIGHT - _BOTTOM - y / top * (_HEIGHT - _TOP - _BOTTOM)

    def _x_axis(self) -> list[str]:
        floor, middle = _HEIGHT - _BOTTOM, (_LEFT + _WIDTH - _RIGHT) / 2
        return [
            _line("axis", _LEFT, floor, _WIDTH - _RIGHT, floor),
            *(_text(self._x(x), floor + 18, f"{x:,.0f}", anchor="middle") for x in self.xs),
            _text(middle, floor + 38, self.x_label, anchor="middle"),
        ]

    def _y_axis(self, top: float) -> list[str]:
        parts = [_text(_LEFT, 35, self.y_label)]
        for step in range(5):
            value = top * step / 4
            height = self._y(value, top)
            if step:
                parts.append(_line("grid", _LEFT, height, _WIDTH - _RIGHT, height))
            parts.append(_text(_LEFT - 6, height + 4, f"{value:,.4g}", anchor="end"))
        return parts

    def _drawn(self, top: float) -> list[str]:
        parts, used = [], list[float]()
        for number, (name, ys) in enumerate(self.lines.items()):
            points = " ".join(
                f"{self._x(x):.1f},{self._y(y, top):.1f}" for x, y in zip(self.xs, ys, strict=True)
            )
            colour = f"c{number % 4}"
            parts.append(f'<polyline class="line {colour}" points="{points}"/>')
            height = _free(self._y(ys[-1], top), used)
            used.append(height)
            parts.append(_text(_WIDTH - _RIGHT + 8, height + 4, name, colour))
        return parts


def _free(height: float, used: Sequence[float]) -> float:
    """The nearest height from here upwards at which a name covers no other."""
    while any(abs(height - other) < 14 for other in used):
        height -= 1
    return height


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten, at which the axis ends."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str = "", *, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )
