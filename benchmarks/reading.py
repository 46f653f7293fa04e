"""Row 10: a page of `/v1/recordings` with 100,000 finished recordings, by each filter, on SQLite
and on PostgreSQL.
"""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.stage import ACCOUNT, Report, Row, Stage, spread
from tests import postgres
from webhooks.app import create_app
from worker.calls.events import Event, Kind
from worker.catalogue import rows
from worker.catalogue.database import Catalogue
from worker.settings import Settings

LIVE, MOST_MS = 50, 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    recordings: int = 100_000
    pages: int = 40


FULL, SMALL = Size(), Size(recordings=300, pages=2)
METHOD = (
    f"Reading: GET /v1/recordings in the process of the Flask application, from the request to the "
    f"whole answer, a page of 50, with {FULL.recordings:,} rows in the catalogue and {LIVE} live "
    f"recordings in Redis. {FULL.pages} pages a filter and run, the filters in turn; the 95th of "
    "100 of the slowest filter counts. PostgreSQL: a server of its own with Debian's settings, on "
    "the same machine."
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
    "since, until": "since=2024-03-01T00:00:00Z&until=2024-03-02T00:00:00Z",
    "q": "q=agent%3D77",
    "q, none": "q=nowhere+to+be+found",
    "all": f"phase=archived&stop=confirmed&rule=rule+3&label=team%3Dt3&account={ACCOUNT}&q=9180",
}


def _receipts(count: int) -> Iterator[rows.Row]:
    dice, began = random.Random(7), datetime(2024, 1, 1, tzinfo=UTC)
    for n in range(count):
        at = (began + timedelta(minutes=5 * n)).isoformat(timespec="milliseconds")
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
        yield rows.of_receipt(said, f"{ACCOUNT}/2024/01/01/{said['recording_id']}.mp3")


def _fill(url: str, count: int) -> None:
    catalogue, some = Catalogue(url), list[rows.Row]()
    for row in _receipts(count):
        some.append(row)
        if len(some) == 2000:
            catalogue.enter(some)
            some.clear()
    catalogue.enter(some)
    catalogue.close()


def _pages(stage: Stage, url: str, size: Size) -> dict[str, float]:
    """The 95th of 100 of each filter, in milliseconds."""
    env = stage.env(rules="", ENDTAPE_CATALOG=url)
    app = create_app(Settings.from_env(env, folder=stage.folder), stage.ledger)
    took: dict[str, list[float]] = {name: [] for name in FILTERS}
    with app.test_client() as client:
        key = {"Authorization": f"Bearer {env['ENDTAPE_API_KEY']}"}
        for _ in range(size.pages + 1):
            for name, query in FILTERS.items():
                began = time.perf_counter()
                answer = client.get(f"/v1/recordings?{query}", headers=key)
                took[name].append((time.perf_counter() - began) * 1000)
                if answer.status_code != 200 or "degraded" in answer.json:
                    raise RuntimeError(f"{name}: {answer.status_code} {answer.text[:300]}")
    return {name: sorted(ms[1:])[round(0.95 * (size.pages - 1))] for name, ms in took.items()}


def measure(runs: int, size: Size = FULL) -> Report:
    report = Report(METHOD)
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(Stage())
        for _ in range(LIVE):
            stage.ledger.record(
                ACCOUNT,
                Event(
                    id="started",
                    kind=Kind.RECORDING_STARTED,
                    call_uuid=str(uuid.uuid4()),
                    recording_id=str(uuid.uuid4()),
                ),
            )
        urls = {"SQLite": f"sqlite:///{stage.folder / 'catalog.db'}"}
        if postgres.programs():
            urls["PostgreSQL"] = stack.enter_context(postgres.server())
        for name, url in urls.items():
            _fill(url, size.recordings)
            found = [_pages(stage, url, size) for _ in range(runs)]
            worst = [max(one.values()) for one in found]
            middle = sorted(worst)[len(worst) // 2]
            slowest = max(found[0], key=found[0].__getitem__)
            report.rows.append(
                Row(
                    what=f"a page of {size.recordings:,}, p95 ms, {name}",
                    ours=f"{middle:.0f} ({slowest})",
                    peer="-",
                    ratio="-",
                    target=f"<= {MOST_MS}",
                    met=middle <= MOST_MS,
                )
            )
            each = ", ".join(f"{filter_} {ms:.1f}" for filter_, ms in found[0].items())
            report.notes.append(f"{name}: slowest filter {spread(worst)}; the first run: {each}")
    return report
