"""The application's door: every route but the hand-offs, over HTTP, with the emulator as the
provider."""

import itertools
import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest
import requests

from tests.constants import ACCOUNT, APP_KEY, KEY
from tests.waiting import until
from tests.webhooks.application import Application, recorded
from tests.wire_level import connect, head
from webhooks import server
from webhooks.api.reading import Reader
from worker.archive import signers, signing
from worker.calls.events import Kind

RULES = '[defaults]\nmax_duration = "1h"\nconfirm_within = "1s"\non = { transfer = "stop", "custom.card" = "pause", "custom.done" = "resume" }\n'


@pytest.fixture
def app(local):
    return Application(local(rules=RULES, ENDTAPE_APP_KEY=APP_KEY))


@pytest.fixture(scope="module")
def lasting_app(lasting):
    """For tables of cases: each has a call of its own, or leaves nothing behind."""
    return Application(lasting(rules=RULES, ENDTAPE_APP_KEY=APP_KEY))


numbers = itertools.count()


def new_call():
    return f"call-{next(numbers)}"


def problem(answer, status, field=None):
    assert (answer.status_code, answer.headers["Content-Type"]) == (
        status,
        "application/problem+json",
    ), answer.text
    assert answer.json()["status"] == status
    assert answer.json().get("field") == field, answer.text
    return answer.json()


def starts_sent(app, call_uuid):
    return [json.loads(r["body"]) for r in app.house.requests("POST", f"{call_uuid}/Record/")]


# Starting
# -------------------------------------------------------------------------------------------------------------


def test_a_start_is_answered_with_the_recording_its_place_and_a_ceiling_just_above_our_deadline(
    app,
):
    call = app.house.provider.call().call_uuid
    answer = app.post(
        f"/calls/{call}/recordings",
        {"max_duration": "20s", "format": "wav", "channels": 2, "labels": {"team": "billing"}},
    )
    assert answer.status_code == 201, answer.text
    said = answer.json()
    assert (said["phase"], said["labels"], said["stop"]["state"]) == (
        "recording",
        {"team": "billing"},
        "none",
    )
    place = answer.headers["Location"]
    assert place.endswith(f"/v1/recordings/{said['recording_id']}")
    assert app.get(place.partition("/v1")[2]).json()["recording_id"] == said["recording_id"]
    (sent,) = starts_sent(app, call)
    assert 20 < sent["time_limit"] <= 26
    assert (sent["file_format"], sent["record_channel_type"]) == ("wav", "stereo")
    assert f"/call/{call}/start/" in sent["callback_url"]
    app.house.provider.hangup(call)
    assert app.house.reach(said["recording_id"], "archived")["stop"]["evidence"][:2] == [
        "call_over",
        "callback",
    ]


@pytest.mark.parametrize(
    ("rules", "asked", "least", "most"),
    [
        ('[defaults]\nmax_duration = "10s"\n', "1h", 10, 16),
        ('[defaults]\nmax_duration = "none"\n', None, 14400, 14400),
        ('[defaults]\nmax_duration = "30h"\n', None, 28800, 28800),
        ("", "45s", 45, 51),
    ],
)
def test_the_ceiling_follows_whatever_ends_the_recording_first(local, rules, asked, least, most):
    app = Application(local(rules=rules))
    call = app.house.provider.call().call_uuid
    assert (
        app.post(
            f"/calls/{call}/recordings", {"max_duration": asked} if asked else None
        ).status_code
        == 201
    )
    assert least <= starts_sent(app, call)[0]["time_limit"] <= most


def test_what_was_started_for_a_time_ends_then_even_where_rules_only_observe(local):
    app = Application(local())
    call = app.house.provider.call().call_uuid
    said = app.post(f"/calls/{call}/recordings", {"max_duration": "1s"}).json()
    assert (
        app.house.stop_reaches(said["recording_id"], "confirmed")["stop"]["trigger"]
        == "max_duration"
    )


def test_one_idempotency_key_starts_one_recording_and_does_not_go_with_another_body(app):
    call = app.house.provider.call().call_uuid
    with ThreadPoolExecutor(6) as crowd:
        answers = list(
            crowd.map(
                lambda _: app.post(
                    f"/calls/{call}/recordings", {"format": "mp3"}, Idempotency_Key="k1"
                ),
                range(6),
            )
        )
    assert {a.status_code for a in answers} == {201}
    assert len({a.json()["recording_id"] for a in answers}) == 1
    assert len(starts_sent(app, call)) == 1
    problem(
        app.post(f"/calls/{call}/recordings", {"format": "wav"}, Idempotency_Key="k1"),
        422,
        "Idempotency-Key",
    )
    assert (
        app.post(f"/calls/{call}/recordings", {"format": "mp3"}, Idempotency_Key="k2").status_code
        == 201
    )
    problem(
        app.post(f"/calls/{call}/recordings", {}, Idempotency_Key="k" * 256), 400, "Idempotency-Key"
    )


def test_nothing_starts_on_a_call_that_is_over_or_that_the_provider_does_not_know(app):
    over = app.house.provider.call().call_uuid
    app.house.provider.hangup(over)
    until(lambda: Kind.CALL_ENDED in app.house.kinds(over))
    for call in (over, "nobody"):
        assert problem(app.post(f"/calls/{call}/recordings"), 404)["start"] == "failed"
    assert (app.house.provider.recordings, starts_sent(app, over)) == ({}, [])


