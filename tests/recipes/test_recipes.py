"""Every code block of docs/recipes is run as it stands, against the service and the emulator."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from standardwebhooks import Webhook

from tests.constants import ACCOUNT, APP_KEY, KEY
from tests.waiting import until

pytestmark = pytest.mark.end_to_end  # as their readers run them, against the whole service

RECIPES = Path(__file__).resolve().parent.parent.parent / "docs" / "recipes"
RULES = '[defaults]\nmax_duration = "1h"\nconfirm_within = "1s"\non = { transfer = "stop", "transfer.failed" = "resume" }\n'
RUN = {
    "flask-call-control": ["python"],
    "ai-agent-tool": ["json", "python"],
    "pci-pause": ["toml", "python", "python"],
    "forward-events": ["python"],
    "curl": ["bash", "bash", "bash"],
    "notifications": ["python"],
    "transcription": ["toml", "python"],
}


def blocks(recipe, language):
    return [code for kind, code in every_block(recipe) if kind == language]


def every_block(recipe):
    return re.findall(
        r"^```(\w*)\n(.*?)^```$", (RECIPES / f"{recipe}.md").read_text(), re.MULTILINE | re.DOTALL
    )


def python_of(recipe):
    """What the recipe's Python defines."""
    found = {"__name__": recipe}
    exec(compile("\n".join(blocks(recipe, "python")), f"{recipe}.md", "exec"), found)
    return SimpleNamespace(**found)


@pytest.fixture
def house(local, monkeypatch):
    def make(rules=RULES):
        found = local(rules=rules, ENDTAPE_APP_KEY=APP_KEY)
        for name, value in {
            "RECORDER_URL": found.base,
            "RECORDER_KEY": APP_KEY,
            "APP_URL": found.provider.api_url,
        }.items():
            monkeypatch.setenv(name, value)
        return found

    return make


def recorded(house):
    """A live call with a recording that is known."""
    call = house.provider.call(to_number="918065550101").call_uuid
    recording = house.provider.record(call)
    until(lambda: house.recording(recording.recording_id)["phase"] == "recording")
    return call, recording


def test_every_recipe_is_short_and_every_block_of_it_is_run_here():
    assert {p.stem for p in RECIPES.glob("*.md")} == RUN.keys()
    for recipe, run in RUN.items():
        assert [kind for kind, _ in every_block(recipe)] == run
        assert len((RECIPES / f"{recipe}.md").read_text().splitlines()) <= 70


def test_the_flask_application_dials_on_go_and_talks_on_hold(house):
    found = house()
    call, recording = recorded(found)
    with python_of("flask-call-control").app.test_client() as provider:
        found.provider.faults.switch_on("deaf-stop")
        held = provider.post("/transfer", data={"CallUUID": call, "Event": "StartApp"})
        assert (held.mimetype, "<Speak>" in held.text, "<Dial>" in held.text) == (
            "application/xml",
            True,
            False,
        )
        assert re.search("<Redirect>(.*)</Redirect>", held.text)[1].endswith("/transfer")
        assert recording.ended_at is None
        found.provider.faults.clear()
        asked_again = until(
            lambda: (
                "<Dial>" in (text := provider.post("/transfer", data={"CallUUID": call}).text)
                and text
            )
        )
    assert "<Number>918065550199</Number>" in asked_again
    assert recording.ended_at


def test_a_dial_that_nobody_answers_lets_the_recording_go_on(house):
    found = house()
    call, first = recorded(found)
    with python_of("flask-call-control").app.test_client() as provider:
        assert "<Dial>" in provider.post("/transfer", data={"CallUUID": call}).text
    found.provider.dial(call, "918065550199", cause="USER_BUSY")
    until(
        lambda: (
            [r.segment_of for r in found.call(call).recordings.values()]
            == [None, first.recording_id]
        )
    )


def test_the_flask_application_holds_when_nobody_answers(house, monkeypatch):
    house()
    monkeypatch.setenv("RECORDER_URL", "http://127.0.0.1:1")
    with python_of("flask-call-control").app.test_client() as provider:
        assert "<Speak>" in provider.post("/transfer", data={"CallUUID": "c1"}).text


def transfers_sent(house, call):
    return [
        json.loads(r["body"])
        for r in house.requests("POST", f"Call/{call}/")
        if "Record" not in r["path"]
    ]


def test_the_agents_tool_transfers_once_and_says_what_happened(house):
    found = house()
    call, recording = recorded(found)
    transfer_call = python_of("ai-agent-tool").transfer_call
    assert [transfer_call(call, "billing", "tool-1") for _ in range(2)] == [
        {"result": "transferring"}
    ] * 2
    assert recording.ended_at
    (sent,) = transfers_sent(found, call)
    assert sent["aleg_url"].endswith("/teams/billing")
    schema = json.loads(*blocks("ai-agent-tool", "json"))
    assert (schema["name"], list(schema["parameters"]["properties"])) == ("transfer_call", ["to"])


