"""The REST API as documented: credentials, the spelling of paths, answers and their shapes."""

import time

import pytest
import requests

from tests.waiting import until


def test_only_the_account_itself_may_ask(provider, rest, rest_of):
    assert rest.get("Recording/").status_code == 200
    for account, token in (("MA_E", "subtok"), ("SA_E", "tok"), ("MA_X", "tok"), ("MA_E", "")):
        answer = rest_of(account, token).get("Recording/")
        assert (answer.status_code, answer.json()) == (401, {"error": "invalid credentials"})
    probe = f"{provider.api_url}/auth/me"
    assert requests.get(probe, headers=rest.headers, timeout=5).status_code == 200
    assert requests.get(probe, timeout=5).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "Recording"),
        ("GET", "recording/"),
        ("GET", "call/?status=live"),
        ("DELETE", "Call/x/Record"),
        ("DELETE", "Call/x/record/"),
        ("POST", "Call/x/Record"),
        ("GET", "Recording/x"),
        ("DELETE", "Call/x"),
        ("GET", "CDR/x"),
    ],
)
def test_a_path_in_the_wrong_case_or_without_its_slash_is_refused_like_bad_credentials(
    rest, sample, method, path
):
    answer = rest.ask(method, path)
    assert (answer.status_code, answer.json()) == (401, sample("error_401_flat.json"))


def test_a_lower_case_account_is_refused_but_for_cdrs(provider, rest):
    call = provider.call()
    provider.hangup(call.call_uuid)
    low = provider.api_url + "/account/MA_E"
    assert requests.get(f"{low}/Recording/", headers=rest.headers, timeout=5).status_code == 401
    assert (
        requests.get(f"{low}/cdr/{call.call_uuid}", headers=rest.headers, timeout=5).status_code
        == 200
    )


def test_what_is_no_route_gets_the_gateways_404(provider, rest, sample):
    for answer in (
        rest.get("Nothing/"),
        rest.ask("PUT", "Recording/"),
        requests.get(f"{provider.api_url}/nothing", timeout=5),
    ):
        assert (answer.status_code, answer.json()) == (404, sample("error_404_gateway.json"))


def test_a_start_answers_where_the_file_will_be_and_each_one_starts_another(
    provider, rest, sample, inbox
):
    call = provider.call()
    path = f"Call/{call.call_uuid}/Record/"
    one = rest.post(
        path,
        json={
            "time_limit": 1,
            "file_format": "wav",
            "record_channel_type": "stereo",
            "callback_url": f"{inbox.root}/rest",
        },
    )
    two = rest.post(path)
    assert one.status_code == 200
    assert one.json().keys() == sample("record_start_200.json").keys()
    made = [provider.recordings[answer.json()["recording_id"]] for answer in (one, two)]
    assert [(r.container, r.channels, r.max_length_s, r.source) for r in made] == [
        ("wav", 2, 1, "rest"),
        ("mp3", 1, 60, "rest"),
    ]
    assert one.json()["url"] == made[0].url
    provider.end(made[0].recording_id, "StoppedByAPI")
    assert inbox.wait(1)[0].target == "/rest"


def test_a_start_ends_at_its_time_limit(provider, rest):
    call = provider.call()
    recording = provider.record(call.call_uuid, source="rest", max_length_s=0.03)
    until(lambda: recording.end_reason == "maxLength")


@pytest.mark.parametrize(
    "body",
    [
        {"time_limit": "60"},
        {"time_limit": 0},
        {"time_limit": True},
        {"file_format": "ogg"},
        {"record_channel_type": "dual"},
        {"callback_method": "PUT"},
    ],
)
def test_a_start_that_cannot_be_read_is_a_400_and_starts_nothing(provider, rest, body):
    call = provider.call()
    answer = rest.post(f"Call/{call.call_uuid}/Record/", json=body)
    assert (answer.status_code, set(answer.json())) == (400, {"error", "details"})
    assert provider.book.running(call.call_uuid) == []


def test_a_body_that_is_no_json_object_is_a_400(provider, rest):
    path = f"Call/{provider.call().call_uuid}/Record/"
    assert [rest.post(path, data=text).status_code for text in ("{", "[]", '"x"')] == [400] * 3


