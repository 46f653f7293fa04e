"""Whatever dies while a hand-off waits: the transfer is sent at most once, and only after the
proof."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.constants import KEY
from tests.waiting import until

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("service")]


def ask(service, call, key, wait_s):
    try:
        return requests.post(
            f"{service.base}/v1/calls/{call}/handoff",
            timeout=60,
            headers={"Authorization": f"Bearer {KEY}", "Idempotency-Key": key},
            json={
                "kind": "blind",
                "wait_s": wait_s,
                "transfer": {"legs": "aleg", "aleg_url": service.callback},
            },
        )
    except requests.RequestException:
        return None


def transfers(service, call):
    return [
        e
        for e in service.provider.journal.since()
        if e["kind"] == "request" and e["method"] == "POST" and e["path"].endswith(f"/Call/{call}/")
    ]


def waiting(service, *, seconds=1.5):
    """A call whose hand-off waits for a file that is finalised late, with the stop sent."""
    call = service.provider.call(announce=True)
    recording = service.provider.record(call.call_uuid)
    service.reach(recording.recording_id, "recording")
    service.provider.faults.switch_on("slow-finalise", call_uuid=call.call_uuid, seconds=seconds)
    return call.call_uuid, recording


def settled(service, call, recording, key):
    """The verdict that a caller who repeats the question gets in the end; checks what the provider
    saw."""
    answer = until(
        lambda: (
            (a := ask(service, call, key, 10)) is not None and a.status_code in {200, 409} and a
        ),
        30,
    )
    sent = transfers(service, call)
    assert len(sent) <= 1
    if sent:
        assert recording.ended_at is not None
        assert sent[0]["at"] >= recording.listed_at
        assert answer.json()["verdict"] == "go"
    return answer.json(), sent


def test_a_web_process_killed_while_a_hand_off_waits(service):
    call, recording = waiting(service)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, service, call, "web", 12)
        until(lambda: service.stops_sent(call))
        service.processes.kill("web")
        assert asked.result() is None
    said, sent = settled(service, call, recording, "web")
    assert (said["verdict"], said["transfer"], len(sent)) == ("go", "sent", 1)


def test_a_worker_killed_between_the_stop_and_the_transfer(service):
    call, recording = waiting(service)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, service, call, "worker", 20)
        until(lambda: service.stops_sent(call))
        service.processes.kill("stops")
        answer = asked.result()
    assert answer.status_code == 200
    said, sent = settled(service, call, recording, "worker")
    assert (said["verdict"], said["transfer"], len(sent)) == ("go", "sent", 1)


def test_workers_killed_again_and_again_around_the_transfer(service):
    stop = threading.Event()

    def killer():
        while not stop.wait(0.35):
            service.processes.kill("stops")

    calls = [waiting(service, seconds=0.3 + 0.2 * i) for i in range(6)]
    thread = threading.Thread(target=killer, daemon=True)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, service, call, f"again-{call}", 25) for call, _ in calls]
        thread.start()
        stop.wait(4)
        stop.set()
        thread.join()
        for future in asked:
            future.result()
    for call, recording in calls:
        said, sent = settled(service, call, recording, f"again-{call}")
        assert (
            said["transfer"] == {0: "not_sent", 1: "sent"}[len(sent)]
            or said["transfer"] == "unknown"
        )


def test_redis_restarted_while_a_hand_off_waits(service):
    call, recording = waiting(service, seconds=2.5)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, service, call, "redis", 20)
        until(lambda: service.stops_sent(call))
        service.redis.kill()
        service.redis.start()
        answer = asked.result()
    assert answer.status_code == 200
    said, sent = settled(service, call, recording, "redis")
    assert (said["verdict"], said["transfer"], len(sent)) == ("go", "sent", 1)
