"""Legal holds and erasing through `/v1`, over a real archive and the emulator."""

import json

import pytest
import requests
from click.testing import CliRunner

from tests import redis_view
from tests.catalogue.builders import receipt
from tests.constants import ACCOUNT, APP_KEY, KEY, VIEW_KEY
from tests.waiting import until
from worker.archive import fact_files, object_lock
from worker.archive.bucket import BucketStore
from worker.archive.facts import FactKind
from worker.calls import timing
from worker.catalogue import rows
from worker.command import show
from worker.governing import retries

RULES = '[defaults]\nmax_duration = "1h"\nconfirm_within = "1s"\n'
FROM, TO = "919820055512", "918065550101"


@pytest.fixture
def house(local, monkeypatch):
    monkeypatch.setattr(timing, "index_at", lambda now: now)
    return local(rules=RULES, ENDTAPE_APP_KEY=APP_KEY, ENDTAPE_VIEW_KEY=VIEW_KEY)


def archived(house):
    """The ids of a call that is over and of its recording, which is home and in the catalogue."""
    call = house.provider.call(from_number=FROM, to_number=TO).call_uuid
    recording = house.provider.record(call).recording_id
    house.reach(recording, "recording")
    house.provider.hangup(call)
    house.reach(recording, "archived")
    until(lambda: house.worker.catalogue.find(recording))
    return call, recording


def forgotten(house, call):
    """Redis knows the call no longer."""
    until(lambda: list(house.ledger.live([ACCOUNT])) == [])
    redis_view.drop_log(house.ledger, ACCOUNT, call)
    house.ledger.forget(ACCOUNT)


def ask(house, method, recording, what, key=KEY, **how):
    url = f"{house.base}/v1/recordings/{recording}/{what}"
    headers = {"Authorization": f"Bearer {key}", "X-Endtape-Actor": "anna"}
    return requests.request(method, url, headers=headers, timeout=10, **how)


def hold(house, recording, reason="case 12, caller 918065550101"):
    return ask(house, "PUT", recording, "hold", json={"reason": reason})


def erase(house, recording, reason="asked for by 918065550101"):
    return ask(house, "POST", recording, "erase", json={"reason": reason})


def deeds(house):
    return [e.said for e in house.ledger.history(ACCOUNT, until=house.ledger.now() + timing.ITSELF)]


def files(house):
    root = house.settings.archive / ACCOUNT
    return sorted(p.name for p in root.rglob("*") if p.is_file())


@pytest.mark.parametrize("known_to", ["redis", "the catalogue"])
def test_put_and_delete_hold_write_a_signed_fact_and_the_history_before_the_answer(house, known_to):
    call, recording = archived(house)
    if known_to == "the catalogue":
        forgotten(house, call)
    answer = hold(house, recording)
    assert (answer.status_code, answer.json()["held"]) == (200, True)
    assert answer.json()["hold"]["reason"] == "case 12, caller …"
    assert answer.json()["hold"]["ours_alone"] is True
    store = house.worker.archive.store
    (fact,) = fact_files.read_all(store, ACCOUNT, recording)
    assert (fact.kind, fact.who, fact.claimed, fact.signed) == (FactKind.HOLD, "api", "anna", True)
    assert [d["what"] for d in deeds(house)][-1] == "hold"
    until(lambda: house.worker.catalogue.find(recording).view["held"])
    listed = house.get("/v1/recordings?held=true").json()["recordings"]
    assert [v["recording_id"] for v in listed] == [recording]
    refused = erase(house, recording)
    assert (refused.status_code, "case 12" in refused.json()["detail"]) == (409, True)
    assert house.recording(recording)["phase"] == "archived"
    released = ask(house, "DELETE", recording, "hold", params={"reason": "closed"})
    assert (released.status_code, released.json()["held"]) == (200, False)
    until(lambda: not house.worker.catalogue.find(recording).view["held"])
    assert [f.kind for f in fact_files.read_all(store, ACCOUNT, recording)][1] == FactKind.RELEASE


def test_a_reason_is_needed_and_the_operators_key(house):
    _, recording = archived(house)
    for method, what in (("PUT", "hold"), ("DELETE", "hold"), ("POST", "erase")):
        answer = ask(house, method, recording, what)
        assert (answer.status_code, answer.json()["field"]) == (400, "reason")
        for key in (APP_KEY, VIEW_KEY):
            assert ask(house, method, recording, what, key, json={"reason": "x"}).status_code == 403
        assert ask(house, method, "nobody", what, json={"reason": "x"}).status_code == 404
    assert fact_files.read_all(house.worker.archive.store, ACCOUNT, recording) == []


