"""How late stops leave while 10,000 notices are due to applications that are slow, fail or are
down.

`python -m benchmarks.notices PORT SLOW_S` is those applications: `/slow` answers after so long,
`/fails` with 500.
"""

from __future__ import annotations

import base64
import http.server
import secrets
import sys
import time
from dataclasses import dataclass
from statistics import median

from benchmarks import comparing
from benchmarks.lateness import DEADLINE_S, ENDPOINT, late_ours, one_run
from benchmarks.stage import ACCOUNT, TOKEN, Report, Stage, listens, p, spread, until
from emulator.provider import Provider
from worker.calls.obligations import Duty
from worker.duties.notify import halted
from worker.ledger.codec import from_ms, to_ms
from worker.processes.supervisor import free_port

PER_MINUTE = 500
SLOW_S, MOST_MS = 0.2, 20
_VARIABLE = "BENCH_NOTIFY_SECRET"


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    notices: int = 10_000
    stops: int = 75


FULL, SMALL = Size(), Size(notices=200, stops=6)
METHOD = (
    f"Notices: {FULL.stops} recordings a run, {PER_MINUTE} a minute, due {DEADLINE_S} s after "
    "their callback; DELETE seen by the emulator minus the deadline, in ms, through every process "
    f"of ours, without and with {FULL.notices:,} notices that are due at once to each of three "
    f"applications: one answers after {SLOW_S:g} s, one with 500, one is down. Both in each run, "
    "in turns, on the same processes; after each run what is left of the notices is taken away. "
    "The limit is the same without notices."
)


class Applications(http.server.BaseHTTPRequestHandler):
    """Two of the three; nothing listens where the third should be."""

    slow_s = SLOW_S

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/slow":
            time.sleep(self.slow_s)
        self.send_response(204 if self.path == "/slow" else 500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _rules(port: int) -> str:
    urls = [f"http://127.0.0.1:{port}/slow", f"http://127.0.0.1:{port}/fails"]
    told = [
        f'[[notify]]\nurl = "{url}"\nsecret_env = "{_VARIABLE}"\nprivate = true\n'
        'events = ["account.halted"]\n'
        for url in (*urls, f"http://127.0.0.1:{free_port()}/down")
    ]
    return f'[defaults]\nmax_duration = "{DEADLINE_S}s"\n' + "".join(told)


def _storm(stage: Stage, count: int) -> None:
    began = to_ms(stage.ledger.now())
    owed = [halted(ACCOUNT, from_ms(began + number)) for number in range(count)]
    for at in range(0, count, 500):
        stage.ledger.ensure_due(owed[at : at + 500])
    stage.ledger.wake()


def _calm(stage: Stage) -> None:
    """Takes away the notices that are due, and waits until none is worked on."""
    ledger = stage.ledger

    def is_calm() -> bool:
        ledger.command("DEL", ledger.key("due", Duty.NOTIFY))
        now = to_ms(ledger.now())
        return not ledger.command("ZCOUNT", ledger.key("leases", Duty.NOTIFY), now, "+inf")

    until(is_calm, within_s=60)


def _sent(stage: Stage) -> int:
    counted = stage.ledger.counters().items()
    return sum(int(count) for name, count in counted if name.startswith("notifications_"))


def measure(runs: int, size: Size = FULL) -> Report:
    late: dict[str, list[list[float]]] = {"without": [], "with": []}
    sent = list[int]()
    with Stage() as stage, Provider(accounts={ACCOUNT: TOKEN}) as provider:
        port = free_port()
        stage.start([sys.executable, "-m", "benchmarks.notices", str(port), str(SLOW_S)], {})
        until(lambda: listens(port))
        base, _ = stage.ours(
            ["web", "stops", "fetches", "keep", "clock"],
            rules=_rules(port),
            api_url=provider.api_url,
            media=provider.media_host,
            **{_VARIABLE: f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"},
        )
        provider.callback_url = base + ENDPOINT
        lateness = late_ours(base)
        for _ in range(runs):
            late["without"].append(lateness(one_run(provider, size.stops, PER_MINUTE / 60)))
            before = _sent(stage)
            _storm(stage, size.notices)
            late["with"].append(lateness(one_run(provider, size.stops, PER_MINUTE / 60)))
            sent.append(_sent(stage) - before)
            _calm(stage)
    return _told(late, sent, size)


def _told(late: dict[str, list[list[float]]], sent: list[int], size: Size) -> Report:
    report = Report(METHOD)
    for name, percent in (("p50", 50), ("p99", 99)):
        without, with_ = ([p(run, percent) for run in late[which]] for which in late)
        met = percent == 50 or median(with_) <= MOST_MS
        report.rows.append(
            comparing.cost(
                f"stop beside {size.notices:,} notices late by, {name} ms",
                with_,
                limit=without,
                target=f"<= {MOST_MS} ms" if percent == 99 else "",
                met=met,
            )
        )
        report.notes.append(f"{name} ms without {spread(without)}; with {spread(with_)}")
    report.notes.append(f"answers and failures of applications in a run: {spread(sent, 0)}")
    return report


def main() -> None:
    port, Applications.slow_s = int(sys.argv[1]), float(sys.argv[2])
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Applications).serve_forever()


if __name__ == "__main__":
    main()
