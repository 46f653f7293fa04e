"""What a hand-off costs: its delay beside a bare stop that waits for its callback, and what waiting
ones cost others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from typing import Any

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
from worker.processes.supervisor import ROOT

PER_S = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    handoffs: int = 200  # in all runs together
    waiting: int = 200
    wait_s: float = 8  # how long each of them does
    seconds: float = 3.0  # of callbacks meanwhile


FULL, SMALL = Size(), Size(handoffs=10, waiting=10, wait_s=2, seconds=0.3)
METHOD = (
    f"Hand-off: {FULL.handoffs} calls with a known recording, {PER_S} hand-offs a second, each timed from its request to its answer `go`, through "
    "every process of ours, appendfsync always. The peer sends the emulator a bare DELETE and waits for that recording's end callback on a "
    "plain socket server; runs alternate, and added is each hand-off minus the median of the bare ones of the same run. Waiting: the emulator is deaf "
    f"to stops, {FULL.waiting} hand-offs wait for a proof, and {RATE} callbacks a second come in meanwhile; the peer is the same without anybody waiting."
)


class Bell(BaseHTTPRequestHandler):
    """Rings for the call that a callback is about."""

    rung: dict[str, threading.Event] = {}  # noqa: RUF012 - one for all requests is what is wanted

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        if "RecordStop" in body:
            next((event.set() for call, event in self.rung.items() if call in body), None)

    def log_message(self, *_: object) -> None:
        pass


class Run:
    """Our processes, the emulator in a process of its own, and calls with a recording."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.emulator = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "emulator",
                "--account",
                f"{ACCOUNT}:{TOKEN}",
                "--callback-url",
                "http://127.0.0.1:9/x",
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.emulator.stdout is not None
        self.where = json.loads(self.emulator.stdout.readline())
        self.base, _ = stage.ours(
            ["web", "stops", "fetches", "clock"],
            rules='[defaults]\nmax_duration = "1h"\nconfirm_within = "60s"\n',
            api_url=self.where["api_url"],
            media=self.where["media_host"],
        )
        self.callback = f"{self.base}/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"
        self.bell = ThreadingHTTPServer(("127.0.0.1", 0), Bell)
        threading.Thread(target=self.bell.serve_forever, daemon=True).start()
        self.http = requests.Session()
        self.http.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=FULL.waiting + 8))

    def close(self) -> None:
        self.bell.shutdown()
        self.emulator.terminate()
        self.emulator.wait()

    def calls(self, count: int, callback: str) -> list[str]:
        made = []
        for _ in range(count):
            call = self.http.post(
                f"{self.where['control_url']}/calls", json={"callback_url": callback}, timeout=10
            ).json()["call_uuid"]
            self.http.post(
                f"{self.where['control_url']}/calls/{call}/record", json={}, timeout=10
            ).raise_for_status()
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
        status, said = self.ask(call, 10)
        if (status, said["proven"]) != (200, True):
            raise RuntimeError(f"a hand-off was answered {status}: {said}")
        return (time.perf_counter() - began) * 1000

    def bare(self, call: str) -> float:
        bell = Bell.rung[call] = threading.Event()
        began = time.perf_counter()
        answer = self.http.delete(
            f"{self.where['api_url']}/Account/{ACCOUNT}/Call/{call}/Record/",
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
    """Each on a fixed schedule, in a thread of its own."""
    begin = time.perf_counter() + 0.1

    def one(number: int) -> float:
        time.sleep(max(0.0, begin + number / PER_S - time.perf_counter()))
        return work(calls[number])

    with ThreadPoolExecutor(64) as crew:
        return list(crew.map(one, range(len(calls))))


def measure(runs: int, size: Size = FULL) -> Report:
    report = Report(METHOD)
    added: dict[str, list[float]] = {"p50": [], "p99": []}
    whole: dict[str, list[float]] = {"ours": [], "bare": []}
    answers: dict[str, list[float]] = {"waiting": [], "idle": []}
    with Stage() as stage:
        run = Run(stage)
        try:
            each = max(size.handoffs // 10, size.handoffs // runs)
            for _ in range(runs):
                bell_url = f"http://127.0.0.1:{run.bell.server_address[1]}/"
                bare = paced(run.bare, run.calls(each, bell_url))
                ours_calls = run.calls(each, run.callback)
                run.known(ours_calls)
                ours = paced(run.timed, ours_calls)
                extra = [ms - median(bare) for ms in ours]
                added["p50"].append(p(extra, 50))
                added["p99"].append(p(extra, 99))
                whole["ours"].append(median(ours))
                whole["bare"].append(median(bare))
            run.http.put(
                f"{run.where['control_url']}/faults/deaf-stop", json={}, timeout=5
            ).raise_for_status()
            for _ in range(runs):
                answers["idle"].append(load(run.callback, rate=RATE, seconds=size.seconds)["p99"])
                answers["waiting"].append(_with_waiting(run, size))
        finally:
            run.close()
    worst50, worst99 = median(added["p50"]), median(added["p99"])
    report.rows += [
        Row(
            what="hand-off added, p50 ms",
            ours=f"{worst50:.1f}",
            peer=f"{median(whole['bare']):.1f} bare",
            ratio=f"{median(whole['ours']) / median(whole['bare']):.1f} x",
            target="<= 30 ms",
            met=worst50 <= 30,
        ),
        Row(
            what="hand-off added, p99 ms",
            ours=f"{worst99:.1f}",
            peer="",
            ratio="",
            target="<= 100 ms",
            met=worst99 <= 100,
        ),
        Row(
            what=f"answer, {size.waiting} waiting, p99 ms",
            ours=f"{median(answers['waiting']):.1f}",
            peer=f"{median(answers['idle']):.1f} idle",
            ratio=f"{median(answers['waiting']) / median(answers['idle']):.1f} x",
            target="<= 100 ms",
            met=median(answers["waiting"]) <= 100,
        ),
    ]
    report.notes += [
        f"hand-off: added p50 {spread(added['p50'])}; p99 {spread(added['p99'])}; whole {spread(whole['ours'])}; bare {spread(whole['bare'])} ms",
        f"answer with {size.waiting} waiting: p99 {spread(answers['waiting'])}; without {spread(answers['idle'])} ms",
    ]
    return report


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
