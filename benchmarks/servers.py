"""Which server carries the receiver: granian as configured, gunicorn's gthread and waitress, each
with the same application.

`python -m benchmarks.servers` prints a table (about four minutes). gunicorn and waitress are
installed into a temporary folder and are no requirement of this project.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from statistics import median
from urllib.parse import urlsplit

from benchmarks.load import send
from benchmarks.stage import ACCOUNT, CALLBACK_TOKEN, Stage, end, listens, spread, until
from worker.processes.supervisor import ROOT

RUNS, SECONDS, CONNECTIONS, STALLED, RATE = 5, 2.0, 32, 500, 50
GTHREAD = [
    "-m",
    "gunicorn",
    "-k",
    "gthread",
    "-w",
    "2",
    "--worker-connections",
    "2000",
    "--backlog",
    "2048",
    "-b",
    "127.0.0.1:{port}",
    "--threads",
]
WAITRESS = [
    "-m",
    "waitress",
    "--connection-limit",
    "2048",
    "--backlog",
    "2048",
    "--listen",
    "127.0.0.1:{port}",
    "--call",
    "--threads",
]
SERVERS = {
    "granian, 2 x 640 threads": ["-m", "webhooks.app"],
    "gunicorn gthread, 2 x 640": [*GTHREAD, "640", "webhooks.app:create_app()"],
    "gunicorn gthread, 2 x 64": [*GTHREAD, "64", "webhooks.app:create_app()"],
    "waitress, 64 threads": [*WAITRESS, "64", "webhooks.app:create_app"],
}


@contextlib.contextmanager
def stalled(url: str) -> Iterator[None]:
    """Opens connections that send a header and half a body, and nothing more."""
    parts, held = urlsplit(url), []
    half = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: "
        "application/x-www-form-urlencoded\r\nContent-Length: 400\r\n\r\n" + "x" * 200
    ).encode()
    try:
        for _ in range(STALLED):
            held.append(
                socket.create_connection((parts.hostname or "", parts.port or 80), timeout=5)
            )
            held[-1].sendall(half)
        time.sleep(1)
        yield
    finally:
        for sock in held:
            sock.close()


def calm(url: str) -> str:
    """The answers' p50 and p99 in ms at an easy rate, or that there were no answers."""
    tails = []
    for _ in range(RUNS):
        try:
            tails.append(send(url, seconds=SECONDS, connections=8, rate=RATE, patience_s=5))
        except TimeoutError as error:
            return f"{error}"
    return (
        f"p50 {median(t['p50'] for t in tails):.1f}, p99 {median(t['p99'] for t in tails):.1f} ms"
    )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="et") as packages:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--target",
                packages,
                "gunicorn",
                "waitress",
                "packaging",
            ],
            check=True,
        )
        for name, command in SERVERS.items():
            with Stage() as stage:
                env = stage.env(rules='[defaults]\nmax_duration = "1h"\n')
                url = f"{env['ENDTAPE_PUBLIC_URL']}/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"
                words = [word.format(port=env["PORT"]) for word in command]
                process = stage.start(
                    [sys.executable, *words],
                    {**env, "PYTHONPATH": os.pathsep.join([str(ROOT), packages])},
                )
                until(partial(listens, int(env["PORT"])))
                send(url, seconds=SECONDS, connections=CONNECTIONS)
                rates = [
                    send(url, seconds=SECONDS, connections=CONNECTIONS)["per_s"]
                    for _ in range(RUNS)
                ]
                quiet = calm(url)
                with stalled(url):
                    held = calm(url)
                print(
                    f"{name:26s} {median(rates):7,.0f}/s ({spread(rates, 0)}); {RATE}/s: {quiet}; "
                    f"with {STALLED} stalled: {held}",
                    flush=True,
                )
                end(process)


if __name__ == "__main__":
    main()
