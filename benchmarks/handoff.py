"""What a hand-off costs: its delay beside a bare stop that waits for its callback, and what many
waiting hand-offs cost other requests.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from typing import Any, Self

import requests

from benchmarks.receiving import RATE, load
from benchmarks.stage import (
    ACCOUNT,
    CALLBACK_TOKEN,
    KEY,
    TOKEN,
    Report,
    Row,
    Stage,
    p,
    spread,
    until,
)
from emulator.client import Control, started

PER_S = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    handoffs: int = 200  # in all runs together
    waiting: int = 200
    wait_s: float = 4  # how long each waits
    seconds: float = 1.0  # of callbacks while they wait


FULL, SMALL = Size(), Size(handoffs=10, waiting=10, wait_s=2, seconds=0.3)
METHOD = (
    f"Hand-off: {FULL.handoffs} calls with a known recording, {PER_S} hand-offs a second, each "
    "timed from its request to its answer `go`, through every process of ours, appendfsync "
    "always. The peer sends the emulator a bare DELETE and waits for that recording's end "
    "callback on a plain socket server; runs alternate, and added is each hand-off minus the "
    "median of the bare ones of the same run; the bare stop is the limit too, and the share is its "
    "part of a whole hand-off. Waiting: the emulator is deaf to stops, "
    f"{FULL.waiting} hand-offs wait for a proof, and {RATE} callbacks a second come in meanwhile; "
    "the peer is the same without anybody waiting."
)


class Bell(BaseHTTPRequestHandler):
    """Receives callbacks, and sets the event of the call whose recording ended."""

    rung: dict[str, threading.Event] = {}  # noqa: RUF012 - one for all requests is what is wanted

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        if "RecordStop" in body:
            for call, event in list(self.rung.items()):
                if call in body:
                    event.set()

    def log_message(self, *_: object) -> None:
        pass


class Run:
    """Our processes, an emulator, and calls with a recording. Use as a context."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.http = requests.Session()
        self.http.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=FULL.waiting + 8))

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opening:
            self._open_all(opening)
            self._opened = opening.pop_all()
        return self

    def _open_all(self, opening: contextlib.ExitStack) -> None:
        nowhere = "http://127.0.0.1:9/x"
        emulator = opening.enter_context(started(ACCOUNT, TOKEN, nowhere))
        self.api_url, self.control = emulator.api_url, Control(emulator.control_url)
        self.base, _ = self.stage.ours(
            ["web", "stops", "fetches", "keep", "clock"],
            rules='[defaults]\nmax_duration = "1h"\nconfirm_within = "60s"\n',
            api_url=emulator.api_url,
            media=emulator.media_host,
        )
        self.callback = f"{self.base}/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"
        bell = ThreadingHTTPServer(("127.0.0.1", 0), Bell)
        opening.callback(bell.shutdown)
        threading.Thread(target=bell.serve_forever, daemon=True).start()
        self.bell_url = f"http://127.0.0.1:{bell.server_address[1]}/"

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def calls(self, count: int, callback: str) -> list[str]:
        made = []
        for _ in range(count):
            call = self.control.call(callback_url=callback)
            self.control.record(call)
            made.append(call)
        return made

    def ask(self, call: str, wait_s: float) -> tuple[int, dict[str, Any]]:
        answer = self.http.post(
            f"{self.base}/v1/calls/{call}/handoff",
            json={"kind": "blind", "wait_s": wait_s},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=60,
        )
        return answer.status_code, answer.json()

    def timed(self, call: str) -> float:
        began = time.perf_counter()
        status, verdict = self.ask(call, 10)
        if (status, verdict["proven"]) != (200, True):
            raise RuntimeError(f"a hand-off was answered {status}: {verdict}")
        return (time.perf_counter() - began) * 1000

    def bare(self, call: str) -> float:
        bell = Bell.rung[call] = threading.Event()
        began = time.perf_counter()
        answer = self.http.delete(
            f"{self.api_url}/Account/{ACCOUNT}/Call/{call}/Record/",
            headers={"X-Auth-ID": ACCOUNT, "X-Auth-Token": TOKEN},
            timeout=10,
        )
        if answer.status_code != 204 or not bell.wait(10):
            raise RuntimeError(
                f"a bare stop was answered {answer.status_code}, or its callback did not come"
            )
        return (time.perf_counter() - began) * 1000

    def known(self, calls: list[str]) -> None:
        until(lambda: all(self.stage.ledger.size(ACCOUNT, call) for call in calls))