def test_a_start_that_the_provider_refuses_says_so(app):
    app.house.provider.faults.switch_on("start-fails", status=402)
    call = app.house.provider.call().call_uuid
    said = problem(app.post(f"/calls/{call}/recordings"), 502)
    assert (said["start"], said["provider_status"]) == ("failed", 402)
    assert len(starts_sent(app, call)) == 1


def test_a_start_that_was_certainly_not_taken_is_tried_again(app):
    app.house.provider.faults.switch_on(
        "api-429", route="start-recording", times=1, retry_after=0.2
    )
    call = app.house.provider.call().call_uuid
    assert app.post(f"/calls/{call}/recordings").status_code == 201
    assert len(starts_sent(app, call)) == 2


@pytest.mark.parametrize(
    ("bad_day", "how"), [("start-fails", {"status": 503}), ("start-timeout", {"seconds": 0.1})]
)
def test_a_start_of_which_nobody_knows_is_never_sent_again(app, bad_day, how):
    app.house.provider.faults.switch_on(bad_day, **how)
    call = app.house.provider.call().call_uuid
    for _ in range(2):
        assert (
            problem(app.post(f"/calls/{call}/recordings", Idempotency_Key="once"), 504)["start"]
            == "unknown"
        )
    assert len(starts_sent(app, call)) == 1
    assert [s["state"] for s in app.get(f"/calls/{call}").json()["starts"]] == ["unknown"]


@pytest.mark.parametrize("bad_day", ["start-lost-answer", "start-nameless"])
def test_a_start_whose_answer_was_lost_is_found_in_the_providers_list(app, bad_day):
    app.house.provider.faults.switch_on(bad_day, times=1)
    app.house.provider.faults.switch_on("list-running")
    call = app.house.provider.call().call_uuid
    answer = app.post(f"/calls/{call}/recordings", {"max_duration": "30s"})
    assert (answer.status_code, answer.json()["recording_id"]) == (
        201,
        *app.house.provider.recordings,
    ), answer.text
    assert len(starts_sent(app, call)) == 1


def test_a_start_whose_answer_was_lost_is_told_by_its_callback_and_to_whoever_asks_again(app):
    app.house.provider.faults.switch_on("start-lost-answer", times=1)
    call = app.house.provider.call().call_uuid
    problem(app.post(f"/calls/{call}/recordings", Idempotency_Key="once"), 504)
    (made,) = app.house.provider.recordings
    app.house.provider.hangup(call)
    app.house.reach(made, "archived")
    answer = app.post(f"/calls/{call}/recordings", Idempotency_Key="once")
    assert (answer.status_code, answer.json()["recording_id"]) == (201, made)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"max_duration": "0s"}, "max_duration"),
        ({"max_duration": 5}, "max_duration"),
        ({"max_duration": "15m\n"}, "max_duration"),
        ({"format": "ogg"}, "format"),
        ({"channels": 3}, "channels"),
        ({"labels": {"team": 1}}, "labels[...]"),
        ({"max_length": "5m"}, "max_length"),
        ({"account": "MA_OTHER"}, "account"),
    ],
)
def test_a_start_that_cannot_be_read_is_refused_by_the_name_of_its_field(lasting_app, body, field):
    call = lasting_app.house.provider.call().call_uuid
    problem(lasting_app.post(f"/calls/{call}/recordings", body), 400, field)
    assert starts_sent(lasting_app, call) == []


@pytest.mark.parametrize("body", ["{", "[]", '"x"', "{} x", '{"reason": "\\ud800"}', "\xff"])
def test_a_body_that_is_no_json_object_is_refused(lasting_app, body):
    answer = requests.post(
        f"{lasting_app.house.base}/v1/calls/c1/stop",
        data=body.encode("latin-1"),
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=5,
    )
    problem(answer, 400)


def test_a_body_above_64_kib_is_refused(lasting_app):
    problem(lasting_app.post("/calls/c1/stop", {"reason": "x" * 66000}), 413)


# Making calls known
# -----------------------------------------------------------------------------------------------------


def test_a_call_can_be_made_known_with_its_facts_and_recordings_and_is_then_stopped_and_brought_home(
    app,
):
    provider = app.house.provider
    call = provider.call(callback_url=provider.api_url).call_uuid  # its callbacks go elsewhere
    one, two = (provider.record(call, callback_url=provider.api_url) for _ in range(2))
    started = "2026-09-14T06:30:00Z"
    answer = app.put(
        f"/calls/{call}",
        {
            "from": "+91 98200 55512",
            "to": "00918065550101",
            "direction": "inbound",
            "labels": {"team": "billing"},
            "started_at": started,
            "recordings": [{"recording_id": one.recording_id, "url": one.url}, {"url": two.url}],
        },
    )
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["from"], said["to"], said["direction"], said["labels"]) == (
        "919820055512",
        "918065550101",
        "inbound",
        {"team": "billing"},
    )
    assert said["started_at"] == "2026-09-14T06:30:00.000Z"
    assert {r["recording_id"] for r in said["recordings"]} == {one.recording_id, two.recording_id}
    stopped = app.post(f"/calls/{call}/stop", {"wait_s": 10}).json()
    assert stopped["stop"]["state"] == "confirmed"
    assert [
        app.house.reach(r.recording_id, "archived")["stop"]["evidence"] for r in (one, two)
    ] == [["listed"]] * 2


