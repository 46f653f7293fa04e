"""What a stranger on the wire can send to the real server, and what it then does."""

import gzip
import json
import secrets
import threading
import time
from urllib.parse import urlencode, urlsplit

import pytest
import requests

from emulator import signing
from tests.constants import ACCOUNT, CALLBACK_TOKEN, KEY, TOKEN
from tests.process_list import command_lines
from tests.waiting import until
from tests.wire_level import FORM, connect, exchange, head, statuses
from webhooks.headers import HEADERS

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("hostile")]
SECRETS = (TOKEN, CALLBACK_TOKEN, KEY)
DOOR = f"/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"
BODY = "Event=Ring&CallUUID=hostile"
NEXT = head(
    "/healthz", "Connection: close", method="GET"
)  # what a smuggler would like to be answered too


def signed(service, *, path=""):
    """The headers of a good signature, as lines."""
    found = signing.signature_headers(
        "v3+v2", service.callback + path, TOKEN, None, signing.Nonces()
    )
    return [f"{name}: {value}" for name, value in found.items()]


def length(n):
    return f"Content-Length: {n}"


CHUNKED = "Transfer-Encoding: chunked"
WHOLE = f"{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n"
# Each comes with a good signature, and is followed by a second request where its framing is in
# doubt.
SHAPES = {
    "chunks and a length": ([CHUNKED, length(5)], WHOLE),
    "a length and chunks": ([length(5), CHUNKED], WHOLE),
    "two lengths that differ": ([length(5), length(len(BODY))], BODY),
    "a list of lengths": ([length("5, 5")], BODY),
    "a length with a sign": ([length(f"+{len(BODY)}")], BODY),
    "a length below nothing": ([length(-1)], BODY),
    "a length in hexadecimal": ([length(hex(len(BODY)))], BODY),
    "a length without end": ([length("9" * 40)], BODY),
    "a space before the colon": ([f"Content-Length : {len(BODY)}"], BODY),
    "a coding that is none": (["Transfer-Encoding: xchunked"], WHOLE),
    "chunks that are not last": (["Transfer-Encoding: chunked, identity"], WHOLE),
    "two codings": ([CHUNKED, "Transfer-Encoding: identity"], WHOLE),
    "a folded coding": (["Transfer-Encoding:\r\n chunked"], WHOLE),
    "a coding behind a vertical tab": (["Transfer-Encoding: \x0bchunked"], WHOLE),
    "a folded header": (["X-A: 1\r\n b", length(len(BODY))], BODY),
    "a NUL in a header": (["X-A: a\0b", length(len(BODY))], BODY),
    "a carriage return in a header": (["X-A: a\rb", length(len(BODY))], BODY),
    "a header without a name": ([": x", length(len(BODY))], BODY),
    "a header without a colon": (["nonsense", length(len(BODY))], BODY),
    "a chunk size with 0x": ([CHUNKED], f"0x{WHOLE}"),
    "a chunk size with a sign": ([CHUNKED], f"-{WHOLE}"),
    "a chunk size beyond all": ([CHUNKED], f"ffffffffffffffffff\r\n{BODY}\r\n0\r\n\r\n"),
    "chunks that end with bare line feeds": ([CHUNKED], WHOLE.replace("\r\n", "\n")),
    "a chunk longer than it says": ([CHUNKED], f"3\r\n{BODY}\r\n0\r\n\r\n"),
    "more headers than anybody needs": (
        [f"X-{i}: 1" for i in range(500)] + [length(len(BODY))],
        BODY,
    ),
    "a header of 300 KB": (["X-A: " + "a" * 300_000, length(len(BODY))], BODY),
    "an upgrade to HTTP/2": (
        [
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAAQAAP__",
            length(len(BODY)),
        ],
        BODY,
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_request_that_two_servers_could_read_differently_is_one_request_at_most(service, shape):
    lines, body = SHAPES[shape]
    answer = exchange(
        service.base, head(DOOR, FORM, *signed(service), *lines) + body.encode() + NEXT
    )
    found = statuses(answer)
    # Where the framing is clear after all, the next request is read as one; else the connection
    # ends with the first answer.
    assert len(found) <= 1 or (shape == "an upgrade to HTTP/2" and found == [200, 200]), (
        found,
        answer,
    )
    assert all(status < 500 for status in found)
    assert b"ok\n" not in answer or shape == "an upgrade to HTTP/2"


PATHS = {
    "absolute form, another host": (f"http://evil.example{DOOR}", {200}),
    "another host": (f"//evil.example{DOOR}", {404}),
    "double slashes before": (f"/{DOOR}", {200}),
    "double slashes within": (DOOR.replace("/MA", "//MA"), {404}),
    "no path but a host": ("evil.example", {404, 405}),
    "dots": (f"/x/..{DOOR}", {404}),
    "escaped dots": (f"/x/%2e%2e{DOOR}", {404}),
    "an escaped slash": (DOOR.replace("/MA", "%2fMA"), {200, 404}),
    "a NUL": (f"{DOOR}%00", {404}),
    "a NUL below": (f"{DOOR}/a%00b", {200, 403}),
    "no text": (f"{DOOR}/%ff%fe", {200, 403}),
    "a line end": (f"{DOOR}/a%0d%0aSet-Cookie:x", {404}),
    "a fragment": (f"{DOOR}#x", {200, 400}),
    "a very long one": (f"{DOOR}/{'a' * 100_000}", {414}),
    "a raw NUL": (f"{DOOR}/a\0b", {400}),
    "raw bytes": (f"{DOOR}/\xff", {400}),
}


@pytest.mark.parametrize("name", PATHS)
def test_an_odd_path_is_answered_plainly_and_never_with_a_redirect(service, name):
    path, allowed = PATHS[name]
    answer = exchange(
        service.base,
        head(path, FORM, *signed(service), length(len(BODY)), "Connection: close") + BODY.encode(),
    )
    assert set(statuses(answer)) <= allowed, answer
    assert statuses(answer)
    assert b"\r\nlocation:" not in answer.lower()
    assert b"\r\nset-cookie" not in answer.lower()


def test_what_is_below_the_address_is_taken_with_any_number_of_slashes_and_keeps_its_call(service):
    for path, status in (("//dial", 200), ("/a//b/", 200), ("//call/other", 403)):
        raw = (
            head(
                DOOR + path,
                FORM,
                *signed(service, path=path),
                length(len(BODY)),
                "Connection: close",
            )
            + BODY.encode()
        )
        assert statuses(exchange(service.base, raw)) == [status], path


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"GET /healthz HT",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    ],
    ids=["silence", "half a request line", "HTTP/2", "TLS"],
)
def test_a_connection_that_asks_nothing_is_closed_within_seconds(service, first):
    begun = time.monotonic()
    answer = exchange(service.base, first, timeout_s=9)
    assert time.monotonic() - begun < 8
    assert set(statuses(answer)) <= {400}