def paced(work: Callable[[str], float], calls: list[str]) -> list[float]:
    """Runs `work` for each call on a fixed schedule, in a thread of its own. Returns the
    results.
    """
    begin = time.perf_counter() + 0.1

    def one(number: int) -> float:
        time.sleep(max(0.0, begin + number / PER_S - time.perf_counter()))
        return work(calls[number])

    with ThreadPoolExecutor(64) as crew:
        return list(crew.map(one, range(len(calls))))


def measure(runs: int, size: Size = FULL) -> Report:
    report = Report(METHOD)
    with Stage() as stage, Run(stage) as run:
        _measure_delay(report, run, runs, size)
        run.control.bad_day("deaf-stop")
        _measure_answers(report, run, runs, size)
    return report


def _measure_delay(report: Report, run: Run, runs: int, size: Size) -> None:
    """Adds the row of what a hand-off adds to a bare stop."""
    added: dict[str, list[float]] = {"p50": [], "p99": []}
    whole: dict[str, list[float]] = {"ours": [], "bare": []}
    each = max(size.handoffs // 10, size.handoffs // runs)
    for _ in range(runs):
        bare = paced(run.bare, run.calls(each, run.bell_url))
        calls = run.calls(each, run.callback)
        run.known(calls)
        ours = paced(run.timed, calls)
        extra = [ms - median(bare) for ms in ours]
        added["p50"].append(p(extra, 50))
        added["p99"].append(p(extra, 99))
        whole["ours"].append(median(ours))
        whole["bare"].append(median(bare))
    worst50, worst99 = median(added["p50"]), median(added["p99"])
    report.rows += [
        Row(
            what="hand-off added, p50 ms",
            ours=f"{worst50:.1f}",
            peer=f"{median(whole['bare']):.1f} bare",
            ratio=f"{median(whole['ours']) / median(whole['bare']):.1f} x",
            limit=f"{median(whole['bare']):.1f}",
            share=f"{median(whole['bare']) / median(whole['ours']) * 100:.0f} %",
            target="<= 15 ms",
            met=worst50 <= 15,
        ),
        Row(
            what="hand-off added, p99 ms",
            ours=f"{worst99:.1f}",
            peer="",
            ratio="",
            target="<= 40 ms",
            met=worst99 <= 40,
        ),
    ]
    report.notes.append(
        f"hand-off: added p50 {spread(added['p50'])}; p99 {spread(added['p99'])}; "
        f"whole {spread(whole['ours'])}; bare {spread(whole['bare'])} ms"
    )


def _measure_answers(report: Report, run: Run, runs: int, size: Size) -> None:
    """Adds the row of how long callbacks take while many hand-offs wait, and without any."""
    idle, waiting = list[float](), list[float]()
    for _ in range(runs):
        idle.append(load(run.callback, rate=RATE, seconds=size.seconds)["p99"])
        waiting.append(_with_waiting(run, size))
    report.rows.append(
        Row(
            what=f"answer, {size.waiting} waiting, p99 ms",
            ours=f"{median(waiting):.1f}",
            peer=f"{median(idle):.1f} idle",
            ratio=f"{median(waiting) / median(idle):.1f} x",
            limit=f"{median(idle):.1f}",
            share=f"{median(idle) / median(waiting) * 100:.0f} %",
            target="<= 20 ms",
            met=median(waiting) <= 20,
        )
    )
    report.notes.append(
        f"answer with {size.waiting} waiting: p99 {spread(waiting)}; without {spread(idle)} ms"
    )


def _with_waiting(run: Run, size: Size) -> float:
    calls = run.calls(size.waiting, run.callback)
    run.known(calls)
    with ThreadPoolExecutor(size.waiting) as crew:
        asked = [crew.submit(run.ask, call, size.wait_s) for call in calls]
        until(
            lambda: all(
                run.stage.ledger.size(ACCOUNT, call) and b"asked." in _log(run, call)
                for call in calls
            )
        )
        found = load(run.callback, rate=RATE, seconds=size.seconds)["p99"]
        verdicts = [future.result() for future in asked]
    if any(status != 409 for status, _ in verdicts):
        raise RuntimeError("a hand-off did not wait to its end")
    return found


def _log(run: Run, call: str) -> bytes:
    ((_, log),) = run.stage.ledger.texts(ACCOUNT, [call])
    return log.encode()
