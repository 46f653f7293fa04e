"""`make bench`: each figure of contract section 8 beside its peer's; prints a table and writes it
to results.md.

`python -m benchmarks.run [ROW…] [--runs 5] [--small]`. `make bench` leaves out `growth` (seven
minutes), `notices` (two), and `curves`, which shows how cost grows, and writes the tables and
pictures of docs/performance.md. `--small`, which `make check` plays, plays each row once within
seconds, these as well, to see that it can be played: its figures mean nothing and are kept nowhere.
"""

from __future__ import annotations

import argparse
import platform
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import (
    bucket,
    burst,
    curves,
    download,
    growth,
    handoff,
    job,
    lateness,
    looking,
    memory,
    notices,
    performance_page,
    reading,
    receiving,
    tabs,
)
from benchmarks.stage import Report, Row

ROWS = {
    "lateness": lateness,
    "burst": burst,
    "memory": memory,
    "looking": looking,
    "receiving": receiving,
    "handoff": handoff,
    "download": download,
    "bucket": bucket,
    "job": job,
    "reading": reading,
    "tabs": tabs,
    "growth": growth,  # seven minutes, whatever the runs
    "notices": notices,  # two minutes
}
NAMED_ONLY = {"growth", "notices"}
CURVES = "curves"
RESULTS = Path(__file__).parent / "results.md"
HEAD = Row(
    what="what",
    ours="ours",
    peer="peer",
    ratio="ratio",
    limit="limit",
    share="share",
    target="target",
    met=True,
)


def table(rows: Sequence[Row]) -> str:
    """A Markdown table. Its first four columns stay as they are; what is new comes after them."""
    cells = [
        [r.what, r.ours, r.peer, r.ratio, r.limit, r.share, r.target, "yes" if r.met else "NO"]
        for r in [HEAD, *rows]
    ]
    cells[0][-1] = "met"
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    drawn = [
        "|".join(
            [
                "",
                *(
                    cell.ljust(width) if i == 0 else cell.rjust(width)
                    for i, (cell, width) in enumerate(zip(line, widths, strict=True))
                ),
                "",
            ]
        )
        for line in cells
    ]
    rule = (
        "|"
        + "|".join(
            "-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)
        )
        + "|"
    )
    return "\n".join([drawn[0], rule, *drawn[1:]])


def page(reports: dict[str, Report], runs: int, took_s: float) -> str:
    """The page that is printed and kept: the table, the methods, and every run's figures."""
    rows = [row for report in reports.values() for row in report.rows]
    cores = (
        len(Path("/proc/cpuinfo").read_text().split("processor\t")) - 1
        if Path("/proc/cpuinfo").exists()
        else "?"
    )
    about = (
        f"{cores} cores, Python {platform.python_version()}, medians of {runs} runs, "
        f"{took_s:.0f} s in all."
    )
    parts = [
        "# Benchmarks",
        wrap(
            f"`make bench`: {about} Everything runs on one machine: load, servers, Redis and the "
            "stand-ins share its cores, so a rate is a comparison, not a capacity."
        ),
        wrap(
            "Limit: the bare minimum of the same work in the same run; share: how much of it is "
            "reached. Faults and lost callbacks are played by `make faults` (docs/reliability.md), "
            "how cost grows by `benchmarks/run.py curves` (docs/performance.md)."
        ),
        table(rows),
        "## Method",
    ]
    parts += [wrap(report.method) for report in reports.values()]
    parts += [
        "## Runs",
        "\n".join(
            wrap(f"- {name}, {note}") for name, report in reports.items() for note in report.notes
        ),
    ]
    return "\n\n".join(parts) + "\n"


def wrap(text: str) -> str:
    return textwrap.fill(
        text,
        80,
        break_long_words=False,
        break_on_hyphens=False,
        subsequent_indent="  " if text.startswith("- ") else "",
    )


def _play_small(names: Sequence[str]) -> None:
    """Plays each once. A row that cannot be played raises; the figures mean nothing."""
    for name in names:
        sys.stderr.write(f"{name} ...\n")
        if name == CURVES:
            performance_page.parts(curves.measure(curves.SMALL))
            continue
        row: Any = ROWS[name]
        sys.stderr.write(table(row.measure(1, row.SMALL).rows) + "\n")


def _play_curves() -> None:
    found = curves.measure(curves.FULL)
    sys.stdout.write("\n\n".join(performance_page.parts(found).values()) + "\n")
    performance_page.write(found)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures this project beside its peers.")
    parser.add_argument(
        "rows",
        nargs="*",
        choices=[*ROWS, CURVES, []],
        metavar="row",
        help=f"which of: {' '.join(ROWS)}; when none is named, all but "
        f"{' and '.join(sorted(NAMED_ONLY))}; or {CURVES} alone",
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="see only that each row can be played")
    given = parser.parse_args()
    if given.small:
        _play_small(given.rows or [*ROWS, CURVES])
        return
    if CURVES in given.rows:
        if given.rows != [CURVES]:
            parser.error(f"{CURVES} is played alone")
        _play_curves()
        return
    begin, reports = time.monotonic(), {}
    for name in given.rows or [name for name in ROWS if name not in NAMED_ONLY]:
        sys.stderr.write(f"{name} ...\n")
        row: Any = ROWS[name]
        reports[name] = row.measure(given.runs)
        sys.stderr.write(table(reports[name].rows) + "\n")
    text = page(reports, given.runs, time.monotonic() - begin)
    sys.stdout.write(text)
    if not given.rows:
        RESULTS.write_text(text)  # only a whole run replaces the page


if __name__ == "__main__":
    main()
