"""What changes of consent and restrictions after a receipt stands in the archive, signed, and is what
counts, for whoever reads: whether Redis knows the recording, only the catalogue, or the archive alone.
"""

from dataclasses import replace

import pytest

from tests import redis_view
from tests.constants import ACCOUNT
from tests.waiting import until
from tests.webhooks.application import Application
from worker import wire
from worker.archive import fact_files
from worker.archive.directory import Directory
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.calls.views import recording_view
from worker.catalogue.database import Catalogue
from worker.catalogue.rebuild import rebuild
from worker.catalogue.wanted import Wanted
from worker.duties import late_facts, trials
from worker.duties.archived_before import archived_before

RULES = '[defaults]\nmax_duration = "1h"\nconsent = "required"\nconsent_within = "{}"\n'


BOTH, LIFTED = ([("consent", None), ("restricted", why)] for why in (["no_consent"], []))


class Died(BaseException):
    """The process was killed."""


def archived(app, *, consent=None):
    """A recording that is home, by its id, and its call's."""
    house = app.house
    call = house.provider.call().call_uuid
    if consent:
        app.put(f"/calls/{call}", {"consent": consent})
    recording = house.provider.record(call).recording_id
    house.reach(recording, "recording")
    house.provider.hangup(call)
    house.reach(recording, "archived")
    until(lambda: house.worker.catalogue.find(recording), 15)
    return recording, call


def said(house, recording):
    """Of each fact its kind and the reasons of a restriction; None for an unsigned one."""
    known = fact_files.read_all(house.worker.archive.store, ACCOUNT, recording)
    return [(f.kind.value, f.particulars.get("restricted_by")) if f.signed else None for f in known]


def becomes_restricted(house, recording, wanted=True):
    """By `/v1`, by the catalogue, and by whether the audio is refused without a reason."""
    until(lambda: house.recording(recording)["restricted"] is wanted)
    until(lambda: house.worker.catalogue.find(recording).view["restricted"] is wanted)
    refused = house.get(f"/v1/recordings/{recording}/audio").status_code == 403
    assert refused is wanted


def lacking_consent(app):
    """As `archived`, restricted for the want of consent: by its receipt, or by a fact where it was
    archived before the time for consent was over. And how many facts say so.
    """
    recording, call = archived(app)
    becomes_restricted(app.house, recording)
    receipt = app.get(f"/recordings/{recording}/receipt").json()
    facts = said(app.house, recording)
    assert facts == ([] if receipt["restriction"]["restricted_by"] else [BOTH[1]])
    return recording, call, len(facts)


def rows(catalogue):
    return [
        (row.key, row.columns, row.view)
        for row in catalogue.search(Wanted(), before=None, down_to=None, limit=100)
    ]


def rebuilt(house, tmp_path):
    anew = Catalogue(f"sqlite:///{tmp_path / 'anew.db'}")
    rebuild(anew, house.worker.archive, lambda *_: None)
    return rows(anew)


def restored(house, recording, call):
    """The recording as `/v1` would show it where Redis was emptied and a survey found it again."""
    view = house.recording(recording)
    row = Event(
        id=f"listed.end.{recording}",
        kind=Kind.RECORDING_LISTED,
        call_uuid=call,
        recording_id=recording,
        at=house.ledger.now(),
        **{name: wire.parse_rfc3339(view[name]) for name in ("started_at", "ended_at")},
        duration_s=view["duration_ms"] / 1000,
    )
    found = archived_before(house.worker.archive, ACCOUNT, row)
    events = [replace(event, at=event.at or house.ledger.now()) for event in [*found, row]]
    call = replay(ACCOUNT, call, events)
    rules = house.worker.settings.rules
    return recording_view(call, call.recordings[recording], rules, house.ledger.now())


def test_consent_told_late_lifts_the_restriction_withdrawn_it_comes_back_and_the_archive_says_so(
    local, tmp_path
):
    house = local(rules=RULES.format("1s"))
    app = Application(house)
    recording, call, facts = lacking_consent(app)
    becomes_restricted(house, recording)
    began = house.recording(recording)["started_at"]
    in_time = {"kind": "verbal", "by": "agent 919820055512", "at": began}
    app.post("/events", {"event": "consent", "call_uuid": call, **in_time})
    until(lambda: said(house, recording)[facts:] == LIFTED)
    becomes_restricted(house, recording, False)
    again = app.post("/events", {"event": "consent", "call_uuid": call, **in_time})
    assert again.json()["recorded"] == "repeat"
    app.post("/events", {"event": "consent", "call_uuid": call, "withdrawn": True})
    until(lambda: said(house, recording)[facts + 2 :] == BOTH)
    becomes_restricted(house, recording)
    for name in sorted((house.folder / "archive").rglob("facts/*/*.json")):
        assert "55512" not in name.read_text()
    assert rebuilt(house, tmp_path) == rows(house.worker.catalogue)
    shown, after = house.recording(recording), restored(house, recording, call)
    for name in ("restricted", "restricted_by", "sha256", "started_at"):
        assert after[name] == shown[name], name
    assert after["consent"]["withdrawn"] is shown["consent"]["withdrawn"] is True


