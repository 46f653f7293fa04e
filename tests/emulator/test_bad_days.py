"""Each bad day does what its name says, only where it is limited to, and ends when it is switched
off.
"""

import time

import pytest
import requests

from emulator import signing
from emulator.bad_days import BAD_DAYS, BadDays
from emulator.provider import Provider

TRIED = {}


def bad_day(name):
    def keep(test):
        TRIED[name] = test
        return test

    return keep


# Those of the media host are in test_bad_days_media.py.
@pytest.mark.parametrize(
    "name", [name for name in BAD_DAYS if "media" not in name and name != "lying-container"]
)
def test_each_bad_day_does_what_its_name_says(bad_day, name):
    TRIED[name](bad_day)


@bad_day("early-404")
def _(bad_day):
    recording = bad_day.finished(seconds=100)
    path = f"Recording/{recording.recording_id}/"
    bad_day.on("early-404", seconds=60)
    assert [
        bad_day.rest.get(path).status_code,
        bad_day.rest.media(recording).status_code,
        bad_day.rest.get("Recording/").json()["objects"],
    ] == [404, 404, []]
    recording.ended_at -= 61
    assert [bad_day.rest.get(path).status_code, bad_day.rest.media(recording).status_code] == [
        200,
        200,
    ]


@bad_day("slow-finalise")
def _(bad_day):
    bad_day.on("slow-finalise", seconds=0.2)
    _, recording = bad_day.stop()
    assert (
        recording.listed_at,
        bad_day.inbox.arrived,
        bad_day.rest.media(recording).status_code,
    ) == (
        None,
        [],
        404,
    )
    bad_day.inbox.wait(1)
    assert recording.listed_at - recording.ended_at >= 0.2


@bad_day("lost-callbacks")
def _(bad_day):
    bad_day.on("lost-callbacks", event="Ring", times=1)
    assert len(bad_day.callbacks(2)) == 1
    assert [e["event"] for e in bad_day.provider.journal.since() if e.get("lost")] == ["Ring"]


@bad_day("doubled-callbacks")
def _(bad_day):
    bad_day.on("doubled-callbacks")
    one, two = bad_day.callbacks()
    assert one.body == two.body
    bad_day.on("doubled-callbacks", copies=3)
    assert len(bad_day.callbacks()) == 2 + 3


@bad_day("late-callbacks")
def _(bad_day):
    bad_day.on("late-callbacks", seconds=0.1)
    began = time.monotonic()
    assert bad_day.callbacks()[0].at - began >= 0.1


@bad_day("shuffled-callbacks")
def _(bad_day):
    bad_day.on("shuffled-callbacks", seconds=0.2)
    began = time.monotonic()
    order = [a.fields["Nth"] for a in bad_day.callbacks(8)]
    assert sorted(order) == [str(i) for i in range(8)] != order
    assert bad_day.inbox.arrived[-1].at - began < 2


@bad_day("unsigned-callbacks")
def _(bad_day):
    bad_day.on("unsigned-callbacks")
    bad_day.provider.call(trunk=True)
    assert not [h for a in bad_day.callbacks() for h in a.headers if "Signature" in h]


@bad_day("forged-callbacks")
def _(bad_day):
    bad_day.on("forged-callbacks", times=1)
    bad_day.callbacks(2)
    right = [
        a.headers["X-Vobiz-Signature-V3"]
        == signing.v3("tok", bad_day.inbox.url, a.headers["X-Vobiz-Signature-V3-Nonce"])
        for a in bad_day.inbox.arrived
    ]
    assert sorted(right) == [False, True]


@bad_day("leaked-tokens")
def _(bad_day):
    bad_day.on("leaked-tokens")
    bad_day.provider.event(bad_day.provider.call(account="SA_E").call_uuid, "Ring")
    headers = bad_day.inbox.wait(1)[0].headers
    assert (headers["auth-token"], headers["parent-auth-token"]) == ("subtok", "tok")


@bad_day("marked-callbacks")
def _(bad_day):
    bad_day.on("marked-callbacks")
    bad_day.provider.event(bad_day.provider.call().call_uuid, "Ring")
    assert bad_day.inbox.wait(1)[0].body.startswith(b"\xef\xbb\xbfCallUUID=")


@bad_day("deaf-stop")
def _(bad_day):
    bad_day.on("deaf-stop", times=1)
    answer, recording = bad_day.stop()
    assert (answer.status_code, recording.ended_at) == (204, None)
    assert bad_day.stop()[1].ended_at


@bad_day("stop-fails-first")
def _(bad_day):
    bad_day.on("stop-fails-first", times=2, status=500)
    found = [bad_day.stop() for _ in range(3)]
    assert [(answer.status_code, bool(recording.ended_at)) for answer, recording in found] == [
        (500, False),
        (500, False),
        (204, True),
    ]


@bad_day("stop-429")
def _(bad_day):
    bad_day.on("stop-429", retry_after=7)
    answer, recording = bad_day.stop()
    assert (answer.status_code, answer.headers["Retry-After"], recording.ended_at) == (
        429,
        "7",
        None,
    )
    assert answer.json()["error"]["details"]["retryAfter"] == 7