def test_telling_the_same_again_adds_nothing_and_later_words_add_to_earlier_ones(app):
    told = {
        "from": "1",
        "labels": {"team": "billing"},
        "recordings": [{"recording_id": "r1", "started_at": "2026-09-14T06:30:00Z"}],
    }
    for _ in range(3):
        assert app.put("/calls/c1", told).status_code == 200
    assert [k for k in app.house.kinds("c1") if k.endswith("Announced")] == [
        Kind.CALL_ANNOUNCED,
        Kind.RECORDING_ANNOUNCED,
    ]
    more = app.put("/calls/c1", {"to": "2", "labels": {"queue": "7"}}).json()
    assert (more["from"], more["to"], more["labels"]) == (
        "1",
        "2",
        {"team": "billing", "queue": "7"},
    )


def test_labels_that_come_late_choose_the_rules_anew(local):
    app = Application(
        local(
            rules=f'{RULES}[[rules]]\nname = "short"\nmatch = {{ labels = {{ team = "billing" }} }}\nmax_duration = "1s"\n'
        )
    )
    call, recording = recorded(app)
    app.put(f"/calls/{call}", {"labels": {"team": "billing"}})
    stop = app.house.stop_reaches(recording.recording_id, "confirmed", within_s=5)["stop"]
    assert (stop["rule"], stop["trigger"]) == ("short", "max_duration")


def test_a_declaration_that_nothing_records_is_a_proof(app):
    call, _ = recorded(app)
    said = app.put(f"/calls/{call}", {"recordings": []}).json()
    assert said["recordings"][0]["stop"]["evidence"] == ["declared"]
    assert app.house.requests("DELETE", call) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"recordings": [{"recording_id": "r1"}, {"url": "ftp://x"}]}, "recordings[1].url"),
        ({"recordings": [{}]}, "recordings[0]"),
        ({"recordings": [{"recording_id": "r1\n"}]}, "recordings[0].recording_id"),
        ({"recordings": [{"url": "http://x/y.mp3\n"}]}, "recordings[0].url"),
        (
            {"recordings": [{"recording_id": "r1", "started_at": "yesterday, at ten"}]},
            "recordings[0].started_at",
        ),
        ({"recordings": [{"recording_id": "r1", "size": 1}]}, "recordings[0].size"),
        ({"from": "nobody"}, "from"),
        ({"direction": "up"}, "direction"),
        ({"started_at": "yesterday, at ten"}, "started_at"),
        ({"labels": {"": "x"}}, "labels"),
        ({"url": "x"}, "url"),
    ],
)
def test_what_is_told_wrongly_is_refused_by_name_and_none_of_it_is_kept(lasting_app, body, field):
    call = new_call()
    problem(
        lasting_app.put(
            f"/calls/{call}", {"labels": {"kept": "no"}, **body} if "labels" not in body else body
        ),
        400,
        field,
    )
    assert lasting_app.get(f"/calls/{call}").status_code == 404


# Stopping
# -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["recording_id", "url"])
def test_one_of_two_recordings_is_stopped_by_its_id_or_its_address(app, by):
    call, one = recorded(app)
    two = app.house.provider.record(call)
    until(lambda: app.house.recording(two.recording_id)["phase"] == "recording")
    answer = app.post(
        f"/calls/{call}/stop", {by: getattr(one, by), "reason": "card entry", "wait_s": 10}
    )
    assert answer.status_code == 200
    said = answer.json()
    assert [
        (r["recording_id"], r["stop"]["state"], r["stop"]["trigger"]) for r in said["recordings"]
    ] == [(one.recording_id, "confirmed", "api")]
    assert said["stop"]["state"] == "confirmed"
    assert (bool(one.ended_at), two.ended_at) == (True, None)


def test_all_recordings_of_a_call_are_stopped_at_once(app):
    call, one = recorded(app)
    two = app.house.provider.record(call)
    until(lambda: app.house.recording(two.recording_id)["phase"] == "recording")
    said = app.post(f"/calls/{call}/stop", {"wait_s": 10}).json()
    assert {r["recording_id"]: r["stop"]["state"] for r in said["recordings"]} == {
        one.recording_id: "confirmed",
        two.recording_id: "confirmed",
    }
    assert len(app.house.requests("DELETE", call)) == 1


def test_a_stop_that_nobody_waits_for_is_answered_202_and_done(app):
    call, recording = recorded(app)
    answer = app.post(f"/calls/{call}/stop")
    assert (answer.status_code, answer.json()["stop"]["trigger"]) == (202, "api")
    assert app.house.stop_reaches(recording.recording_id, "confirmed")


def test_a_stop_whose_proof_does_not_come_is_answered_as_far_as_it_is(app):
    call, _ = recorded(app)
    app.house.provider.faults.switch_on("deaf-stop")
    answer = app.post(f"/calls/{call}/stop", {"wait_s": 0.5})
    assert (
        answer.status_code,
        answer.json()["stop"]["state"],
        answer.json()["stop"]["evidence"],
    ) == (200, "accepted", [])


def test_a_stop_on_a_call_that_nobody_told_us_of_is_sent_and_proves_nothing(app):
    silent = app.house.provider.call(callback_url=app.house.provider.api_url).call_uuid
    hidden = app.house.provider.record(silent, callback_url=app.house.provider.api_url)
    answer = app.post(f"/calls/{silent}/stop", {"wait_s": 0.4})
    assert (answer.status_code, answer.json()["recordings"], answer.json()["stop"]["evidence"]) == (
        200,
        [],
        [],
    )
    assert until(lambda: hidden.ended_at)


