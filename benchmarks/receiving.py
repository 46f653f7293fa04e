"""Row 5: callbacks a second, verified and on disk, and the time until they are answered. The peer
verifies and delays a task.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from statistics import median

from benchmarks.stage import ACCOUNT, CALLBACK_TOKEN, Report, Row, Stage, spread
from worker.processes.supervisor import ROOT

CONNECTIONS, RATE = 32, 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    seconds: float = 3.0


FULL, SMALL = Size(), Size(seconds=0.3)
METHOD = (
    f"Receiving: distinct callbacks with V3 signatures from {CONNECTIONS} kept-alive connections "
    f"for {FULL.seconds:g} s, and {RATE} a second on a fixed schedule for the answer times "
    "(counted from the scheduled instant). Both on granian with 2 workers, each with a Redis of "
    "its own with appendfsync always, no workers behind; runs alternate. The peer is a Flask "
    "route that checks the signature and calls .delay()."
)


def load(url: str, *, rate: float | None = None, seconds: float = FULL.seconds) -> dict[str, float]:
    """Runs the load generator once, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.load",
        url,
        "--seconds",
        str(seconds),
        "--connections",
        str(CONNECTIONS),
    ]
    done = subprocess.run(
        [*command, *(["--rate", str(rate)] if rate else [])],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode()[-2000:])
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(runs: int, size: Size = FULL) -> Report:
    report = Report(METHOD)
    path = f"/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"
    with Stage() as ours_stage, Stage() as peer_stage:
        ours, _ = ours_stage.ours(["web"], rules='[defaults]\nmax_duration = "1h"\n')
        urls = {"ours": ours + path, "peer": peer_stage.peer_web() + path}
        for url in urls.values():
            load(url, seconds=size.seconds)
        full: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
        calm: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
        for _ in range(runs):
            for who, url in urls.items():
                full[who].append(load(url, seconds=size.seconds))
                calm[who].append(load(url, rate=RATE, seconds=size.seconds))
    rates = {who: [f["per_s"] for f in found] for who, found in full.items()}
    tails = {who: [f["p99"] for f in found] for who, found in calm.items()}
    ratio = median(rates["ours"]) / median(rates["peer"])
    tail = median(tails["ours"])
    report.rows = [
        Row(
            what="callbacks a second",
            ours=f"{median(rates['ours']):,.0f}",
            peer=f"{median(rates['peer']):,.0f}",
            ratio=f"{ratio:.1f} x",
            target=">= 3 x",
            met=ratio >= 3,
        ),
        Row(
            what=f"answer at {RATE}/s, p99 ms",
            ours=f"{tail:.1f}",
            peer=f"{median(tails['peer']):.1f}",
            ratio=f"{median(tails['peer']) / tail:.1f} x",
            target="<= 100 ms",
            met=tail <= 100,
        ),
    ]
    for who in urls:
        report.notes.append(
            f"{who}: callbacks a second {spread(rates[who], 0)}; p99 ms at {RATE}/s "
            f"{spread(tails[who])}"
        )
    return report