@bad_day("stop-timeout")
def _(bad_day):
    bad_day.on("stop-timeout", seconds=0.05)
    began = time.monotonic()
    with pytest.raises(requests.ConnectionError):
        bad_day.stop()
    assert time.monotonic() - began >= 0.05


@bad_day("gateway-404")
def _(bad_day):
    bad_day.on("gateway-404")
    answer, recording = bad_day.stop()
    assert (answer.status_code, answer.json(), recording.ended_at) == (
        404,
        {"message": "Not Found"},
        None,
    )


@bad_day("stop-404")
def _(bad_day):
    bad_day.on("stop-404", times=1)
    answer, recording = bad_day.stop()
    assert (answer.status_code, answer.json()["error"], recording.ended_at) == (
        404,
        "call not found",
        None,
    )
    assert bad_day.stop()[1].ended_at


@bad_day("stop-unknown-url")
def _(bad_day):
    bad_day.on("stop-unknown-url")
    answer, recording = bad_day.stop(named=True)
    assert (answer.status_code, answer.json()["error"], recording.ended_at) == (
        404,
        "recording not found",
        None,
    )
    assert bad_day.stop()[1].ended_at


@bad_day("stop-loses-body")
def _(bad_day):
    call = bad_day.provider.call().call_uuid
    named, other = (bad_day.provider.record(call, announce=False) for _ in range(2))
    bad_day.on("stop-loses-body")
    assert bad_day.rest.delete(f"Call/{call}/Record/", json={"URL": named.url}).status_code == 204
    assert named.ended_at
    assert other.ended_at


@bad_day("refuse-auth")
def _(bad_day):
    probe = bad_day.provider.api_url + "/auth/me"
    bad_day.on("refuse-auth", status=403)
    assert [
        bad_day.stop()[0].status_code,
        requests.get(probe, headers=bad_day.rest.headers, timeout=5).status_code,
    ] == [403, 200]
    bad_day.on("refuse-auth", me=True)
    assert [
        bad_day.stop()[0].status_code,
        requests.get(probe, headers=bad_day.rest.headers, timeout=5).status_code,
    ] == [401, 401]


@bad_day("api-5xx")
def _(bad_day):
    bad_day.on("api-5xx", status=502)
    assert [
        bad_day.rest.get(p).status_code
        for p in ("Recording/", "Recording/x/", "Call/?status=live", "Call/x/?status=live", "cdr/x")
    ] == [502] * 5
    assert bad_day.stop()[0].status_code == 204
    bad_day.on("api-5xx", route="list-recordings")
    assert [bad_day.rest.get(p).status_code for p in ("Recording/", "Call/?status=live")] == [
        503,
        200,
    ]


@bad_day("api-429")
def _(bad_day):
    bad_day.on("api-429", retry_after=3, times=1)
    answer = bad_day.rest.get("Recording/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")
    assert set(answer.json()) == {"status", "error", "timestamp", "requestId"}
    assert bad_day.rest.get("Recording/").status_code == 200


@bad_day("deprecated")
def _(bad_day):
    bad_day.on("deprecated", route="list-recordings")
    answer = bad_day.rest.get("Recording/")
    assert (answer.headers["Deprecation"], answer.headers["Sunset"]) == (
        "@1767225600",
        "Fri, 01 Jan 2027 00:00:00 GMT",
    )
    assert "Deprecation" not in bad_day.rest.get("Call/?status=live").headers
    bad_day.on("deprecated", sunset=0)
    assert "Sunset" not in bad_day.rest.get("Recording/").headers


@bad_day("api-timeout")
def _(bad_day):
    bad_day.on("api-timeout", seconds=0.05, times=1)
    with pytest.raises(requests.ConnectionError):
        bad_day.rest.get("Recording/")
    assert bad_day.rest.get("Recording/").status_code == 200


@bad_day("list-lag")
def _(bad_day):
    recording = bad_day.finished(seconds=100)
    bad_day.on("list-lag", seconds=60)
    assert bad_day.rest.get("Recording/").json()["objects"] == []
    assert [
        bad_day.rest.get(f"Recording/{recording.recording_id}/").status_code,
        bad_day.rest.media(recording).status_code,
    ] == [200, 200]
    recording.ended_at -= 61
    assert len(bad_day.rest.get("Recording/").json()["objects"]) == 1


@bad_day("list-rows-move")
def _(bad_day):
    call = bad_day.provider.call().call_uuid
    made = [bad_day.finished(call, seconds=9 - i).recording_id for i in range(4)][::-1]
    bad_day.on("list-rows-move", times=1)
    pages = [
        [
            row["recording_id"]
            for row in bad_day.rest.get(
                f"Recording/?call_uuid={call}&limit=2&offset={offset}"
            ).json()["objects"]
        ]
        for offset in (0, 2, 4)
    ]
    assert pages == [made[:2], made[1:3], made[3:]]
    newest = bad_day.rest.get(f"Recording/?call_uuid={call}").json()["objects"][0]["recording_id"]
    assert newest not in made
    assert bad_day.rest.media(bad_day.provider.recordings[newest]).status_code == 200


