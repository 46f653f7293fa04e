"""The REST API over real sockets: what is sent, and what each answer becomes."""

import contextlib
import json
import os
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from worker.errors import CallOver, NotReady, Refused, TryAgain, Unclear, WrongPath
from worker.vobiz import client as vobiz_client
from worker.vobiz import loop
from worker.vobiz.account import Account
from worker.vobiz.client import Stop, Vobiz, next_offset
from worker.vobiz.loop import TimeLimits

FIXTURES = Path(__file__).parent.parent / "fixtures"
ONE = Account(auth_id="MA_1", tokens=("new",))
TWO = Account(auth_id="MA_2", tokens=("new", "old"))
CALL = "5b0c7c9e-2f5d-4a7f-9d5c-6f1e2b3a4c01"
OURS = {"status": 404, "body": b'{"api_id": "a", "error": "call not found"}'}
GATEWAY = {"status": 404, "body": (FIXTURES / "error_404_gateway.json").read_bytes()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = (
        -1
    )  # headers and body in one packet, else each answer waits 40 ms for an acknowledgement

    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.server.seen.append(
            (self.command, self.path, dict(self.headers), self.rfile.read(length))
        )
        answer = {"status": 200, "body": b"{}", "headers": {}} | self.server.answer(self)
        self.send_response(answer["status"])
        for name, value in answer["headers"].items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer["body"])))
        self.end_headers()
        self.wfile.write(answer["body"])

    do_DELETE = do_GET  # noqa: N815 - http.server's spelling

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


@pytest.fixture
def api():
    server = Server(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: (
        None
    )  # we reset connections, which it would tell with a traceback
    server.seen, server.answer = [], lambda _request: {}
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def vobiz(api):
    return client(api.server_port)


def client(port):
    return Vobiz(
        api_url=f"http://127.0.0.1:{port}/api/v1/",
        media_hosts=[],
        redirect_hosts=[],
        max_media_bytes=1,
    )


def always(**answer):
    return lambda _request: answer


# ── stop ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stop_for_all_is_a_delete_without_a_body(api, vobiz):
    api.answer = always(status=204, body=b"")
    vobiz.stop_recordings(ONE, CALL)
    method, path, headers, body = api.seen[0]
    assert (method, path, body) == ("DELETE", f"/api/v1/Account/MA_1/Call/{CALL}/Record/", b"")
    assert (headers["X-Auth-ID"], headers["X-Auth-Token"]) == ("MA_1", "new")


def test_a_stop_for_one_names_its_url_in_a_body(api, vobiz):
    vobiz.stop_recordings(ONE, CALL, url="https://media.vobiz.ai/x.mp3")
    assert json.loads(api.seen[0][3]) == {"URL": "https://media.vobiz.ai/x.mp3"}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (OURS, CallOver),
        ({"status": 404, "body": b"{}"}, CallOver),
        (GATEWAY, WrongPath),
        ({"status": 404, "body": b"<html>404</html>"}, WrongPath),
        ({"status": 302, "body": b"", "headers": {"Location": "https://evil.example/"}}, WrongPath),
        ({"status": 401, "body": (FIXTURES / "error_401_flat.json").read_bytes()}, Refused),
        ({"status": 403}, Refused),
        (
            {"status": 200, "body": (FIXTURES / "error_200_conference_failed.json").read_bytes()},
            TryAgain,
        ),
        *[
            ({"status": status}, TryAgain)
            for status in (400, 402, 408, 409, 422, 429, 500, 502, 503, 504)
        ],
    ],
)
def test_what_an_answer_to_a_stop_means(api, vobiz, answer, error):
    api.answer = always(**answer)
    with pytest.raises(error) as caught:
        vobiz.stop_recordings(ONE, CALL)
    assert type(caught.value) is error
    if error in (TryAgain, Refused):
        assert caught.value.status == answer["status"]


def test_an_id_that_would_change_the_path_is_never_sent(api, vobiz):
    for call_uuid in ("..", "a/b", "a?b", "", "a" * 129):
        with pytest.raises(ValueError, match="identifier"):
            vobiz.stop_recordings(ONE, call_uuid)
    assert api.seen == []