def test_a_stop_is_repeated_by_its_key_without_effect(app):
    call, _ = recorded(app)
    for _ in range(2):
        assert (
            app.post(f"/calls/{call}/stop", {"wait_s": 10}, Idempotency_Key="s1").status_code == 200
        )
    assert app.house.kinds(call).count(Kind.STOP_ORDERED) == 1
    problem(
        app.post(f"/calls/{call}/stop", {"reason": "another"}, Idempotency_Key="s1"),
        422,
        "Idempotency-Key",
    )


def test_a_stop_of_what_is_not_known_on_the_call_or_cannot_be_named_is_refused(app):
    call, first = recorded(app)
    app.put(
        f"/calls/{call}",
        {"recordings": [{"recording_id": "other", "url": "https://media.vobiz.ai/other.mp3"}]},
    )
    problem(app.post(f"/calls/{call}/stop", {"recording_id": "nobody"}), 404, "recording_id")
    problem(
        app.post(
            f"/calls/{call}/stop",
            {"recording_id": first.recording_id, "url": "https://media.vobiz.ai/other.mp3"},
        ),
        400,
        "url",
    )
    problem(app.post(f"/calls/{call}/stop", {"url": "https://media.vobiz.ai/"}), 400, "url")
    problem(app.post(f"/calls/{call}/stop", {"wait_s": 31}), 400, "wait_s")
    problem(app.post("/calls/a%20b/stop"), 400, "call_uuid")
    assert app.house.requests("DELETE", call) == []


# Pausing
# ------------------------------------------------------------------------------------------------------------------


def test_a_pause_ends_the_recording_and_a_resume_goes_on_with_a_linked_segment_and_a_declared_gap(
    app,
):
    call, first = recorded(app, container="wav", channels=2)
    assert (
        app.post(f"/calls/{call}/pause", {"reason": "card", "wait_s": 10}).json()["stop"]["state"]
        == "confirmed"
    )
    open_gap = app.get(f"/calls/{call}").json()["gaps"]
    assert [(g["recording_id"], g["to"], g["trigger"], g["reason"]) for g in open_gap] == [
        (first.recording_id, None, "pause", "card")
    ]
    answer = app.post(f"/calls/{call}/resume", {"reason": "done"})
    assert answer.status_code == 201, answer.text
    (second,) = answer.json()["recordings"]
    assert (second["segment_of"], second["phase"]) == (first.recording_id, "recording")
    assert app.house.provider.recordings[second["recording_id"]].container == "wav"
    (gap,) = app.get(f"/calls/{call}").json()["gaps"]
    assert (gap["resumed_by"], bool(gap["from"]), bool(gap["to"])) == ("resume", True, True)
    problem(app.post(f"/calls/{call}/resume"), 409)


def test_a_resume_where_nothing_is_paused_or_the_stop_was_final_is_a_conflict(app):
    call, _ = recorded(app)
    problem(app.post(f"/calls/{call}/resume"), 409)
    app.post(f"/calls/{call}/stop", {"wait_s": 10})
    problem(app.post(f"/calls/{call}/resume"), 409)
    assert starts_sent(app, call) == []


def test_a_resume_whose_start_nobody_knows_about_is_504_and_is_repeated_by_its_key(app):
    call, _ = recorded(app)
    app.post(f"/calls/{call}/pause", {"wait_s": 10})
    app.house.provider.faults.switch_on("start-lost-answer", times=1)
    assert (
        problem(app.post(f"/calls/{call}/resume", Idempotency_Key="r1"), 504)["start"] == "unknown"
    )
    problem(app.post(f"/calls/{call}/resume", Idempotency_Key="r1"), 504)
    assert len(starts_sent(app, call)) == 1


# Events
# -------------------------------------------------------------------------------------------------------------------


def test_a_provider_request_is_forwarded_as_it_came_and_triggers_what_the_rules_say(app):
    call, recording = recorded(app)
    body = {"Event": "Transfer", "CallUUID": call, "From": "919820055512", "To": "918065550101"}
    answers = [
        requests.post(
            f"{app.house.base}/v1/events",
            timeout=5,
            headers={"Authorization": f"Bearer {KEY}"},
            **how,
        )
        for how in ({"data": body}, {"data": body}, {"json": {"response": json.dumps(body)}})
    ]
    assert [(a.status_code, a.json()["recorded"], a.json()["event"]) for a in answers] == [
        (200, "new", "CallTransferred"),
        (200, "repeat", "CallTransferred"),
        (200, "repeat", "CallTransferred"),
    ]
    assert (
        app.house.stop_reaches(recording.recording_id, "confirmed")["stop"]["trigger"] == "transfer"
    )


def test_a_forwarded_end_is_a_claim_and_no_proof(app):
    call, recording = recorded(app)
    ended = {
        "Event": "RecordStop",
        "CallUUID": call,
        "RecordingID": recording.recording_id,
        "RecordingDuration": "5",
    }
    assert app.post("/events", ended).json()["recorded"] == "new"
    assert app.post("/events", {"Event": "Hangup", "CallUUID": call}).json()["recorded"] == "new"
    assert app.house.recording(recording.recording_id)["stop"]["evidence"] == []


