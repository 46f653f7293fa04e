"""The server in front of the application, for real: slow bodies, large ones, odd paths, long
answers, and its end."""

import contextlib
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import requests

from tests.waiting import until
from webhooks.server import Serving
from worker.processes.supervisor import ROOT, free_port

# An application that tells what it was given, served as `web` serves ours.
CHILD = """
import json, sys
from flask import Flask, Response, jsonify, request
from granian import Granian
from webhooks.server import SERVER, Serving

def make():
    app, pulled, open_now = Flask("told"), [], []
    @app.route("/v1/endless")
    def endless():
        def pieces():
            open_now.append(1)
            try:
                for _ in range(10_000):
                    pulled.append(1)
                    yield b"x" * 65536
            finally:
                open_now.pop()
        return Response(pieces(), mimetype="text/plain")
    @app.route("/streams")
    def streams():
        return jsonify(pulled=len(pulled), open=len(open_now))
    @app.route("/long")
    def long():
        return Response((b"%07d\\n" % i for i in range(20_000)), mimetype="text/plain")
    @app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
    @app.route("/<path:path>", methods=["GET", "POST"])
    def told(path):
        return jsonify(path=request.path, body=request.get_data(as_text=True), length=request.content_length,
                       args=request.args.to_dict(), many=request.headers.get("X-Many"), trusted=request.headers.get("X-Trusted"),
                       peer=request.remote_addr, kind=request.content_type, raw=request.environ.get("RAW_URI"))
    return Serving(app, streams=8, **json.loads(sys.argv[2]))

if __name__ == "__main__":
    Granian("told:make", factory=True, address="127.0.0.1", port=int(sys.argv[1]), workers=1, workers_kill_timeout=5, log_enabled=False, **SERVER).serve()
"""


