"""In whatever shape a callback comes, it says the same; and what the operator put into its URL says
nothing."""

import http.client
import json
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import pytest

from emulator import signing
from tests.constants import ACCOUNT, CALLBACK_TOKEN, TOKEN
from tests.waiting import until
from tests.webhooks.doors import DOORS
from worker.calls.events import Kind
from worker.vobiz import callback_fields, callbacks

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
MARK = b"\xef\xbb\xbf"
SNAKE = {
    "api_id": "a1",
    "record_url": "https://media.vobiz.ai/v1/Account/MA_TEST0001/Recording/r1.mp3",
    "call_uuid": "c1",
    "recording_id": "r1",
    "recording_duration": "5",
    "recording_duration_ms": "5000",
    "recording_start_ms": "1789367412900",
    "recording_end_ms": "1789367417900",
}
PASCAL = {
    "Event": "RecordStop",
    "CallUUID": "c1",
    "RecordingID": "r1",
    "RecordUrl": SNAKE["record_url"],
    "RecordingDurationMs": "5000",
    "From": "919820055512",
    "To": "918065550101",
    "Direction": "inbound",
    "RecordingEndReason": "HungUp",
}
TRANSCRIPT = {
    "transcription": "hello",
    "transcription_charge": "0.3",
    "duration": "311",
    "call_uuid": "c1",
    "recording_id": "r1",
    "transcription_url": "https://m.vobiz.ai/t.txt",
}
OPERATORS = [
    "event=recording-done&tenant=7",
    "transcription=off&to=archive2",
    "to=9&from=8&direction=outbound&url=https://a.test/x.mp3",
    "call_uuid=other",
    "CallUUID=other",
    "recording_id=other&recording-id=x",
    "Event=mine",
    "response=json",
    "response=%7B%22a%22:1%7D",
    "call-uuid=other&callid=other",
    "event=hangup&CallStatus=x",
    "event=recording.completed&recording_url=https://a.test/x.mp3",
    "=&&;=%00&%ff=%fe",
    "conference_name=x",
    "dial_status=busy",
    "trunk_id=4",
    "account=x&a_leg_uuid=other",
]


def event(body=b"", kind=FORM, query=""):
    found = callbacks.parse(
        callback_fields.read_fields(body=body, content_type=kind, query=query).fields
    )
    return found and (
        found.kind,
        found.call_uuid,
        found.recording_id,
        found.url,
        found.duration_s,
        found.from_number,
        found.to_number,
        found.direction,
        found.trunk,
        found.leg,
    )


def multipart(fields, boundary="----x7", end="\r\n"):
    parts = [
        f'--{boundary}{end}Content-Disposition: form-data; name="{name}"{end}{end}{value}{end}'
        for name, value in fields.items()
    ]
    return "".join([*parts, f"--{boundary}--{end}"]).encode()


MULTIPART = "multipart/form-data; boundary=----x7"


# The operator's own parameters
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", OPERATORS)
@pytest.mark.parametrize("fields", [SNAKE, PASCAL], ids=["snake", "pascal"])
def test_the_operators_own_parameters_change_nothing_of_a_posted_callback(fields, query):
    assert event(urlencode(fields).encode(), query=query) == event(urlencode(fields).encode())
    assert event(json.dumps(fields).encode(), JSON, query) == event(
        json.dumps(fields).encode(), JSON
    )
    assert event(multipart(fields), MULTIPART, query) == event(urlencode(fields).encode())


@pytest.mark.parametrize("query", OPERATORS)
@pytest.mark.parametrize("fields", [SNAKE, PASCAL], ids=["snake", "pascal"])
def test_they_change_nothing_of_one_that_comes_by_get_either(fields, query):
    plain = event(urlencode(fields).encode())
    assert event(query=f"{query}&{urlencode(fields)}") == plain
    wrapped = {"api_id": "a1", "response": json.dumps(fields)}
    assert event(query=f"{query}&{urlencode(wrapped)}") == plain


def test_a_sender_that_sorts_its_parameters_is_understood():
    pairs = [*[("event", "recording-done"), ("tenant", "7"), ("to", "archive2")], *PASCAL.items()]
    assert event(query=urlencode(sorted(pairs))) == event(urlencode(PASCAL).encode())


def test_of_two_that_are_spelled_alike_the_providers_stands_behind_the_operators():
    assert event(query=f"To=1&Event=mine&{urlencode(PASCAL)}") == event(urlencode(PASCAL).encode())