def test_custom_events_pause_and_resume_by_the_rules(app):
    call, first = recorded(app)
    answer = app.post(
        "/events", {"event": "custom.card", "call_uuid": call, "reason": "number read out"}
    )
    assert answer.json() == {
        "event": "custom.card",
        "call_uuid": call,
        "account": ACCOUNT,
        "recorded": "new",
    }
    assert (
        app.house.stop_reaches(first.recording_id, "confirmed")["stop"]["trigger"] == "custom.card"
    )
    app.post("/events", {"event": "custom.done", "call_uuid": call}, Idempotency_Key="e1")
    until(lambda: len(app.get(f"/calls/{call}").json()["recordings"]) == 2)
    app.post("/events", {"event": "custom.done", "call_uuid": call}, Idempotency_Key="e1")
    assert app.house.kinds(call).count(Kind.CUSTOM_REPORTED) == 2


def test_a_reason_that_is_half_a_character_can_still_be_printed(app):
    answer = requests.post(
        f"{app.house.base}/v1/events",
        data='{"event": "custom.x", "call_uuid": "c1", "reason": "a\\ud800b"}',
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=5,
    )
    assert answer.status_code == 200
    assert app.get("/calls/c1").json()["timeline"][0]["reason"] == "a?b"


def test_what_nobody_follows_is_ignored_and_answered_200(app):
    for body in (
        {"Event": "PlayedSound", "CallUUID": "c1"},
        {"transcription": "hello", "recording_id": "r"},
    ):
        answer = app.post("/events", body)
        assert (answer.status_code, answer.json()["recorded"]) == (200, "ignored")
    assert app.get("/calls/c1").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"event": "custom.", "call_uuid": "c1"}, "event"),
        ({"event": "custom.a b", "call_uuid": "c1"}, "event"),
        ({"event": "custom.card"}, "call_uuid"),
        ({"event": "custom.card", "call_uuid": "a b"}, "call_uuid"),
        ({"Event": "Transfer"}, "call_uuid"),
        ({"Event": "Transfer", "CallUUID": "a b"}, "call_uuid"),
        ({"event": "custom.card", "call_uuid": "c1", "account": "MA_OTHER"}, "account"),
        ({}, None),
    ],
)
def test_an_event_that_cannot_be_read_is_refused_by_the_name_of_its_field(lasting_app, body, field):
    problem(lasting_app.post("/events", body), 400, field)


# Reading back
# -------------------------------------------------------------------------------------------------------------


def test_a_call_is_found_by_its_other_leg_and_an_unknown_one_is_404(app):
    call, _ = recorded(app)
    app.house.provider.dial(call, "918065550199")
    b_leg = until(
        lambda: next((e.b_leg for e in app.house.ledger.events(ACCOUNT, call) if e.b_leg), None)
    )
    assert app.get(f"/calls/{b_leg}").json()["call_uuid"] == call
    problem(app.get("/calls/nobody"), 404)
    problem(app.get("/calls/a%20b"), 404)


def test_pages_are_newest_first_and_new_recordings_do_not_shift_them(app):
    for number in range(5):
        app.put(f"/calls/c{number}", {"recordings": [{"recording_id": f"r{number}"}]})
        time.sleep(0.002)
    first = app.get("/recordings?limit=2").json()
    app.put("/calls/c9", {"recordings": [{"recording_id": "r9"}]})
    second = app.get(f"/recordings?limit=2&cursor={first['cursor']}").json()
    third = app.get(f"/recordings?limit=2&cursor={second['cursor']}").json()
    assert [[r["recording_id"] for r in page["recordings"]] for page in (first, second, third)] == [
        ["r4", "r3"],
        ["r2", "r1"],
        ["r0"],
    ]
    assert third["cursor"] is None


def page(app, query, **limits):
    """What a page is whose answer may read only so much."""
    reader = Reader(app.house.ledger, lambda: app.house.settings, **limits)
    with app.house.app.test_request_context(f"/v1/recordings?{query}"):
        return reader.recordings().json


def test_a_page_that_found_nothing_yet_says_where_to_go_on(app):
    for number in range(5):
        app.put(f"/calls/c{number}", {"recordings": [{"recording_id": f"r{number}"}]})
        time.sleep(0.002)
    pages, cursor = [], ""
    while cursor is not None:
        found = page(app, f"call_uuid=c0{cursor and '&cursor='}{cursor}", at_once=2, for_s=0.0)
        pages.append([r["recording_id"] for r in found["recordings"]])
        cursor = found["cursor"]
    assert pages == [[], [], ["r0"]]


def test_a_page_takes_only_so_long(app):
    for number in range(2):
        app.put(f"/calls/c{number}", {"recordings": [{"recording_id": f"r{number}"}]})
        time.sleep(0.002)
    first = page(app, "call_uuid=c0", at_once=1, for_s=0.0)
    assert (first["recordings"], first["cursor"] is None) == ([], False)
    second = page(app, f"call_uuid=c0&cursor={first['cursor']}", at_once=1, for_s=0.0)
    assert [r["recording_id"] for r in second["recordings"]] == ["r0"]


def test_the_list_is_filtered_by_phase_call_account_and_time(app):
    call, recording = recorded(app)
    app.put("/calls/c1", {"recordings": [{"recording_id": "r1"}]})

    def listed(query):
        return [r["recording_id"] for r in app.get(f"/recordings?{query}").json()["recordings"]]

    assert listed(f"call_uuid={call}") == [recording.recording_id]
    assert listed("phase=archived") == []
    app.house.provider.hangup(call)
    app.house.reach(recording.recording_id, "archived")
    assert (listed("phase=archived"), listed("phase=recording")) == (
        [recording.recording_id],
        ["r1"],
    )
    assert len(listed(f"account={ACCOUNT}&since=2026-01-01T00:00:00Z")) == 2
    nothing_given = "phase=&stop=&fault=&rule=&number=&label=&call_uuid=&account=&held=&since=&until=&q=&limit=&cursor="
    assert listed(nothing_given) == listed("")
    assert listed("until=2026-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("phase=done", "phase"),
        ("account=MA_OTHER", "account"),
        ("since=yesterday", "since"),
        ("until=soon", "until"),
        ("cursor=x", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=%C3%A9", "cursor"),
    ],
)
def test_a_query_that_cannot_be_read_is_refused_by_the_name_of_its_field(lasting_app, query, field):
    problem(lasting_app.get(f"/recordings?{query}"), 400, field)


