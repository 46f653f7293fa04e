"""The provider's door, over HTTP: the answers that the contract promises, situation by
situation."""

import hashlib
import hmac
import json
import time
from functools import partial
from urllib.parse import urlencode

import pytest
import requests

from emulator import signing
from tests import redis_view
from tests.constants import ACCOUNT, CALLBACK_TOKEN, KEY, TOKEN
from tests.waiting import until
from tests.webhooks.doors import DOORS
from webhooks.app import create_app
from webhooks.door.callback import Request
from worker.calls.events import Kind

EMPTY = "<Response></Response>"
ENDED = {
    "call_uuid": "c1",
    "recording_id": "r1",
    "record_url": "https://media.vobiz.ai/v1/Account/MA_TEST0001/Recording/r1.mp3",
    "recording_duration_ms": "5000",
    "recording_start_ms": "1789367412900",
    "recording_end_ms": "1789367417900",
}


@pytest.fixture(params=DOORS)
def local(local, request):
    return partial(local, door=request.param)


@pytest.fixture(scope="module", params=DOORS)
def house(lasting, request):
    return lasting(door=request.param)


def ring(call="c1"):
    return {"Event": "Ring", "CallUUID": call, "From": "919820055512", "To": "918065550101"}


def test_what_is_understood_repeated_or_not_followed_is_answered_200_with_an_empty_response(local):
    house = local()
    for body in (
        ring(),
        ring(),
        {"Event": "SomethingNew", "CallUUID": "c1"},
        {"transcription": "hello", "recording_id": "r"},
    ):
        answer = house.post(body)
        assert (answer.status_code, answer.headers["Content-Type"].split(";")[0], answer.text) == (
            200,
            "application/xml",
            EMPTY,
        )
    assert house.kinds("c1") == [Kind.CALL_SEEN]


def test_an_unknown_account_and_an_unknown_token_look_the_same(local):
    house = local()
    answers = [
        requests.post(f"{house.base}/vobiz/{account}/{token}", data=ring(), timeout=5)
        for account, token in (
            ("MA_OTHER", CALLBACK_TOKEN),
            (ACCOUNT, "x" * 24),
            ("MA_OTHER", "x" * 24),
        )
    ]
    assert {(a.status_code, a.text, a.headers["Content-Type"]) for a in answers} == {
        (404, "not found\n", answers[0].headers["Content-Type"])
    }


def test_what_is_told_of_a_refused_request_is_short_plain_and_without_token_and_numbers():
    request = Request(
        method="POST",
        auth_id="MA_1\x1b[2J" + "x" * 99,
        token="a-nearly-right-token",
        rest="call/918065550101\u202e" + "y" * 999,
        raw_path="",
        query="",
        headers={},
        body=b"",
    )
    where = request.where
    assert (where.isprintable(), len(where)) == (True, 120)
    assert where.startswith("POST /vobiz/MA_1?[2Jxxx")
    assert "/…/call/…?yyy" in where


def test_a_callback_without_signature_is_refused_where_it_is_required_and_passes_on_its_token_where_it_is_optional(
    local,
):
    house = local()
    assert house.post(ring(), signed=False).status_code == 403
    until(lambda: house.ledger.refusals() == {"missing": 1})


def test_where_signatures_are_optional_a_wrong_one_still_never_passes_and_an_unsigned_end_proves_nothing(
    local,
):
    house = local(signatures="optional", rules='[defaults]\nmax_duration = "1h"\n')
    assert (
        house.post(
            {"Event": "Record", "CallUUID": "c1", "RecordingID": "r1"}, signed=False
        ).status_code
        == 200
    )
    assert (
        house.post({**ENDED, "Event": "RecordStop", "CallUUID": "c1"}, signed=False).status_code
        == 200
    )
    assert house.post(ring(), token="wrong").status_code == 403
    assert house.recording("r1")["stop"]["evidence"] == []
    assert Kind.RECORDING_FINALIZED in house.kinds("c1")


def test_a_wrong_signature_is_refused(local):
    house = local()
    assert [house.post(ring(), token="wrong").status_code for _ in range(3)] == [403, 403, 403]
    until(lambda: house.ledger.refusals() == {"wrong": 3})


def test_a_signature_without_nonce_is_refused(local):
    house = local()
    headers = signing.signature_headers("v3", house.callback, TOKEN, None, signing.Nonces())
    headers.pop("X-Vobiz-Signature-V3-Nonce")
    assert house.post(ring(), signed=False, **headers).status_code == 403
    until(lambda: house.ledger.refusals() == {"no_nonce": 1})