@pytest.mark.parametrize("path", [f"/vobiz/{ACCOUNT}/{'x' * 24}", DOOR, "/v1/events"])
def test_a_body_that_does_not_come_is_given_up_after_seconds_whoever_announced_it(service, path):
    begun = time.monotonic()
    answer = exchange(service.base, head(path, FORM, length(60_000)) + b"Event=", timeout_s=12)
    assert set(statuses(answer)) <= {408}
    assert 4 < time.monotonic() - begun < 9


def test_a_body_that_broke_off_is_no_callback_and_its_repetition_is_taken(service):
    lines, body = (
        signed(service),
        urlencode(
            {
                "Event": "RecordStop",
                "CallUUID": "cut-1",
                "RecordingID": "cut-r1",
                "RecordingDurationMs": "60040",
            }
        ).encode(),
    )
    raw = head(DOOR, FORM, length(len(body)), "Connection: close", *lines) + body
    assert statuses(exchange(service.base, raw[:-3], half_close=True)) in (
        [],
        [400],
    )  # who has gone away is not always answered
    until(lambda: 'endtape_refused_total{reason="cut"}' in service.get("/metrics").text)
    assert service.get("/v1/calls/cut-1").status_code == 404
    assert statuses(exchange(service.base, raw)) == [200]
    (event,) = service.get("/v1/calls/cut-1").json()["timeline"]
    assert event["event"] == "RecordingFinalized"
    assert service.recording("cut-r1")["duration_ms"] == 60040


