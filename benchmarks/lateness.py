"""Row 1: how late stops leave when 50 are due a second, through every real process, beside Celery's
eta and other schedulers.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import median

import requests

from benchmarks import comparing
from benchmarks.stage import (
    ACCOUNT,
    CALLBACK_TOKEN,
    KEY,
    TOKEN,
    Report,
    Stage,
    p,
    spread,
    until,
)
from benchmarks.timetable import LIBRARIES, MOST_RUNS, Timetable
from emulator.provider import Provider

RATE, DEADLINE_S = 50, 1
OTHERS_DEADLINE_S = 1.1  # RQ looks once a second


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    stops: int = 75
    others: int = 25  # stops of each other scheduler


FULL, SMALL = Size(), Size(stops=20, others=5)
ENDPOINT = f"/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"
Late = dict[str, list[list[float]]]  # by side, then by run: how late each stop was, in ms
METHOD = (
    f"Lateness: {FULL.stops} recordings a run, {RATE} a second, each announced by a callback and "
    f"due {DEADLINE_S} s later; DELETE seen by the emulator minus the deadline, in ms. Ours: web, "
    "stops, fetches and clock, stops proven and files archived meanwhile. Peer: the same web "
    "server, two Celery workers of 4 and 6 processes, apply_async(eta=...). Each with a Redis of "
    "its own with appendfsync always; runs alternate. Other schedulers get "
    f"{FULL.others} stops a run, {RATE} a second, from a process of their own, without callbacks, "
    "and stop at a cheap stand-in: RQ with two workers and their scheduler (it counts whole "
    "seconds, and may be early), APScheduler with a job store in Redis, dramatiq's delay with its "
    f"own 2 x 8 workers, {MOST_RUNS} runs of each at most. Limit: one process with a heap in "
    "memory and one kept-alive connection, at the stand-in."
)


def one_run(provider: Provider, stops: int, rate: float = RATE) -> dict[str, dict[str, object]]:
    """Announces the recordings at the rate a second; returns the first DELETE of each call."""
    calls, begin = set(), time.monotonic()
    for number in range(stops):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
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
    late: Late = {who: [] for who in ("ours", "peer", *LIBRARIES, "bare")}
    with contextlib.ExitStack() as stack:
        _measure_others(late, stack, runs, size)
    _measure_late(late, runs, size)
    report = Report(METHOD)
    for name, top in (("p50", 5), ("p99", 20), ("max", None)):
        ours, peer, bare = (_tails(late[who])[name] for who in ("ours", "peer", "bare"))
        met = top is None or (median(ours) <= top and median(ours) < median(peer))
        report.rows.append(
            comparing.cost(
                f"stop at {RATE}/s late by, {name} ms",
                ours,
                peer,
                bare,
                target=f"<= {top} ms, < peer" if top else "",
                met=met,
            )
        )
    for name, library in LIBRARIES.items():
        report.rows.append(
            comparing.cost(
                f"the same, {library}, p50 ms",
                _tails(late["ours"])["p50"],
                _tails(late[name])["p50"],
                _tails(late["bare"])["p50"],
            )
        )
    for side, of_side in late.items():
        spreads = "; ".join(f"{name} {spread(values)}" for name, values in _tails(of_side).items())
        report.notes.append(f"{side}: {spreads}")
    return report


def _tails(of_runs: list[list[float]]) -> Mapping[str, list[float]]:
    """Each run's figures."""
    return {
        "p50": [p(run, 50) for run in of_runs],
        "p99": [p(run, 99) for run in of_runs],
        "max": [max(run) for run in of_runs],
        "min": [min(run) for run in of_runs],
    }


def _measure_others(late: Late, stack: contextlib.ExitStack, runs: int, size: Size) -> None:
    """The other schedulers and the limit, by turns."""
    tables = {name: Timetable(stack.enter_context(Stage()), name) for name in (*LIBRARIES, "bare")}
    for run in range(runs):
        for name, table in tables.items():
            if run >= MOST_RUNS and name in LIBRARIES:
                continue
            first = time.time() + OTHERS_DEADLINE_S
            dues = [first + number / RATE for number in range(size.others)]
            late[name].append(table.late(dues, per_s=RATE))


def _measure_late(late: Late, runs: int, size: Size) -> None:
    """Ours and Celery's, by turns."""
    with (
        Stage() as our_stage,
        Stage() as peer_stage,
        Provider(accounts={ACCOUNT: TOKEN}) as provider,
        Provider(accounts={ACCOUNT: TOKEN}) as other,
    ):
        base, processes = our_stage.ours(
            ["web", "stops", "fetches", "keep", "clock"],
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