def test_nothing_starts_on_a_call_that_is_not_live_or_not_ours(provider, rest, rest_of):
    call = provider.call()
    assert rest_of("SA_E", "subtok").post(f"Call/{call.call_uuid}/Record/").status_code == 404
    assert rest_of("SA_E", "subtok").delete(f"Call/{call.call_uuid}/Record/").status_code == 404
    provider.hangup(call.call_uuid)
    assert rest.post(f"Call/{call.call_uuid}/Record/").status_code == 404


def test_live_calls_need_a_status_and_can_do_without_the_slash(provider, rest, sample):
    call = provider.call()
    for path in ("Call/?status=live", "Call?status=live"):
        assert rest.get(path).json()["calls"] == [call.call_uuid]
    assert rest.get("Call/?status=queued").json()["calls"] == []
    assert rest.get("Call/").status_code == 404
    for path in (f"Call/{call.call_uuid}/?status=live", f"Call/{call.call_uuid}?status=live"):
        assert rest.get(path).json().keys() == sample("live_call_get.json").keys()
    assert rest.get(f"Call/{call.call_uuid}/").status_code == 404
    provider.hangup(call.call_uuid)
    assert rest.get(f"Call/{call.call_uuid}/?status=live").status_code == 404
    assert rest.get("Call/?status=live").json()["calls"] == []


def test_a_hang_up_by_rest_answers_204_and_404_when_the_call_is_over(provider, rest, inbox):
    call = provider.call()
    recording = provider.record(call.call_uuid, announce=False)
    assert [rest.delete(f"Call/{call.call_uuid}/").status_code for _ in range(2)] == [204, 404]
    assert recording.end_reason == "HungUp"
    assert inbox.wait(1)[0].fields["HangupSource"] == "API Request"


def test_a_cdr_is_there_when_the_call_is_over(provider, rest, sample):
    call = provider.call(ring_s=7)
    path = f"cdr/{call.call_uuid}"
    assert rest.get(path).status_code == 404
    provider.hangup(call.call_uuid, cause="NO_ANSWER")
    found = rest.get(path).json()
    assert found["success"] is True
    assert found["data"].keys() == sample("cdr_get.json")["data"].keys()
    assert (
        found["data"]["hangup_cause"],
        found["data"]["ring_time"],
        found["data"]["billsec"],
    ) == ("NO_ANSWER", 7, 0)
    assert rest.get(f"Call/{call.call_uuid}/").json() == found


def test_a_call_can_be_made_and_rings_and_is_answered(provider, rest, inbox, sample):
    answer = rest.post(
        "Call/",
        json={
            "from": "+918065550101",
            "to": "919820055512",
            "answer_url": inbox.url,
            "ring_url": f"{inbox.root}/ring",
        },
    )
    assert (answer.status_code, answer.json().keys()) == (201, sample("make_call_201.json").keys())
    inbox.wait(2)
    assert [(a.event, a.target) for a in inbox.arrived] == [("Ring", "/ring"), ("StartApp", "/cb")]
    assert inbox.arrived[0].fields["CallUUID"] == answer.json()["request_uuid"]
    assert rest.post("Call/", json={"from": "1"}).status_code == 400


def test_a_transfer_needs_the_address_of_each_leg_and_asks_it(provider, rest, inbox, sample):
    call = provider.call()
    path = f"Call/{call.call_uuid}/"
    answer = rest.post(
        path, json={"legs": "both", "aleg_url": f"{inbox.root}/a", "bleg_url": f"{inbox.root}/b"}
    )
    assert (answer.status_code, answer.json().keys()) == (202, sample("transfer_202.json").keys())
    inbox.wait(2)
    assert {(a.event, a.target) for a in inbox.arrived} == {("Transfer", "/a"), ("Transfer", "/b")}
    assert rest.post(path, json={"legs": "bleg", "aleg_url": inbox.url}).status_code == 400
    assert rest.post(path, json={"legs": "neither"}).status_code == 400
    assert rest.post("Call/nobody/", json={"aleg_url": inbox.url}).status_code == 404


