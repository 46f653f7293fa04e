"""Consent that is told, or withdrawn, after a recording was archived: facts in the archive, which
hold when Redis has forgotten the call, and when catalogue and Redis are made anew.
"""

from datetime import timedelta

import pytest

from tests.constants import ACCOUNT
from tests.waiting import until
from tests.webhooks.application import Application
from tests.webhooks.test_governing import forgotten
from worker.archive import fact_files
from worker.archive.facts import FactKind
from worker.calls import timing
from worker.calls.events import Event, Kind
from worker.calls.views import rfc3339
from worker.catalogue import rebuild
from worker.duties.archived_before import archived_before

RULES = '[defaults]\nmax_duration = "1h"\nconsent = "required"\nconsent_within = "{}"\n'


@pytest.fixture
def app(local, monkeypatch):
    monkeypatch.setattr(timing, "index_at", lambda now: now)
    return Application(local(rules=RULES.format("1m")))


def archived(app, *, consent):
    """A recording that is home and in the catalogue, and its call."""
    call = app.house.provider.call().call_uuid
    if consent:
        app.put(f"/calls/{call}", {"consent": {"kind": "dtmf", "evidence": "pressed 1"}})
    recording = app.house.provider.record(call).recording_id
    app.house.reach(recording, "recording")
    app.house.provider.hangup(call)
    app.house.reach(recording, "archived")
    row_says(app, recording, restricted=False)
    return call, recording


def row_says(app, recording, *, restricted):
    find = app.house.worker.catalogue.find
    return until(lambda: (row := find(recording)) and row.view["restricted"] is restricted and row)


def facts(app, recording):
    return [
        (f.kind, f.who, f.signed)
        for f in fact_files.read_all(app.house.worker.archive.store, ACCOUNT, recording)
    ]


@pytest.mark.parametrize("known_to", ["redis", "the catalogue"])
def test_consent_that_is_withdrawn_later_restricts_for_good_and_stands_in_the_archive(
    app, known_to
):
    call, recording = archived(app, consent=True)
    started_at = app.house.call(call).recordings[recording].started_at
    if known_to == "the catalogue":
        forgotten(app.house, call)
    said = {"event": "consent", "call_uuid": call, "withdrawn": True}
    assert app.post("/events", said).status_code == 200
    row = row_says(app, recording, restricted=True)
    assert row.view["consent"]["withdrawn"] is True
    assert facts(app, recording) == [
        (FactKind.CONSENT, "api", True),
        (FactKind.RESTRICTED, "rule:defaults", True),
    ]
    if known_to == "redis":
        forgotten(app.house, call)
    refused = app.get(f"/recordings/{recording}/audio")
    assert (refused.status_code, "no_consent" in refused.text) == (403, True)

    rebuild.rebuild(app.house.worker.catalogue, app.house.worker.archive, lambda *_: None)
    assert app.house.worker.catalogue.find(recording).view == row.view
    listed = Event(
        id="row",
        kind=Kind.RECORDING_LISTED,
        call_uuid=call,
        recording_id=recording,
        started_at=started_at,
    )
    restored = archived_before(app.house.worker.archive, ACCOUNT, listed)[0]
    assert restored.restricted_by == ("no_consent",)


def test_the_want_of_consent_restricts_what_came_home_before_it_was_needed(local, monkeypatch):
    monkeypatch.setattr(timing, "index_at", lambda now: now)
    app = Application(local(rules=RULES.format("3s")))
    call, recording = archived(app, consent=False)
    row_says(app, recording, restricted=True)  # by time alone
    assert facts(app, recording) == [(FactKind.RESTRICTED, "rule:defaults", True)]

    # Consent that was given in time and is told late lifts it.
    at = rfc3339(app.house.call(call).recordings[recording].started_at + timedelta(seconds=1))
    app.put(f"/calls/{call}", {"consent": {"kind": "verbal", "at": at}})
    row = row_says(app, recording, restricted=False)
    assert row.view["consent"]["kind"] == "verbal"
    assert [kind for kind, _, _ in facts(app, recording)] == [
        FactKind.RESTRICTED,
        FactKind.CONSENT,
        FactKind.RESTRICTED,
    ]
    app.put(f"/calls/{call}", {"labels": {"team": "billing"}})  # nothing of that is new
    assert len(facts(app, recording)) == 3