@pytest.mark.parametrize("known_to", ["redis", "the catalogue"])
def test_post_erase_deletes_both_copies_and_leaves_a_signed_tombstone(house, known_to):
    call, recording = archived(house)
    sha256 = house.recording(recording)["sha256"]
    if known_to == "the catalogue":
        forgotten(house, call)
    answer = erase(house, recording)
    assert answer.status_code == 202
    for what in ("audio", "receipt", "signature", "peaks"):
        assert ask(house, "GET", recording, what).status_code == 410
    view = house.reach(recording, "erased")
    assert (view["from"], view["to"], view["archive_key"], view["bytes"]) == (None,) * 4
    assert (view["sha256"], view["started_at"] is not None) == (sha256, True)
    assert (view["erased"]["who"], view["erased"]["reason"]) == ("api", "asked for by …")
    assert files(house)[:2] == [f"{recording}.erased.json", f"{recording}.erased.json.sig"]
    assert [name for name in files(house) if recording in name][2:] == []
    deleted = house.requests("DELETE", f"/Recording/{recording}/")
    assert len(deleted) == 1
    assert house.requests("GET", f"/Recording/{recording}/")[-1]["at"] > deleted[0]["at"]
    assert erase(house, recording).status_code == 200
    assert hold(house, recording).status_code == 410
    assert ask(house, "POST", recording, "retry", json={}).status_code in {404, 410}
    row = house.worker.catalogue.find(recording)
    assert (row.view["phase"], FROM in json.dumps(row.view), TO in row.columns["words"]) == (
        "erased",
        False,
        False,
    )
    until(lambda: not holds_numbers(house, call))
    assert [d["what"] for d in deeds(house)].count("erase") == 1
    browser = house.app.test_client()
    browser.post("/login", data={"password": KEY})
    page = browser.get(f"/recordings/{recording}").text
    told = ("There is nothing to play any more", "erased with the recording", "yet", FROM, TO)
    assert [text in page for text in told] == [True, True, False, False, False]


def holds_numbers(house, call):
    log = house.ledger.command("GET", house.ledger.call_key(ACCOUNT, call)) or ""
    return FROM in log or TO in log


def test_what_still_records_is_not_erased_and_what_is_given_up_is(house):
    call = house.provider.call(from_number=FROM, to_number=TO).call_uuid
    recording = house.provider.record(call).recording_id
    house.reach(recording, "recording")
    assert erase(house, recording).status_code == 409
    house.provider.book.delete_recording(house.provider.book.recordings[recording])
    house.provider.hangup(call)
    house.reach(recording, "finalizing")
    assert erase(house, recording).status_code == 202
    assert house.reach(recording, "erased")["sha256"] is None
    assert [n for n in files(house) if recording in n] == [
        f"{recording}.erased.json",
        f"{recording}.erased.json.sig",
    ]


def test_a_call_of_which_redis_knows_nothing_or_a_part_is_one_answer(house, monkeypatch):
    call, recording = archived(house)
    whole = house.get(f"/v1/calls/{call}").json()
    forgotten(house, call)
    known = house.get(f"/v1/calls/{call}").json()
    assert [r["recording_id"] for r in known["recordings"]] == [recording]
    put = requests.put(
        f"{house.base}/v1/calls/{call}",
        json={"labels": {"late": "yes"}},
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=10,
    )
    assert put.status_code == 200
    monkeypatch.setattr(show, "open_ledger", lambda **_: (house.settings, house.ledger))
    shown = CliRunner().invoke(show.show, [call, "--json"]).stdout
    for answer in (put.json(), house.get(f"/v1/calls/{call}").json(), json.loads(shown)):
        assert [r["phase"] for r in answer["recordings"]] == ["archived"]
        assert (answer["from"], answer["to"], answer["labels"]) == (FROM, TO, {"late": "yes"})
        kinds = [e["event"] for e in answer["timeline"]]
        assert kinds[-1] == "CallAnnounced"
        assert (
            {"RecordingStarted", "CallEnded"}
            <= set(kinds)
            <= {
                "CallAnnounced",
                *(e["event"] for e in whole["timeline"]),
            }
        )


@pytest.mark.parametrize("ended", [True, False], ids=["listed once", "never listed"])
def test_what_only_the_catalogue_knows_as_given_up_is_tried_again_always(house, ended):
    house.provider.faults.switch_on("lost-callbacks")
    call = house.provider.call(from_number=FROM, to_number=TO).call_uuid
    recording = house.provider.record(call).recording_id
    house.provider.hangup(call)
    said = receipt(0, recording_id=recording) | {"account": ACCOUNT, "call_uuid": call}
    said |= {"reason": "never listed", "fault": "provider"}
    if not ended:
        said |= {"started_at": None, "ended_at": None}
    key = f"{ACCOUNT}/2026/09/14/{recording}.absent"
    house.worker.catalogue.enter([rows.of_absence(said, key, held=True)])
    assert house.recording(recording)["phase"] == "abandoned"
    answer = ask(house, "POST", recording, "retry", json={"reason": "it was found again"})
    assert (answer.status_code, answer.json()["held"]) == (202, True)
    assert answer.json()["phase"] in {"finalizing", "fetching", "archived"}
    view = house.reach(recording, "archived")
    assert view["archive_key"].startswith(f"{ACCOUNT}/2026/09/14/")  # the folder of the statement
    assert (view["first_seen_at"], view["held"]) == (said["first_seen_at"], True)
    assert ask(house, "POST", recording, "retry", json={}).status_code == 409
    assert house.requests("DELETE", f"/Call/{call}/Record/") == []
    assert [d["what"] for d in deeds(house)] == ["retry"]


