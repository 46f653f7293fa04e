"""Processes that are told to end: what they have begun is finished or given back, nothing is lost,
and they go."""

import hashlib
import os
import re
import signal
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from tests import redis_view
from tests.waiting import until
from tests.webhooks.test_console_live import Stream, logged_in
from worker.calls.obligations import Duty
from worker.ledger.client import Ledger
from worker.ledger.obligations import LEASES
from worker.ledger.store import connect
from worker.processes.supervisor import Supervisor

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("draining")]
TWO_SECONDS, OTHER = "918020000001", "918065550101"
GOES_WITHIN_S = 15
RETRY_BASE_S = (
    1.0  # the provider's own: two `web` share one port here, and one that ends refuses some
)


def told_to_end(processes, name):
    """SIGTERM for one process, as a supervisor sends it; how long it took, and its status."""
    process = processes.processes[name]
    began = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    status = process.wait(GOES_WITHIN_S + 15)
    return time.monotonic() - began, status


def started(service, to, **how):
    call = service.provider.call(to_number=to)
    return call.call_uuid, service.provider.record(call.call_uuid, **how).recording_id


def test_a_rolling_restart_under_load_needs_nobody_and_no_stop_waits_longer_than_a_lease(service):
    made, done = [], threading.Event()

    def load():
        while not done.wait(0.1):
            made.append(started(service, TWO_SECONDS, container="wav"))

    thread, took = threading.Thread(target=load), {}
    with Supervisor(service.env, service.folder / "log2", folder=service.folder) as second:
        until(
            lambda: all(
                re.search(said, (service.folder / "log2").read_text())
                for said in ("Started worker-2", "(?s)celery@.*celery@")
            )
        )
        thread.start()
        try:
            for processes in (service.processes, second):
                for name in processes.commands:
                    process = processes.processes[name]
                    seconds, status = told_to_end(processes, name)
                    took[name] = max(took.get(name, 0), seconds)
                    assert (status, seconds < GOES_WITHIN_S) == (0, True), (name, status, seconds)
                    until(lambda p=processes, n=name, old=process: p.processes[n] is not old)
                    service.processes.wait_ready(service.base)
        finally:
            done.set()
            thread.join()
    views = [service.reach(recording, "archived", 60) for _, recording in made]
    late = [(r := service.provider.recordings[i]).ended_at - r.started_at - 2 for _, i in made]
    print(
        f"{len(made)} recordings, longest over by {max(late):.2f} s; seconds to end: { {k: round(v, 2) for k, v in took.items()} }"
    )
    assert {v["stop"]["state"] for v in views} == {"confirmed"}
    assert max(late) < LEASES[Duty.PLAN].total_seconds() + 2
    for (_, recording), view in zip(made, views, strict=True):
        (file,) = service.archive.rglob(f"{recording}.wav")
        assert hashlib.sha256(file.read_bytes()).hexdigest() == view["sha256"]


def test_a_worker_that_ends_while_the_provider_keeps_a_stop_waiting_records_its_outcome_first(
    service,
):
    call = service.provider.call(to_number=OTHER).call_uuid
    recording = service.provider.record(call).recording_id
    service.reach(recording, "recording")
    service.provider.faults.switch_on("stop-timeout", call_uuid=call, seconds=1.5, times=1)
    service.provider.event(call, "DialConnected")
    until(lambda: service.stops_sent(call))
    seconds, status = told_to_end(service.processes, "stops")
    ledger = Ledger(connect(service.redis.url))
    assert (status, seconds < GOES_WITHIN_S) == (0, True)
    assert [e.kind for e in ledger.events(service.env["VOBIZ_AUTH_ID"], call)].count(
        "StopErred"
    ) == 1
    assert service.reach(recording, "archived", 30)["stop"]["state"] == "confirmed"


def test_a_trickling_download_is_given_back_when_its_worker_ends_and_brought_home_by_the_next(
    service,
):
    call, recording = started(service, OTHER, container="wav")
    service.reach(recording, "recording")
    service.provider.faults.switch_on("trickled-media", call_uuid=call, bytes=2_000, pause_s=0.2)
    service.provider.recordings[recording].started_at -= 20
    service.provider.end(recording, "FinishedOnKey")
    until(lambda: any(p.stat().st_size for p in (service.folder / "spool").glob(".*.part")))
    seconds, status = told_to_end(service.processes, "fetches")
    assert (status, seconds < GOES_WITHIN_S) == (0, True), (status, seconds)
    assert list((service.folder / "spool").glob(".*.part")) == []  # it was let go, not killed
    ledger = Ledger(connect(service.redis.url))
    assert redis_view.unfinished(ledger) == 0
    service.provider.faults.switch_off("trickled-media")
    assert service.reach(recording, "archived", 30)["problem"] is None
    assert (
        len(
            [
                e
                for e in ledger.events(service.env["VOBIZ_AUTH_ID"], call)
                if e.kind == "FetchFailed"
            ]
        )
        == 0
    )


def test_a_download_whose_host_is_silent_ends_with_its_worker_and_the_lease_brings_it_back(service):
    call, recording = started(service, OTHER, container="wav")
    service.reach(recording, "recording")
    service.provider.faults.switch_on("trickled-media", call_uuid=call, bytes=2_000, pause_s=18)
    service.provider.recordings[
        recording
    ].started_at -= 20  # so that its file takes more than one block
    service.provider.end(recording, "FinishedOnKey")
    until(lambda: any((service.folder / "spool").glob(".*.part")))
    seconds, _ = told_to_end(service.processes, "fetches")
    service.provider.faults.switch_off("trickled-media")
    assert seconds < GOES_WITHIN_S
    assert (
        service.reach(recording, "archived", 30 + LEASES[Duty.FETCH].total_seconds())["problem"]
        is None
    )


def test_the_web_process_ends_although_senders_keep_their_bodies_back_and_at_once_with_open_tabs(
    service,
):
    parts = urlsplit(service.callback)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 200\r\n\r\nhalf".encode()
    held = [socket.create_connection((parts.hostname, parts.port), timeout=5) for _ in range(40)]
    try:
        for connection in held:
            connection.sendall(head)
        seconds, status = told_to_end(service.processes, "web")
        assert (status, seconds < GOES_WITHIN_S) == (0, True)
    finally:
        for connection in held:
            connection.close()
    service.processes.wait_ready(service.base)

    anna = logged_in(service)
    tabs = [Stream(service, anna) for _ in range(6)]  # at both of its processes
    until(lambda: all(tab.told for tab in tabs))
    seconds, status = told_to_end(service.processes, "web")
    assert (status, seconds < 4) == (0, True)  # the server would wait for them for 10 s
    service.processes.wait_ready(service.base)