@bad_day("list-running")
def _(bad_day):
    recording = bad_day.provider.record(bad_day.provider.call().call_uuid)
    recording.started_at -= 9
    assert bad_day.rest.get("Recording/").json()["objects"] == []
    bad_day.on("list-running")
    row = bad_day.rest.get("Recording/").json()["objects"][0]
    assert (row["recording_end_ms"], row["recording_duration_ms"]) == (None, "0.00000")
    bad_day.on("list-running", so_far=True)
    assert (
        float(bad_day.rest.get("Recording/").json()["objects"][0]["recording_duration_ms"]) >= 9000
    )
    assert bad_day.rest.get(f"Recording/{recording.recording_id}/").status_code == 404


@bad_day("wrong-duration")
def _(bad_day):
    recording = bad_day.finished(seconds=20)
    bad_day.on("wrong-duration", seconds=-8)
    told = {
        bad_day.rest.get("Recording/").json()["objects"][0]["recording_duration_ms"],
        bad_day.rest.get(f"Recording/{recording.recording_id}/").json()["recording_duration_ms"],
    }
    assert told == {f"{recording.duration_ms - 8000:.5f}"}


@bad_day("start-fails")
def _(bad_day):
    bad_day.on("start-fails", status=502, times=1)
    assert [
        (answer.status_code, len(made)) for answer, made in (bad_day.start(), bad_day.start())
    ] == [
        (502, 0),
        (200, 1),
    ]


@bad_day("start-timeout")
def _(bad_day):
    bad_day.on("start-timeout", seconds=0.05)
    began = time.monotonic()
    assert bad_day.start() == (None, [])
    assert time.monotonic() - began >= 0.05


@bad_day("start-lost-answer")
def _(bad_day):
    bad_day.on("start-lost-answer", times=1)
    answer, made = bad_day.start()
    assert (answer, len(made)) == (None, 1)
    assert bad_day.start()[0].status_code == 200


@bad_day("start-nameless")
def _(bad_day):
    bad_day.on("start-nameless")
    answer, made = bad_day.start()
    assert (answer.status_code, set(answer.json()), len(made)) == (200, {"api_id", "message"}, 1)


@bad_day("transfer-fails")
def _(bad_day):
    bad_day.on("transfer-fails", status=409)
    answer, asked = bad_day.transfer()
    assert (answer.status_code, asked) == (409, [])


@bad_day("transfer-timeout")
def _(bad_day):
    bad_day.on("transfer-timeout", seconds=0.05)
    assert bad_day.transfer() == (None, [])


@bad_day("transfer-lost-answer")
def _(bad_day):
    bad_day.on("transfer-lost-answer", times=1)
    answer, asked = bad_day.transfer()
    assert (answer, asked) == (None, ["Transfer"])


# What holds for all of them
# -----------------------------------------------------------------------------------------


def test_a_bad_day_is_limited_to_one_or_several_calls_and_switched_off(provider, rest):
    one, two, three = (provider.call().call_uuid for _ in range(3))
    for limit, expected in ((one, [503, 204, 204]), ([one, three], [503, 204, 503])):
        provider.faults.switch_on("stop-fails-first", call_uuid=limit)
        assert [
            rest.delete(f"Call/{call}/Record/").status_code for call in (one, two, three)
        ] == expected
    provider.faults.switch_off("stop-fails-first")
    assert rest.delete(f"Call/{one}/Record/").status_code == 204


@pytest.mark.parametrize(
    ("name", "params", "problem"),
    [
        ("deaf-stop", {"second": 1}, "no parameter second"),
        ("redirect-media", {}, "needs location"),
        ("api-5xx", {"status": "503"}, "status cannot be"),
        ("deaf-stop", {"times": "twice"}, "times cannot be"),
    ],
)
def test_a_parameter_that_is_unknown_missing_or_no_number_is_refused(name, params, problem):
    with pytest.raises(ValueError, match=problem):
        BadDays().switch_on(name, **params)


def test_an_unknown_bad_day_is_refused():
    with pytest.raises(KeyError):
        BadDays().switch_on("no-such-day")


def test_chances_are_seeded():
    def strikes(seed):
        faults = BadDays(seed)
        faults.switch_on("deaf-stop", probability=0.5)
        return [faults.hit("deaf-stop") is not None for _ in range(40)]

    assert strikes(1) == strikes(1) != strikes(2)
    assert 5 < sum(strikes(1)) < 35


def test_a_held_request_does_not_delay_the_end():
    with Provider(accounts={"MA_E": "tok"}) as provider:
        provider.faults.switch_on("api-timeout", seconds=60)
        with pytest.raises(requests.Timeout):
            requests.get(
                f"{provider.api_url}/Account/MA_E/Recording/",
                headers={"X-Auth-ID": "MA_E", "X-Auth-Token": "tok"},
                timeout=0.05,
            )
        began = time.monotonic()
    assert time.monotonic() - began < 1