def test_audio_comes_whole_or_in_ranges_with_its_receipt(app):
    call, recording = recorded(app)
    problem(app.get(f"/recordings/{recording.recording_id}/audio"), 404)
    problem(app.get(f"/recordings/{recording.recording_id}/receipt"), 404)
    app.house.provider.hangup(call)
    said = app.house.reach(recording.recording_id, "archived")
    path = f"/recordings/{recording.recording_id}/audio"
    whole = app.get(path)
    assert (whole.status_code, len(whole.content), whole.headers["Content-Type"]) == (
        200,
        said["bytes"],
        "audio/mpeg",
    )
    part = app.get(path, Range="bytes=10-19")
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (
        206,
        whole.content[10:20],
        f"bytes 10-19/{said['bytes']}",
    )
    beyond = app.get(path, Range=f"bytes={said['bytes']}-")
    assert (problem(beyond, 416)["title"], beyond.headers["Content-Range"]) == (
        "Range Not Satisfiable",
        f"bytes */{said['bytes']}",
    )
    for all_of_it in ("lines=0-3", "bytes=0-3, 8-9"):
        ignored = app.get(path, Range=all_of_it)
        assert (ignored.status_code, ignored.content) == (200, whole.content), all_of_it
    for more in (said["bytes"] + 1, "9" * 30):
        longer = app.get(path, Range=f"bytes=-{more}")
        assert (longer.status_code, longer.content) == (206, whole.content), more
    assert app.get(path, Range="bytes=-10").content == whole.content[-10:]
    problem(app.get(path, Range="bytes=-0"), 416)
    mark, some = whole.headers["ETag"], {"Range": "bytes=0-9"}
    assert app.get(path, If_None_Match=mark).status_code == 304
    assert app.get(path, If_None_Match=mark, **some).status_code == 304
    problem(app.get(path, If_Match='"other"', **some), 412)
    for mine, content in ((mark, whole.content[:10]), (f"W/{mark}", whole.content)):
        assert app.get(path, If_Range=mine, **some).content == content
    receipt = app.get(f"/recordings/{recording.recording_id}/receipt").json()
    assert (receipt["schema"], receipt["media"]["sha256"]) == ("endtape/receipt/1", said["sha256"])
    problem(app.get("/recordings/nobody/audio"), 404)
    stored = app.get(f"/recordings/{recording.recording_id}/receipt").content
    signature = app.get(f"/recordings/{recording.recording_id}/signature")
    by = signing.verify(stored, signature.content, signing.RECEIPTS)
    keys = requests.get(f"{app.house.base}/v1/keys", timeout=5)  # without a key
    assert (keys.status_code, keys.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert [signer.key for signer in signers.read(keys.text)] == [by]
    (app.house.settings.archive / said["archive_key"]).with_suffix(".json.sig").unlink()
    problem(app.get(f"/recordings/{recording.recording_id}/signature"), 404)


def test_the_outline_is_archived_and_drawn_again_where_it_is_missing(app):
    call, recording = recorded(app, container="wav")
    path = f"/recordings/{recording.recording_id}/peaks"
    problem(app.get(path), 404)
    app.house.provider.hangup(call)
    said = app.house.reach(recording.recording_id, "archived")
    stored = (app.house.settings.archive / said["archive_key"]).with_suffix(".peaks")
    outline = app.get(path)
    assert (outline.content, outline.headers["Content-Type"]) == (
        stored.read_bytes(),
        "application/json",
    )
    assert (outline.json()["schema"], len(outline.json()["channels"])) == ("endtape/peaks/1", 1)
    stored.unlink()
    assert app.get(path).content == outline.content
    os.truncate(stored.with_suffix(".wav"), 33 << 20)
    assert "too long" in problem(app.get(path), 404)["detail"]
    stored.with_suffix(".wav").write_bytes(b"no audio")
    assert "kind of audio" in problem(app.get(path), 404)["detail"]


@pytest.mark.parametrize("instead", ["nothing", "a link"])
def test_audio_that_the_archive_lacks_is_404(app, instead, tmp_path):
    call, recording = recorded(app)
    app.house.provider.hangup(call)
    key = app.house.reach(recording.recording_id, "archived")["archive_key"]
    file = app.house.settings.archive / key
    file.rename(tmp_path / "elsewhere")
    if instead == "a link":
        file.symlink_to(tmp_path / "elsewhere")
    for what in ("audio", "receipt", "signature", "peaks"):
        problem(app.get(f"/recordings/{recording.recording_id}/{what}"), 404)


def test_who_reads_audio_slowly_costs_no_callback_anything(app):
    """More readers than may read at once, each asking for 200 MB and taking nothing."""
    call, recording = recorded(app)
    app.house.provider.hangup(call)
    said = app.house.reach(recording.recording_id, "archived")
    os.truncate(app.house.settings.archive / said["archive_key"], 200_000_000)
    path = f"/v1/recordings/{recording.recording_id}/audio"
    with ExitStack() as readers:
        heads = []
        for _ in range(server.STREAMS + 10):
            sock = readers.enter_context(connect(app.house.base))
            sock.sendall(head(path, f"Authorization: Bearer {KEY}", method="GET"))
            heads.append(sock.recv(12))
        took = []
        for n in range(30):
            began = time.monotonic()
            assert app.house.post({"Event": "Ring", "CallUUID": f"ring{n}"}).status_code == 200
            took.append(time.monotonic() - began)
        assert statistics.median(took) < 1
        assert heads == [b"HTTP/1.1 200"] * server.STREAMS + [b"HTTP/1.1 503"] * 10
    assert until(
        lambda: app.get(path.removeprefix("/v1"), Range="bytes=100-1999999").status_code == 206
    )


def test_a_recording_is_tried_again_on_request_but_not_once_it_is_archived(app):
    app.house.provider.faults.switch_on("html-media")
    call, recording = recorded(app)
    app.house.provider.hangup(call)
    until(lambda: app.house.recording(recording.recording_id)["problem"])
    app.house.provider.faults.clear()
    answer = app.post(
        f"/recordings/{recording.recording_id}/retry", {"reason": "the provider mended it"}
    )
    assert (answer.status_code, answer.json()["recording_id"]) == (202, recording.recording_id)
    app.house.reach(recording.recording_id, "archived", within_s=5)
    problem(app.post(f"/recordings/{recording.recording_id}/retry"), 409)
    problem(app.post("/recordings/nobody/retry"), 404)


# Keys
# ---------------------------------------------------------------------------------------------------------------------


def test_both_keys_are_good_while_one_is_rotated_and_no_other(local):
    app = Application(local(ENDTAPE_API_KEY=f"{'n' * 20},{KEY}"))
    assert [app.get("/recordings", key=key).status_code for key in (KEY, "n" * 20)] == [200, 200]
    refused = app.get("/recordings", key="x" * 20)
    problem(refused, 401)
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    for header in ("", "Basic dGVzdA==", f"Token {KEY}", "Bearer", "Bearer \xe9"):
        assert (
            requests.get(
                f"{app.house.base}/v1/recordings", headers={"Authorization": header}, timeout=5
            ).status_code
            == 401
        )


def test_the_application_key_drives_calls_and_sees_no_recordings(app):
    call, recording = recorded(app)
    for answer in (
        app.post(f"/calls/{call}/recordings", key=APP_KEY),
        app.get(f"/calls/{call}", key=APP_KEY),
        app.put(f"/calls/{call}", {}, key=APP_KEY),
        app.post("/events", {"event": "custom.note", "call_uuid": call}, key=APP_KEY),
        app.post(f"/calls/{call}/stop", key=APP_KEY),
    ):
        assert answer.status_code in {200, 201, 202}, answer.text
    for path in (
        "/recordings",
        f"/recordings/{recording.recording_id}",
        f"/recordings/{recording.recording_id}/audio",
        f"/recordings/{recording.recording_id}/receipt",
        f"/recordings/{recording.recording_id}/signature",
        f"/recordings/{recording.recording_id}/peaks",
    ):
        problem(app.get(path, key=APP_KEY), 403)
    problem(app.post(f"/recordings/{recording.recording_id}/retry", key=APP_KEY), 403)


# More than one account
# ----------------------------------------------------------------------------------------------------


def test_with_several_accounts_one_is_named_unless_one_alone_knows_the_call(local, monkeypatch):
    rules = f'{RULES}[[accounts]]\nauth_id = "SA_2"\ntoken_env = "SECOND_TOKEN"\n'
    app = Application(
        local(
            rules=rules,
            provider_accounts={ACCOUNT: "test-auth-token", "SA_2": "second"},
            SECOND_TOKEN="second",
        )
    )
    assert "SA_2" in problem(app.put("/calls/c1", {"from": "1"}), 400, "account")["detail"]
    assert app.put("/calls/c1", {"from": "1", "account": "SA_2"}).json()["account"] == "SA_2"
    assert app.put("/calls/c1", {"to": "2"}).json()["account"] == "SA_2"
    assert app.post("/events", {"event": "custom.x", "call_uuid": "c1"}).json()["account"] == "SA_2"
    assert app.get("/calls/c1").json()["account"] == "SA_2"
    problem(app.get("/calls/c1?account=SA_3"), 400, "account")


NO_INSTANTS = [
    "2026-09-14T02:30:00",
    "2026-09-14",
    "2026-09-14 02:30:00",
    "20260914T023000Z",
    "2026-W38-1T02:30:00Z",
    "1789367412900",
    "1789367412.9",
    "2026-09-14T02:30Z",
    "2026-09-14T02:30:00+0530",
    "2026-09-14T02:30:00+05",
    "2026-09-14T02:30:00 05:30",
    "2026-09-14T02:30:00 IST",
    "2026-09-14T25:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-09-14T02:30:61Z",
    "2026-09-14T02:30:60Z",
    "0001-01-01T00:00:00Z",
    "1970-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "2026-09-14T02:30:00+24:00",
    "2026-09-14T02:30:00+05:60",
    "2026-09-14T02:30:00.Z",
    "2026-09-14T02:30:00ZZ",
    "+2026-09-14T02:30:00Z",
    "2026-09-14T02:30:00Z\n",
    " 2026-09-14T02:30:00Z",
    "\uff12026-09-14T02:30:00Z",
    "yesterday, or so",
]
INSTANTS = {
    "2026-09-14T02:30:00Z": "02:30:00",
    "2026-09-14t02:30:00z": "02:30:00",
    "2026-09-14 02:30:00Z": "02:30:00",
    "2026-09-14T08:00:00+05:30": "02:30:00",
    "2026-09-13T21:30:00-05:00": "02:30:00",
    "2026-09-14T02:30:00-00:00": "02:30:00",
    "2026-09-14T02:30:00.123456789Z": "02:30:00.123",
    "2026-09-14T02:30:00.5z": "02:30:00.500",
    "2026-09-13T23:59:60Z": "00:00:00",
    "2026-09-14T05:29:60+05:30": "00:00:00",
}


@pytest.mark.parametrize("text", [*NO_INSTANTS, 1789367412900, True], ids=ascii)
def test_an_instant_without_its_zone_or_of_another_spelling_is_refused_by_the_name_of_its_field(
    lasting_app, text
):
    call = new_call()
    problem(lasting_app.put(f"/calls/{call}", {"started_at": text}), 400, "started_at")
    problem(
        lasting_app.put(
            f"/calls/{call}", {"recordings": [{"recording_id": "r1", "started_at": text}]}
        ),
        400,
        "recordings[0].started_at",
    )
    assert lasting_app.house.kinds(call) == []


@pytest.mark.parametrize("text", NO_INSTANTS, ids=ascii)
@pytest.mark.parametrize("name", ["since", "until"])
def test_so_is_one_in_a_query(lasting_app, name, text):
    problem(lasting_app.get(f"/recordings?{urlencode({name: text})}"), 400, name)


@pytest.mark.parametrize("text", INSTANTS)
def test_an_instant_is_read_in_every_spelling_that_rfc_3339_allows(lasting_app, text):
    call = new_call()
    assert lasting_app.put(f"/calls/{call}", {"started_at": text}).status_code == 200
    assert (
        lasting_app.house.call(call)
        .started_at.isoformat(timespec="milliseconds")
        .partition("T")[2]
        .startswith(INSTANTS[text])
    )
    assert (
        lasting_app.get(f"/recordings?{urlencode({'since': text, 'until': text})}").status_code
        == 200
    )


def test_a_plus_that_a_query_turned_into_a_space_is_explained(lasting_app):
    assert (
        "%2B"
        in problem(lasting_app.get("/recordings?since=2026-09-14T02:30:00+05:30"), 400, "since")[
            "detail"
        ]
    )


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("sip:+918041234567@203.0.113.7:5060", "918041234567"),
        ("<sip:1001@10.0.0.5:5060;transport=udp>", "1001"),
        ("tel:+918041234567;phone-context=+91", "918041234567"),
    ],
)
def test_numbers_may_be_told_as_addresses(lasting_app, text, digits):
    call = new_call()
    told = lasting_app.put(f"/calls/{call}", {"from": text, "to": text}).json()
    assert (told["from"], told["to"]) == (digits, digits)


