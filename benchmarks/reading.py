"""Row 10: a page of `/v1/recordings`, by each filter, and the console's pages, with 100,000
finished recordings and 2,000 live ones, on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import sqlalchemy

from benchmarks import job
from benchmarks.stage import ACCOUNT, Report, Row, Stage, spread
from benchmarks.usage import ran_ms
from tests import postgres
from webhooks.app import create_app
from worker.calls.events import Event, Fault, Kind
from worker.catalogue import rows
from worker.catalogue.database import Catalogue
from worker.settings import Settings

MOST_MS = 100
BEGAN = datetime(2024, 1, 1, tzinfo=UTC)  # of the finished recordings; 288 a day
RULES = """
[defaults]
max_duration = "1h"

[[rules]]
name = "rule 3"
match = { to = "918065555*" }
max_duration = "5m"
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    recordings: int = 100_000
    live: int = 2000
    pages: int = 40


@dataclass(frozen=True, slots=True)
class Took:
    """How long an answer took, and the processor time of all that worked at it."""

    ms: float
    cpu_ms: float


FULL, SMALL = Size(), Size(recordings=300, live=20, pages=2)
METHOD = (
    f"Reading: GET /v1/recordings and the console's pages in the process of the Flask application, "
    f"from the request to the whole answer, 50 recordings a page, with {FULL.recordings:,} rows in "
    f"the catalogue and {FULL.live:,} live recordings in Redis. {FULL.pages} answers a filter and "
    "run, the filters and pages in turn, after one of each; the 95th of 100 of the slowest counts. "
    "In brackets: the median of the processor time for an answer, that of Redis and of PostgreSQL "
    "included, which is what it takes on a machine that does nothing else. PostgreSQL: a server of "
    "its own with Debian's settings, on the same machine, after VACUUM ANALYZE and a checkpoint."
)
FILTERS = {
    "none": "",
    "phase": "phase=archived",
    "phase, none": "phase=erased",
    "stop": "stop=unknown",
    "fault, none": "fault=media",
    "rule": "rule=rule+3",
    "number": "number=918065550107",
    "number, prefix": "number=9198*",
    "number, suffix": "number=*0107",
    "number, none": "number=*999999990",
    "label": "label=team%3Dt3",
    "label, none": "label=team%3Dnobody",
    "call": "call_uuid=nobody",
    "account": f"account={ACCOUNT}",
    "held": "held=true",
    "held, q, none": "held=false&q=nowhere+to+be+found",
    "since, until": "since=2024-03-01T00:00:00Z&until=2024-03-02T00:00:00Z",
    "q": "q=agent%3D77",
    "q, number": "q=8065550107",
    "q, none": "q=nowhere+to+be+found",
    "all": f"phase=archived&stop=confirmed&rule=rule+3&label=team%3Dt3&account={ACCOUNT}&q=9180",
}


def _receipts(count: int) -> Iterator[rows.Row]:
    dice = random.Random(7)
    for n in range(count):
        began = BEGAN + timedelta(minutes=5 * n)
        at = began.isoformat(timespec="milliseconds")
        said: dict[str, Any] = {
            "recording_id": str(uuid.UUID(int=dice.getrandbits(128))),
            "account": ACCOUNT,
            "call_uuid": str(uuid.UUID(int=dice.getrandbits(128))),
            "from": f"9198{dice.randrange(10**8):08d}",
            "to": f"91806555{dice.randrange(1000):04d}",
            "direction": "inbound",
            "labels": {"team": f"t{n % 20}", "agent": str(dice.randrange(3000))},
            "first_seen_at": at,
            "started_at": at,
            "ended_at": at,
            "media": {"bytes": 100_000, "sha256": f"{n:064x}", "duration_ms": 60_000},
            "stop": {"state": "unknown" if n % 50 == 0 else "confirmed", "rule": f"rule {n % 7}"},
        }
        yield rows.of_receipt(said, f"{ACCOUNT}/{began:%Y/%m/%d}/{said['recording_id']}.mp3")


def fill(url: str, count: int) -> None:
    """Makes a catalogue with so many archived recordings, of two labels each."""
    catalogue, some = Catalogue(url), list[rows.Row]()
    for row in _receipts(count):
        some.append(row)
        if len(some) == 2000:
            catalogue.enter(some)
            some.clear()
    catalogue.enter(some)
    catalogue.close()


