"""What a stranger writes into headers changes nothing: not which address was signed, not who asks,
not what is logged."""

from functools import partial

import pytest
import requests

from emulator import signing
from tests.constants import ACCOUNT, CALLBACK_TOKEN, KEY, TOKEN
from tests.webhooks.doors import DOORS
from worker import logs

RING = {"Event": "Ring", "CallUUID": "c1"}
FORGED = [
    {"Host": "evil.example"},
    {"Host": ""},
    {"X-Forwarded-Host": "evil.example"},
    {"X-Forwarded-Proto": "https"},
    {"X-Forwarded-Port": "1"},
    {"X-Forwarded-Prefix": "/vobiz/MA_OTHER/x"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"Forwarded": "for=127.0.0.1;host=evil.example;proto=https"},
    {"X-Original-URL": "/healthz"},
    {"X-Rewrite-URL": "/healthz"},
    {"X-Script-Name": "/x"},
    {"Via": "1.1 evil"},
    {"X-HTTP-Method-Override": "DELETE"},
    {"X-Real-IP": "127.0.0.1", "X-Forwarded-Host": "a, b", "Forwarded": "x" * 1000},
]


@pytest.fixture(params=DOORS)
def local(local, request):
    return partial(local, door=request.param)


@pytest.fixture(scope="module", params=DOORS)
def house(lasting, request):
    return lasting(door=request.param)


@pytest.mark.parametrize("forged", FORGED, ids=",".join)
def test_a_signature_is_judged_by_path_nonce_and_secret_alone(house, forged):
    assert house.post(RING, **forged).status_code == 200
    assert house.post(RING, token="wrong", **forged).status_code == 403
    elsewhere = signing.signature_headers(
        "v3+v2", house.callback.replace("127.0.0.1", "evil.example"), TOKEN, None, signing.Nonces()
    )
    assert house.post(RING, signed=False, **elsewhere, **forged).status_code == 403


def test_what_is_signed_for_one_call_or_account_is_good_for_no_other(local):
    rules = '[[accounts]]\nauth_id = "MA_TWO"\ntoken_env = "TWO"\n'
    house = local(rules=rules, TWO="another-auth-token")
    for signed_for, path in (
        ("/call/c2", "/call/c1"),
        ("", "/call/c1"),
        ("/call/c1", ""),
        ("/dial", "/record"),
        ("/call/c1", "/call/c1/x"),
    ):
        headers = signing.signature_headers(
            "v3+v2", house.callback + signed_for, TOKEN, None, signing.Nonces()
        )
        assert house.post(RING, path=path, signed=False, **headers).status_code == 403, (
            signed_for,
            path,
        )
    other = house.callback.replace(ACCOUNT, "MA_TWO")
    headers = signing.signature_headers("v3+v2", other, TOKEN, None, signing.Nonces())
    assert requests.post(other, data=RING, headers=headers, timeout=5).status_code == 403
    assert house.kinds("c1") == []


@pytest.mark.parametrize(
    "how",
    [
        {"headers": {"Authorization": f"Basic {KEY}"}},
        {"headers": {"Authorization": KEY}},
        {"headers": {"Authorization": f"Bearer {KEY} x"}},
        {"auth": ("", KEY)},
        {"headers": {"Authorization": f"Bearer {KEY[:-1]}"}},
        {"headers": {"Authorization": "Bearer"}},
        {"headers": {"Authorization": "Bearer \u00e9".encode("latin-1")}},
        {"cookies": {"session": KEY, "Authorization": f"Bearer {KEY}"}},
        {"params": {"api_key": KEY, "authorization": f"Bearer {KEY}"}},
        {"headers": {"X-Api-Key": KEY}},
        {"headers": {"X-Forwarded-Authorization": f"Bearer {KEY}"}},
        {"headers": {"Authorization": f"Bearer {TOKEN}"}},
        {"headers": {"Authorization": f"Bearer {CALLBACK_TOKEN}"}},
    ],
)
def test_only_the_bearer_header_counts_so_no_other_site_can_borrow_a_browser(local, how):
    house = local()
    for path in ("/v1/recordings", "/v1/calls/c1"):
        answer = requests.get(house.base + path, timeout=5, **how)
        assert answer.status_code == 401
        assert (
            answer.headers["WWW-Authenticate"] == "Bearer"
        )  # not `Basic`: a browser would remember it, and send it for any site
        assert "Set-Cookie" not in answer.headers
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_tokens_in_forged_headers_and_bodies_reach_no_log_event_or_answer(local, capfd):
    house = local(signatures="optional")
    leaks = {
        "auth-token": TOKEN,
        "parent-auth-token": TOKEN,
        "X-Auth-Token": TOKEN,
        "Cookie": TOKEN,
        "Referer": house.callback,
        "User-Agent": TOKEN,
        "Authorization": f"Bearer {KEY}",
    }
    answers = [
        house.post(RING, **leaks),
        house.post(
            RING,
            signed=False,
            **leaks,
            **{"X-Vobiz-Signature-V3": TOKEN, "X-Vobiz-Signature-V3-Nonce": KEY},
        ),
        house.post({**RING, "CallUUID": f"{TOKEN}/{KEY}", "HangupCause": CALLBACK_TOKEN}, **leaks),
        house.post(b"\xff" + TOKEN.encode(), **leaks),
        house.post({"Event": "Hangup", "CallUUID": "c1", "HangupCause": house.callback}, **leaks),
    ]
    logs.flush()
    out = capfd.readouterr()
    seen = "".join(answer.text + str(answer.headers) for answer in answers) + out.out + out.err
    assert [answer.status_code for answer in answers] == [200, 403, 400, 400, 200]
    assert not [secret for secret in (TOKEN, KEY, CALLBACK_TOKEN) if secret in seen]