def test_closed_doors_and_broken_answers_are_tried_again():
    with pytest.raises(TryAgain, match="DELETE"):
        client(1).stop_recordings(ONE, CALL)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=lambda: listener.accept()[0].close() or None, daemon=True).start()
        with pytest.raises(TryAgain):
            client(listener.getsockname()[1]).stop_recordings(ONE, CALL)


@pytest.mark.parametrize(
    "first", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"]
)
def test_an_answer_that_trickles_does_not_hold_a_stop_for_ever(monkeypatch, first):
    monkeypatch.setattr(
        vobiz_client, "STOP_LIMITS", TimeLimits(connect_s=2, silence_s=3, total_s=0.3)
    )

    def trickle(listener):
        connection, _ = listener.accept()
        with contextlib.suppress(OSError):  # a slow machine may give up before the first byte
            connection.recv(65536)
            connection.sendall(first)
            while True:
                connection.sendall(b"x")
                time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=trickle, args=[listener], daemon=True).start()
        vobiz = client(listener.getsockname()[1])
        begun = time.monotonic()
        with pytest.raises(TryAgain):
            vobiz.stop_recordings(ONE, CALL)
    assert time.monotonic() - begun < 1.3


def test_connections_are_kept_and_cookies_are_not(api, vobiz):
    ports = []
    api.answer = lambda request: (
        ports.append(request.client_address[1]) or {"headers": {"Set-Cookie": "a=b; Path=/"}}
    )
    for _ in range(3):
        vobiz.stop_recordings(ONE, CALL)
    assert len(set(ports)) == 1
    assert all(
        "Cookie" not in headers and headers["Accept-Encoding"] == "identity"
        for _, _, headers, _ in api.seen
    )


def test_a_forked_process_makes_its_own_connections(api, vobiz):
    ports = []
    api.answer = lambda request: ports.append(request.client_address[1]) or {}
    vobiz.stop_recordings(ONE, CALL)
    child = os.fork()
    if child == 0:
        try:
            vobiz.stop_recordings(ONE, CALL)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    vobiz.stop_recordings(ONE, CALL)
    assert ports[0] == ports[2] != ports[1]


# ── two tokens ─────────────────────────────────────────────────────────────────────────────────────────────────────


def accepting(*tokens):
    return lambda request: {"status": 200 if request.headers["X-Auth-Token"] in tokens else 401}


def test_the_other_token_is_tried_and_the_one_that_works_remembered(api, vobiz):
    api.answer = accepting("old")
    vobiz.stop_recordings(TWO, CALL)
    vobiz.live_call(TWO, CALL)
    assert [headers["X-Auth-Token"] for _, _, headers, _ in api.seen] == ["new", "old", "old"]
    api.answer = accepting("new")
    vobiz.stop_recordings(TWO, CALL)
    assert [headers["X-Auth-Token"] for _, _, headers, _ in api.seen[3:]] == ["old", "new"]


def test_it_is_refused_only_when_all_tokens_are(api, vobiz):
    api.answer = accepting()
    with pytest.raises(Refused):
        vobiz.stop_recordings(TWO, CALL)
    assert len(api.seen) == 2


@pytest.mark.parametrize(
    ("answer", "works"),
    [
        (accepting("old"), True),
        (accepting(), False),
        (always(status=403), False),
        (always(status=500), None),
        (always(status=429), None),
        (always(**GATEWAY), None),
    ],
)
def test_whether_credentials_work(api, vobiz, answer, works):
    api.answer = answer
    assert vobiz.credentials_work(TWO) is works
    assert api.seen[0][1] == "/api/v1/auth/me"


def test_secrets_do_not_show():
    account = Account(
        auth_id="MA_1", tokens=("s3cret",), parent_tokens=("s3cret",), trunk_secrets=("s3cret",)
    )
    assert "s3cret" not in repr(account)
    with pytest.raises(ValueError, match="no token"):
        Account(auth_id="MA_1", tokens=())


# ── lists and looks ────────────────────────────────────────────────────────────────────────────────────────────────


def fixture(name):
    return always(body=(FIXTURES / name).read_bytes())


