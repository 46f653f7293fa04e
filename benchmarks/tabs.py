"""Row 11: the time until callbacks are answered, without and with 500 open tabs of the console.

`python -m benchmarks.tabs BASE COOKIES COUNT` opens the tabs, prints `open` once each has the whole
page, reads what they are told until its input ends, and then prints how many messages that were.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from urllib.parse import urlsplit

import requests

from benchmarks import usage
from benchmarks.receiving import CONNECTIONS, load
from benchmarks.stage import ACCOUNT, CALLBACK_TOKEN, KEY, Report, Row, Stage, spread
from worker.processes.supervisor import ROOT

RATE = 100
MOST_TIMES = 1.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    tabs: int = 500
    seconds: float = 10.0  # a p99 of fewer than a thousand answers is chance


FULL, SMALL = Size(), Size(tabs=20, seconds=0.5)
METHOD = (
    f"Tabs: {RATE} callbacks a second on a fixed schedule from {CONNECTIONS} kept-alive "
    f"connections for {FULL.seconds:g} s, answer times from the scheduled instant, without and "
    f"with {FULL.tabs} tabs that have the first page open and are told of each change. Both in "
    "each run, in turns, on the same two web processes; each callback is a new recording, so the "
    "page changes all the time. A process of their own on the same machine reads the tabs."
)


@contextlib.contextmanager
def open_tabs(base: str, cookies: str, count: int) -> Iterator[list[int]]:
    """Keeps so many tabs open. Yields a list into which the number of messages comes at the end."""
    told: list[int] = []
    command = [sys.executable, "-m", "benchmarks.tabs", base, cookies, str(count)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "open\n":
            raise RuntimeError("the tabs could not be opened")
        yield told
        process.stdin.close()
        told.append(int(process.stdout.readline()))


def _logged_in(base: str) -> str:
    form = {"password": KEY}
    answer = requests.post(f"{base}/login", data=form, allow_redirects=False, timeout=5)
    return "; ".join(f"{k}={v}" for k, v in answer.cookies.get_dict().items())


def measure(runs: int, size: Size = FULL) -> Report:
    report = Report(METHOD)
    p99: dict[str, list[float]] = {"without": [], "with": []}
    busy: dict[str, list[float]] = {"without": [], "with": []}
    told = list[int]()
    with Stage() as stage:
        base, processes = stage.ours(["web"], rules='[defaults]\nmax_duration = "1h"\n')
        url = f"{base}/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"
        web = [processes.processes["web"].pid]

        def play(which: str) -> None:
            began = usage.processor_s(web)
            p99[which].append(load(url, rate=RATE, seconds=size.seconds)["p99"])
            busy[which].append((usage.processor_s(web) - began) / size.seconds * 1000)

        cookies = _logged_in(base)
        load(url, rate=RATE, seconds=size.seconds)
        for _ in range(runs):
            play("without")
            with open_tabs(base, cookies, size.tabs) as messages:
                play("with")
            told += messages
    without, with_ = median(p99["without"]), median(p99["with"])
    report.rows.append(
        Row(
            what=f"answer at {RATE}/s beside {size.tabs} tabs, p99 ms",
            ours=f"{with_:.1f}",
            peer="-",
            ratio="-",
            limit=f"{without:.1f}",
            share=f"{without / with_ * 100:.0f} %",
            target=f"<= {MOST_TIMES:g} x without",
            met=with_ <= MOST_TIMES * without,
        )
    )
    report.notes.append(
        f"p99 ms without tabs {spread(p99['without'])}; with {size.tabs} {spread(p99['with'])}; "
        f"messages a run {spread(told, 0)}. The limit is the same without a tab. Processor time of "
        f"`web`, ms a second: without {spread(busy['without'], 0)}; with {spread(busy['with'], 0)}."
    )
    return report


def main() -> None:
    base, cookies, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    parts, poll, messages = urlsplit(base), selectors.DefaultSelector(), 0
    head = f"GET /now/live HTTP/1.1\r\nHost: {parts.netloc}\r\nCookie: {cookies}\r\n\r\n".encode()
    untold = set[int]()
    for _ in range(count):
        tab = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=10)
        tab.sendall(head)
        tab.setblocking(False)
        poll.register(tab, selectors.EVENT_READ)
        untold.add(tab.fileno())
    over, said = threading.Event(), False
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    while not over.is_set():
        for key, _ in poll.select(0.2):
            with contextlib.suppress(BlockingIOError):
                told = key.fileobj.recv(1 << 20).count(b"data: {")  # type: ignore[union-attr]
                if key.fd not in untold:
                    messages += told
                elif told:
                    untold.discard(key.fd)
        if not untold and not said:
            said = True
            print("open", flush=True)
    print(messages, flush=True)


if __name__ == "__main__":
    main()