def test_a_body_in_chunks_that_broke_off_is_no_callback_either(service):
    lines, body = (
        signed(service),
        urlencode(
            {"Event": "Hangup", "CallUUID": "cut-2", "HangupCause": "NORMAL_CLEARING"}
        ).encode(),
    )
    raw = head(
        DOOR, FORM, "Transfer-Encoding: chunked", "Connection: close", *lines
    ) + b"%x\r\n%b\r\n" % (len(body), body)
    before = (
        service.get("/metrics")
        .text.partition('endtape_refused_total{reason="cut"} ')[2]
        .partition("\n")[0]
        or "0"
    )
    assert statuses(exchange(service.base, raw, half_close=True)) in ([], [400])
    until(
        lambda: (
            f'endtape_refused_total{{reason="cut"}} {float(before) + 1}'
            in service.get("/metrics").text
        )
    )
    assert service.get("/v1/calls/cut-2").status_code == 404
    assert statuses(exchange(service.base, raw + b"0\r\n\r\n")) == [200]
    assert service.get("/v1/calls/cut-2").status_code == 200


def test_a_body_that_does_not_come_frees_its_thread_and_nobody_else_notices(service):
    """Three ways to be slow; all the while a good sender from the same address, on a connection
    that it keeps, is served."""
    ends, good, done = {}, [], threading.Event()

    def slow(name, lines, pieces):
        with connect(service.base, 20) as connection:
            begun = time.monotonic()
            connection.sendall(head(DOOR, FORM, *signed(service), *lines))
            connection.settimeout(0.4)
            answer = b""
            while time.monotonic() - begun < 15:
                try:
                    block = connection.recv(4096)
                    answer += block
                    if not block:
                        break
                except TimeoutError:
                    connection.sendall(pieces)
                except OSError:
                    break
            ends[name] = time.monotonic() - begun, statuses(answer)

    def ring():
        with requests.Session() as session:
            while not done.wait(0.1):
                headers = dict(line.split(": ", 1) for line in signed(service))
                begun = time.monotonic()
                good.append(
                    (
                        session.post(
                            service.callback,
                            data={"Event": "Ring", "CallUUID": "beside"},
                            headers=headers,
                            timeout=5,
                        ).status_code,
                        time.monotonic() - begun,
                    )
                )

    threads = [
        threading.Thread(target=slow, args=case)
        for case in (
            ("silent", [length(200)], b""),
            ("a byte at a time", [length(200)], b"x"),
            ("small chunks", [CHUNKED], b"1\r\nx\r\n"),
        )
    ]
    beside = threading.Thread(target=ring)
    for thread in (*threads, beside):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    beside.join()
    assert set(ends) == {"silent", "a byte at a time", "small chunks"}
    for name, (lasted, found) in ends.items():
        assert 4 < lasted < 9, (name, lasted)
        assert set(found) <= {408}, (name, found)
    assert {status for status, _ in good} == {200}
    assert len(good) > 20
    assert max(took for _, took in good) < 2