def test_a_row_is_read_with_all_its_facts(api, vobiz):
    api.answer = fixture("recording_get_flat.json")
    row = vobiz.get_recording(ONE, "0f4c1d9a-6b7e-4c31-8f2d-9a5b3c7e1d02")
    assert (row.call_uuid, row.duration_s, row.format, row.recording_type) == (
        CALL,
        311.48,
        "mp3",
        "call",
    )
    assert (row.from_number, row.to_number) == ("918065550101", "919820055512")
    assert [moment.isoformat()[:19] for moment in (row.started_at, row.ended_at, row.added_at)] == [
        "2026-09-14T06:30:12",
        "2026-09-14T06:35:24",
        "2026-09-14T06:35:27",
    ]
    assert row.url.startswith("https://media.vobiz.ai/v1/Account/MA_7QK2XWPD/")


def test_an_early_404_for_a_recording_is_not_ready(api, vobiz):
    api.answer = always(status=404, body=(FIXTURES / "recording_get_404.json").read_bytes())
    with pytest.raises(NotReady):
        vobiz.get_recording(ONE, "r-1")
    api.answer = fixture("recording_get_flat.json")
    with pytest.raises(TryAgain, match="another recording"):
        vobiz.get_recording(ONE, "r-1")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("recordings_list_empty.json", []),
        ("recordings_list_openapi_example.json", []),  # it does not say whose call that was
        (
            "recordings_list_objects.json",
            ["0f4c1d9a-6b7e-4c31-8f2d-9a5b3c7e1d02", CALL, "d2a97c44-1e5f-4b80-a3c6-74f0b8e9d503"],
        ),
        ("recordings_list_legacy_recordings.json", ["REC_k29d81mqp0"]),
    ],
)
def test_lists_of_every_shape_are_read(api, vobiz, name, found):
    api.answer = fixture(name)
    rows = vobiz.find_recordings(ONE, call_uuid=CALL)
    assert [row.recording_id for row in rows] == found
    assert "legacy" not in name or (rows[0].duration_s, rows[0].format) == (312, "mp3")


@pytest.mark.parametrize(
    "body", [b"{}", b"not json", b'{"error": "failed"}', b"[]", b'{"objects": {}}']
)
def test_an_answer_without_a_list_is_no_empty_list(api, vobiz, body):
    api.answer = always(body=body)
    with pytest.raises(TryAgain):
        vobiz.find_recordings(ONE, call_uuid=CALL)


def pages(total, *, cap=100, meta=True, grow=0, obey=True):
    """A list of `total` rows, newest first, that grows by `grow` rows with each request."""
    served = []

    def answer(request):
        query = parse_qs(urlsplit(request.path).query)
        served.append(query)
        offset = int(query["offset"][0]) if obey else 0
        count = total + grow * (len(served) - 1)
        rows = [
            {"recording_id": f"r{i}", "call_uuid": CALL if i % 2 else "other"}
            for i in range(count)[::-1][offset : offset + cap]
        ]
        following = (
            f"/v1/Account/MA_1/Recording/?limit={cap}&offset={offset + cap}"
            if offset + cap < count
            else None
        )
        fields = {"objects": rows} | ({"meta": {"next": following}} if meta else {})
        return {"body": json.dumps(fields).encode()}

    return answer, served


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize(
    ("total", "grow"), [(0, 0), (1, 0), (100, 0), (101, 0), (350, 0), (350, 4)]
)
def test_all_pages_are_read_and_rows_of_other_calls_dropped(api, vobiz, total, grow, meta):
    api.answer, served = pages(total, grow=grow, meta=meta)
    rows = vobiz.find_recordings(ONE, call_uuid=CALL)
    assert {row.recording_id for row in rows} >= {f"r{i}" for i in range(1, total, 2)}
    assert len({row.recording_id for row in rows}) == len(rows)
    assert (served[0]["limit"], served[0]["call_uuid"]) == (["100"], [CALL])


def test_a_server_with_smaller_pages_or_deaf_ears_comes_to_an_end(api, vobiz):
    api.answer, _ = pages(90, cap=20)
    assert len(vobiz.find_recordings(ONE, call_uuid=CALL)) == 45
    api.answer, served = pages(500, obey=False)
    assert len(vobiz.find_recordings(ONE, call_uuid=CALL)) == 50
    assert len(served) == 2
    api.answer, served = pages(2500)
    vobiz.find_recordings(ONE, call_uuid=CALL)
    assert len(served) == 20


