"""One file brought into the spool, hashed and checked, beside `curl -o`, wget and requests; and the
memory that a big one takes.

`python -m benchmarks.download serve FILE PORT` and `… fetch URL WARM-URL FOLDER` are the two
processes of it; `… requests URL FILE` is a peer.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import requests

from benchmarks import comparing
from benchmarks.stage import ACCOUNT, TOKEN, Report, Stage, listens, spread, until
from emulator.audio import tone, wav_header
from worker.archive import media
from worker.archive.checks import check_media, first_failed
from worker.archive.filing import Archive
from worker.archive.pages import FoundPages
from worker.processes.supervisor import free_port
from worker.vobiz.account import Account
from worker.vobiz.client import Vobiz
from worker.vobiz.piece import Hooks


@dataclass(frozen=True, slots=True)
class Size:
    file_bytes: int = 200_000_000
    big_bytes: int = 2_000_000_000


FULL, SMALL = Size(), Size(file_bytes=2_000_000, big_bytes=4_000_000)
WARM_BYTES = 1_000_000
METHOD = (
    f"Download: a wav of {FULL.file_bytes:,} bytes from a stand-in that sends it by sendfile; "
    "ours is all from the first connection to the end of the checks: spool, digest, notes, walk "
    "over the file; the way into the archive is not in it. Peer: curl -o, its own time_total, "
    "which hashes nothing; it is the limit too. requests: iter_content of 64 KiB into a file, "
    "without the start of its process; wget: the whole program, its start included. By "
    "turns, each into a new file. Memory: the highest resident memory "
    f"of a process that brought a small file and then one of {FULL.big_bytes:,} bytes, minus what "
    "it was after the small one."
)


def serve(path: Path, port: int) -> None:
    """Sends the file on every connection and closes it. Each has a thread; it never returns."""
    size = path.stat().st_size

    def answer(connection: socket.socket) -> None:
        with connection, path.open("rb") as file:
            asked = b""
            while b"\r\n\r\n" not in asked:
                some = connection.recv(65536)
                if not some:
                    return  # a probe of the port sends no request
                asked += some
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\n"
                b'Accept-Ranges: bytes\r\nETag: "1"\r\n'
                b"Content-Length: %d\r\nConnection: close\r\n\r\n" % size
            )
            at = 0
            while at < size:
                at += os.sendfile(connection.fileno(), file.fileno(), at, 1 << 20)

    listener = socket.create_server(("127.0.0.1", port))
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


def fetch(url: str, folder: Path) -> float:
    """Downloads, hashes and checks the file as a worker does. Returns the seconds it took."""
    client = Vobiz(
        api_url="http://127.0.0.1:9",
        media_hosts=["127.0.0.1"],
        redirect_hosts=[],
        max_media_bytes=1 << 31,
    )
    files = Archive(folder / "archive", folder / "spool")
    began = time.perf_counter()
    with files.spool.part("rec-1", 1) as part:
        found = FoundPages()
        got = client.download(
            Account(auth_id=ACCOUNT, tokens=(TOKEN,)),
            url,
            part.file,
            Hooks(keep_going=lambda: None, announced=files.reserve, follower=found),
            notes=part.notes,
        )
        checks = check_media(media.examine(part.file, found), got, got.bytes / 16000, 1 << 31)
        took = time.perf_counter() - began
    if first_failed(checks):
        raise RuntimeError(f"the file is not as it was sent: {checks}")
    return took


def print_fetch(url: str, warm: str, folder: Path) -> None:
    """Prints the seconds, and the growth of the process."""
    fetch(warm, folder)
    before = memory("VmRSS")
    print(json.dumps([fetch(url, folder), memory("VmHWM") - before]))


def memory(which: str) -> int:
    """Bytes of resident memory of this process: VmRSS now, VmHWM at its highest."""
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(which)
    )
    return int(line.split()[1]) * 1024


def serve_wav(stage: Stage, size: int) -> str:
    """Starts a server with a WAV of this size. Returns the file's URL."""
    path, port = stage.folder / f"{size}.wav", free_port()
    with path.open("wb") as file:
        file.write(wav_header(size - 44, 1))
        sound = tone("bench", 1) * 64
        for _ in range(min(size, FULL.file_bytes) // len(sound)):
            file.write(sound)
        file.truncate(size)  # the rest of a large one is silence in a sparse file
    stage.start([sys.executable, "-m", "benchmarks.download", "serve", str(path), str(port)], {})
    until(lambda: listens(port))
    return f"http://127.0.0.1:{port}/r.wav"


def ours(stage: Stage, url: str, warm: str) -> tuple[float, float]:
    """Downloads in a fresh process. Returns the seconds, and the process's growth in bytes."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.download", "fetch", url, warm, str(stage.folder)],
        check=True,
        capture_output=True,
    )
    took, grown = json.loads(done.stdout)
    return float(took), float(grown)


def curl(stage: Stage, url: str) -> float:
    into = stage.folder / "curl.out"
    done = subprocess.run(
        [
            *("curl", "--silent", "--fail", "--noproxy", "*", "--output", into),
            *("--write-out", "%{time_total}", url),
        ],
        check=True,
        capture_output=True,
    )
    into.unlink()
    return float(done.stdout)


def wget(stage: Stage, url: str) -> float:
    into, began = stage.folder / "wget.out", time.perf_counter()
    subprocess.run(["wget", "--quiet", "--no-proxy", "--output-document", into, url], check=True)
    took = time.perf_counter() - began
    into.unlink()
    return took


def by_requests(stage: Stage, url: str) -> float:
    into = stage.folder / "requests.out"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.download", "requests", url, into],
        check=True,
        capture_output=True,
    )
    into.unlink()
    return float(done.stdout)


def print_requests(url: str, into: Path) -> None:
    """Prints the seconds that a loop over `iter_content` takes."""
    with requests.Session() as session:
        session.trust_env = False
        began = time.perf_counter()
        with session.get(url, stream=True, timeout=60) as answer, into.open("wb") as file:
            answer.raise_for_status()
            for piece in answer.iter_content(65536):
                file.write(piece)
        print(time.perf_counter() - began)


PEERS = {"curl": curl, "wget": wget, "requests": by_requests}


def measure(runs: int, size: Size = FULL) -> Report:
    report, grown = Report(METHOD), []
    peers = {n: p for n, p in PEERS.items() if n == "requests" or shutil.which(n)}
    rates: dict[str, list[float]] = {who: [] for who in ("ours", *PEERS)}
    with Stage() as stage:
        warm, url, big = (
            serve_wav(stage, n) for n in (WARM_BYTES, size.file_bytes, size.big_bytes)
        )
        for _ in range(runs):
            took = {"ours": ours(stage, url, warm)[0]}
            took |= {name: peer(stage, url) for name, peer in peers.items()}
            for who, seconds in took.items():
                rates[who].append(size.file_bytes / seconds / 1e6)
        grown += [ours(stage, big, warm)[1] / 2**20 for _ in range(min(runs, 3))]
    limit = rates["curl"]
    report.rows = [
        comparing.rate(
            "download, 200 MB, MB/s",
            rates["ours"],
            limit,
            limit,
            target=">= 0.9 x",
            met=not limit or comparing.ratio(rates["ours"], limit) >= 0.9,
        ),
        comparing.rate("the same, requests in a loop", rates["ours"], rates["requests"], limit),
        comparing.rate("the same, wget", rates["ours"], rates["wget"], limit),
        comparing.cost(
            "download, 2 GB, growth in MiB", grown, target="<= 32", met=median(grown) <= 32
        ),
    ]
    report.notes.append(f"ours: growth in MiB {spread(grown)}")
    report.notes += [f"{who}: MB/s {spread(found, 0)}" for who, found in rates.items() if found]
    return report


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", path, port]:
            serve(Path(path), int(port))
        case ["fetch", url, warm, folder]:
            print_fetch(url, warm, Path(folder))
        case ["requests", url, into]:
            print_requests(url, Path(into))
        case _:
            sys.exit("serve FILE PORT | fetch URL WARM-URL FOLDER | requests URL FILE")