@pytest.mark.parametrize("text", ["sip:agent7@10.0.0.5:5060", "sip:10.0.0.5", "anonymous"])
def test_an_address_without_a_number_is_refused_by_name(lasting_app, text):
    call = new_call()
    problem(lasting_app.put(f"/calls/{call}", {"to": text}), 400, "to")


def test_a_mark_before_a_body_is_skipped(lasting_app):
    call = new_call()
    answer = requests.put(
        f"{lasting_app.house.base}/v1/calls/{call}",
        data=b"\xef\xbb\xbf" + json.dumps({"to": "918065550101"}).encode(),
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=5,
    )
    assert answer.json()["to"] == "918065550101"


@pytest.mark.parametrize("operators", ["", "event=recording-done&tenant=7&"])
def test_the_query_of_a_get_that_the_application_got_may_be_forwarded(app, operators):
    facts = operators + urlencode(
        {
            "api_id": "a",
            "call_uuid": "c1",
            "recording_id": "r1",
            "record_url": "https://media.vobiz.ai/r1.mp3",
            "recording_duration_ms": "5000",
        }
    )
    headers = {"Authorization": f"Bearer {KEY}"}
    in_query = requests.post(
        f"{app.house.base}/v1/events?{facts}", headers=headers, timeout=5
    ).json()
    in_body = requests.post(
        f"{app.house.base}/v1/events",
        data=facts,
        headers={**headers, "Content-Type": "application/x-www-form-urlencoded"},
        timeout=5,
    ).json()
    assert (in_query["event"], in_query["recorded"], in_body["recorded"]) == (
        "RecordingFinalized",
        "new",
        "repeat",
    )
    (event,) = [
        e for e in app.house.ledger.events(ACCOUNT, "c1") if e.kind is Kind.RECORDING_FINALIZED
    ]
    assert (event.recording_id, event.duration_s) == ("r1", 5)


def test_a_forwarded_form_that_says_its_event_twice_is_the_providers(app):
    facts = (
        "event=mine&" + urlencode({"Event": "Transfer", "CallUUID": "c1"}) + f"&account={ACCOUNT}"
    )
    answer = requests.post(
        f"{app.house.base}/v1/events",
        data=facts,
        headers={
            "Authorization": f"Bearer {KEY}",
            "Content-Type": "application/x-www-form-urlencoded",
        },
        timeout=5,
    )
    assert answer.json()["event"] == "CallTransferred"
