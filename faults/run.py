"""`make faults`: the fault runs, seeded, on loopback only; prints a table and writes it to
results.md.

`python -m faults.run [t1 t2 ...] [--seed N] [--times 10] [--short]`; docs/reliability.md says what
each run does.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import signal
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from faults.performance import Outcome
from faults.scenarios import SCENARIOS, NotHere

RESULTS = Path(__file__).parent / "results.md"
HEAD = ("run", "what", "n", "kills", "unst.", "lost", "wrong", "rep.", "p99 s", "max s", "ok")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report: the outcome of a run, or why it could not be played."""

    name: str
    seed: int
    outcome: Outcome | None
    why: str = ""
    took_s: float = 0.0

    @property
    def failed(self) -> bool:
        return bool(self.outcome and self.outcome.broken) or (
            self.outcome is None and not self.why.startswith("not played")
        )

    def cells(self) -> tuple[str, ...]:
        says = SCENARIOS[self.name].says
        if self.outcome is None:
            return (self.name, says, *["-"] * 8, "NO" if self.failed else "-")
        f = self.outcome.findings
        wrong = len(f.wrong) + len(f.stopped_wrongly) + len(f.early)
        return (
            self.name,
            says,
            str(f.recordings),
            str(self.outcome.kills),
            str(len(f.unstopped)),
            str(len(f.lost)),
            str(wrong),
            str(f.repeats),
            f"{f.late(99):.2f}",
            f"{f.late(100):.2f}",
            "NO" if self.failed else "yes",
        )

    def notes(self) -> list[str]:
        if self.outcome is None:
            return [f"{self.name}: {self.why}"]
        o = self.outcome
        answers = ", ".join(
            f"{n} x {status or 'none'}" for status, n in sorted(o.findings.answers.items())
        )
        parts = [
            f"{self.name}, seed {self.seed}, {self.took_s:.0f} s: "
            f"{o.did or 'nothing was done to it'}; p50 {o.findings.late(50) * 1000:.0f} ms late; "
            f"answers {answers}, the slowest {o.findings.slowest_answer_s:.2f} s; "
            f"{o.findings.media_requests} downloads, "
            f"{o.findings.sent_bytes / max(o.findings.kept_bytes, 1):.2f} x the bytes kept",
            *o.notes,
        ]
        if o.findings.unfinished:
            parts.append(f"{o.findings.unfinished} unfinished files with a dot")
        return [
            "; ".join(parts),
            *(f"  BROKEN: {text}" for text in o.broken),
            *([f"  kept: {o.kept}"] if o.kept else []),
        ]


def play(name: str, seed: int, *, short: bool) -> Line:
    scenario, began = SCENARIOS[name], time.monotonic()
    try:
        outcome = scenario.run(scenario.short if short and scenario.short else scenario.full, seed)
    except NotHere as missing:
        return Line(name, seed, None, f"not played: {missing}")
    except Exception as error:  # noqa: BLE001 - one run that cannot be played must not hide the others
        return Line(
            name,
            seed,
            None,
            f"failed by itself: {type(error).__name__}: {error}",
            time.monotonic() - began,
        )
    return Line(name, seed, outcome, took_s=time.monotonic() - began)


def table(lines: Sequence[Line]) -> str:
    """A Markdown table of at most 80 columns."""
    rows = [HEAD, *(line.cells() for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    drawn = [
        "|".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    rule = "|".join(
        "-" * width if i < 2 else "-" * (width - 1) + ":" for i, width in enumerate(widths)
    )
    return "\n".join(f"|{text}|" for text in (drawn[0], rule, *drawn[1:]))


def page(lines: Sequence[Line], took_s: float) -> str:
    about = (
        f"`make faults`: {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{took_s / 60:.0f} min, load {os.getloadavg()[0]:.1f} at the end. unst.: recordings that "
        "were not stopped; lost: not in the archive; wrong: files or stops that should not be; "
        "rep.: stops that could end nothing any more; p99, max: how late stops were, Redis's own "
        "downtime taken off."
    )
    notes = "\n".join(_wrap(f"- {note}") for line in lines for note in line.notes())
    return f"# Fault runs\n\n{_wrap(about)}\n\n{table(lines)}\n\n{notes}\n"


def _wrap(text: str) -> str:
    return textwrap.fill(
        text,
        80,
        break_long_words=False,
        break_on_hyphens=False,
        subsequent_indent="  " if text.startswith("- ") else "",
    )


def _end(*_: object) -> NoReturn:
    raise SystemExit(143)  # so that every stage closes


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Takes things away from the whole service, and judges what comes of it."
    )
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="run",
        help=f"which of: {' '.join(SCENARIOS)}; the full set when none is named",
    )
    parser.add_argument(
        "--seed", type=int, help="of everything random; printed, so that a run can be repeated"
    )
    parser.add_argument(
        "--times", type=int, default=1, help="how often, each time with the next seed"
    )
    parser.add_argument(
        "--short", action="store_true", help="the set that `make check` runs: under three minutes"
    )
    given = parser.parse_args()
    if unknown := set(given.runs) - SCENARIOS.keys():
        parser.error(
            f"no run is called {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}"
        )
    signal.signal(signal.SIGTERM, _end)
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background starts us deaf to it
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    names = given.runs or [
        name for name, s in SCENARIOS.items() if (s.short is not None if given.short else s.always)
    ]
    began, lines = time.monotonic(), list[Line]()
    for turn in range(given.times):
        for name in names:
            sys.stderr.write(f"{name}, seed {seed + turn}: {SCENARIOS[name].says} ...\n")
            lines.append(play(name, seed + turn, short=given.short))
            sys.stderr.write("\n".join(lines[-1].notes()) + "\n")
    text = page(lines, time.monotonic() - began)
    sys.stdout.write(text)
    if not given.runs and not given.short:
        RESULTS.write_text(text)  # the page is only ever a whole set
    raise SystemExit(any(line.failed for line in lines))


if __name__ == "__main__":
    main()