def test_a_page_of_all_recordings_asks_for_no_call_and_the_next_begins_a_little_before_its_end(
    api, vobiz
):
    api.answer, served = pages(250)
    page = vobiz.recordings_page(ONE, offset=0)
    assert (len(page.rows), next_offset(page, 0), served[0]) == (
        100,
        95,
        {"limit": ["100"], "offset": ["0"]},
    )
    page = vobiz.recordings_page(ONE, offset=195)
    assert (len(page.rows), next_offset(page, 195)) == (55, None)


def test_the_live_calls_are_read_and_what_is_no_list_is_no_empty_list(api, vobiz):
    api.answer = fixture("live_calls_list.json")
    assert (
        vobiz.live_calls(ONE)
        == json.loads((FIXTURES / "live_calls_list.json").read_text())["calls"]
    )
    assert api.seen[0][1] == "/api/v1/Account/MA_1/Call/?status=live"
    for body in (b"{}", b"[]", b'{"calls": null}', b"x"):
        api.answer = always(body=body)
        with pytest.raises(TryAgain):
            vobiz.live_calls(ONE)
    api.answer = always(body=b'{"calls": ["a", "a", "../b", 7, ""]}')
    assert vobiz.live_calls(ONE) == ["a", "7"]


def test_a_live_call_tells_its_numbers(api, vobiz):
    api.answer = fixture("live_call_get.json")
    found, told = (
        vobiz.live_call(ONE, CALL),
        json.loads((FIXTURES / "live_call_get.json").read_text()),
    )
    assert (found.from_number, found.to_number, found.direction) == (
        told["from"].lstrip("+"),
        told["to"].lstrip("+"),
        told["direction"],
    )
    api.answer = always(**OURS)
    assert vobiz.live_call(ONE, CALL) is None


def test_whether_a_call_is_live(api, vobiz):
    api.answer = fixture("live_call_get.json")
    assert vobiz.live_call(ONE, CALL) is not None
    assert api.seen[0][1] == f"/api/v1/Account/MA_1/Call/{CALL}/?status=live"
    api.answer = always(**OURS)
    assert vobiz.live_call(ONE, CALL) is None
    api.answer = always(**GATEWAY)
    with pytest.raises(WrongPath):
        vobiz.live_call(ONE, CALL)


# ── how requests leave ─────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def one_answer_then_silence(kind):
    """A server that answers the first request of each connection, and hangs up on the second."""
    seen = []

    def serve(connection):
        with contextlib.suppress(OSError):
            seen.append(connection.recv(65536).split()[0])
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            seen.append(connection.recv(65536).split()[0])
            if kind == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    def accept(listener):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=[listener], daemon=True).start()
        yield client(listener.getsockname()[1]), seen


@pytest.mark.parametrize("kind", ["reset", "close"])
def test_a_request_on_a_connection_that_dies_without_an_answer_does_not_leave_twice(kind):
    with one_answer_then_silence(kind) as (vobiz, seen):
        vobiz.live_call(ONE, CALL)
        with pytest.raises(Unclear):
            vobiz.transfer(ONE, CALL, {"legs": "aleg"})
        assert seen == [b"GET", b"POST"]
    with one_answer_then_silence(kind) as (vobiz, seen):
        vobiz.live_call(ONE, CALL)
        with pytest.raises(TryAgain, match="DELETE"):
            vobiz.stop_recordings(ONE, CALL)
        assert seen == [b"GET", b"DELETE"]


def test_a_connection_that_was_closed_while_idle_is_not_used_again():
    seen = []

    def serve(listener):
        for _ in range(2):
            connection, _ = listener.accept()
            seen.append(connection.recv(65536).split()[0])
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=[listener], daemon=True).start()
        vobiz = client(listener.getsockname()[1])
        vobiz.live_call(ONE, CALL)
        time.sleep(0.05)  # until the end of the connection has come
        vobiz.transfer(ONE, CALL, {"legs": "aleg"})
    assert seen == [b"GET", b"POST"]


def test_a_request_fails_where_its_kept_connection_ended_and_no_new_one_is_taken():
    def serve(listener):
        connection, _ = listener.accept()
        listener.close()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        connection.close()

    listener = socket.create_server(("127.0.0.1", 0))
    vobiz = client(listener.getsockname()[1])
    threading.Thread(target=serve, args=[listener], daemon=True).start()
    vobiz.live_call(ONE, CALL)
    time.sleep(0.05)  # until the end of the connection has come
    outcome = vobiz.send_stops([Stop(account=ONE, call_uuid=CALL)])[0].result(2)
    assert isinstance(outcome.error, TryAgain)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Ty"])