def test_what_is_erased_while_it_is_ordered_to_be_tried_again_stays_erased(house, monkeypatch):
    house.provider.faults.switch_on("lost-callbacks")
    call = house.provider.call(from_number=FROM, to_number=TO).call_uuid
    recording = house.provider.record(call).recording_id
    house.provider.hangup(call)
    assert house.provider.wait_idle(5)  # what it lists after its deletion is deleted again, later
    said = receipt(0, recording_id=recording) | {"account": ACCOUNT, "call_uuid": call}
    row = rows.of_absence(said, f"{ACCOUNT}/2026/09/14/{recording}.absent")
    house.worker.catalogue.enter([row])
    restore = retries.restore

    def late(*how):
        assert erase(house, recording).status_code == 202
        house.reach(recording, "erased")
        restore(*how)

    monkeypatch.setattr(retries, "restore", late)
    assert ask(house, "POST", recording, "retry", json={}).status_code == 410
    house.reach(recording, "erased")
    assert house.worker.catalogue.find(recording).view["phase"] == "erased"
    names = [name for name in files(house) if recording in name]
    assert names == [f"{recording}.erased.json", f"{recording}.erased.json.sig"]


def test_retain_by_rule_is_fixed_in_the_receipt_and_a_hold_puts_it_off_until_its_end(local):
    rules = RULES + '[[rules]]\nname = "short"\nmatch = { to = "9180*" }\nretain = "2s"\n'
    house = local(rules=rules, ENDTAPE_APP_KEY=APP_KEY, ENDTAPE_VIEW_KEY=VIEW_KEY)
    call = house.provider.call(from_number=FROM, to_number=TO).call_uuid
    held = house.provider.record(call).recording_id
    house.reach(held, "recording")
    assert hold(house, held).status_code == 200  # in time, however slow the machine is
    house.provider.hangup(call)
    house.reach(held, "archived")
    retain = json.loads(ask(house, "GET", held, "receipt").content)["retain"]
    assert (retain["rule"], retain["for_s"]) == ("short", 2)
    assert house.recording(held)["retain_until"] == retain["until"]
    call = house.provider.call(from_number=FROM, to_number=TO).call_uuid
    other = house.provider.record(call).recording_id
    house.reach(other, "recording")
    house.provider.hangup(call)
    view = house.reach(other, "erased")
    assert (view["erased"]["rule"], view["erased"]["who"]) == ("short", "rule:short")
    assert house.recording(held)["phase"] == "archived"
    assert ask(house, "DELETE", held, "hold", params={"reason": "closed"}).status_code == 200
    house.reach(held, "erased")
    assert [d["what"] for d in deeds(house)].count("erase") == 2


@pytest.mark.xdist_group("s3")
def test_a_hold_sets_the_legal_hold_of_a_bucket_with_object_lock_and_a_release_takes_it_off(
    local, s3, monkeypatch
):
    monkeypatch.setattr(timing, "index_at", lambda now: now)
    place = s3.place(name="held-by-the-bucket")
    bucket = BucketStore(place)
    object_lock.client_of(bucket).create_bucket(Bucket=place.name, ObjectLockEnabledForBucket=True)
    house = local(rules=RULES, ENDTAPE_ARCHIVE=place.url, **s3.variables())
    _, recording = archived(house)
    key = house.recording(recording)["archive_key"]
    answer = hold(house, recording).json()["hold"]
    assert (answer["ours_alone"], answer["why_alone"]) == (False, None)
    assert hold(house, recording).json()["hold"]["ours_alone"] is False  # once more
    assert "legal hold" in object_lock.why_locked(bucket, [key])
    assert ask(house, "DELETE", recording, "hold", json={"reason": "over"}).status_code == 200
    assert object_lock.why_locked(bucket, [key]) is None

    # Somebody else locks it: that is told, and nothing begins.
    object_lock.lock(bucket, [key])
    refused = erase(house, recording)
    assert (refused.status_code, "the bucket has a legal hold" in refused.text) == (409, True)
    assert house.worker.archive.tombstone(key) is None
    object_lock.unlock(bucket, [key])
    assert erase(house, recording).status_code == 202
    house.reach(recording, "erased")
    versions = object_lock.client_of(bucket).list_object_versions(Bucket=place.name)["Versions"]
    assert {v["Key"].partition(recording)[2] for v in versions if recording in v["Key"]} == {
        ".erased.json",
        ".erased.json.sig",
    }