@contextlib.contextmanager
def serving(tmp_path_factory, **limits):
    folder, port = tmp_path_factory.mktemp("told"), free_port()
    (folder / "told.py").write_text(CHILD)
    process = subprocess.Popen(
        [sys.executable, "told.py", str(port), json.dumps(limits)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    base = f"http://127.0.0.1:{port}"

    def answers():
        try:
            return requests.get(base, timeout=1).ok
        except requests.RequestException:
            return False

    until(answers)
    yield base
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(20)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory) as base:
        yield base


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    """A server that waits for no body and no reader as long as production does."""
    with serving(tmp_path_factory, body_s=0.3, reader_s=0.5) as base:
        yield base


def half(base):
    host, port = base.removeprefix("http://").split(":")
    sock = socket.create_connection((host, int(port)), timeout=10)
    sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200\r\n\r\nhalf")
    return sock


def test_the_application_is_told_what_was_asked(server):
    told = requests.post(
        f"{server}/a%2Fb/c%20%25d%C3%A9?x=1&y=%2B",
        data=b"a=1",
        headers={"Content-Type": "text/odd"},
        timeout=5,
    ).json()
    assert told == {
        "path": "/a/b/c %dé",
        "body": "a=1",
        "length": 3,
        "args": {"x": "1", "y": "+"},
        "many": None,
        "trusted": None,
        "peer": "127.0.0.1",
        "kind": "text/odd",
        "raw": "/a%2Fb/c%20%25d%C3%A9",
    }
    assert (
        requests.post(server, data=iter([b"in ", b"pieces"]), timeout=5).json()["body"]
        == "in pieces"
    )
    assert requests.head(server, timeout=5).headers["Content-Length"] != "0"


def test_a_header_that_is_sent_twice_is_joined_and_one_that_could_pass_for_another_is_dropped(
    server,
):
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as sock:
        sock.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nX-Many: 1\r\nX-Many: 2\r\nX_Trusted: yes\r\nConnection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert b'"many":"1,2"' in answer
    assert b'"trusted":null' in answer


def test_a_long_answer_comes_whole_in_pieces(server):
    assert requests.get(f"{server}/long", timeout=20).content == b"".join(
        b"%07d\n" % i for i in range(20_000)
    )


def test_a_reader_that_goes_away_in_the_middle_harms_nobody(server):
    for _ in range(3):
        with requests.get(f"{server}/long", timeout=5, stream=True) as answer:
            next(answer.iter_content(100))
    assert requests.get(server, timeout=5).ok


def ask(server, path):
    """A connection that has asked and reads nothing."""
    host, port = server.removeprefix("http://").split(":")
    sock = socket.create_connection((host, int(port)), timeout=10)
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return sock


def streams(server):
    return requests.get(f"{server}/streams", timeout=5).json()


@pytest.mark.parametrize(
    "path",
    [
        "/agent%40example.com",
        "/team%2F7",
        "/x%2By",
        "/caf%c3%a9",
        "/caf%C3%A9",
        "/a//b/../c/",
        "/%7e",
        "/a+b",
        "/a;b=1",
    ],
)
def test_the_path_is_told_as_it_was_sent(server, path):
    with ask(server, path) as sock:
        assert f'"raw":"{path}"'.encode() in sock.recv(4096)


def test_slow_readers_cost_nobody_else_a_thread_and_take_no_more_than_they_read(server):
    before = streams(server)["pulled"]
    slow = [ask(server, "/v1/endless") for _ in range(8)]
    try:
        until(lambda: streams(server)["open"] == 8)
        for _ in range(20):
            began = time.monotonic()
            assert requests.get(server, timeout=5).ok
            assert time.monotonic() - began < 1
        assert (
            streams(server)["pulled"] - before < 8 * 200
        )  # of 10,000 each: what sockets hold, and a piece or two
    finally:
        for sock in slow:
            sock.close()
    until(lambda: streams(server)["open"] == 0)


def test_so_many_long_answers_are_read_at_once_and_one_more_is_asked_to_come_again(server):
    slow = [ask(server, "/v1/endless") for _ in range(8)]
    until(lambda: streams(server)["open"] == 8)
    answer = requests.get(f"{server}/v1/endless", timeout=5)
    assert (answer.status_code, answer.headers["Retry-After"], answer.json()["status"]) == (
        503,
        "5",
        503,
    )
    slow.pop().close()
    until(lambda: streams(server)["open"] == 7)
    with requests.get(f"{server}/v1/endless", timeout=5, stream=True) as answer:
        assert answer.ok
    for sock in slow:
        sock.close()
    until(lambda: streams(server)["open"] == 0)


def test_a_reader_that_takes_nothing_for_long_is_let_go(impatient):
    with ask(impatient, "/v1/endless"):
        until(lambda: streams(impatient)["pulled"] > 0)
        until(lambda: streams(impatient)["open"] == 0, 40)


@pytest.mark.parametrize("slow", [1, 2, 3, 7, 80, 200])
def test_however_many_bodies_are_on_their_way_a_whole_request_is_answered_at_once(server, slow):
    held = [half(server) for _ in range(slow)]
    try:
        for _ in range(5):
            began = time.monotonic()
            assert requests.get(server, timeout=5).ok
            assert time.monotonic() - began < 1
    finally:
        for sock in held:
            sock.close()


def test_a_body_that_does_not_come_is_given_up_in_time(impatient):
    began = time.monotonic()
    with half(impatient) as sock:
        assert sock.recv(100).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began >= 0.3


def test_in_production_a_body_has_five_seconds_and_a_reader_a_minute_for_each_piece():
    given = inspect.signature(Serving).parameters
    assert (given["body_s"].default, given["reader_s"].default) == (5.0, 60.0)


def test_a_slow_but_steady_body_arrives(server):
    with half(server) as sock:
        for _ in range(4):
            time.sleep(0.2)
            sock.sendall(b"-" * 49)
        assert b"half----" in sock.recv(4096)


def test_requests_are_answered_side_by_side(server):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(requests.get(server, timeout=5).ok))
        for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 40
