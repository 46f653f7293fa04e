"""One file brought into the spool, hashed and checked, beside `curl -o`; and the memory that a big
one takes.

`python -m benchmarks.download serve FILE PORT` and `… fetch URL WARM-URL FOLDER` are the two
processes of it.
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

from benchmarks.stage import ACCOUNT, TOKEN, Report, Row, Stage, listens, spread, until
from emulator.audio import tone, wav_header
from worker.archive import media
from worker.archive.checks import check_media, first_failed
from worker.archive.filing import Archive
from worker.processes.supervisor import free_port
from worker.vobiz.account import Account
from worker.vobiz.client import Vobiz


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
    "which hashes nothing. By turns, each into a new file. Memory: the highest resident memory "
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
        got = client.download(
            Account(auth_id=ACCOUNT, tokens=(TOKEN,)),
            url,
            part.file,
            keep_going=lambda: None,
            announced=files.reserve,
            notes=part.notes,
        )
        checks = check_media(media.examine(part.file), got, got.bytes / 16000, 1 << 31)
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


def peer(stage: Stage, url: str) -> float:
    into = stage.folder / "curl.out"
    done = subprocess.run(
        [
            "curl",
            "--silent",
            "--fail",
            "--noproxy",
            "*",
            "--output",
            into,
            "--write-out",
            "%{time_total}",
            url,
        ],
        check=True,
        capture_output=True,
    )
    into.unlink()
    return float(done.stdout)


def measure(runs: int, size: Size = FULL) -> Report:
    report, our_s, curl_s, grown = Report(METHOD), [], [], []
    with Stage() as stage:
        warm, url, big = (
            serve_wav(stage, n) for n in (WARM_BYTES, size.file_bytes, size.big_bytes)
        )
        for _ in range(runs):
            our_s.append(ours(stage, url, warm)[0])
            curl_s += [peer(stage, url)] if shutil.which("curl") else []
        grown += [ours(stage, big, warm)[1] / 2**20 for _ in range(min(runs, 3))]
    rate = [size.file_bytes / seconds / 1e6 for seconds in our_s]
    curl = [size.file_bytes / seconds / 1e6 for seconds in curl_s]
    ratio = median(rate) / median(curl) if curl else None
    report.rows = [
        Row(
            what="download, 200 MB, MB/s",
            ours=f"{median(rate):,.0f}",
            peer=f"{median(curl):,.0f}" if curl else "no curl",
            ratio=f"{ratio:.2f} x" if ratio else "-",
            target=">= 0.9 x",
            met=ratio is None or ratio >= 0.9,
        ),
        Row(
            what="download, 2 GB, growth in MiB",
            ours=f"{median(grown):.1f}",
            peer="-",
            ratio="-",
            target="<= 32",
            met=median(grown) <= 32,
        ),
    ]
    report.notes.append(f"MB/s {spread(rate, 0)}; growth in MiB {spread(grown)}")
    report.notes += [f"peer: MB/s {spread(curl, 0)}"] if curl else []
    return report


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", path, port]:
            serve(Path(path), int(port))
        case ["fetch", url, warm, folder]:
            print_fetch(url, warm, Path(folder))
        case _:
            sys.exit("python -m benchmarks.download serve FILE PORT | fetch URL WARM-URL FOLDER")