def test_the_list_has_pages_newest_first_whose_next_lacks_the_api(provider, rest, finished, sample):
    made = [finished(seconds=50 - i).recording_id for i in range(5)]
    first = rest.get("Recording/?limit=2").json()
    assert first["meta"] == {
        "limit": 2,
        "offset": 0,
        "previous": None,
        "total_count": 5,
        "next": "/v1/Account/MA_E/Recording/?limit=2&offset=2",
    }
    assert first.keys() == sample("recordings_list_objects.json").keys()
    assert first["objects"][0].keys() == sample("recordings_list_objects.json")["objects"][0].keys()
    found, path = [], "Recording/?limit=2"
    while path:
        page = rest.get(path).json()
        found += [row["recording_id"] for row in page["objects"]]
        path = page["meta"]["next"] and page["meta"]["next"].partition("/MA_E/")[2]
    assert found == made[::-1]
    assert page["meta"]["previous"] == "/v1/Account/MA_E/Recording/?limit=2&offset=2"
    assert rest.get("Recording/?limit=500").json()["meta"]["limit"] == 100
    assert [
        rest.get(f"Recording/?{query}").status_code for query in ("limit=x", "offset=-1", "limit=0")
    ] == [400] * 3


def test_the_list_is_of_one_account_and_can_be_of_one_call_or_kind(
    provider, rest, rest_of, finished, sample
):
    one, _ = finished(), finished()
    trunk = finished(provider.call(trunk=True).call_uuid)
    other = finished(provider.call(account="SA_E").call_uuid)
    assert [
        row["recording_id"]
        for row in rest.get(f"Recording/?call_uuid={one.call_uuid}").json()["objects"]
    ] == [one.recording_id]
    assert (
        rest.get(f"Recording/?call_uuid={other.call_uuid}").json().keys()
        == sample("recordings_list_empty.json").keys()
    )
    assert rest.get(f"Recording/?call_uuid={other.call_uuid}").json()["objects"] == []
    assert rest.get("Recording/").json()["meta"]["total_count"] == 3
    assert rest_of("SA_E", "subtok").get("Recording/").json()["meta"]["total_count"] == 1
    row = rest.get("Recording/?recording_type=trunk").json()["objects"]
    assert [(r["recording_id"], r["recording_end_ms"], r["from_number"][:2]) for r in row] == [
        (trunk.recording_id, None, "00")
    ]


def test_one_recording_is_flat_and_can_be_deleted_once(rest, finished, sample):
    recording = finished(seconds=61)
    path = f"Recording/{recording.recording_id}/"
    row = rest.get(path).json()
    assert row.keys() == sample("recording_get_flat.json").keys()
    assert (row["rounded_recording_duration"], row["recording_duration_ms"].partition(".")[2]) == (
        120,
        row["recording_duration_ms"][-5:],
    )
    assert [rest.delete(path).status_code for _ in range(2)] == [204, 404]
    assert (rest.get(path).status_code, rest.media(recording).status_code) == (404, 404)
    assert rest.get(path).json().keys() == sample("recording_get_404.json").keys()
    assert rest.get("Recording/").json()["objects"] == []


def test_recordings_expire(provider, rest, finished):
    recording = finished()
    provider.keeps_s = 60
    assert rest.media(recording).status_code == 200
    recording.listed_at = time.time() - 61
    assert rest.media(recording).status_code == 404
    assert rest.get(f"Recording/{recording.recording_id}/").status_code == 404
    assert rest.get("Recording/").json()["objects"] == []


def test_conferences_are_not_listed_and_their_recording_writes_nothing(provider, rest, sample):
    assert rest.post("Conference/room%20a/Record/").status_code == 404
    provider.join_room(provider.call().call_uuid, "room a")
    answer = rest.post("Conference/room%20a/Record/")
    assert (answer.status_code, answer.json().keys()) == (
        200,
        sample("conference_record_start_200.json").keys(),
    )
    assert rest.delete("Conference/room%20a/Record/").status_code == 204
    assert rest.get("Conference/room%20a/").json() == sample("error_200_conference_failed.json")
    assert rest.get("Conference/").json()["conferences"] == []
    assert provider.recordings == {}
