"""Files put into a bucket, beside `obstore` called bare; the memory that a big one takes; and how
fast an archive is verified, in a bucket and in a directory.

`python -m benchmarks.bucket serve PORT` is the stand-in for S3, `… put HOW FILE TIMES PORT` a
process that puts.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import ClassVar

import obstore
from obstore.store import S3Store

from benchmarks.download import memory
from benchmarks.stage import Report, Row, Stage, listens, spread, until
from worker.archive.bucket import ONE_STEP_BYTES, BucketStore
from worker.archive.directory import Directory
from worker.archive.places import Bucket
from worker.archive.signers import AllowedSigner
from worker.archive.signing import RECEIPTS
from worker.archive.signing_key import SigningKey, load_or_make
from worker.archive.spool import Spool
from worker.archive.store import Store
from worker.archive.verify import READERS, Trust, Verifier
from worker.archive.verify import Report as Verified
from worker.processes.supervisor import free_port


@dataclass(frozen=True, slots=True)
class Size:
    file_bytes: int = 2_000_000
    files: int = 50
    big_bytes: int = 200_000_000
    recordings: int = 1000
    megabytes: int = 300  # in a directory, a recording each


FULL, SMALL = Size(), Size(files=2, big_bytes=40_000_000, recordings=20, megabytes=5)
FOLDER = "MA_1/2026/09/14"
METHOD = (
    f"Bucket: {FULL.files} files of {FULL.file_bytes:,} bytes and one of {FULL.big_bytes:,}, put "
    "into a stand-in for S3 that reads and answers; ours is put_file: the conditional create or "
    "the parts, a SHA-256 that the store can verify, type and metadata. Peer: obstore.put of the "
    "same path with what it does by itself. By turns, each in a fresh process, its first put not "
    "counted. Memory: the highest resident memory while the large one was put, minus what it was "
    "after a small one. Verify: all of a folder with audio of 24 kB, receipts and signatures; "
    "peer: obstore.get and SHA-256 of the same objects with as many threads. In a directory: "
    f"{FULL.megabytes} recordings with audio of 1 MB; peer: sha256sum of the same audio. "
    "Both read what the kernel has in memory."
)


class Handler(BaseHTTPRequestHandler):
    """A bucket that takes all, and gives back what is put below `keep`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    kept: ClassVar[dict[str, bytes]] = {}

    def do_PUT(self) -> None:
        is_kept = self.path.startswith("/b/keep")
        left, body = int(self.headers["Content-Length"]), b""
        while left:
            block = self.rfile.read(min(left, 1 << 20))
            left -= len(block)
            body += block if is_kept else b""
        if is_kept:
            self.kept[self.path.partition("?")[0][3:]] = body
        self.answer(200, b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        what, inside = (
            ("CompleteMultipartUploadResult", "<ETag>e</ETag>")
            if "uploadId" in self.path
            else ("InitiateMultipartUploadResult", "<UploadId>1</UploadId>")
        )
        self.answer(200, f"<{what}>{inside}</{what}>".encode())

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        found = listing(self.kept) if "list-type" in query else self.kept.get(path[3:])
        self.answer(404 if found is None else 200, found or b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer(self, status: int, body: bytes) -> None:
        asked, whole = self.headers.get("Range"), len(body)
        self.send_response(206 if asked and status == 200 else status)
        if asked and status == 200:
            begin, end = (int(n) for n in asked.removeprefix("bytes=").split("-"))
            body = body[begin : end + 1]
            self.send_header("Content-Range", f"bytes {begin}-{begin + len(body) - 1}/{whole}")
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", "Mon, 14 Sep 2026 10:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def listing(kept: dict[str, bytes]) -> bytes:
    """All that is kept, as S3 lists one folder."""
    entry = (
        "<Contents><Key>{}</Key><LastModified>2026-09-14T10:00:00.000Z</LastModified>"
        '<ETag>"e"</ETag><Size>{}</Size></Contents>'
    )
    rows = "".join(entry.format(name, len(body)) for name, body in sorted(kept.items()))
    return (f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>").encode()


def store_at(port: int, prefix: str = "put") -> BucketStore:
    variables = tuple(variables_of(port).items())
    return BucketStore(Bucket(url=f"s3://b/{prefix}", variables=variables))


def variables_of(port: int) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }


def bare_at(port: int, prefix: str = "put") -> S3Store:
    """The client with its own times and retries; the store verifies a SHA-256, as for us."""
    config = {name.lower(): value for name, value in variables_of(port).items()}
    return S3Store(
        "b",
        prefix=prefix,
        config={**config, "aws_checksum_algorithm": "sha256"},  # type: ignore[arg-type]
        client_options={"allow_http": True},
    )


def put(how: str, path: Path, times: int, port: int) -> None:
    """Prints the seconds that it took to put the file so often, and the growth of the process."""
    store, bare, small = store_at(port), bare_at(port), path.with_name("small")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if how == "ours":
        store.put_file("small", small, sha256)
    else:
        obstore.put(bare, "small", small)
    before, began, busy = memory("VmRSS"), time.perf_counter(), time.process_time()
    for number in range(times):
        if how == "ours":
            store.put_file(f"{number}.mp3", path, sha256)
        else:
            obstore.put(bare, f"{number}.mp3", path)
    took, busy = time.perf_counter() - began, time.process_time() - busy
    print(json.dumps([took, memory("VmHWM") - before, busy]))


def run_put(how: str, path: Path, times: int, port: int) -> tuple[float, float, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.bucket",
        "put",
        how,
        str(path),
        str(times),
        str(port),
    ]
    done = subprocess.run(command, check=True, capture_output=True, env={**os.environ})
    took, grown, busy = json.loads(done.stdout)
    return float(took), float(grown), float(busy)


# Verifying
# ------------------------------------------------------------------------------------------------


def file_recordings(store: Store, key: SigningKey, count: int, audio_bytes: int) -> None:
    for number in range(count):
        audio = os.urandom(audio_bytes)
        receipt = {
            "account": "MA_1",
            "recording_id": f"r{number}",
            "media": {"sha256": hashlib.sha256(audio).hexdigest(), "bytes": len(audio)},
            "fetch": {"fetched_at": "2026-09-14T10:00:00.000Z"},
        }
        text = json.dumps(receipt, indent=2).encode()
        for ending, data in (
            ("mp3", audio),
            ("json", text),
            ("json.sig", key.sign(text, RECEIPTS)),
        ):
            store.create(f"{FOLDER}/r{number}.{ending}", data)


def verify(store: Store, key: SigningKey, count: int, readers: int) -> tuple[float, float]:
    """The seconds that it took, and those of the processor."""
    trusted = AllowedSigner(signer="bench", key=key.public)
    verifier = Verifier(store, Trust([trusted]), quick=False)
    began, busy = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(readers) as pool:
        report: Verified = verifier.check(FOLDER, pool)
    took, busy = time.perf_counter() - began, time.process_time() - busy
    if report.counts["signed"] != count or report.findings:
        raise RuntimeError(f"not as it was filed: {report.counts} {report.findings[:3]}")
    return took, busy


def read_bare(store: BucketStore, port: int) -> float:
    client = bare_at(port, "keep")

    def one(name: str) -> None:
        hashlib.sha256(obstore.get(client, name).bytes()).digest()

    began = time.perf_counter()
    names = [entry.name for entry in store.level(FOLDER).files]
    with ThreadPoolExecutor(READERS[True]) as readers:
        list(readers.map(one, names))
    return time.perf_counter() - began


def sum_bare(folder: Path) -> float:
    """The seconds that `sha256sum` takes for the audio in a folder."""
    audio, began = sorted(folder.glob("*.mp3")), time.perf_counter()
    subprocess.run(["sha256sum", *audio], check=True, capture_output=True)
    return time.perf_counter() - began


def put_rows(rates: dict[str, list[float]], grown: list[float]) -> list[Row]:
    rows = []
    for name, what in (("small", "put into a bucket, 2 MB, MB/s"), ("big", "the same, 200 MB")):
        our, bare = median(rates[f"{name} ours"]), median(rates[f"{name} bare"])
        rows.append(
            Row(
                what=what,
                ours=f"{our:,.0f}",
                peer=f"{bare:,.0f}",
                ratio=f"{our / bare:.2f} x",
                target=">= 0.8 x",
                met=our / bare >= 0.8,
            )
        )
    most = ONE_STEP_BYTES >> 20
    return [
        *rows,
        Row(
            what="the same, growth in MiB",
            ours=f"{median(grown):.1f}",
            peer="-",
            ratio="-",
            target=f"<= {most}",
            met=median(grown) <= most,
        ),
    ]


def verify_row(ours: list[float], bare: list[float], size: Size) -> Row:
    return Row(
        what="verify a bucket, recordings/s",
        ours=f"{size.recordings / median(ours):,.0f}",
        peer=f"{size.recordings / median(bare):,.0f}",
        ratio=f"{median(bare) / median(ours):.2f} x",
        target="-",
        met=True,
    )


def verify_directory(report: Report, runs: int, folder: Path, key: SigningKey, size: Size) -> None:
    """Add the row and the note about an archive in a directory."""
    store, count = Directory(folder / "archive", Spool(folder / "spool")), size.megabytes
    file_recordings(store, key, count, 1_000_000)
    ours, bare = list[tuple[float, float]](), list[float]()
    for _ in range(runs):
        ours.append(verify(store, key, count, READERS[False]))
        bare.append(sum_bare(folder / "archive" / FOLDER))
    our, peer = median(took for took, _ in ours), median(bare)
    report.rows.append(
        Row(
            what="verify a directory, MB/s",
            ours=f"{count / our:,.0f}",
            peer=f"{count / peer:,.0f}",
            ratio=f"{peer / our:.2f} x",
            target="-",
            met=True,
        )
    )
    busy = [busy * 1e3 / count for _, busy in ours]
    report.notes.append(f"verify a directory: processor time, ms for each recording {spread(busy)}")


def measure(runs: int, size: Size = FULL) -> Report:
    report, rates, busy_s, grown = Report(METHOD), {}, {}, []
    with Stage() as stage:
        port = free_port()
        stage.start([sys.executable, "-m", "benchmarks.bucket", "serve", str(port)], {})
        until(lambda: listens(port))
        for name, length in (("small", size.file_bytes), ("big", size.big_bytes)):
            (stage.folder / name).write_bytes(os.urandom(length))
        for _ in range(runs):
            for how in ("ours", "bare"):
                took, _, busy = run_put(how, stage.folder / "small", size.files, port)
                rates.setdefault(f"small {how}", []).append(
                    size.files * size.file_bytes / took / 1e6
                )
                took, more, busy_big = run_put(how, stage.folder / "big", 1, port)
                rates.setdefault(f"big {how}", []).append(size.big_bytes / took / 1e6)
                busy_s.setdefault(how, []).append((busy + busy_big) * 1e3)
                grown += [more / 2**20] if how == "ours" else []
        store, key = store_at(port, "keep"), load_or_make(stage.folder / "key")
        file_recordings(store, key, size.recordings, 24_000)
        timed = [verify(store, key, size.recordings, READERS[True]) for _ in range(runs)]
        ours, cpu_s = [took for took, _ in timed], [busy for _, busy in timed]
        bare = [read_bare(store, port) for _ in range(runs)]
        report.rows = [*put_rows(rates, grown), verify_row(ours, bare, size)]
        verify_directory(report, runs, stage.folder, key, size)
    report.notes += [f"put, {name}: MB/s {spread(values, 0)}" for name, values in rates.items()]
    report.notes += [f"processor time, {how}: ms {spread(ms, 0)}" for how, ms in busy_s.items()]
    report.notes.append(f"growth in MiB {spread(grown)}")
    report.notes.append(
        f"verify a bucket: seconds {spread(ours, 2)}, of the processor {spread(cpu_s, 2)}; "
        f"read bare {spread(bare, 2)}"
    )
    return report


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
    else:
        put(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
