"""Who did what through `/v1` stands in the history, by the name of the key."""

import hashlib
from datetime import timedelta

import pytest
from flask import g

from tests.bad_days import ended
from tests.constants import ACCOUNT, KEY, VIEW_KEY
from webhooks.api import history
from webhooks.api.keys import Caller
from worker.catalogue import past
from worker.catalogue.rebuild import row_of
from worker.errors import LedgerUnavailable

EVE = "eve-key-000000000001"


@pytest.fixture
def house(local):
    return local(
        rules='[defaults]\nmax_duration = "1h"\n',
        ENDTAPE_API_KEY=f"anna:{KEY},{EVE}",
        ENDTAPE_VIEW_KEY=f"bert:{VIEW_KEY}",
    )


def entries(house):
    found = house.ledger.history(ACCOUNT, until=house.ledger.now() + timedelta(seconds=1))
    return [entry.said for entry in found]


def ask(house, method, path, key=KEY, **headers):
    with house.app.test_client() as client:
        sent = {"Authorization": f"Bearer {key}", **headers}
        return client.open(path, method=method, headers=sent, json={} if method != "GET" else None)


def test_a_play_and_a_stop_stand_in_the_history_with_who_and_whom_for(house):
    _, recording = ended(house)
    recording_id = recording.recording_id
    house.reach(recording_id, "archived")
    person = "Jürgen 4915112345678".encode().decode("latin-1")  # as a header carries UTF-8
    call_uuid = house.ledger.call_of(ACCOUNT, recording_id)
    path = f"/v1/recordings/{recording_id}"
    for _ in range(2):
        played = ask(house, "GET", f"{path}/audio", **{"X-Endtape-Actor": person})
        assert played.status_code == 200
    assert ask(house, "GET", f"{path}/audio", EVE, Range="bytes=0-9").status_code == 206
    assert ask(house, "GET", f"{path}/audio", VIEW_KEY).status_code == 403
    assert ask(house, "GET", f"{path}/peaks", VIEW_KEY).status_code == 200  # is no audio
    once = {"Idempotency-Key": "k1"}
    for _ in range(2):
        assert ask(house, "POST", f"/v1/calls/{call_uuid}/stop", **once).status_code == 202
    assert ask(house, "POST", f"{path}/retry").status_code == 409
    said = [(one["what"], one["who"], one.get("claimed")) for one in entries(house)]
    assert said == [("play", "anna", "Jürgen …"), ("play", "api", None), ("stop", "anna", None)]
    (stop,) = [e for e in house.ledger.events(ACCOUNT, call_uuid) if e.kind.value == "StopOrdered"]
    assert stop.by == "anna"


def test_a_receipt_names_who_ordered_a_stop_whom_for_and_why(house):
    call = house.provider.call(to_number="918065550101")
    recording_id = house.provider.record(call.call_uuid).recording_id
    house.reach(recording_id, "recording")
    sent = {"Authorization": f"Bearer {KEY}", "X-Endtape-Actor": "Jo"}
    with house.app.test_client() as client:
        path = f"/v1/calls/{call.call_uuid}/stop"
        assert (
            client.post(path, headers=sent, json={"reason": "of 4915112345678"}).status_code == 202
        )
    view = house.reach(recording_id, "archived")
    receipt = house.get(f"/v1/recordings/{recording_id}/receipt").json()
    timeline = house.get(f"/v1/calls/{call.call_uuid}").json()["timeline"]
    forgotten = past.call_view([row_of(house.worker.archive, view["archive_key"])], [receipt])
    for events in (receipt["events"], timeline, forgotten["timeline"]):
        (stop,) = [event for event in events if event["event"] == "StopOrdered"]
        said = (stop["by"], stop["claimed"], stop["reason"])
        assert said == ("anna", "Jo", "of 4915112345678")


def test_a_restricted_recording_is_not_played_where_its_entry_cannot_be_written(house, monkeypatch):
    def away(*_, **__):
        raise LedgerUnavailable("redis is away")

    monkeypatch.setattr(house.ledger, "enter", away)
    view = {"account": ACCOUNT, "call_uuid": "c", "recording_id": "r", "restricted": False}
    with house.app.test_request_context("/"):
        g.caller = Caller("anna", None)
        history.enter_play(house.ledger, view)
        with pytest.raises(LedgerUnavailable):
            history.enter_play(house.ledger, view | {"restricted": True})


def test_why_a_restricted_recording_is_played_stands_there_also_after_a_play_before_it_was_one(
    house,
):
    view = {"account": ACCOUNT, "call_uuid": "c", "recording_id": "r", "restricted": False}
    with house.app.test_request_context("/"):
        g.caller = Caller("anna", None)
        for restricted, reason in ((False, None), (True, "case 12"), (True, "again")):
            history.enter_play(house.ledger, view | {"restricted": restricted}, reason=reason)
    assert [said.get("reason") for said in entries(house)] == [None, "case 12"]


def test_a_retry_stands_in_the_history_and_one_that_is_refused_does_not(house):
    call = house.provider.call(to_number="918065550101")
    recording = house.provider.record(call.call_uuid)
    house.reach(recording.recording_id, "recording")
    assert ask(house, "POST", f"/v1/recordings/{recording.recording_id}/retry").status_code == 202
    assert ask(house, "POST", "/v1/recordings/nobody/retry").status_code == 404
    (said,) = entries(house)
    assert (said["what"], said["who"], said["recording_id"]) == (
        "retry",
        "anna",
        recording.recording_id,
    )


def test_a_stop_by_a_rule_stands_in_the_history_once(local):
    house = local(rules='[[rules]]\nname = "short"\nmatch = {}\nmax_duration = "1s"\n')
    call = house.provider.call(to_number="918065550101")
    recording = house.provider.record(call.call_uuid)
    house.stop_reaches(recording.recording_id, "confirmed")
    (said,) = entries(house)
    assert (said["what"], said["who"], said["recording_id"], said["reason"]) == (
        "stop",
        "rule:short",
        recording.recording_id,
        "max_duration",
    )
    house.reach(recording.recording_id, "archived")
    filed = house.ledger.filed(ACCOUNT, until=house.ledger.now() + timedelta(seconds=1))
    ends = sorted(line.rpartition(".")[2] for line in filed)
    assert (ends, len({line[:64] for line in filed})) == (["json", "mp3"], 2)
    for line in filed:
        content = (house.settings.archive / ACCOUNT / line[66:]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == line[:64]


def test_a_restricted_recording_is_played_only_with_a_reason_that_stands_in_the_history(local):
    rules = '[defaults]\nmax_duration = "1h"\nconsent = "required"\nconsent_within = "1s"\n'
    house = local(rules=rules)
    call = house.provider.call(to_number="918065550101")
    recording_id = house.provider.record(call.call_uuid).recording_id
    house.reach(recording_id, "archived")
    path = f"/v1/recordings/{recording_id}/audio"
    refused = ask(house, "GET", path)
    assert (refused.status_code, refused.json["field"]) == (403, "reason")
    assert "no_consent" in refused.json["detail"]
    assert ask(house, "GET", f"{path}?reason=complaint of 918065550101").status_code == 200
    said = [(e["what"], e["who"], e["reason"]) for e in entries(house)]
    assert said == [
        ("stop", "rule:defaults", "consent"),
        ("play", "api", "complaint of …"),
    ]