def test_an_answer_that_ends_within_its_head_says_nothing(head):
    def serve(listener):
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(head)
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=[listener], daemon=True).start()
        with pytest.raises(Unclear, match="within its headers"):
            client(listener.getsockname()[1]).transfer(ONE, CALL, {"legs": "aleg"})


def test_stops_leave_together_and_one_that_hangs_holds_up_no_other(api, vobiz):
    together = threading.Barrier(40)
    api.answer = lambda request: (together.wait(10) and {}) or {}
    stops = [Stop(account=ONE, call_uuid=f"c{i}") for i in range(40)]
    outcomes = [sent.result(10) for sent in vobiz.send_stops(stops)]
    assert [outcome.error for outcome in outcomes] == [None] * 40
    goes_on = threading.Event()
    api.answer = lambda request: ("hangs" in request.path and goes_on.wait(10) and {}) or {}
    hanging, other = vobiz.send_stops(
        [Stop(account=ONE, call_uuid="hangs"), Stop(account=ONE, call_uuid="other")]
    )
    assert other.result(2).error is None
    assert not hanging.done()
    goes_on.set()
    assert hanging.result(2).error is None


def test_a_handle_that_sent_one_request_keeps_nothing_of_it_for_the_next(api, vobiz):
    named = Stop(account=ONE, call_uuid=CALL, url="https://media.vobiz.ai/x.mp3")
    whole = Stop(account=TWO, call_uuid=CALL)
    for stop in (named, whole, named, whole):
        assert vobiz.send_stops([stop])[0].result(5).error is None
    vobiz.live_call(ONE, CALL)
    kinds = [(method, h.get("Content-Type"), bool(body)) for method, _, h, body in api.seen]
    assert kinds == [("DELETE", "application/json", True), ("DELETE", None, False)] * 2 + [
        ("GET", None, False)
    ]
    assert [h["X-Auth-ID"] for _, _, h, _ in api.seen] == ["MA_1", "MA_2"] * 2 + ["MA_1"]


def test_a_batch_of_stops_uses_the_connections_of_the_one_before(api, vobiz):
    ports, together = set(), threading.Barrier(100)
    api.answer = lambda request: (
        ports.add(request.client_address[1]) or (together.wait(10) and {}) or {}
    )
    for _ in range(2):
        sent = vobiz.send_stops([Stop(account=ONE, call_uuid=f"c{i}") for i in range(100)])
        assert [stop.result(10).error for stop in sent] == [None] * 100
    assert len(ports) == 100


def test_a_loop_that_breaks_leaves_no_request_without_an_outcome(monkeypatch, vobiz):
    def broken(*_):
        raise MemoryError

    with monkeypatch.context() as broken_loop:
        broken_loop.setattr(loop, "_headers", broken)
        outcome = vobiz.send_stops([Stop(account=ONE, call_uuid=CALL)])[0].result(2)
        assert isinstance(outcome.error, TryAgain)
    vobiz.stop_recordings(ONE, CALL)


def test_silence_ends_a_request_before_its_total_time(monkeypatch, api, vobiz):
    monkeypatch.setattr(
        vobiz_client, "STOP_LIMITS", TimeLimits(connect_s=2, silence_s=0.3, total_s=9)
    )
    goes_on = threading.Event()
    api.answer = lambda request: (goes_on.wait(10) and {}) or {}
    begun = time.monotonic()
    with pytest.raises(TryAgain, match="nothing came"):
        vobiz.stop_recordings(ONE, CALL)
    assert 0.3 <= time.monotonic() - begun < 2
    goes_on.set()


def test_an_answer_may_not_be_larger_than_its_limit(monkeypatch, api, vobiz):
    monkeypatch.setattr(loop, "MAX_ANSWER_BYTES", 1000)
    api.answer = always(body=b" " * 1001)
    with pytest.raises(TryAgain, match="larger than 1000 bytes") as caught:
        vobiz.live_calls(ONE)
    assert caught.value.status == 200
