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
    f"Lateness: {FULL.stops} recordings a run, {RATE} a second, each announced by a callback and "
    f"due {DEADLINE_S} s later; DELETE seen by the emulator minus the deadline, in ms. Ours: web, "
    "stops, fetches and clock, stops proven and files archived meanwhile. Peer: the same web "
    "server, two Celery workers of 4 and 6 processes, apply_async(eta=...). Each with a Redis of "
    "its own with appendfsync always; runs alternate."
)


def one_run(provider: Provider, stops: int) -> dict[str, dict[str, object]]:
    """Announces the recordings at the rate; returns the first DELETE of each call."""
    calls, begin = set(), time.monotonic()
    for number in range(stops):
        time.sleep(max(0.0, begin + number / RATE - time.monotonic()))
        call = provider.call()
        provider.record(call.call_uuid)
        calls.add(call.call_uuid)

    def arrived() -> dict[str, dict[str, object]]:
        deletes = {
            e["path"].split("/")[6]: e
            for e in reversed(provider.journal.since())
            if e["kind"] == "request" and e["method"] == "DELETE"
        }
        return {call_uuid: deletes[call_uuid] for call_uuid in calls & set(deletes)}

    time.sleep(DEADLINE_S)
    until(lambda: len(arrived()) == stops, within_s=20, every_s=0.5)
    return arrived()


def late_ours(base: str) -> Callable[[dict[str, dict[str, object]]], list[float]]:
    def late(arrived: dict[str, dict[str, object]]) -> list[float]:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {KEY}"
            late_ms = []
            for call_uuid, seen in arrived.items():
                view = session.get(f"{base}/v1/calls/{call_uuid}", timeout=5).json()
                due = datetime.fromisoformat(view["recordings"][0]["stop"]["due_at"])
                late_ms.append((float(str(seen["at"])) - due.timestamp()) * 1000)
        return late_ms

    return late


def late_peer(arrived: dict[str, dict[str, object]]) -> list[float]:
    return [
        (float(str(seen["at"])) - json.loads(str(seen["body"]))["due"]) * 1000
        for seen in arrived.values()
    ]


def measure(runs: int, size: Size = FULL) -> Report:
    late = _measure_late(runs, size)
    figures = {
        name: {
            "p50": [p(run, 50) for run in of_runs],
            "p99": [p(run, 99) for run in of_runs],
            "max": [max(run) for run in of_runs],
            "min": [min(run) for run in of_runs],
        }
        for name, of_runs in late.items()
    }
    report = Report(METHOD)
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
    for side, of_side in figures.items():
        spreads = "; ".join(f"{name} {spread(values)}" for name, values in of_side.items())
        report.notes.append(f"{side}: {spreads}")
    return report


def _measure_late(runs: int, size: Size) -> dict[str, list[list[float]]]:
    """How late each stop was, in ms, by side (`ours`, `peer`) and run."""
    late: dict[str, list[list[float]]] = {"ours": [], "peer": []}
    with (
        Stage() as our_stage,
        Stage() as peer_stage,
        Provider(accounts={ACCOUNT: TOKEN}) as provider,
        Provider(accounts={ACCOUNT: TOKEN}) as other,
    ):
        base, processes = our_stage.ours(
            ["web", "stops", "fetches", "clock"],
            rules=f'[defaults]\nmax_duration = "{DEADLINE_S}s"\n',
            api_url=provider.api_url,
            media=provider.media_host,
        )
        processes.wait_ready(base)
        provider.callback_url = base + ENDPOINT
        peer_stage.peer_workers(other.api_url, [("prefork", 4), ("prefork", 6)])
        other.callback_url = (
            peer_stage.peer_web(other.api_url, PEER_DEADLINE_S=str(DEADLINE_S)) + ENDPOINT
        )
        for _ in range(runs):
            for name, side, lateness in (
                ("ours", provider, late_ours(base)),
                ("peer", other, late_peer),
            ):
                late[name].append(lateness(one_run(side, size.stops)))
    return late
