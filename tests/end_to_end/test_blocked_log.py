"""Standard error that blocks, a pipe which nobody reads, stops nothing of the service."""

import contextlib
import os
import select
import threading

import pytest

from tests.waiting import until
from worker.processes.supervisor import Supervisor

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("blocked_log")]


@contextlib.contextmanager
def pipe(path):
    """A pipe by name. Yields its reading end, what fills it, and what tells whether it is full."""
    os.mkfifo(path)
    reads = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writes = os.open(path, os.O_WRONLY | os.O_NONBLOCK)

    def fill():
        for size in (select.PIPE_BUF, 1):
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(writes, b"." * size)

    def is_full():
        return not select.select([], [writes], [], 0)[1]

    yield reads, fill, is_full
    for end in (reads, writes):
        os.close(end)


def read_on(reads, ended, into):
    while not ended.is_set():
        if select.select([reads], [], [], 0.05)[0]:
            into.append(os.read(reads, 65536))


def test_a_blocked_standard_error_stops_no_callback_and_no_stop(service):
    service.processes.stop()
    with pipe(service.folder / "pipe") as (reads, fill, is_full):
        ended, taken = threading.Event(), []
        reader = threading.Thread(target=read_on, args=(reads, ended, taken))
        with Supervisor(service.env, service.folder / "pipe", folder=service.folder) as processes:
            reader.start()
            processes.wait_ready(service.base)
            service.reach(service.running(to="918025550101")[1], "archived")  # all have started
            ended.set()
            reader.join()
            fill()
            running = [service.running(to="918025550101") for _ in range(10)]  # two seconds
            for call_uuid, recording_id in running:
                view = service.reach(recording_id, "archived")
                assert view["stop"]["state"] == "confirmed"
                assert service.stops_sent(call_uuid)
            assert is_full()
            ended.clear()
            reader = threading.Thread(target=read_on, args=(reads, ended, taken))
            reader.start()
            for call_uuid, _ in running:  # the lines waited
                until(lambda c=call_uuid: c.encode() in b"".join(taken))
        ended.set()
        reader.join()
