"""The measured part of docs/performance.md: tables and pictures of the curves, and the size of a
deployment that follows from them.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks.curves import RATE, Found
from benchmarks.svg import Chart
from worker.processes.supervisor import ROOT

PAGE, PICTURES = ROOT / "docs" / "performance.md", "performance"
CONCURRENT = (10, 1_000, 100_000)
MINUTES, KBIT_S = 5, 64  # of a recording: how long, and its MP3
API_RATE, STOP_RATE = 5, 50  # ENDTAPE_API_RATE and ENDTAPE_STOP_RATE as they come
SURVEYS = 1 / 3  # of ENDTAPE_API_RATE at most
HISTORY_DAYS = 30
X_LABEL = "calls that are tracked"


def write(found: Found, page: Path = PAGE) -> None:
    """Writes the pictures, and the parts of the page between their marks."""
    folder = page.parent / PICTURES
    folder.mkdir(exist_ok=True)
    for name, chart in charts(found).items():
        (folder / f"{name}.svg").write_text(chart.svg())
    text = page.read_text()
    for part, content in parts(found).items():
        begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
        before, begun, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not begun or not ended:
            raise ValueError(f"{page} lacks the marks {begin} and {end}, in this order")
        text = f"{before}{begin}\n\n{content}\n\n{end}{after}"
    page.write_text(text)


def charts(found: Found) -> dict[str, Chart]:
    """By the name of the picture."""
    xs, slots = found.size.tracked, found.size.slots

    def of_stops(title: str, attribute: str) -> Chart:
        lines = {
            f"{n} slot{'s' if n > 1 else ''}": [getattr(found.stops[x, n], attribute) for x in xs]
            for n in slots
        }
        return Chart(title=title, x_label=X_LABEL, y_label="ms", xs=xs, lines=lines)

    def of_callbacks(title: str, unit: str, attribute: str) -> Chart:
        ys = [getattr(found.callbacks[x], attribute) for x in xs]
        return Chart(title=title, x_label=X_LABEL, y_label=unit, xs=xs, lines={"a callback": ys})

    return {
        "lateness_p50": of_stops(f"How late a stop is at {RATE} a second, p50", "late_p50_ms"),
        "lateness_p99": of_stops(f"How late a stop is at {RATE} a second, p99", "late_p99_ms"),
        "stop_processor": of_stops("Processor time of a stop, workers and clock", "workers_ms"),
        "callback_bytes": of_callbacks("What a callback adds to Redis", "bytes", "redis_bytes"),
        "callback_commands": of_callbacks(
            "Commands that a callback costs in Redis", "commands", "redis_commands"
        ),
        "look": Chart(
            title="A claim of 50 due stops",
            x_label=X_LABEL,
            y_label="ms",
            xs=xs,
            lines={"a claim": [found.look_ms[x] for x in xs]},
        ),
    }


def parts(found: Found) -> dict[str, str]:
    """By their names, the parts of the page that are written here, as Markdown."""
    about = (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, one run of "
        f"{found.took_s:.0f} s; the load of the machine before it was {found.load:.1f}. Times say "
        "little where that is not near 0; processor time, bytes and commands do."
    )
    pictures = [f"![{chart.title}]({PICTURES}/{name}.svg)" for name, chart in charts(found).items()]
    curves = [about, _stops(found), _callbacks(found), _growth(found), *pictures]
    return {
        "curves": "\n\n".join(curves),
        "sizes": "\n\n".join([_sizes(found), _one_redis(found), _burst(found)]),
    }


def _stops(found: Found) -> str:
    return table(
        [
            *("tracked", "slots of `stops`", "late p50, ms", "late p99, ms"),
            *("burst, stops/s", "processor ms a stop, workers", "Redis"),
        ],
        [
            [
                f"{tracked:,}",
                f"{slots}",
                f"{s.late_p50_ms:.1f}",
                f"{s.late_p99_ms:.1f}",
                f"{s.per_s:,.0f}",
                f"{s.workers_ms:.2f}",
                f"{s.redis_ms:.2f}",
            ]
            for (tracked, slots), s in found.stops.items()
        ],
    )


def _callbacks(found: Found) -> str:
    return table(
        [
            *("tracked", "a claim of 50, ms", "bytes a callback", "commands a callback"),
            *("processor ms a callback, web", "Redis"),
        ],
        [
            [
                f"{tracked:,}",
                f"{found.look_ms[tracked]:.2f}",
                f"{c.redis_bytes:,.0f}",
                f"{c.redis_commands:.1f}",
                f"{c.web_ms:.2f}",
                f"{c.redis_ms:.3f}",
            ]
            for tracked, c in found.callbacks.items()
        ],
    )


def _growth(found: Found) -> str:
    first, last = found.size.tracked[0], found.most
    slots = found.size.slots[-1]
    few, many = found.stops[first, slots], found.stops[last, slots]
    rows = [
        ("a claim", found.look_ms[first], found.look_ms[last]),
        (f"lateness p50, {slots} slots", few.late_p50_ms, many.late_p50_ms),
        (f"processor time a stop, {slots} slots", few.workers_ms, many.workers_ms),
        (
            "bytes a callback",
            found.callbacks[first].redis_bytes,
            found.callbacks[last].redis_bytes,
        ),
        (
            "commands a callback",
            found.callbacks[first].redis_commands,
            found.callbacks[last].redis_commands,
        ),
    ]
    return table(
        [f"from {first:,} to {last:,} tracked calls", "grows to"],
        [[what, f"{after / before:.2f} x" if before else "-"] for what, before, after in rows],
    )


def _sizes(found: Found) -> str:
    """What a deployment needs; all of it is calculated from what was measured."""
    whole, waiting = found.whole, found.callbacks[found.most].redis_bytes
    rows = []
    for concurrent in CONCURRENT:
        per_s = concurrent / (MINUTES * 60)
        cores = per_s * whole.processor_ms / 1000
        kept = per_s * 86400 * HISTORY_DAYS * whole.redis_bytes
        requests = per_s * whole.requests
        rows.append(
            [
                f"{concurrent:,}",
                f"{per_s:,.2f}",
                f"{cores:,.2f}",
                told_bytes(concurrent * waiting),
                told_bytes(kept),
                f"{concurrent * KBIT_S / 1000:,.1f} Mbit/s",
                f"{requests:,.2f}",
                f"{math.ceil(max(requests / (API_RATE * (1 - SURVEYS)), per_s / STOP_RATE)):,}",
            ]
        )
    return table(
        [
            *("recordings at once", "begun a second", "processors", "Redis for those that run"),
            *(f"Redis for {HISTORY_DAYS} days of history", "download", "REST requests a second"),
            "accounts at the rates as they come",
        ],
        rows,
    )


def _one_redis(found: Found) -> str:
    stop = found.stops[found.most, found.size.slots[-1]].redis_ms
    callback = found.callbacks[found.most].redis_ms
    recording = found.whole.redis_ms
    return table(
        ["one Redis, calculated", "processor ms of Redis, measured", "a second at most"],
        [
            [what, f"{ms:.3f}", f"{1000 / ms:,.0f}" if ms else "-"]
            for what, ms in (
                ("stops", stop),
                ("callbacks", callback),
                ("recordings, from the first callback to the file", recording),
            )
        ],
    )


def _burst(found: Found) -> str:
    """The users' question: how soon have so many calls on so many accounts ended?"""
    per_s = found.stops[found.most, found.size.slots[-1]].per_s
    rows = []
    for calls, accounts in ((5_000, 20), (5_000, 100), (100_000, 500)):
        provider, machine = calls / accounts / STOP_RATE, calls / per_s
        rows.append(
            [
                f"{calls:,} calls on {accounts} accounts end",
                f"{provider:,.1f} s",
                f"{machine:,.1f} s",
                f"{max(provider, machine):,.1f} s",
            ]
        )
    return table(
        [
            "due at one instant",
            f"at {STOP_RATE} stops a second each, calculated",
            f"at {per_s:,.0f} stops a second of these cores, measured",
            "within",
        ],
        rows,
    )


def told_bytes(count: float) -> str:
    """A size in the largest unit that leaves a figure of 1 or more."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown. The first column is text, the others are figures."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *rows])
