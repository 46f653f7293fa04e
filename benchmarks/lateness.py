"""Row 1: how late stops leave when 50 are due a second, through every real process, beside Celery's
eta.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from statistics import median

import requests

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
from emulator.provider import Provider

RATE, DEADLINE_S = 50, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    stops: int = 200


FULL, SMALL = Size(), Size(stops=20)
ENDPOINT = f"/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"
METHOD = (
    f"Lateness: {FULL.stops} recordings a run, {RATE} a second, each announced by a callback and due {DEADLINE_S} s later; DELETE seen by the "
    "emulator minus the deadline, in ms. Ours: web, stops, fetches and clock, stops proven and files archived meanwhile. Peer: the "
    "same web server, two Celery workers of 4 and 6 processes, apply_async(eta=...). Each with a Redis of its own with "
    "appendfsync always; runs alternate."
)


def one_run(provider: Provider, stops: int) -> dict[str, dict[str, object]]:
    """Announces the recordings at the rate; returns the first DELETE of each call."""
    mine, begin = set(), time.monotonic()
    for number in range(stops):
        time.sleep(max(0.0, begin + number / RATE - time.monotonic()))
        call = provider.call()
        provider.record(call.call_uuid)
        mine.add(call.call_uuid)

    def arrived() -> dict[str, dict[str, object]]:
        found = {
            e["path"].split("/")[6]: e
            for e in reversed(provider.journal.since())
            if e["kind"] == "request" and e["method"] == "DELETE"
        }
        return {call_uuid: found[call_uuid] for call_uuid in mine & set(found)}

    time.sleep(DEADLINE_S)
    until(lambda: len(arrived()) == stops, within_s=20, every_s=0.5)
    return arrived()


def late_ours(base: str) -> Callable[[dict[str, dict[str, object]]], list[float]]:
    def late(arrived: dict[str, dict[str, object]]) -> list[float]:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {KEY}"
            found = []
            for call_uuid, seen in arrived.items():
                view = session.get(f"{base}/v1/calls/{call_uuid}", timeout=5).json()
                due = datetime.fromisoformat(view["recordings"][0]["stop"]["due_at"])
                found.append((float(str(seen["at"])) - due.timestamp()) * 1000)
        return found

    return late


def late_peer(arrived: dict[str, dict[str, object]]) -> list[float]:
    return [
        (float(str(seen["at"])) - json.loads(str(seen["body"]))["due"]) * 1000
        for seen in arrived.values()
    ]


def measure(runs: int, size: Size = FULL) -> Report:
    report = Report(METHOD)
    with (
        Stage() as mine,
        Stage() as theirs,
        Provider(accounts={ACCOUNT: TOKEN}) as provider,
        Provider(accounts={ACCOUNT: TOKEN}) as other,
    ):
        base, processes = mine.ours(
            ["web", "stops", "fetches", "clock"],
            rules=f'[defaults]\nmax_duration = "{DEADLINE_S}s"\n',
            api_url=provider.api_url,
            media=provider.media_host,
        )
        processes.wait_ready(base)
        provider.callback_url = base + ENDPOINT
        theirs.peer_workers(other.api_url, [("prefork", 4), ("prefork", 6)])
        other.callback_url = (
            theirs.peer_web(other.api_url, PEER_DEADLINE_S=str(DEADLINE_S)) + ENDPOINT
        )
        late: dict[str, list[list[float]]] = {"ours": [], "peer": []}
        for _ in range(runs):
            for who, side, read in (
                ("ours", provider, late_ours(base)),
                ("peer", other, late_peer),
            ):
                late[who].append(read(one_run(side, size.stops)))
    figures = {
        who: {
            "p50": [p(f, 50) for f in found],
            "p99": [p(f, 99) for f in found],
            "max": [max(f) for f in found],
            "min": [min(f) for f in found],
        }
        for who, found in late.items()
    }
    for name, top in (("p50", 20), ("p99", 100), ("max", None)):
        ours, peer = median(figures["ours"][name]), median(figures["peer"][name])
        report.rows.append(
            Row(
                what=f"stop at {RATE}/s late by, {name} ms",
                ours=f"{ours:.1f}",
                peer=f"{peer:.1f}",
                ratio=f"{peer / ours:.1f} x",
                target=f"<= {top} ms" if top else "",
                met=top is None or ours <= top,
            )
        )
    for who in late:
        report.notes.append(
            f"{who}: "
            + "; ".join(f"{name} {spread(values)}" for name, values in figures[who].items())
        )
    return report