def _live(stage: Stage, count: int) -> tuple[str, str]:
    """Makes calls live, as an application and the provider tell of them. Of ten, one has a stop
    that is not proven, one waits for its file, and of one the file does not come. Returns a call,
    and its recording.
    """
    dice, now = random.Random(11), stage.ledger.now()
    for n in range(count):
        call, recording = (str(uuid.UUID(int=dice.getrandbits(128))) for _ in range(2))
        sides = {
            "from_number": f"9198{dice.randrange(10**8):08d}",
            "to_number": f"91806555{dice.randrange(1000):04d}",
            "direction": "inbound",
        }
        labels = {"team": f"t{n % 20}", "agent": str(dice.randrange(3000))}
        url = f"https://media.vobiz.ai/v1/Account/{ACCOUNT}/Recording/{recording}.mp3"
        told: list[dict[str, Any]] = [
            {"kind": Kind.CALL_ANNOUNCED, "by": "app", "labels": labels, **sides},
            {
                "kind": Kind.RECORDING_STARTED,
                "recording_id": recording,
                "url": url,
                "started_at": now,
                "signed": True,
                **sides,
            },
            {"kind": Kind.LOOKED, "recording_ids": (recording,), "live": True},
        ]
        if n % 10 in {0, 1}:
            told.append(
                {
                    "kind": Kind.STOP_ACCEPTED,
                    "recording_ids": (recording,),
                    "requested_at": now,
                    "trigger": "api",
                    "due_at": now,
                    "rule": "defaults",
                }
            )
        if n % 10 in {1, 2}:
            over = {"recording_id": recording, "ended_at": now, "duration_s": 60.0, "signed": True}
            told.append({"kind": Kind.RECORDING_FINALIZED, "url": url, **over})
        if n % 10 == 2:
            failed = {"fault": Fault.PROVIDER, "reason": "the media host answered 404"}
            told += [{"kind": Kind.FETCH_FAILED, "recording_id": recording, **failed}] * 3
        for i, one in enumerate(told):
            stage.ledger.record(ACCOUNT, Event(id=f"e{i}", call_uuid=call, **one))
    return call, recording


def _pages(stage: Stage, url: str, size: Size, call: str, recording: str) -> dict[str, list[Took]]:
    """How long the answers took, by the name of the filter or the page."""
    env = stage.env(rules=RULES, ENDTAPE_CATALOG=url)
    app = create_app(Settings.from_env(env, folder=stage.folder), stage.ledger)
    asked = {name: f"/v1/recordings?{query}" for name, query in FILTERS.items()}
    asked |= {
        "page Now": "/",
        "page Recordings": "/recordings",
        "page Recordings, q": "/recordings?q=nowhere+to+be+found",
        "page Not home": "/not-home",
        "page Days": "/days",
        "page of today": f"/days/{stage.ledger.now().date()}",
        "page of a day": "/days/{day}",  # another one each time: nothing of it is kept
        "page of a figure": f"/days/{stage.ledger.now().date()}/under_way",
        "page Rules": "/rules?to=918065550107&trigger=transfer",
        "page Notifications": "/notifications",
        "page System": "/system",
        "page of a call": f"/calls/{call}",
        "page of a recording": f"/recordings/{recording}",
    }
    took: dict[str, list[Took]] = {name: [] for name in asked}
    servers = [job.redis_pid(stage)]
    with app.test_client() as client:
        key = {"Authorization": f"Bearer {env['ENDTAPE_API_KEY']}"}
        client.post("/login", data={"password": env["ENDTAPE_API_KEY"]})
        for n in range(size.pages + 1):
            day = (BEGAN + timedelta(days=n)).date()
            for name, path in asked.items():
                worked = time.thread_time() * 1000 + ran_ms(servers)
                began = time.perf_counter()
                answer = client.get(path.format(day=day), headers=key)
                ms = (time.perf_counter() - began) * 1000
                worked = time.thread_time() * 1000 + ran_ms(servers) - worked
                took[name].append(Took(ms, worked))
                if answer.status_code != 200 or (answer.json or {}).get("degraded"):
                    raise RuntimeError(f"{name}: {answer.status_code} {answer.text[:300]}")
            servers = [job.redis_pid(stage), *_backends(url)]  # those that the application has
    return {name: all_[1:] for name, all_ in took.items()}


def _backends(url: str) -> list[int]:
    """The processes of PostgreSQL that serve a connection; none where the catalogue is SQLite."""
    if not url.startswith("postgresql"):
        return []
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    query = (
        "SELECT pid FROM pg_stat_activity "
        "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    with engine.connect() as connection:
        return [int(pid) for (pid,) in connection.exec_driver_sql(query)]


def _settle(url: str) -> None:
    """Has PostgreSQL do at once what it does by itself in the minutes after so many new rows."""
    if url.startswith("postgresql"):
        engine = sqlalchemy.create_engine(
            url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
            connection.exec_driver_sql("CHECKPOINT")


def _p95(took: Sequence[float]) -> float:
    return sorted(took)[round(0.95 * (len(took) - 1))]


def measure(runs: int, size: Size = FULL) -> Report:
    report = Report(METHOD)
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(Stage(fsync="no"))
        call, recording = _live(stage, size.live)
        urls = {"SQLite": f"sqlite:///{stage.folder / 'catalog.db'}"}
        if postgres.programs():
            urls["PostgreSQL"] = stack.enter_context(postgres.server())
        for name, url in urls.items():
            fill(url, size.recordings)
            _settle(url)
            found = [_pages(stage, url, size, call, recording) for _ in range(runs)]
            each = [{of: _p95([t.ms for t in took]) for of, took in one.items()} for one in found]
            worst = [max(one.values()) for one in each]
            middle = sorted(worst)[len(worst) // 2]
            slowest = max(each[0], key=each[0].__getitem__)
            report.rows.append(
                Row(
                    what=f"a page of {size.recordings:,}, {size.live:,} live, p95 ms, {name}",
                    ours=f"{middle:.0f} ({slowest})",
                    peer="-",
                    ratio="-",
                    target=f"<= {MOST_MS}",
                    met=middle <= MOST_MS,
                )
            )
            told = ", ".join(
                f"{of} {ms:.1f} ({median(t.cpu_ms for t in found[0][of]):.1f})"
                for of, ms in each[0].items()
            )
            report.notes.append(f"{name}: slowest {spread(worst)}; the first run: {told}")
    return report