def test_a_packed_body_is_not_unpacked_and_ten_thousand_fields_are_refused(service):
    bomb = gzip.compress(bytes(20_000_000))
    assert len(bomb) < 64 * 1024
    for body, more in (
        (bomb, ["Content-Encoding: gzip"]),
        (b"&".join(b"k%d=" % i for i in range(10_000)), []),
        (b'{"a":' * 9_000 + b"1" + b"}" * 9_000, ["Content-Type: application/json"]),
    ):
        begun = time.monotonic()
        answer = exchange(
            service.base,
            head(DOOR, FORM, *signed(service), length(len(body)), *more, "Connection: close")
            + body,
        )
        assert statuses(answer) in ([400], [413])
        assert time.monotonic() - begun < 1


def test_every_answer_carries_the_headers_that_tell_a_browser_to_do_nothing_with_it(service):
    headers = {"Authorization": f"Bearer {KEY}"}
    answers = [
        requests.get(service.base + path, headers=given, timeout=5)
        for path in (
            "/v1/openapi.json",
            "/v1/recordings",
            "/healthz",
            "/readyz",
            "/metrics",
            "/nope",
            "/v1/calls/x",
        )
        for given in ({}, headers)
    ]
    answers += [
        requests.post(service.base + path, timeout=5)
        for path in ("/v1/recordings", DOOR, "/vobiz/x/y")
    ]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, answer.url
        assert "Set-Cookie" not in answer.headers


def test_no_secret_in_command_lines_logs_receipts_or_errors(service):
    service.provider.faults.switch_on("leaked-tokens")
    call = service.provider.call(to_number="918020000001")
    recording = service.provider.record(call.call_uuid).recording_id
    key = service.reach(recording, "archived")["archive_key"]
    service.provider.faults.switch_off("leaked-tokens")
    forged = {
        "auth-token": TOKEN,
        "parent-auth-token": TOKEN,
        "X-Auth-Token": TOKEN,
        "Authorization": f"Bearer {KEY}",
        "Cookie": f"k={KEY}",
        "X-Forwarded-For": TOKEN,
        "User-Agent": TOKEN,
        "X-Vobiz-Signature-V3": TOKEN,
        "X-Vobiz-Signature-V3-Nonce": KEY,
        "Referer": service.callback,
    }
    errors = [
        requests.request(method, url, headers=forged, data=body, timeout=5)
        for method, url, body in (
            ("POST", service.callback, "Event=Ring&CallUUID=c"),
            ("POST", service.callback + "x", "a=1"),
            ("POST", service.callback, b"\xff"),
            ("POST", service.callback, f"Event=Ring&CallUUID={TOKEN}/{KEY}"),
            ("PUT", service.callback, "a=1"),
            ("POST", service.callback, "x" * 70_000),
            ("GET", f"{service.base}/v1/recordings?limit={KEY}", None),
            ("GET", f"{service.base}/v1/calls/{TOKEN}!", None),
            ("GET", f"{service.base}/{KEY}", None),
        )
    ]
    errors.append(requests.post(service.base + "/login", data={"password": f"{KEY}x"}, timeout=5))
    assert all(400 <= answer.status_code < 500 for answer in errors)
    assert not [
        answer.text
        for answer in errors
        for secret in SECRETS
        if secret in answer.text + str(answer.headers)
    ]
    receipt = (service.archive / key).with_suffix(".json").read_text()
    timeline = json.dumps(service.get(f"/v1/calls/{call.call_uuid}").json())
    metrics = service.get("/metrics").text
    log = until(
        lambda: (text := (service.folder / "log").read_text()) and "reason=key" in text and text
    )
    lines = command_lines(
        service.redis.process.pid, *(p.pid for p in service.processes.processes.values())
    )
    assert len(lines) >= 10
    for place, text in {
        "receipt": receipt,
        "timeline": timeline,
        "metrics": metrics,
        "log": log,
        "argv": "\n".join(lines),
    }.items():
        assert not [secret for secret in SECRETS if secret in text], place


def test_the_log_is_quiet_about_all_this(service):
    text = (service.folder / "log").read_text()
    assert "Traceback" not in text
    assert "panicked" not in text
    assert service.get("/readyz").status_code == 200
    assert urlsplit(service.callback).path not in text
    assert secrets.token_hex(8) not in text