def test_a_nonce_that_comes_again_with_the_same_body_is_a_retry_and_with_another_is_refused(local):
    house = local()
    headers = signing.signature_headers("v3+v2", house.callback, TOKEN, None, signing.Nonces())
    assert house.post(ring(), signed=False, **headers).status_code == 200
    assert house.post(ring(), signed=False, **headers).status_code == 200
    assert house.post(ring("c2"), signed=False, **headers).status_code == 403
    only_v2 = {name: value for name, value in headers.items() if "V2" in name}
    assert house.post(ring("c2"), signed=False, **only_v2).status_code == 403
    assert house.kinds("c2") == []
    until(lambda: house.ledger.refusals() == {"nonce": 2})


@pytest.mark.parametrize("mode", ["v2", "v3", "v3+v2"])
def test_v2_and_v3_are_accepted(local, mode):
    house = local()
    headers = signing.signature_headers(mode, house.callback, TOKEN, None, signing.Nonces())
    assert house.post(ring(), signed=False, **headers).status_code == 200


def test_both_tokens_verify_while_one_is_being_rotated(local):
    house = local(accounts={ACCOUNT: "newer-token,older-token"})
    assert house.post(ring("c1"), token="newer-token").status_code == 200
    assert house.post(ring("c2"), token="older-token").status_code == 200
    assert house.post(ring("c3"), token="oldest-token").status_code == 403


SUB = '[[accounts]]\nauth_id = "SA_1"\ntoken_env = "SUB_TOKEN"\nparent = "MA_TEST0001"\ntrunk_secret_env = "TRUNK"\n'


def test_the_parents_token_verifies_a_sub_accounts_callback(local):
    house = local(rules=SUB, SUB_TOKEN="sub-token", TRUNK="trunk-secret")
    url = house.callback.replace(ACCOUNT, "SA_1")
    for token, status in (("sub-token", 200), (TOKEN, 200), ("other", 403)):
        headers = signing.signature_headers("v3", url, token, None, signing.Nonces())
        assert requests.post(url, data=ring(), headers=headers, timeout=5).status_code == status
    headers = signing.signature_headers("ma", url, "unknown-token", TOKEN, signing.Nonces())
    assert requests.post(url, data=ring("c2"), headers=headers, timeout=5).status_code == 200