@pytest.mark.parametrize(
    ("bad_day", "result", "records_again"),
    [
        ("transfer-fails", "failed", True),
        ("transfer-lost-answer", "perhaps transferring, do not try again", False),
    ],
)
def test_the_agents_tool_tells_a_failed_transfer_from_one_of_which_nobody_knows(
    house, bad_day, result, records_again
):
    found = house()
    call, first = recorded(found)
    found.provider.faults.switch_on(
        bad_day, **({"status": 409} if bad_day == "transfer-fails" else {})
    )
    assert python_of("ai-agent-tool").transfer_call(call, "support", "tool-1")["result"] == result
    assert len(transfers_sent(found, call)) == 1
    running = [r for r in found.provider.recordings.values() if not r.ended_at]
    assert (bool(running), bool(first.ended_at)) == (records_again, True)


def test_the_agents_tool_is_told_to_hold(house):
    found = house()
    call, _ = recorded(found)
    found.provider.faults.switch_on("deaf-stop")
    said = python_of("ai-agent-tool").transfer_call(call, "support", "tool-1")
    assert (said["result"], bool(said["because"]), transfers_sent(found, call)) == (
        "hold",
        True,
        [],
    )


def test_card_entries_pause_and_resume_by_rules_and_in_so_many_words(house):
    found = house(rules=blocks("pci-pause", "toml")[0])
    call, first = recorded(found)
    recipe = python_of("pci-pause")
    recipe.card_entry_begins(call)
    found.stop_reaches(first.recording_id, "confirmed")
    recipe.card_entry_is_over(call)
    until(lambda: len(found.call(call).recordings) == 2)
    assert recipe.pause(call) is True
    (third,) = recipe.resume(call)
    told = found.get(f"/v1/calls/{call}").json()
    assert {r["recording_id"]: r["segment_of"] for r in told["recordings"]}[
        third
    ] == first.recording_id
    assert [(g["trigger"], g["resumed_by"]) for g in told["gaps"]] == [
        ("custom.card", "custom.card-done"),
        ("pause", "resume"),
    ]


def test_a_pause_without_proof_says_so(house):
    found = house()
    call, _ = recorded(found)
    found.provider.faults.switch_on("deaf-stop")
    assert python_of("pci-pause").pause(call) is False


@pytest.mark.parametrize("how", ["form", "json", "query"])
def test_forwarded_requests_trigger_what_the_rules_say(house, how):
    found = house()
    call, recording = recorded(found)
    transfer = {"Event": "Transfer", "CallUUID": call, "To": "918065550101"}
    with python_of("forward-events").app.test_client() as provider:
        answer = (
            provider.get("/answer", query_string=transfer)
            if how == "query"
            else provider.post("/answer", **{"data" if how == "form" else "json": transfer})
        )
    assert (answer.status_code, answer.mimetype) == (200, "application/xml")
    assert found.stop_reaches(recording.recording_id, "confirmed")["stop"]["trigger"] == "transfer"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_curl_commands_do_what_they_say(house, tmp_path):
    found = house()
    call = found.provider.call().call_uuid
    silent = {"callback_url": found.provider.api_url}
    other = found.provider.call(**silent).call_uuid
    unseen = found.provider.record(other, **silent)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks("curl", "bash"))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "RECORDER_URL": found.base,
            "RECORDER_KEY": KEY,
            "CALL": call,
            "OTHER_CALL": other,
            "OTHER_URL": unseen.url,
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"verdict":"go"' in done.stdout
    assert unseen.ended_at
    first, second = found.provider.book.recordings_of(ACCOUNT, call)
    assert (first.container, bool(first.ended_at), bool(second.ended_at)) == ("wav", True, True)
    audio = (tmp_path / "call.wav").read_bytes()
    assert hashlib.sha256(audio).hexdigest() in done.stdout
    assert (tmp_path / "head.wav").read_bytes() == audio[:44]


def test_a_notification_is_received_in_ten_lines(monkeypatch, capsys):
    secret = "whsec_" + "c2VjcmV0LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTIzNA=="
    monkeypatch.setenv("ENDTAPE_NOTIFY_SECRET", secret)
    names: dict = {"__name__": "receiver"}
    exec(blocks("notifications", "python")[0], names)
    body, now = '{"type":"recording.archived","data":{"recording_id":"r1"}}', datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", now, body),
    }
    client = names["app"].test_client()
    assert [client.post("/endtape", data=body, headers=headers).status_code for _ in "12"] == [
        204,
        204,
    ]
    assert capsys.readouterr().out == "recording.archived r1\n"
    forged = client.post("/endtape", data=body.replace("r1", "r2"), headers=headers)
    assert forged.status_code == 500


def test_the_transcriber_links_a_transcript_to_each_recording(local, tmp_path):
    opt, key = tmp_path / "opt", "k" * 32
    opt.mkdir()
    (opt / "transcribe.py").write_text(blocks("transcription", "python")[0])
    (opt / "key").write_text(f"{key}\n")
    rules = blocks("transcription", "toml")[0].replace("/opt/transcribe", str(opt))
    house = local(
        rules=rules.replace('"python3"', json.dumps(sys.executable)),
        ENDTAPE_API_KEY=f"ops:{KEY},transcriber:{key}",
    )
    call, recording = recorded(house)
    house.provider.hangup(call)
    (made,) = until(lambda: house.recording(recording.recording_id).get("derived"))
    assert (made["kind"], made["who"]) == ("transcript", "transcriber")
    text = house.get(f"/v1/recordings/{recording.recording_id}/derived/{made['name']}").text
    assert text.endswith("bytes of audio become text.")
    assert house.ledger.failing() == []
