"""What happened to a recording, or on a call, drawn to scale: from the first callback to the
archive. Pure.

Places are in percent of the width, so that no text is stretched where the drawing is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from webhooks.console import words
from worker import wire
from worker.calls.call import Phase
from worker.calls.events import Kind

_LEAST = 0.4  # percent: what is shorter is drawn so wide
_NEAR_SHARE = 4  # the end is drawn again where it is less than a fourth of all
_TICKS = 5
MOST_LANES = 12
_DONE = {Phase.ARCHIVED, Phase.ABANDONED, Phase.ERASED}
View = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """`kind`: its class in the style sheet. `to_at` None: it goes on. `x`, `width`: percent."""

    name: str
    kind: str
    from_at: datetime
    to_at: datetime | None
    x: float = 0.0
    width: float = 0.0

    @property
    def milliseconds(self) -> float | None:
        return (self.to_at - self.from_at) / timedelta(milliseconds=1) if self.to_at else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """A row: spans after each other, and instants (a word, its class, percent)."""

    name: str
    spans: Sequence[Span] = ()
    instants: Sequence[tuple[str, str, float]] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """`ticks`: percent, and how long after `from_at`."""

    from_at: datetime
    to_at: datetime
    lanes: list[Lane]
    ticks: list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """A lane before it has a scale; `events` with their instants."""

    name: str
    spans: list[Span] = field(default_factory=list)
    events: list[tuple[datetime, View]] = field(default_factory=list)


def of_recording(
    view: View,
    timeline: Iterable[View],
    gaps: Iterable[View],
    now: datetime,
    *,
    fetched_at: str | None = None,
) -> list[Course]:
    """A recording from its first callback to the archive; and its end again, larger, where that is
    a small part of it. `timeline`: its events and those of its call. `fetched_at`: as its receipt
    says. Empty where nothing is known.
    """
    events = [(at, event) for event in timeline if (at := _at(event["at"]))]
    archived = [at for at, event in events if event["event"] == Kind.MEDIA_ARCHIVED]
    home = archived[-1] if archived else _at(fetched_at)
    began, ended = _at(view["started_at"]), _at(view["ended_at"])
    instants = [i for i in (began, ended, home, *(at for at, _ in events)) if i]
    if not instants:
        return []
    last = home or max([*instants, *([] if view["phase"] in _DONE else [now])])
    rows = _rows(view, last, home)
    rows.insert(1, _Row(name="gaps", spans=[g for g in _gaps(gaps) if g.from_at <= last]))
    rows.append(_Row(name="events", events=[(at, event) for at, event in events if at <= last]))
    rows = [row for row in rows if row.spans or row.events]
    first = min(instants)
    courses = [_drawn(rows, first, last)]
    marks = [at for at in (_at(view["stop"]["due_at"]), ended) if at and first <= at <= last]
    near = min(marks, default=last)
    around = (last - near) / 10
    if first < near - around and timedelta(0) < last - near < (last - first) / _NEAR_SHARE:
        courses.append(_drawn(rows, near - around, last))
    return courses


def _rows(view: View, last: datetime, home: datetime | None) -> list[_Row]:
    stop = {name: _at(view["stop"][name]) for name in ("due_at", "requested_at", "confirmed_at")}
    over = _end(view)
    return [
        _Row(
            name="recording",
            spans=_span("recording", "recording", _at(view["started_at"]), over, last),
        ),
        _Row(
            name="stop: from its trigger to the proof",
            spans=[
                *_span("due, not sent", "late", stop["due_at"], stop["requested_at"], last),
                *_span(
                    "sent, not proven", "stop", stop["requested_at"], stop["confirmed_at"], last
                ),
            ]
            if stop["requested_at"]
            else [],
        ),
        _Row(name="to the archive", spans=_span("on its way", "way", over, home, last)),
    ]


def of_call(call: View, now: datetime) -> list[Course]:
    """A call with its recordings and events. Empty where nothing is known."""
    events = [(at, event) for event in call["timeline"] if (at := _at(event["at"]))]
    instants = [at for at, _ in events]
    if not instants:
        return []
    live = call["over_at"] is None and any(r["phase"] not in _DONE for r in call["recordings"])
    last = max([*instants, now]) if live else max(instants)
    rows = [
        _Row(name="call", spans=_span("call", "call", instants[0], _at(call["over_at"]), last)),
        *(
            _Row(
                name=f"recording {view['recording_id']}",
                spans=_span("recording", "recording", _at(view["started_at"]), _end(view), last),
            )
            for view in call["recordings"][:MOST_LANES]
        ),
        _Row(name="gaps", spans=_gaps(call["gaps"])),
        _Row(name="events", events=events),
    ]
    first = min([*instants, *(span.from_at for row in rows for span in row.spans)])
    return [_drawn([row for row in rows if row.spans or row.events], first, last)]


def _end(view: View) -> datetime | None:
    return _at(view["ended_at"]) or _at(view["stop"]["confirmed_at"])


def _gaps(gaps: Iterable[View]) -> list[Span]:
    return [
        Span(name=gap["trigger"] or "gap", kind="gap", from_at=at, to_at=_at(gap["to"]))
        for gap in gaps
        if (at := _at(gap["from"]))
    ]


def _span(
    name: str, kind: str, from_at: datetime | None, to_at: datetime | None, last: datetime
) -> list[Span]:
    """One span, or none where nobody knows when it began, or where it lies after all."""
    if from_at is None or from_at > last or (to_at is not None and to_at < from_at):
        return []
    return [Span(name=name, kind=kind, from_at=from_at, to_at=to_at)]


def _drawn(rows: Sequence[_Row], first: datetime, last: datetime) -> Course:
    whole = max(last - first, timedelta(milliseconds=1))

    def x(at: datetime) -> float:
        return round(min(100.0, max(0.0, (at - first) / whole * 100)), 2)

    def placed(span: Span) -> Span:
        left = min(x(span.from_at), 100 - _LEAST)
        width = max(_LEAST, round(x(span.to_at or last) - left, 2))
        return Span(
            name=span.name,
            kind=span.kind,
            from_at=span.from_at,
            to_at=span.to_at,
            x=left,
            width=width,
        )

    return Course(
        from_at=first,
        to_at=last,
        lanes=[
            Lane(
                name=row.name,
                spans=[placed(s) for s in row.spans if (s.to_at or last) >= first],
                instants=[
                    (event["event"], words.sureness(event)[0], x(at))
                    for at, event in row.events
                    if at >= first
                ],
            )
            for row in rows
        ],
        ticks=[
            (100 * i / (_TICKS - 1), whole / (_TICKS - 1) * i / timedelta(milliseconds=1))
            for i in range(_TICKS)
        ],
    )


def _at(text: str | None) -> datetime | None:
    return wire.parse_rfc3339(text)