def test_facts_in_the_query_of_a_post_without_body_are_read():
    for body in (b"", b"\r\n", MARK, b"{}"):
        assert event(body, query=f"tenant=7&{urlencode(SNAKE)}") == event(urlencode(SNAKE).encode())


@pytest.mark.parametrize(
    "name", [p.name for p in sorted(FIXTURES.glob("*.form")) if "nested" not in p.name]
)
def test_every_fixture_says_the_same_by_get_beside_an_operators_parameters(name):
    body = (FIXTURES / name).read_bytes()
    assert event(query=f"event=mine&to=archive2&tenant=7&{body.decode()}") == event(body)


@pytest.mark.parametrize("left_out", ["event", "Event", None])
@pytest.mark.parametrize(
    "name", [p.name for p in sorted(FIXTURES.glob("*.json")) if p.name.startswith("trunk_")]
)
def test_a_trunks_webhook_says_the_same_by_get(name, left_out):
    fields = json.loads((FIXTURES / name).read_bytes())
    if left_out and {"event", "Event"} <= fields.keys():
        del fields[left_out]
    assert event(query=f"event=mine&to=archive2&call_uuid=other&{urlencode(fields)}") == event(
        json.dumps(fields).encode(), JSON
    )


def test_a_transcript_is_no_recording_whatever_the_operator_adds():
    assert event(urlencode(TRANSCRIPT).encode()) is None
    assert event(query=f"record=1&{urlencode(TRANSCRIPT)}") is None


@pytest.mark.parametrize(
    "query",
    ["", "tenant=7", "event=recording-done&to=archive2", "response=json", "transcription=off"],
)
def test_what_holds_nothing_of_the_providers_is_told_apart(query):
    with pytest.raises(callback_fields.Nothing):
        event(query=query)


# Encodings
# -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [SNAKE, PASCAL], ids=["snake", "pascal"])
def test_multipart_is_read_however_it_is_spelled(fields):
    plain = event(urlencode(fields).encode())
    assert event(multipart(fields), MULTIPART) == plain
    assert (
        event(multipart(fields), 'Multipart/Form-Data; charset=utf-8; boundary="----x7"') == plain
    )
    assert event(multipart(fields, end="\n"), MULTIPART) == plain
    assert event(b"preamble\r\n" + multipart(fields) + b"\r\nepilogue", MULTIPART) == plain
    assert event(MARK + multipart(fields), MULTIPART) == plain
    assert event(multipart(fields), "multipart/form-data") == plain  # the boundary is forgotten
    assert event(multipart(fields), FORM) == plain  # another type is told
    assert event(urlencode(fields).encode(), MULTIPART) == plain
    assert event(multipart({"api_id": "a1", "response": json.dumps(fields)}), MULTIPART) == plain


def test_a_part_of_a_multipart_that_cannot_be_read_costs_that_part():
    odd = (
        b'------x7\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\nRIFF\0\xff\xfe\r\n'
        b'------x7\r\nContent-Type: text/plain\r\n\r\nwithout a name\r\n------x7\r\n\r\n\r\n------x7\r\nContent-Disposition: form-data; name="From"\r\n\r\n\xff\xfe\r\n'
    )
    assert event(
        odd + multipart({k: v for k, v in PASCAL.items() if k != "From"}), MULTIPART
    ) == event(urlencode({**PASCAL, "From": ""}).encode())


@pytest.mark.parametrize(
    "body",
    [
        multipart(SNAKE)[:-10],
        b"--",
        b"------x7--\r\n",
        b"",
        b"nothing",
        multipart({f"k{i}": "1" for i in range(150)}),
        multipart({"tenant": "7"})[:40],
    ],
)
def test_a_multipart_that_broke_off_or_has_no_end_of_parts_is_unreadable(body):
    with pytest.raises(callback_fields.Unreadable):
        event(body, MULTIPART)


def test_a_mark_at_the_beginning_is_skipped_wherever_text_begins():
    plain = event(urlencode(SNAKE).encode())
    assert event(MARK + urlencode(SNAKE).encode()) == plain
    assert event(MARK + json.dumps(SNAKE).encode(), JSON) == plain
    assert event(MARK + json.dumps(SNAKE).encode()) == plain
    assert event(MARK + b"\r\n" + MARK + json.dumps(SNAKE).encode(), JSON) == plain
    assert event(f"%EF%BB%BF{urlencode(SNAKE)}".encode()) == plain
    assert event(query=f"%EF%BB%BF{urlencode(SNAKE)}") == plain
    assert event(urlencode({"response": "\ufeff" + json.dumps(SNAKE)}).encode()) == plain
    assert event(urlencode({"\ufeffresponse": json.dumps(SNAKE)}).encode()) == plain
    assert event(urlencode({k: "\ufeff" + v for k, v in SNAKE.items()}).encode()) == plain


