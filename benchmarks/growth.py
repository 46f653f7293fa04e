"""How much our processes grow: `web` by callbacks, `stops` and `fetches` by recordings that are
stopped, looked for, downloaded and archived.

`python -m benchmarks.growth` plays it to its end; as a row of `benchmarks.run` each half ends after
`seconds`. `python -m benchmarks.growth serve PORT` is the stand-in for the provider.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from benchmarks.receiving import load
from benchmarks.stage import ACCOUNT, CALLBACK_TOKEN, Report, Row, Stage, listens, track, until
from emulator.audio import FRAME_MS, mp3_frame
from worker.processes.supervisor import Supervisor, free_port


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    callbacks: int = 1_000_000
    recordings: int = 100_000
    seconds: float = 200.0  # each half ends after so many, wherever it is
    round_s: float = 5.0  # between two readings


FULL, SMALL = Size(), Size(callbacks=100, recordings=20, seconds=20, round_s=0.3)
WHOLE = Size(seconds=36_000)
METHOD = (
    "Growth: private memory (Private_Dirty) of each process, at the end minus after the first "
    "tenth; the row has the process that grew most. web: distinct signed callbacks from 32 "
    "connections; the ledger is emptied between rounds. stops and fetches: recordings of 1 s that "
    "are made known, stopped at their deadline, found ended by a look, downloaded, checked, signed "
    f"and archived. Each half ends after {FULL.callbacks:,} callbacks or {FULL.recordings:,} "
    f"recordings, or after {FULL.seconds:g} s: the row says how many it played. `python -m "
    "benchmarks.growth` plays them all."
)
BAR_MIB = 5.0
_RULES = '[defaults]\nmax_duration = "1s"\nconfirm_within = "1s"\n'
_FRAMES = 14
_ON_THE_WAY = 600  # recordings that are known and not archived
_ARCHIVED = "events_total|MediaArchived"


# The stand-in
# ------------------------------------------------------------------------------------------------


class Provider(asyncio.Protocol):
    """Every recording that is asked for began when its call's id says, and ended a second later."""

    root = ""
    audio = mp3_frame("growth", 1) * _FRAMES

    def __init__(self) -> None:
        self.held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.held += data
        while (end := self.held.find(b"\r\n\r\n")) >= 0:
            head = self.held[:end].lower()
            begins = head.find(b"content-length:")
            size = int(head[begins + 15 :].split(b"\r\n", 1)[0]) if begins >= 0 else 0
            if len(self.held) < end + 4 + size:
                return
            method, path, _ = self.held.split(b" ", 2)
            self.held = self.held[end + 4 + size :]
            self.transport.write(self.answer(method, path.decode()))

    def answer(self, method: bytes, target: str) -> bytes:
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        if method == b"DELETE":
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        if path.startswith("/media/"):
            return _whole(self.audio, "audio/mpeg")
        if "/Recording/rec-" in path:
            named = self.row(path.rstrip("/").rpartition("/rec-")[2])
            return _whole(json.dumps(named).encode())
        rows = [self.row(call) for call in query.get("call_uuid", [])]
        meta = {"limit": 20, "offset": 0, "next": None, "previous": None, "total_count": len(rows)}
        return _whole(json.dumps({"objects": rows, "calls": [], "meta": meta}).encode())

    def row(self, call_uuid: str) -> dict[str, object]:
        began_ms, took_ms = int(call_uuid.split("-")[1]), _FRAMES * FRAME_MS
        added = datetime.fromtimestamp(began_ms / 1000 + 2, UTC)
        return {
            "add_time": added.strftime("%Y-%m-%d %H:%M:%S.%f+00:00"),
            "call_uuid": call_uuid,
            "from_number": "+919820055512",
            "to_number": "918065550101",
            "recording_duration_ms": f"{took_ms:.5f}",
            "recording_start_ms": f"{began_ms:.5f}",
            "recording_end_ms": f"{began_ms + took_ms:.5f}",
            "recording_format": "mp3",
            "recording_id": f"rec-{call_uuid}",
            "recording_type": "call",
            "recording_url": f"{self.root}/media/rec-{call_uuid}.mp3",
        }