def test_a_trunk_webhook_is_verified_by_its_secret_over_the_body(local):
    house = local(rules=SUB, SUB_TOKEN="sub-token", TRUNK="trunk-secret")
    url = house.callback.replace(ACCOUNT, "SA_1")
    body = json.dumps(
        {
            "event": "recording.completed",
            "call_uuid": "t1",
            "recording_id": "t1",
            "recording_url": "https://media.vobiz.ai/x.wav",
            "recording_duration_sec": 12,
        }
    ).encode()
    for secret, status in (("trunk-secret", 200), ("other", 403)):
        headers = {
            "Content-Type": "application/json",
            "X-Vobiz-Event": "recording.completed",
            "X-Vobiz-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        }
        assert requests.post(url, data=body, headers=headers, timeout=5).status_code == status
    assert house.call("t1", "SA_1").recordings["t1"].trunk


def test_form_json_query_and_the_wrapped_field_are_all_read(local):
    house = local()
    bodies = [
        (urlencode(ENDED | {"recording_id": "form"}), "application/x-www-form-urlencoded", ""),
        (json.dumps(ENDED | {"recording_id": "json"}), "application/json", ""),
        (
            urlencode({"response": json.dumps(ENDED | {"recording_id": "wrapped"})}),
            "application/x-www-form-urlencoded",
            "",
        ),
    ]
    for body, kind, _ in bodies:
        assert house.post(body, kind=kind).status_code == 200
    headers = signing.signature_headers("v3", house.callback, TOKEN, None, signing.Nonces())
    assert (
        requests.get(
            house.callback, params=ENDED | {"recording_id": "query"}, headers=headers, timeout=5
        ).status_code
        == 200
    )
    assert set(house.call("c1").recordings) == {"form", "json", "wrapped", "query"}


def test_one_url_and_anything_below_it_takes_everything(local):
    house = local()
    for path in ("", "/", "/dial", "/a/b/c"):
        assert house.post(ring(), path=path).status_code == 200


def test_under_a_calls_own_path_the_bodys_call_must_be_that_call(local):
    house = local()
    assert house.post(ring("c1"), path="/call/c1").status_code == 200
    assert house.post(ring("c2"), path="/call/c1").status_code == 403
    assert house.post({"Event": "Ring"}, path="/call/c1").status_code in {400, 403}
    until(lambda: house.ledger.refusals()["other_call"] >= 1)
    assert house.kinds("c2") == []


def test_unreadable_and_oversized_bodies_are_refused_and_each_is_counted(local):
    house = local()
    bad = [
        b"\xff\xfe\x00",
        b"",
        b"[1, 2]",
        b"{",
        b"Event=Ring",
        b"Event=RecordStop&CallUUID=c&RecordingID=" + b"r" * 300,
        b"Event=RecordStop&CallUUID=c&RecordingID=../../etc",
        b"&".join(b"k%d=1" % i for i in range(200)),
    ]
    assert {body: house.post(body).status_code for body in bad} == dict.fromkeys(bad, 400)
    assert house.post(b"a" * (64 * 1024 + 1)).status_code == 413
    until(lambda: house.ledger.refusals() == {"unreadable": len(bad), "too_large": 1})


def test_a_body_without_declared_length_is_not_cut_silently(local):
    house = local()
    answer = requests.post(house.callback, data=(b"a" * 1000 for _ in range(100)), timeout=5)
    assert answer.status_code == 413


@pytest.mark.parametrize("text", ["60040.00000", "-1", "", "nan", "inf", "1e400"])
def test_odd_numbers_are_taken_and_affect_nothing_else(local, text):
    house = local()
    assert (
        house.post(
            {
                "Event": "RecordStop",
                "CallUUID": "c1",
                "RecordingID": "r1",
                "RecordingDurationMs": text,
                "RecordUrl": ENDED["record_url"],
            }
        ).status_code
        == 200
    )
    assert house.call("c1").recordings["r1"].duration_s in {60.04, None}


def test_when_redis_does_not_answer_the_sender_is_asked_to_come_again_within_a_second(local):
    house = local()
    with create_app(
        house.settings
    ).test_client() as client:  # its Redis is a port where nobody listens
        began = time.monotonic()
        headers = signing.signature_headers("v3", house.callback, TOKEN, None, signing.Nonces())
        answer = client.post(house.callback.removeprefix(house.base), data=ring(), headers=headers)
        assert time.monotonic() - began < 1
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")


def test_no_header_that_carries_a_token_reaches_an_event(local):
    house = local()
    house.post(ring(), **{"auth-token": TOKEN, "parent-auth-token": "parent-secret-token"})
    stored = redis_view.log_of(house.ledger, ACCOUNT, "c1")
    assert "CallSeen" in stored
    assert not [
        secret for secret in (TOKEN, "parent-secret-token", CALLBACK_TOKEN, KEY) if secret in stored
    ]


def running(house, call_uuid="c1", recording_id="r1"):
    house.post(
        {
            "Event": "Record",
            "CallUUID": call_uuid,
            "RecordingID": recording_id,
            "RecordUrl": ENDED["record_url"],
        }
    )


def test_a_body_that_names_the_paths_call_and_another_as_its_a_leg_is_refused(local):
    house = local()
    running(house)
    for body in (
        {"Event": "RecordStop", "CallUUID": "X", "ALegUUID": "c1", "RecordingID": "r1"},
        {"Event": "Hangup", "CallUUID": "X", "DialALegUUID": "c1"},
    ):
        assert house.post(body, path="/call/X").status_code == 403
    assert house.recording("r1")["stop"]["evidence"] == []


def test_a_v2_signature_does_not_pass_for_a_longer_path_with_a_shorter_nonce(local):
    house = local()
    running(house)
    headers = signing.signature_headers(
        "v2", house.callback + "/call/abc", TOKEN, None, signing.Nonces()
    )
    nonce, value = headers["X-Vobiz-Signature-V2-Nonce"], headers["X-Vobiz-Signature-V2"]
    assert house.post(ring("abc"), path="/call/abc", signed=False, **headers).status_code == 200
    for path, other in (("/", f"call/abc{nonce}"), (f"/call/abc{nonce[0]}", nonce[1:])):
        stolen = {"X-Vobiz-Signature-V2": value, "X-Vobiz-Signature-V2-Nonce": other}
        assert (
            house.post(
                {**ENDED, "call_uuid": f"abc{nonce[0]}"}, path=path, signed=False, **stolen
            ).status_code
            == 403
        )


def test_a_refused_nonce_moves_nobody_into_a_room(local):
    house = local(rules='[defaults]\non = { "conference.join" = "stop" }')
    headers = signing.signature_headers("v3+v2", house.callback, TOKEN, None, signing.Nonces())
    house.post(ring("other"), signed=False, **headers)
    for call in ("c1", "c2"):
        body = {
            "Event": "ConferenceEnter",
            "CallUUID": call,
            "ConferenceName": "x",
            "ConferenceMemberID": call,
        }
        assert house.post(body, signed=False, **headers).status_code == 403
    assert (house.kinds("c1"), house.kinds("c2")) == ([], [])


def test_the_hang_up_of_another_leg_ends_nothing(local):
    house = local()
    running(house)
    house.post(
        {"Event": "Hangup", "CallUUID": "leg-b", "ALegUUID": "c1", "HangupCause": "NORMAL_CLEARING"}
    )
    assert house.recording("r1")["stop"]["evidence"] == []
    assert house.call("c1").over_at is None


def test_an_unsigned_callback_and_a_start_in_the_future_move_no_deadline(local):
    house = local(signatures="optional", rules='[defaults]\nmax_duration = "1h"\n')
    running(house)
    before = house.recording("r1")["stop"]["due_at"]
    later = {
        "Event": "RecordStop",
        "CallUUID": "c1",
        "RecordingID": "r1",
        "RecordingStartMs": "7226582400000",
    }
    house.post(later, signed=False)
    assert house.recording("r1")["stop"]["due_at"] == before
    house.post({**later, "RecordingDurationMs": "1000"})
    assert house.recording("r1")["started_at"] < "2100"


@pytest.mark.parametrize("depth", [500, 900, 950, 990, 2000])
def test_deep_json_is_read_or_refused_and_never_a_fault(house, depth):
    body = '{"Event":"Ring","CallUUID":"c1","x":' + "[" * depth + "]" * depth + "}"
    assert house.post(body, kind="application/json").status_code in {200, 400}
    assert house.post({"Event": "Ring", "CallUUID": "c1", "response": body}).status_code in {
        200,
        400,
    }


@pytest.mark.parametrize(
    "body",
    [
        '{"Event":"Hangup","CallUUID":"c1","HangupCause":"a\\nb\\ud800","EndTime":"99999-99-99"}',
        '{"Event":{"a":1},"CallUUID":["x"]}',
        '{"Event":"ConferenceEnter","CallUUID":"c1","ConferenceName":"\\ud800"}',
        '{"Event":"Ring","CallUUID":"c1","From":"\\ud800"}',
    ],
)
def test_odd_json_is_never_a_fault(house, body):
    assert house.post(body, kind="application/json").status_code in {200, 400}


def test_the_number_of_a_dialled_leg_is_not_the_calls(local):
    house = local()
    house.post(ring())
    house.post(
        {
            "Event": "DialAnswer",
            "CallUUID": "b1",
            "DialALegUUID": "c1",
            "DialBLegUUID": "b1",
            "From": "111",
            "To": "222",
        }
    )
    assert (house.call("c1").from_number, house.call("c1").to_number) == (
        "919820055512",
        "918065550101",
    )


def test_a_call_is_found_by_its_own_id_before_it_is_found_as_anothers_leg(local):
    house = local()
    house.post(ring("c2"))
    house.post(
        {"Event": "DialConnected", "CallUUID": "c1", "DialALegUUID": "c1", "DialBLegUUID": "c2"}
    )
    assert house.get("/v1/calls/c2").json()["call_uuid"] == "c2"


def test_a_path_with_escapes_verifies(local):
    house = local()
    for path in ("/a%20b", "/a;b", "/a+b", "/a~b"):
        assert house.post(ring(), path=path).status_code == 200


def test_every_error_is_a_problem_document_and_every_event_is_counted(local):
    house = local()
    for path in ("/v1/nope", "/nope"):
        assert house.get(path).headers["Content-Type"] == "application/problem+json"
    assert (
        requests.post(house.base + "/v1/recordings", timeout=5).headers["Content-Type"]
        == "application/problem+json"
    )
    house.post(ring())
    assert b'endtape_events_total{event="CallSeen"} 1.0' in house.get("/metrics").content
    (event,) = house.get("/v1/calls/c1").json()["timeline"]
    assert event["signed"] is True