def test_a_wrong_content_type_is_not_believed():
    plain = event(urlencode(PASCAL).encode())
    for kind in ("", JSON, "text/plain", "application/vnd.api+json", "x" * 1000):
        assert event(urlencode(PASCAL).encode(), kind) == plain
        assert event(json.dumps(PASCAL).encode(), kind) == plain


BAD = [
    "",
    "\ufffd",
    "x" * 3000,
    "\0",
    "-1",
    "nan",
    "9" * 5000,
    "{",
    "[[[[",
    "{}",
    "<sip:",
    "sip:@",
    "../..",
    "2026-99-99",
    "\u202e",
    "\ud800",
]
FREE = [
    "From",
    "To",
    "Direction",
    "RecordUrl",
    "RecordFile",
    "RecordingDuration",
    "RecordingDurationMs",
    "RecordingStartMs",
    "RecordingEndMs",
    "RecordingEndReason",
    "CallStatus",
    "ALegUUID",
    "DialALegUUID",
    "RequestUUID",
    "SessionStart",
    "BillRate",
    "CallerName",
    "response",
    "transcription_x",
    "ConferenceUUID",
    "DialBLegUUID",
    "HangupCause",
    "EndTime",
    "Machine",
]


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("value", BAD, ids=ascii)
def test_a_field_that_cannot_be_read_costs_that_field_and_not_the_callback(name, value):
    fields = {k: v for k, v in PASCAL.items() if k != name}
    for body, kind in (
        (urlencode({**fields, name: value}, errors="replace").encode(), FORM),
        (json.dumps({**fields, name: value}).encode(), JSON),
    ):
        found = event(body, kind)
        assert found[0] is Kind.RECORDING_FINALIZED
        assert found[2] == "r1"


def test_bytes_that_are_no_text_cost_their_field():
    assert event(b"CallerName=Jos\xe9&" + urlencode(PASCAL).encode()) == event(
        urlencode(PASCAL).encode()
    )
    assert event(b'{"CallerName":"Jos\xe9",' + json.dumps(PASCAL).encode()[1:], JSON) == event(
        urlencode(PASCAL).encode()
    )
    assert event(b'{"n":' + b"9" * 6000 + b"," + json.dumps(PASCAL).encode()[1:], JSON) == event(
        urlencode(PASCAL).encode()
    )


def test_calls_that_enter_a_room_which_nobody_can_read_are_in_no_room_together():
    found = [
        callbacks.parse({"event": "ConferenceEnter", "calluuid": "c1", "conferenceuuid": bad})
        for bad in ("", "../x")
    ]
    assert [f.room for f in found] == [None, None]


# Over the wire
# -------------------------------------------------------------------------------------------------------------


def sent(house, path, *, signed_for=None, method="POST", body=b"", **headers):
    """A request whose target leaves as it is given; `signed_for`: the address that is signed, below
    the callback URL."""
    if signed_for is not None:
        headers = {
            **signing.signature_headers(
                "v3+v2", house.callback + signed_for, TOKEN, None, signing.Nonces()
            ),
            **headers,
        }
    connection = http.client.HTTPConnection(urlsplit(house.base).netloc, timeout=5)
    connection.request(
        method,
        urlsplit(house.callback).path + path,
        body or None,
        {"Content-Type": FORM, **headers},
    )
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


RING = urlencode({"Event": "Ring", "CallUUID": "c1"}).encode()
PATHS = [
    "/agent%40example.com",
    "/team%2F7",
    "/x%2By",
    "/caf%c3%a9",
    "/caf%C3%A9",
    "/a/../b",
    "/./a",
    "/a//b",
    "//",
    "/%7ebob",
    "/a+b",
    "/a%20b",
    "/a%2520b",
    "/a%25",
    "/dial/",
    "/a;b",
    "/%F0%9F%98%80",
    "/%ff",
    "/a=b&c",
    "/a:b@c",
    "/(a)!'*~",
    "/call/c1",
    "/%2e%2e/x",
]


@pytest.fixture(params=DOORS)
def local(local, request):
    return partial(local, door=request.param)


@pytest.fixture(scope="module", params=DOORS)
def house(lasting, request):
    return lasting(door=request.param)