def _whole(body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def serve(port: int) -> None:
    Provider.root = f"http://127.0.0.1:{port}"
    server = await asyncio.get_running_loop().create_server(
        Provider, "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


# The meter
# ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Meter:
    """Readings of the private memory, in MiB, of the children of a process, by their pids; each
    with how many callbacks or recordings were done by then.
    """

    pid: int
    readings: list[tuple[int, dict[int, float]]] = field(default_factory=list)

    def read(self, done: int) -> None:
        found = {}
        for pid in _children(self.pid):
            with suppress(OSError):
                found[pid] = _private_mib(pid)
        self.readings.append((done, found))

    def grown(self) -> float:
        """By how much the process grew that grew most since the first tenth. A process that was
        replaced meanwhile counts from its own first reading.
        """
        late = [found for done, found in self.readings if done >= self.done / 10]
        first = {pid: mib for found in reversed(late) for pid, mib in found.items()}
        return max(mib - first[pid] for pid, mib in late[-1].items())

    @property
    def done(self) -> int:
        return self.readings[-1][0]


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # this thread has ended meanwhile
            yield from map(int, (task / "children").read_text().split())


def _private_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")) / 1024


# The row
# ------------------------------------------------------------------------------------------------


def callbacks(size: Size) -> Meter:
    """Sends callbacks to `web`."""
    with Stage(fsync="no") as stage:
        base, processes = stage.ours(["web"], rules='[defaults]\nmax_duration = "1h"\n')
        url, meter = f"{base}/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}", _meter(processes, "web")
        done, end = 0, time.monotonic() + size.seconds
        while done < size.callbacks and time.monotonic() < end:
            done += int(load(url, seconds=size.round_s)["count"])
            meter.read(done)
            stage.ledger.redis.flushall()  # a million calls would fill the machine's memory
    return meter


def recordings(size: Size) -> dict[str, Meter]:
    """Plays recordings from their callback to the archive."""
    port = free_port()
    with Stage(fsync="no") as stage:
        stage.start([sys.executable, "-m", "benchmarks.growth", "serve", str(port)], {})
        until(lambda: listens(port))
        _, processes = stage.ours(
            ["stops", "fetches", "clock"],
            rules=_RULES,
            api_url=f"http://127.0.0.1:{port}/api/v1",
            media=f"127.0.0.1:{port}",
            ENDTAPE_STOP_RATE="100000",
            ENDTAPE_API_RATE="100000",
        )
        meters = {name: _meter(processes, name) for name in ("stops", "fetches")}
        fed, read_at, end = 0, time.monotonic() + size.round_s, time.monotonic() + size.seconds
        while (done := _archived(stage)) < size.recordings and time.monotonic() < end:
            if fed - done < min(_ON_THE_WAY, size.recordings):
                track(stage.ledger, _names(20), started_at=stage.ledger.now())
                fed += 20
            else:
                time.sleep(0.02)
            if done and time.monotonic() >= read_at:
                read_at += size.round_s
                _read(meters, done)
        if not done:
            raise TimeoutError("no recording was archived")
        _read(meters, done)
    return meters


def _meter(processes: Supervisor, name: str) -> Meter:
    return Meter(processes.processes[name].pid)


def _read(meters: dict[str, Meter], done: int) -> None:
    for meter in meters.values():
        meter.read(done)


def _archived(stage: Stage) -> int:
    return int(stage.ledger.counters().get(_ARCHIVED, 0))


def _names(count: int) -> list[str]:
    now_ms = int(time.time() * 1000)
    return [f"{uuid.uuid4().hex[:12]}-{now_ms}-{number}" for number in range(count)]


def measure(_runs: int, size: Size = FULL) -> Report:
    """Plays both halves once, whatever the runs: what grows shows in one long run."""
    report = Report(METHOD)
    meters = {"web": callbacks(size), **recordings(size)}
    for name, meter in meters.items():
        _tell(report, name, meter, "callbacks" if name == "web" else "recordings")
    return report


def _tell(report: Report, name: str, meter: Meter, what: str) -> None:
    mib = meter.grown()
    report.rows.append(
        Row(
            what=f"{name} after {meter.done:,} {what}, growth in MiB",
            ours=f"{mib:.2f}",
            peer="-",
            ratio="-",
            target=f"<= {BAR_MIB:g}",
            met=mib <= BAR_MIB,
        )
    )
    told = [f"{done:,}: {max(found.values()):.1f}" for done, found in meter.readings]
    report.notes.append(
        f"{name}: MiB of its largest child after {'; '.join(told[:: -(-len(told) // 10)])}"
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", port]:
            asyncio.run(serve(int(port)))
        case []:
            for row in measure(1, WHOLE).rows:
                print(f"{row.what}: {row.ours} ({row.target})")
        case _:
            sys.exit("python -m benchmarks.growth [serve PORT]")
