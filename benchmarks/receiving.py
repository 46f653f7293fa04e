"""Row 5: callbacks a second, verified and on disk, and the time until they are answered. The peer
verifies and delays a task; the limit stores and verifies nothing.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from statistics import median

from benchmarks import comparing
from benchmarks.stage import ACCOUNT, CALLBACK_TOKEN, Report, Stage, spread
from worker.processes.supervisor import ROOT

CONNECTIONS, RATE = 32, 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    seconds: float = 1.0


FULL, SMALL = Size(), Size(seconds=0.3)
METHOD = (
    f"Receiving: distinct callbacks with V3 signatures from {CONNECTIONS} kept-alive connections "
    f"for {FULL.seconds:g} s, and {RATE} a second on a fixed schedule for the answer times "
    "(counted from the scheduled instant). All on granian with 2 workers, each with a Redis of "
    "its own with appendfsync always, no workers behind; runs alternate. The peer is a Flask "
    "route that checks the signature and calls .delay(). Limit: an application that adds the "
    "body to a stream (all that wait in one pipeline) and answers, and verifies nothing. Storing "
    "taken out: our own receiver in Flask, with a thread for each request, whose ledger records "
    "nothing. The notes also tell an application that only answers."
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
    full: dict[str, list[float]] = {
        who: [] for who in ("ours", "peer", "stores", "unstored", "answers")
    }
    calm: dict[str, list[float]] = {who: [] for who in ("ours", "peer", "stores")}
    with contextlib.ExitStack() as stack:
        urls = _servers(stack)
        for url in urls.values():
            load(url, seconds=size.seconds)
        for _ in range(runs):
            for who, url in urls.items():
                if who == "answers" and full[who]:
                    continue  # once is enough for a note
                full[who].append(load(url, seconds=size.seconds)["per_s"])
                if who in calm:
                    calm[who].append(load(url, rate=RATE, seconds=size.seconds)["p99"])
    median_ms, their_ms = median(calm["ours"]), median(calm["peer"])
    report.rows = [
        comparing.rate(
            "callbacks a second",
            *(full[who] for who in ("ours", "peer", "stores")),
            target=">= 3 x",
            met=comparing.ratio(full["ours"], full["peer"]) >= 3,
        ),
        comparing.rate(
            "the same, storing taken out",
            *(full[who] for who in ("ours", "unstored", "stores")),
            target=">= 1 x",
            met=comparing.ratio(full["ours"], full["unstored"]) >= 1,
        ),
        comparing.cost(
            f"answer at {RATE}/s, p99 ms",
            *(calm[who] for who in ("ours", "peer", "stores")),
            target="<= 20 ms, <= peer",
            met=median_ms <= 20 and median_ms <= their_ms,
        ),
    ]
    for who, rates in full.items():
        tails = f"; p99 ms at {RATE}/s {spread(calm[who])}" if who in calm else ""
        report.notes.append(f"{who}: callbacks a second {spread(rates, 0)}{tails}")
    return report


def _servers(stack: contextlib.ExitStack) -> dict[str, str]:
    """Starts each server with a Redis of its own. Returns the addresses for callbacks."""
    bare = ("stores", "unstored", "answers")
    stages = {who: stack.enter_context(Stage()) for who in ("ours", "peer", *bare)}
    bases = {who: stages[who].bare_web(who) for who in bare}
    bases["peer"] = stages["peer"].peer_web()
    bases["ours"], _ = stages["ours"].ours(["web"], rules='[defaults]\nmax_duration = "1h"\n')
    return {who: f"{bases[who]}/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}" for who in stages}
