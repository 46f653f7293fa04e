"""The control API and the command: everything that another process can do to the emulator."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from emulator import control as routes
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_call_is_played_over_http(control, inbox):
    call = control(
        "POST", "calls", from_number="911", to_number="912", announce=True, direction="outbound"
    ).json()["call_uuid"]
    inbox.wait(2)
    made = control("POST", f"calls/{call}/record", container="wav", channels=2).json()
    assert made["url"].endswith(f"/{made['recording_id']}.wav")
    inbox.wait(3)
    control("POST", f"calls/{call}/event", event="DialAnswer", Extra="1")
    assert inbox.wait(4)[3].fields["Extra"] == "1"
    assert control("POST", f"calls/{call}/dial", to_number="913").json()["b_leg"]
    control("GET", "idle?timeout=5")
    control("POST", f"calls/{call}/dial/end", redirect=False)
    assert control("POST", f"calls/{call}/join", room="r").json()["member"] == "1"
    assert control("POST", f"calls/{call}/leave", recording_id=made["recording_id"]).json() == {}
    control("POST", f"calls/{call}/transfer", url=f"{inbox.root}/next")
    control("POST", f"recordings/{made['recording_id']}/stop", reason="RecordingTimeout")
    control("POST", f"recordings/{made['recording_id']}/transcribe", text="well")
    until(lambda: "RecordStop" in inbox.events())
    control("POST", f"calls/{call}/hangup", cause="SCHEDULED_HANGUP", source="API Request")
    assert control("GET", "idle?timeout=5").json() == {"idle": True}
    found = set(inbox.events())
    assert {
        "Ring",
        "StartApp",
        "Record",
        "DialHangup",
        "DialAction",
        "ConferenceEnter",
        "ConferenceExit",
        "Transfer",
        "RecordStop",
        "Hangup",
    } <= found
    over = next(a.fields for a in inbox.arrived if a.event == "Hangup")
    assert (over["HangupCauseCode"], over["HangupSource"]) == ("6000", "API Request")
    state = control("GET", "state").json()
    assert [r["end_reason"] for r in state["recordings"]] == ["RecordingTimeout"]
    assert state["calls"][0]["ended_at"]


def test_bad_days_are_switched_over_http(control, provider):
    assert control("PUT", "faults/deaf-stop", times=2).json() == {}
    assert control("GET", "faults").json()["on"] == {
        "deaf-stop": {"name": "deaf-stop", "times": 2, "left": 2}
    }
    control("DELETE", "faults/deaf-stop")
    control("PUT", "faults/api-5xx")
    control("DELETE", "faults")
    listing = control("GET", "faults").json()
    assert listing["on"] == {}
    assert "204" in listing["known"]["deaf-stop"]
    assert listing["parameters"]["api-429"] == {"retry_after": 1}


def test_a_raw_callback_is_sent_as_given_signed_or_not_and_its_answer_comes_back(control, inbox):
    inbox.statuses.extend([403])
    answer = control(
        "POST",
        "callbacks",
        url=inbox.url,
        body="not=a&form",
        headers={"X-Mine": "1", "Content-Type": "text/odd"},
    )
    assert answer.json() == {"status": 403, "body": ""}
    assert (
        control("POST", "callbacks", url=inbox.url, method="GET", signature="v3").json()["status"]
        == 200
    )
    plain, signed = inbox.arrived
    assert (plain.body, plain.headers["X-Mine"], plain.headers["Content-Type"]) == (
        b"not=a&form",
        "1",
        "text/odd",
    )
    assert not [name for name in plain.headers if "Signature" in name]
    assert (signed.method, "X-Vobiz-Signature-V3" in signed.headers) == ("GET", True)
    assert control("POST", "callbacks", url="http://127.0.0.1:1/").status_code == 502


def test_the_control_api_ends_its_answers_with_a_line_end_and_the_providers_api_does_not(
    control, rest
):
    answers = [control("GET", "state"), control("POST", "nosuch"), rest.get("Recording/")]
    assert [answer.text.endswith("\n") for answer in answers] == [True, True, False]


def test_the_log_tells_what_was_asked_and_sent(control, rest, provider):
    provider.event(provider.call().call_uuid, "Ring")
    provider.wait_idle(5)
    rest.get("Recording/")
    log = control("GET", "log").json()["log"]
    assert [(e["kind"], e.get("event", e.get("path", "")[-10:])) for e in log] == [
        ("callback", "Ring"),
        ("request", "Recording/"),
    ]
    assert control("GET", f"log?since={log[-1]['seq']}").json()["log"][0]["path"].endswith("/log")


def test_a_reset_forgets_everything_but_the_journal(control, provider):
    call = provider.call().call_uuid
    provider.record(call, max_length_s=0.02, announce=False)
    control("PUT", "faults/deaf-stop")
    control("POST", "reset")
    assert control("GET", "state").json() == {"calls": [], "recordings": [], "deleted": []}
    assert control("GET", "faults").json()["on"] == {}
    assert control("POST", f"calls/{call}/hangup").status_code == 404
    assert not [e for e in provider.journal.since() if e["kind"] == "trouble"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "nothing", {}, 404),
        ("GET", "nothing", {}, 404),
        ("POST", "calls/x/record", {}, 404),
        ("POST", "calls/x/dance", {}, 404),
        ("PUT", "faults/no-such-day", {}, 404),
        ("PUT", "faults/deaf-stop", {"loud": 1}, 400),
        ("POST", "calls", {"colour": 1}, 400),
        ("POST", "calls", {"signature": "v9"}, 400),
        ("POST", "calls", {"account": "MA_X"}, 404),
        ("POST", "recordings/x/stop", {}, 404),
    ],
)
def test_what_cannot_be_done_is_told(control, method, path, body, status):
    answer = control(method, path, **body)
    assert (answer.status_code, bool(answer.json()["error"])) == (status, True)


def test_from_and_to_are_taken_as_scenarios_and_the_provider_write_them(control, provider):
    call = provider.calls[
        control("POST", "calls", **{"from": "911", "to": "912"}).json()["call_uuid"]
    ]
    assert (call.from_number, call.to_number) == ("911", "912")
    assert control("POST", f"calls/{call.call_uuid}/dial", to="913").status_code == 200
    assert call.dial.to_number == "913"


@pytest.mark.parametrize(
    ("method", "path", "body", "named"),
    [
        ("POST", "calls", {"to": 912}, ["to: must be text, not 912"]),
        ("POST", "calls", {"to": "1", "to_number": "2"}, ["to_number: stands there twice"]),
        (
            "POST",
            "calls",
            {"ring_s": "soon", "trunk": 1, "urls": ["x"], "colour": 1},
            [
                "ring_s: must be a number",
                "trunk: must be true or false",
                "urls: must be an object of texts or null",
                "colour: is not known here; known: call_uuid, account, from_number",
            ],
        ),
        ("POST", "calls", {"ring_s": -1}, ["ring_s: must be a number of 0 or more"]),
        ("POST", "calls", {"announce": "yes"}, ["announce: must be true or false"]),
        ("POST", "calls", {"urls": {"Ring": 1}}, ["urls: must be an object of texts"]),
        ("POST", "calls", {"self": 1}, ["self: is not known here"]),
        (
            "POST",
            "calls/{call}/record",
            {"channels": 1.5, "call_uuid": "x"},
            ["channels: must be a whole number", "call_uuid: is not known here"],
        ),
        ("POST", "calls/{call}/record", {"max_length_s": True}, ["max_length_s: must be a number"]),
        ("POST", "calls/{call}/event", {}, ["event: is missing"]),
        ("POST", "calls/{call}/event", {"event": 7}, ["event: must be text, not 7"]),
        (
            "POST",
            "calls/{call}/event",
            {"event": "Ring", "call_uuid": "x"},
            ["call_uuid: is not known here"],
        ),
        ("POST", "calls/{call}/event", {"event": "Ring", "name": "x"}, ["name: is not known here"]),
        ("POST", "calls/{call}/dial", {}, ["to_number: is missing"]),
        ("POST", "calls/{call}/dial/end", {"redirect": None}, ["redirect: must be true or false"]),
        ("POST", "calls/{call}/join", {"room": ["r"]}, ["room: must be text"]),
        ("POST", "calls/{call}/leave", {"recording_id": 1}, ["recording_id: must be text or null"]),
        ("POST", "calls/{call}/announce", {"x": 1}, ["x: is not known here; known: nothing"]),
        (
            "POST",
            "calls/{call}/transfer",
            {"to": "x"},
            ["to: is not known here", "url: is missing"],
        ),
        ("POST", "calls/{call}/hangup", {"cause": 16}, ["cause: must be text"]),
        ("POST", "recordings/{recording}/stop", {"reason": 1}, ["reason: must be text"]),
        ("POST", "recordings/{recording}/transcribe", {"text": {}}, ["text: must be text"]),
        ("POST", "callbacks", {"body": 1}, ["body: must be text", "url: is missing"]),
        ("POST", "reset", {"x": 1}, ["x: is not known here"]),
        ("PUT", "faults/deaf-stop", {"name": "x"}, ["name: stands in the address already"]),
        ("PUT", "faults/deaf-stop", {"times": "two"}, ["times cannot be 'two'"]),
        ("DELETE", "faults/deaf-stop", {"x": 1}, ["x: is not known here"]),
        ("GET", "log?since=then", {}, ["since: must be a number"]),
        ("GET", "idle?timeout=nan", {}, ["timeout: must be a number"]),
    ],
)
def test_a_field_that_cannot_be_taken_is_named_with_what_can_be(
    control, provider, method, path, body, named
):
    call = provider.call().call_uuid
    provider.dial(call, "1")
    provider.join_room(call, "r")
    recording = provider.record(call).recording_id
    answer = control(method, path.format(call=call, recording=recording), **body)
    told = answer.json()["error"]
    assert (answer.status_code, [part for part in named if part not in told]) == (400, []), told
    assert not [
        word
        for word in ("argument", "__init__", "Switchboard", "literal", "convert", "<")
        if word in told
    ]


def test_every_control_route_is_documented():
    source = Path(routes.__file__).read_text()
    verbs = re.findall(r'^        (?:case )?"([a-z/]+)":', source, re.MULTILINE)
    paths = [
        p
        for p in re.findall(r'case \(?\[?(?:"(?:POST|PUT|DELETE)", )?"([a-z]+)"', source)
        if p not in {"GET", "POST"}
    ]
    docs = (ROOT / "docs" / "emulator.md").read_text()
    assert (len(verbs), len(paths)) == (10, 17), (verbs, paths)
    assert [verb for verb in verbs + paths if verb.rsplit("/", 1)[-1] not in docs] == []


def run(*options):
    return subprocess.Popen(
        [sys.executable, "-m", "emulator", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_prints_its_addresses_has_its_bad_days_and_ends_quietly(tmp_path):
    plot = tmp_path / "plot.toml"
    plot.write_text("[[calls]]\naccount = 'SA_1'\n")
    process = run(
        "--account",
        "MA_1:one",
        "--account",
        "SA_1:two:MA_1",
        "--trunk-secret",
        "MA_1:s",
        "--fault",
        "api-429",
        "--scenario",
        str(plot),
    )
    where = json.loads(process.stdout.readline())
    try:
        headers = {"X-Auth-ID": "SA_1", "X-Auth-Token": "two"}
        assert (
            requests.get(f"{where['api_url']}/auth/me", headers=headers, timeout=5).status_code
            == 200
        )
        assert (
            requests.get(
                f"{where['api_url']}/Account/SA_1/Recording/", headers=headers, timeout=5
            ).status_code
            == 429
        )
        assert len(requests.get(f"{where['control_url']}/state", timeout=5).json()["calls"]) == 1
    finally:
        process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--account", "MA_1"], "ID:TOKEN"),
        (["--account", "SA_1:t:MA_9"], "MA_9"),
        (["--fault", "rain"], "no bad day is called rain"),
        (["--trunk-secret", "MA_9:s"], "--trunk-secret"),
    ],
)
def test_the_command_says_what_is_wrong_with_its_options(options, problem):
    process = run(*options)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, problem in err, "Traceback" in err) == (2, True, False)