def test_what_only_the_catalogue_knows_is_told_too_and_its_call_is_shown_whole(local, tmp_path):
    house = local(rules=RULES.format("1s"))
    app = Application(house)
    lacking, its_call, facts = lacking_consent(app)
    recording, call = archived(app, consent={"kind": "dtmf"})
    becomes_restricted(house, recording, False)
    assert said(house, recording) == []
    becomes_restricted(house, lacking)
    until(lambda: house.ledger.outstanding() == 0 and not list(house.ledger.live([ACCOUNT])))
    for one in (call, its_call):
        redis_view.drop_log(house.ledger, ACCOUNT, one)
    house.ledger.forget(ACCOUNT)
    assert house.recording(recording)["restricted"] is False
    assert app.put(f"/calls/{call}", {"consent": {"withdrawn": True}}).status_code == 200
    until(lambda: house.recording(recording)["restricted"])
    assert said(house, recording) == BOTH
    assert house.get(f"/v1/recordings/{recording}/audio").status_code == 403
    whole = app.get(f"/calls/{call}").json()
    assert [view["recording_id"] for view in whole["recordings"]] == [recording]
    assert whole["consent"]["withdrawn"] is True
    told = [entry["event"] for entry in whole["timeline"]]
    assert {"RecordingStarted", "ConsentGiven", "ConsentWithdrawn"} <= set(told)
    in_time = {"kind": "verbal", "at": house.recording(lacking)["started_at"]}
    app.post("/events", {"event": "consent", "call_uuid": its_call, **in_time})
    until(lambda: not house.recording(lacking)["restricted"])
    assert said(house, lacking)[facts:] == LIFTED
    assert house.get(f"/v1/recordings/{lacking}/audio").status_code == 200
    assert rebuilt(house, tmp_path) == rows(house.worker.catalogue)
    until(lambda: redis_view.expires_in_s(house.ledger, ACCOUNT, call) > 0)


def step(house, call):
    """The duty's work on a call, as a worker without a lease would do it."""
    events = house.ledger.events(ACCOUNT, call)
    known, now = replay(ACCOUNT, call, events), house.ledger.now()
    return [late_facts._of_live(house.worker, known, r, now) for r in known.recordings.values()]


def test_a_worker_may_die_at_any_file_of_a_fact_and_each_is_written_once_and_signed(
    local, monkeypatch
):
    house = local(rules=RULES.format("30s"))
    app = Application(house)
    monkeypatch.setattr(late_facts, "_work", lambda *_: None)  # nobody else does it
    for dies_at in range(4):
        recording, call = archived(app)
        for body in ({"kind": "verbal"}, {"withdrawn": True}):
            app.put(f"/calls/{call}", {"consent": body})
        left, create = [dies_at], Directory.create

        def creating(self, name, data, left=left, create=create):
            if "/facts/" in name:
                if left[0] == 0:
                    raise Died
                left[0] -= 1
            create(self, name, data)

        with monkeypatch.context() as patch:
            patch.setattr(Directory, "create", creating)
            with pytest.raises(Died):
                step(house, call)
        (event,) = step(house, call)
        assert event.kind is Kind.FACTS_FILED
        assert said(house, recording) == BOTH
        step(house, call)
        assert len(said(house, recording)) == 2


def test_while_the_archive_is_away_the_obligation_waits_with_an_alert(local):
    house = local(rules=RULES.format("30s"))
    app = Application(house)
    recording, call = archived(app, consent={"kind": "dtmf"})
    place = house.folder / "archive" / ACCOUNT
    (place / "facts").write_text("no folder")
    app.put(f"/calls/{call}", {"consent": {"withdrawn": True}})
    until(lambda: house.alerts().get("facts_wait"))
    owed = Obligation(duty=Duty.FACTS, account=ACCOUNT, call_uuid=call)
    until(lambda: redis_view.due_in_s(house.ledger, owed) > 10)
    assert house.recording(recording)["restricted"] is True
    assert redis_view.expires_in_s(house.ledger, ACCOUNT, call) == -1
    (place / "facts").unlink()
    here = trials.on_this_machine("archive")
    trials.failed(house.ledger, here, "it does not answer")
    house.ledger.make_due_now(owed)
    until(lambda: redis_view.due_in_s(house.ledger, owed) > 10)
    assert said(house, recording) == []  # one that hangs is not asked
    trials.worked(house.ledger, here)
    until(lambda: said(house, recording) == BOTH)
    until(lambda: house.ledger.next_at(owed) is None)


def test_what_stands_in_the_archive_counts_where_an_emptied_redis_fetches_it_again(local):
    house = local(rules=RULES.format("30s"))
    app = Application(house)
    recording, call = archived(app, consent={"kind": "dtmf", "by": "line 918065550101"})
    app.put(f"/calls/{call}", {"consent": {"withdrawn": True}})
    until(lambda: said(house, recording) == BOTH)
    until(lambda: house.ledger.outstanding() == 0)
    hold = {"reason": "case 12"}
    assert app.put(f"/recordings/{recording}/hold", hold).status_code == 200
    before = house.recording(recording)
    redis_view.drop_log(house.ledger, ACCOUNT, call)
    late = {"Event": "RecordStop", "CallUUID": call, "RecordingID": recording}
    assert house.post({**late, "RecordingDurationMs": "9000"}).status_code == 200
    after = house.reach(recording, "archived")
    same = ("restricted", "restricted_by", "held", "sha256", "first_seen_at", "archive_key")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert (after["restricted"], after["held"]) == (True, True)
    assert after["consent"]["withdrawn"] is True
    until(lambda: house.ledger.outstanding() == 0)
    assert said(house, recording) == [*BOTH, ("hold", None)]
