"""What a call with one recording costs in Redis, in the catalogue and in the archive, for
docs/operations.md.

`python -m benchmarks.costs` plays calls through every process and prints a table (about two
minutes).
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests
import sqlalchemy

from benchmarks import reading
from benchmarks.stage import ACCOUNT, KEY, TOKEN, Stage, until
from emulator.client import Addresses, Control, started
from tests import postgres
from worker.archive import days

CALLS, WARM, ROWS = 300, 600, 100_000
RULES = """
[defaults]
max_duration = "1h"

[[rules]]
name = "short"
match = {{ to = "91802*" }}
max_duration = "1s"

[[notify]]
url = "http://127.0.0.1:{port}/"
secret_env = "ENDTAPE_NOTIFY_SECRET"
private = true
events = ["stop.confirmed", "recording.archived", "recording.abandoned"]
"""
# The keys that a call adds to, by what they are there for. The warm-up is past the sizes at which
# Redis stores a set differently.
FAMILIES = {
    "call": "its log",
    "recordings": "what finds it, and lists it",
    "recent": "what finds it, and lists it",
    "live": "what finds it, and lists it",
    "aliases": "what finds it, and lists it",
    "due": "what is owed on it",
    "leases": "what is owed on it",
    "fences": "what is owed on it",
    "nonces": "nonces of its callbacks",
    "filed": "what the day will list",
    "history": "what the day's history will hold",
    "notices": "two notifications",
}


class _Told(BaseHTTPRequestHandler):
    """An application that takes every notification."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def _application() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Told) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def _in_redis(stage: Stage) -> Counter[str]:
    """The bytes of all keys of calls, by what they are there for, as Redis counts them."""
    redis, found = stage.ledger.redis, Counter[str]()
    prefix = stage.ledger.prefix
    for key in redis.scan_iter(f"{prefix.replace('{', '[{]')}*", count=1000):
        name = FAMILIES.get(key.removeprefix(prefix).partition(":")[0])
        if name:
            found[name] += int(redis.memory_usage(key, samples=0) or 0)
    return found


def _in_archive(archive: Path) -> tuple[Counter[str], Counter[str]]:
    """How many files of each kind there are, and their bytes; in `list` the bytes of the lines that
    the list of the day will have.
    """
    files, size = Counter[str](), Counter[str]()
    for path in archive.glob("*/[0-9][0-9][0-9][0-9]/*/*/[!.]*"):
        kind = path.name.partition(".")[2]
        files[kind] += 1
        size[kind] += path.stat().st_size
        if kind in {"mp3", "json"}:
            name = path.relative_to(archive / ACCOUNT).as_posix()
            size["list"] += len(days.line_of(name, "0" * 64)) + 1
    return files, size


def _play(base: str, control: Control, number: str, count: int) -> set[str]:
    """Calls that an application announces with two labels, and their recordings."""
    http = requests.Session()
    http.trust_env = False

    def one(_: int) -> str:
        call = control.call(
            callback_url=f"{base}/vobiz/{ACCOUNT}/bench-callback-token", to_number=number
        )
        http.put(
            f"{base}/v1/calls/{call}",
            json={"labels": {"team": "billing", "agent": "1207"}},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=30,
        ).raise_for_status()
        return control.record(call)

    with ThreadPoolExecutor(4) as crew:
        return set(crew.map(one, range(count)))


def _rest(stage: Stage, live: int) -> bool:
    """Whether so many recordings are live, each is told and indexed, and nobody works."""
    command, key = stage.ledger.command, stage.ledger.key
    busy = sum(
        int(command("ZCARD", key("leases", duty)))
        for duty in ("plan", "look", "fetch", "index", "notify")
    )
    waits = command("ZCARD", key("due", "index")) + command("ZCARD", key("due", "notify"))
    return not busy and not waits and command("ZCARD", key("live", ACCOUNT)) == live


def calls(emulator: Addresses) -> tuple[dict[str, Mapping[str, float]], Mapping[str, str]]:
    """The bytes of a call in Redis while it is live and once it is finished; and its files."""
    with Stage(fsync="no") as stage, _application() as port:
        base, processes = stage.ours(
            ["web", "stops", "fetches", "clock", "keep"],
            rules=RULES.format(port=port),
            api_url=emulator.api_url,
            media=emulator.media_host,
            ENDTAPE_API_RATE="1000",
            ENDTAPE_STOP_RATE="1000",
            ENDTAPE_NOTIFY_SECRET="whsec_" + "QUJD" * 8,
        )
        processes.wait_ready(base)
        control = Control(emulator.control_url)

        def grown(number: str, count: int, live: int) -> dict[str, float]:
            before = _in_redis(stage)
            _play(base, control, number, count)
            until(lambda: _rest(stage, live), within_s=300, every_s=0.5)
            return {k: v / count for k, v in (_in_redis(stage) - before).items()}

        grown("918020000001", WARM, 0)
        found: dict[str, Mapping[str, float]] = {"finished": grown("918020000001", CALLS, 0)}
        files, size = _in_archive(stage.folder / "archive")
        grown("918065550101", WARM, WARM)
        found["live"] = grown("918065550101", CALLS, WARM + CALLS)
    told = {
        kind: f"{files[kind] / files['mp3']:g} files, {size[kind] / files['mp3']:,.0f} bytes"
        for kind in sorted(size)
    }
    return found, told


def rows() -> Iterator[tuple[str, float]]:
    """The bytes of a row in the catalogue, with its indexes and two labels."""
    with Stage() as stage:
        place = stage.folder / "catalog.db"
        reading.fill(f"sqlite:///{place}", ROWS)
        yield "SQLite", sum(p.stat().st_size for p in place.parent.glob("catalog.db*")) / ROWS
    if postgres.programs():
        with postgres.server() as url:
            reading.fill(url, ROWS)
            engine = sqlalchemy.create_engine(url)
            with engine.connect() as connection:
                sizes = connection.exec_driver_sql(
                    "SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables"
                )
                yield "PostgreSQL", float(sizes.scalar_one()) / ROWS
            engine.dispose()


def main() -> None:
    with started(ACCOUNT, TOKEN, "http://127.0.0.1:9/x") as emulator:
        found, files = calls(emulator)
    say = sys.stdout.write
    say(f"\n| bytes a call in Redis, of {CALLS} calls | live | finished |\n|---|---:|---:|\n")
    for name in dict.fromkeys(FAMILIES.values()):
        values = (found[when].get(name, 0.0) for when in ("live", "finished"))
        say(f"| {name} | {' | '.join(f'{value:,.0f}' for value in values)} |\n")
    for kind, told in files.items():
        say(f"- archive, .{kind}: {told}\n")
    for name, size in rows():
        say(f"- catalogue, {name}: {size:,.0f} bytes a row, of {ROWS:,}\n")


if __name__ == "__main__":
    main()
