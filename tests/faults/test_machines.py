"""Cables and machines of the fault runs, and what only a cut cable shows about an abandoned
request.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from faults import machines
from faults.cable import Cable, ip
from faults.machine import Machine
from tests.waiting import until
from worker.errors import TryAgain, Unclear
from worker.ledger.store import connect
from worker.processes.embedded_redis import find_server
from worker.vobiz.account import Account
from worker.vobiz.client import Vobiz

pytestmark = [
    pytest.mark.redis,
    pytest.mark.end_to_end,
    pytest.mark.skipif(bool(machines.missing()), reason=machines.missing()),
    pytest.mark.xdist_group("cable"),
]
ACCOUNT = Account(auth_id="MA_CABLE0001", tokens=("cable-token",))
SERVER = """
import http.server, sys
print("here", flush=True)
sys.stdin.readline()
class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_DELETE(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        print(self.command, self.path, flush=True)
        self.send_response(204)
        self.end_headers()
    do_POST = do_DELETE
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer.handle_error = lambda *_: None
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Provider).serve_forever()
"""


@pytest.fixture
def cable():
    # 198.18.0.0/15 is for trials of networks.
    n = os.getpid() % 4096
    with Cable(
        f"et{os.getpid()}",
        f"198.18.{n // 64}.{n % 64 * 4 + 1}",
        f"198.18.{n // 64}.{n % 64 * 4 + 2}",
        seed=1,
    ) as made:
        yield made


@pytest.fixture
def provider(cable, tmp_path):
    """A provider at the other end of the cable. `asked` reads its requests."""
    with (tmp_path / "asked").open("w") as out:
        process = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=out,
            text=True,
        )
    try:
        until(lambda: "here" in (tmp_path / "asked").read_text(), 10)
        cable.plug_in(process.pid)
        process.stdin.write("go\n")
        process.stdin.flush()
        until(lambda: reached(cable), 10)
        yield lambda: (tmp_path / "asked").read_text().splitlines()[1:]
    finally:
        process.kill()
        process.wait()
        process.stdin.close()


def reached(cable):
    try:
        ask(cable).stop_recordings(ACCOUNT, "first")
    except TryAgain:
        return False
    return True


def ask(cable):
    return Vobiz(
        api_url=f"http://{cable.theirs}:8000/api/v1",
        media_hosts=["127.0.0.1"],
        redirect_hosts=[],
        max_media_bytes=1000,
    )


def unsent(cable):
    """Bytes that the kernel has not yet sent to the other end, by connection."""
    their = "".join(f"{int(part):02X}" for part in reversed(cable.theirs.split(".")))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        int(row[4].partition(":")[0], 16)
        for row in rows
        if row[2].startswith(their + ":") and int(row[4].partition(":")[0], 16)
    ]


@pytest.mark.parametrize(
    ("deed", "raised"),
    [
        (lambda vobiz, call: vobiz.stop_recordings(ACCOUNT, call), TryAgain),
        (lambda vobiz, call: vobiz.transfer(ACCOUNT, call, {"legs": "aleg"}), Unclear),
    ],
    ids=["stop", "transfer"],
)
def test_a_request_that_was_given_up_on_a_dead_link_does_not_leave_when_the_link_returns(
    cable, provider, deed, raised
):
    vobiz = ask(cable)
    deed(vobiz, "first")  # so that a connection stands, which takes what is written to it
    cable.cut()
    with pytest.raises(raised):
        deed(vobiz, "second")
    assert unsent(cable) == []
    cable.mend()
    deed(vobiz, "third")
    assert [line for line in provider() if "second" in line] == []


def test_a_command_that_was_given_up_on_a_dead_link_is_not_done_when_the_link_returns(
    cable, tmp_path
):
    # Redis begins when its standard input does, which is when the cable is in.
    words = [
        "sh",
        "-c",
        'echo here; read go; exec "$@"',
        "sh",
        str(find_server()),
        "--bind",
        cable.theirs,
        "--protected-mode",
        "no",
        "--save",
        "",
        "--dir",
        str(tmp_path),
    ]
    server = subprocess.Popen(
        ["unshare", "--net", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout.readline() == "here\n"
        cable.plug_in(server.pid)
        server.stdin.write("go\n")
        server.stdin.flush()
        with connect(f"redis://{cable.theirs}:6379", timeout_s=0.5) as client:
            until(lambda: pings(client), 10)
            cable.cut()
            with pytest.raises(redis.RedisError):
                client.incr("deeds")
            until(lambda: not unsent(cable), 2)
            cable.mend()
            until(lambda: pings(client), 10)
            assert client.get("deeds") is None
    finally:
        server.kill()
        server.wait()
        server.stdin.close()
        server.stdout.close()


def pings(client):
    try:
        return client.ping()
    except redis.RedisError:
        return False


def test_a_cable_cuts_one_direction_and_delays(cable, provider):
    vobiz = ask(cable)
    cable.cut(there=False)
    heard = len(provider())
    with pytest.raises(TryAgain):  # the connection is new, so not even its beginning is answered
        vobiz.stop_recordings(ACCOUNT, "second")
    assert len(provider()) == heard
    cable.mend()
    cable.weak(delay_s=0.15, loss=0)
    began = time.monotonic()
    vobiz.stop_recordings(ACCOUNT, "third")
    assert time.monotonic() - began >= 0.6  # there and back, for the connection and for the request


def test_a_machine_takes_everything_with_it_when_it_loses_its_power_and_when_who_started_it_dies(
    cable, tmp_path
):
    env = {
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "TMPDIR": str(tmp_path),
    }  # nothing starts, and is started again and again
    mark = f"TMPDIR={tmp_path}".encode()

    def alive():
        return [place for place in Path("/proc").glob("[0-9]*") if holds(place / "environ", mark)]

    machine = Machine("aspen", cable, tmp_path / "aspen")
    machine.boot(env, {})
    until(lambda: len(alive()) >= 4, 20)
    machine.power_off()
    assert alive() == []
    machine.boot(env, {})
    until(lambda: len(alive()) >= 4, 20)
    machine.process.stdin.close()  # as if its starter had been killed
    until(lambda: not alive(), 10)
    machine.power_off()


def holds(file, mark):
    try:
        return mark in file.read_bytes()
    except OSError:
        return False


def test_a_cable_ends_with_the_process_that_holds_it(tmp_path):
    name = f"ed{os.getpid()}"
    said = f"import sys, time; from faults.cable import Cable; Cable({name!r}, '198.19.0.1', '198.19.0.2', seed=1).__enter__(); print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", said], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "up\n"
        ip("link", "show", name)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(RuntimeError, match=name):
            ip("link", "show", name)
    finally:
        process.kill()
        process.stdout.close()