@pytest.mark.parametrize("path", PATHS)
def test_the_signature_covers_the_path_as_it_is_sent(house, path):
    assert sent(house, path, signed_for=path, body=RING) == (200, "<Response></Response>")
    assert (
        sent(house, path + "?event=mine&x=%2F", signed_for=path + "?event=mine&x=%2F", body=RING)[0]
        == 200
    )
    if ";" not in path:  # the vendor's Python sample signs nothing of what stands behind it
        assert sent(house, path, signed_for=path + "x", body=RING)[0] == 403
        assert sent(house, path + "x", signed_for=path, body=RING)[0] == 403


@pytest.mark.parametrize(
    ("signed_for", "path"),
    [
        ("/agent%40example.com", "/agent@example.com"),
        ("/agent@example.com", "/agent%40example.com"),
        ("/x%2By", "/x+y"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/caf%C3%A9", "/caf%c3%a9"),
        ("/café", "/caf%C3%A9"),
        ("/%7ebob", "/~bob"),
        ("/~bob", "/%7Ebob"),
        ("/a%20b", "/a%20b"),
        ("/a b", "/a%20b"),
    ],
)
def test_an_address_that_was_respelled_on_the_way_is_the_same_address(house, signed_for, path):
    assert sent(house, path, signed_for=signed_for, body=RING)[0] == 200


@pytest.mark.parametrize(
    ("signed_for", "path"),
    [
        ("/team%2F7", "/team/8"),
        ("/dial", "/dial/"),
        ("/call/c1", "/call/c2"),
        ("/a%2525", "/a%2526"),
        ("/b", "/a/../b"),
    ],
)
def test_another_address_is_another_address(house, signed_for, path):
    assert sent(house, path, signed_for=signed_for, body=RING)[0] == 403


def test_a_proxy_may_take_a_prefix_off_the_path(local):
    house = local(ENDTAPE_PUBLIC_URL="https://edge.example/hooks/")
    for path in ("", "/agent%40example.com", "/call/c1"):
        url = f"https://edge.example/hooks/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}{path}"
        headers = signing.signature_headers("v3+v2", url, TOKEN, None, signing.Nonces())
        assert sent(house, path, body=RING, **headers)[0] == 200
    assert sent(house, "", signed_for="", body=RING)[0] == 403


def test_no_other_spelling_of_a_longer_path_takes_a_signature_with_a_shorter_nonce(local):
    house = local()
    headers = signing.signature_headers(
        "v2", house.callback + "/call/abc", TOKEN, None, signing.Nonces()
    )
    nonce, value = headers["X-Vobiz-Signature-V2-Nonce"], headers["X-Vobiz-Signature-V2"]
    assert sent(house, "/call/abc", body=RING.replace(b"c1", b"abc"), **headers)[0] == 200
    stolen = {"X-Vobiz-Signature-V2": value, "X-Vobiz-Signature-V2-Nonce": nonce[1:]}
    for path in (
        f"/call/abc{nonce[0]}",
        f"/call/abc%3{nonce[0]}",
        f"/call//abc{nonce[0]}",
        f"//call/abc%3{nonce[0]}",
        f"/%63all/abc{nonce[0]}",
    ):
        assert (
            sent(house, path, body=RING.replace(b"c1", f"abc{nonce[0]}".encode()), **stolen)[0]
            == 403
        ), path
    assert house.kinds(f"abc{nonce[0]}") == []


def test_no_part_of_a_path_passes_for_a_nonce(local):
    house = local()
    headers = signing.signature_headers(
        "v3", house.callback + "/agent%40example.com", TOKEN, None, signing.Nonces()
    )
    assert sent(house, "/agent%40example.com", body=RING, **headers)[0] == 200
    stolen = {
        **headers,
        "X-Vobiz-Signature-V3-Nonce": f"com.{headers['X-Vobiz-Signature-V3-Nonce']}",
    }
    assert sent(house, "/agent%40example", body=RING.replace(b"c1", b"c2"), **stolen)[0] == 403
    assert house.kinds("c2") == []


@pytest.mark.parametrize(
    "query",
    ["?event=recording-done&tenant=7", "?transcription=off&to=archive2", "?Event=x&CallUUID=other"],
)
def test_a_callback_url_with_a_query_of_its_own_is_taken_by_post_and_by_get(local, query):
    house = local()
    assert sent(house, query, signed_for=query, body=urlencode(SNAKE).encode())[0] == 200
    more = f"{query}&{urlencode({**SNAKE, 'recording_id': 'r2', 'call_uuid': 'c2'})}"
    assert sent(house, more, signed_for=query, method="GET")[0] == 200
    assert house.call("c1").recordings["r1"].duration_s == 5
    assert house.call("c2").recordings["r2"].duration_s == 5
    assert house.call("c1").to_number is None
    assert house.kinds("other") == []


def test_multipart_and_marks_are_taken_over_the_wire(local):
    house = local()
    assert (
        sent(house, "", signed_for="", body=multipart(SNAKE), **{"Content-Type": MULTIPART})[0]
        == 200
    )
    assert (
        sent(
            house,
            "",
            signed_for="",
            body=MARK + urlencode({**SNAKE, "recording_id": "r2"}).encode(),
        )[0]
        == 200
    )
    assert (
        sent(
            house,
            "",
            signed_for="",
            body=MARK + json.dumps({**SNAKE, "recording_id": "r3"}).encode(),
            **{"Content-Type": JSON},
        )[0]
        == 200
    )
    assert set(house.call("c1").recordings) == {"r1", "r2", "r3"}
    assert house.ledger.refusals() == {}


@pytest.mark.parametrize(
    "how",
    [
        {"encoding": "multipart"},
        {"encoding": "wrapped"},
        {"encoding": "json"},
        {"callback_method": "GET"},
        {"callback_method": "GET", "encoding": "wrapped"},
    ],
    ids=str,
)
@pytest.mark.parametrize("source", ["rest", "xml"])
def test_whatever_shape_the_provider_chooses_the_recording_ends(local, how, source):
    house = local()
    house.provider.faults.switch_on("marked-callbacks")
    call = house.provider.call(
        from_number="sip:+919820055512@203.0.113.7:5060",
        to_number="<sip:1001@10.0.0.5:5060;transport=udp>",
    )
    recording = house.provider.record(
        call.call_uuid,
        source=source,
        callback_url=f"{house.callback}/agent%40example.com?event=mine&to=archive2",
        **how,
    )
    house.provider.end(recording.recording_id, reason="FinishedOnKey")
    until(lambda: Kind.RECORDING_FINALIZED in house.kinds(call.call_uuid))
    assert house.recording(recording.recording_id)["stop"]["evidence"] or house.reach(
        recording.recording_id, "archived"
    )
    found = house.call(call.call_uuid)
    assert (found.from_number, found.to_number) in {
        ("919820055512", "1001"),
        *([(None, None)] if source == "rest" else []),
    }  # what REST sends for it holds none
    assert house.ledger.refusals() == {}


@pytest.mark.parametrize(
    "path", ["", "/", "/dial", "?tenant=7", "/favicon.ico", "/call/c1", "?event=hangup&to=1"]
)
def test_who_only_looks_whether_the_address_answers_is_answered_and_not_counted(local, path):
    house = local()
    assert sent(house, path, method="GET") == (200, "<Response></Response>")
    assert sent(house, path, method="HEAD") == (200, "")
    assert sent(house, f"?{urlencode(PASCAL)}", method="HEAD", signed_for="") == (200, "")
    assert house.ledger.refusals() == {}
    assert (house.kinds("c1"), house.kinds("other")) == ([], [])


def test_looking_tells_a_stranger_no_more_than_sending_does(local):
    house = local()
    for method in ("GET", "HEAD", "POST"):
        answers = [sent(house, "", method=method, body=RING if method == "POST" else b"")[0]]
        for account, token in ((ACCOUNT, "x" * 24), ("MA_OTHER", CALLBACK_TOKEN)):
            connection = http.client.HTTPConnection(urlsplit(house.base).netloc, timeout=5)
            connection.request(method, f"/vobiz/{quote(account)}/{token}")
            answers.append(connection.getresponse().status)
            connection.close()
        assert answers == [403 if method == "POST" else 200, 404, 404]
    until(lambda: house.ledger.refusals() == {"unknown": 6, "missing": 1})
    last = house.ledger.last_refusals()
    assert last["unknown"].where == "POST /vobiz/MA_OTHER/…"
    assert last["missing"].where == f"POST /vobiz/{ACCOUNT}/…"


def test_an_unsigned_get_with_a_providers_facts_is_refused_and_counted(local):
    house = local()
    assert sent(house, f"?{urlencode(PASCAL)}", method="GET")[0] == 403
    until(lambda: house.ledger.refusals() == {"missing": 1})
