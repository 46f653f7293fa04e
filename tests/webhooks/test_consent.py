"""Consent, as an application reports it, and what becomes of a recording that has none."""

import itertools

import pytest
import requests

from tests.constants import APP_KEY
from tests.webhooks.application import Application
from worker.calls.events import Kind

pytestmark = pytest.mark.redis
RULES = '[defaults]\nmax_duration = "1h"\nconfirm_within = "1s"\nconsent = "required"\nconsent_within = "1s"\n'
numbers = itertools.count()


@pytest.fixture(scope="module")
def app(lasting):
    return Application(lasting(rules=RULES, ENDTAPE_APP_KEY=APP_KEY))


def consents(app, call):
    return [k for k in app.house.kinds(call) if k in {Kind.CONSENT_GIVEN, Kind.CONSENT_WITHDRAWN}]


def new_call():
    return f"consent-{next(numbers)}"


def test_without_consent_a_recording_is_stopped_and_restricted_and_its_receipt_says_so(local):
    app = Application(local(rules=RULES, ENDTAPE_APP_KEY=APP_KEY))
    call = app.house.provider.call().call_uuid
    recording = app.house.provider.record(call).recording_id
    agreed = app.house.provider.call().call_uuid
    app.put(f"/calls/{agreed}", {"consent": {"kind": "dtmf", "by": "ivr", "evidence": "pressed 1"}})
    kept = app.house.provider.record(agreed).recording_id
    view = app.house.reach(recording, "archived")
    assert (view["stop"]["trigger"], view["stop"]["state"]) == ("consent", "confirmed")
    assert (view["restricted"], view["restricted_by"], view["consent"]) == (
        True,
        ["no_consent"],
        None,
    )
    receipt = app.get(f"/recordings/{recording}/receipt").json()
    assert receipt["restriction"]["restricted_by"] == ["no_consent"]
    other = app.house.recording(kept)
    assert (other["phase"], other["restricted"]) == ("recording", False)
    assert {**other["consent"], "at": None} == {
        "kind": "dtmf", "by": "ivr", "evidence": "pressed 1", "withdrawn": False, "at": None,
    }  # fmt: skip
    app.post("/events", {"event": "consent", "call_uuid": agreed, "withdrawn": True})
    assert app.house.stop_reaches(kept, "confirmed")["stop"]["trigger"] == "consent"


def test_consent_is_told_with_a_call_or_as_an_event_and_again_without_effect(app):
    call = new_call()
    said = {"kind": "verbal", "by": "agent 7", "at": "2026-09-14T06:30:00Z"}
    for _ in range(2):
        assert app.put(f"/calls/{call}", {"consent": said}).status_code == 200
    flat = {"event": "consent", "call_uuid": call, **said}
    nested = {"event": "consent", "call_uuid": call, "consent": said}
    answers = [app.post("/events", body).json() for body in (flat, nested)]
    assert [(a["event"], a["recorded"]) for a in answers] == [("consent", "repeat")] * 2
    assert consents(app, call) == [Kind.CONSENT_GIVEN]
    gone = {"event": "consent", "call_uuid": call, "consent": {"withdrawn": True}}
    assert [app.post("/events", gone).json()["recorded"] for _ in range(2)] == ["new", "repeat"]
    assert app.post("/events", flat).json()["recorded"] == "new"
    assert len(consents(app, call)) == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "consent.kind"),
        ({"kind": ""}, "consent.kind"),
        ({"kind": " "}, "consent.kind"),
        ({"kind": "verbal", "at": "yesterday"}, "consent.at"),
        ({"kind": "verbal", "sure": True}, "consent.sure"),
        ({"kind": "verbal", "evidence": "x" * 501}, "consent.evidence"),
    ],
)
def test_consent_that_cannot_be_read_is_refused_by_the_name_of_its_field(app, body, field):
    call = new_call()
    told = app.put(f"/calls/{call}", {"consent": body, "labels": {"a": "b"}})
    event = app.post("/events", {"event": "consent", "call_uuid": call, "consent": body})
    for answer in (told, event):
        assert (answer.status_code, answer.json().get("field")) == (400, field), answer.text
    assert app.house.kinds(call) == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"event=consent&call_uuid=c1&kind=verbal", "application/x-www-form-urlencoded"),
        (b'{"event": "consent", "call_uuid": "c1", "kind": "a\nb"}', "application/json"),
    ],
)
def test_consent_that_is_no_sound_json_is_refused_and_not_ignored(app, body, kind):
    headers = {"Authorization": f"Bearer {APP_KEY}", "Content-Type": kind}
    answer = requests.post(f"{app.house.base}/v1/events", data=body, headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["field"]) == (400, "event")


def test_an_event_of_consent_that_names_no_call_is_refused(app):
    answer = app.post("/events", {"event": "consent", "kind": "verbal"})
    assert (answer.status_code, "call_uuid" in answer.text) == (400, True)
