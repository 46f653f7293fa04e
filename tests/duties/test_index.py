"""The duty INDEX, over real Redis, a real archive and SQLite: what is finished is found for good,
whatever was away meanwhile, and Redis forgets only what the catalogue has.
"""

import json
import socket
import time
from datetime import timedelta

import pytest

from tests import redis_view
from tests.constants import ACCOUNT, HOUR
from tests.waiting import until
from worker.archive import fact_files
from worker.archive.facts import Fact, FactKind
from worker.calls import timing
from worker.calls.events import Event, Fault, Kind
from worker.calls.obligations import Duty, Obligation
from worker.catalogue.database import Catalogue
from worker.catalogue.rebuild import enter_anew, rebuild, row_of
from worker.catalogue.wanted import Wanted
from worker.duties import catalogue_trials, index, trials
from worker.governing import erasures, holds, subject
from worker.governing.subject import By


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """What is finished is indexed at once, not at the next even second."""
    monkeypatch.setattr(timing, "index_at", lambda now: now)


def finished(house, **how):
    """The id of a recording that is archived, and its call's."""
    call = house.provider.call(**how)
    recording = house.provider.record(call.call_uuid)
    house.reach(recording.recording_id, "recording")
    house.provider.hangup(call.call_uuid)
    house.reach(recording.recording_id, "archived")
    return recording.recording_id, call.call_uuid


def indexed(house, recording_id):
    return until(lambda: house.worker.catalogue.find(recording_id), 15)


def listed(house, query=""):
    page = house.get(f"/v1/recordings?{query}").json()
    return [view["recording_id"] for view in page["recordings"]]


def live(house):
    return [sight.recording_id for sight in house.ledger.live([ACCOUNT])]


def rows(catalogue):
    return [
        (row.first_seen_ms, row.key, row.columns, row.view)
        for row in catalogue.search(Wanted(), before=None, down_to=None, limit=100)
    ]


def test_an_archived_recording_moves_to_the_catalogue_and_is_listed_there_as_redis_shows_it(local):
    house = local(rules=HOUR)
    recording_id, call = finished(house, from_number="919820055512", to_number="918065550101")
    row = indexed(house, recording_id)
    until(lambda: live(house) == [])
    shown = house.recording(recording_id)
    stop = ("state", "trigger", "rule", "due_at", "attempts")
    assert {k: v for k, v in row.view.items() if k != "stop"} == {
        k: v for k, v in shown.items() if k != "stop"
    }
    assert [row.view["stop"][k] for k in stop] == [shown["stop"][k] for k in stop]
    assert listed(house) == listed(house, "number=%2B91%2080%206555%200101") == [recording_id]
    assert listed(house, "q=0055512") == listed(house, f"call_uuid={call}") == [recording_id]
    assert listed(house, "phase=recording") == listed(house, "held=true") == []


def test_a_catalogue_that_is_deleted_and_rebuilt_from_the_archive_is_equal(local, tmp_path):
    house = local(rules=HOUR)
    for _ in range(2):
        indexed(house, finished(house)[0])
    gave_up(house, "rec-gone")
    indexed(house, "rec-gone")
    by_obligations = rows(house.worker.catalogue)
    anew, told = Catalogue(f"sqlite:///{tmp_path / 'anew.db'}"), []
    counts = rebuild(anew, house.worker.archive, lambda *done: told.append(done))
    assert (len(by_obligations), rows(anew)) == (3, by_obligations)
    assert (counts, told[-1][0]) == (
        {"archived": 2, "abandoned": 1, "erased": 0, "unreadable": 0, "removed": 0},
        3,
    )


def test_holds_and_tombstones_are_in_a_catalogue_that_is_rebuilt(local, tmp_path):
    house = local(rules=HOUR)
    held, erased = (finished(house)[0] for _ in range(2))
    by = By(who="anna", reason="case 12")
    for do, one in ((holds.hold, held), (erasures.order, erased)):
        do(house.worker, subject.find(house.worker, [ACCOUNT], one), by)
    house.reach(erased, "erased")
    until(lambda: house.worker.catalogue.find(held).view["held"])
    until(lambda: live(house) == [])
    anew = Catalogue(f"sqlite:///{tmp_path / 'anew.db'}")
    counts = rebuild(anew, house.worker.archive, lambda *_: None)
    assert rows(anew) == rows(house.worker.catalogue)
    assert (counts["archived"], counts["erased"]) == (1, 1)
    assert listed(house, "held=true") == [held]
    assert listed(house, "phase=erased") == [erased]


def gave_up(house, recording_id):
    """A recording that was given up; the provider keeps nothing of it."""
    began = house.ledger.now() - timedelta(days=31)
    house.ledger.record(
        ACCOUNT,
        Event(
            id="listed",
            kind=Kind.RECORDING_LISTED,
            call_uuid="call-gone",
            recording_id=recording_id,
            started_at=began,
            ended_at=began + timedelta(seconds=9),
            url="http://127.0.0.1:1/none.mp3",
        ),
    )
    house.ledger.record(
        ACCOUNT,
        Event(
            id="failed",
            kind=Kind.FETCH_FAILED,
            call_uuid="call-gone",
            recording_id=recording_id,
            reason="gone",
            fault=Fault.PROVIDER,
        ),
    )


def test_what_is_held_or_erased_while_the_catalogue_is_made_anew_is_in_it(local):
    house = local(rules=HOUR)
    catalogue, by = house.worker.catalogue, By(who="anna", reason="case 12")
    held, erased = (finished(house, to_number="918065550101")[0] for _ in range(2))
    for one in (held, erased):
        indexed(house, one)

    def governs(done, _days):
        if done == 2:  # both are read, and neither is entered
            for do, one in ((holds.hold, held), (erasures.order, erased)):
                do(house.worker, subject.find(house.worker, [ACCOUNT], one), by)
            house.reach(erased, "erased")
            until(lambda: catalogue.find(held).view["held"])

    rebuild(catalogue, house.worker.archive, governs)
    assert catalogue.find(held).view["held"]
    assert (catalogue.find(erased).view["phase"], catalogue.find(erased).view["to"]) == (
        "erased",
        None,
    )


def test_of_two_who_change_a_recording_at_once_the_newer_row_stays(local, monkeypatch):
    house = local(rules=HOUR)
    row, archive = indexed(house, finished(house)[0]), house.worker.archive
    enter, before = Catalogue.enter, [row]
    hold = Fact(
        account=ACCOUNT,
        recording_id=row.id[1],
        kind=FactKind.HOLD,
        at=house.ledger.now(),
        who="anna",
    )

    def overtaken(self, rows):
        if before:
            before.clear()
            fact_files.add(archive.store, archive.signer, hold)
            enter(self, [row_of(archive, row.key)])
        enter(self, rows)

    monkeypatch.setattr(Catalogue, "enter", overtaken)
    enter_anew(house.worker.catalogue, archive, row.key)
    assert house.worker.catalogue.find(row.id[1]).view["held"]


def test_a_recording_that_was_given_up_is_in_the_catalogue_with_its_fault(local):
    house = local(rules=HOUR)
    gave_up(house, "rec-gone")
    view = indexed(house, "rec-gone").view
    assert (view["phase"], view["fault"], view["call_uuid"]) == (
        "abandoned",
        "provider",
        "call-gone",
    )
    assert "not fetched in the 30 days" in view["problem"]
    assert listed(house, "phase=abandoned&fault=provider") == ["rec-gone"]


def test_rebuilding_removes_what_the_archive_does_not_know_and_names_what_cannot_be_read(local):
    house = local(rules=HOUR)
    recording_id, _ = finished(house)
    row, catalogue = indexed(house, recording_id), house.worker.catalogue
    receipt = (house.folder / "archive" / row.key).with_suffix(".json")
    text = receipt.read_text()
    for odd in ("{", "[]", "[" * 100_000, json.dumps(json.loads(text) | {"labels": [5]})):
        receipt.write_text(odd)
        counts = rebuild(catalogue, house.worker.archive, lambda *_: None)
        assert (counts["unreadable"], counts["removed"]) == (1, 0), odd[:9]  # it may be mended
    receipt.unlink()
    counts = rebuild(catalogue, house.worker.archive, lambda *_: None)
    assert (counts["removed"], catalogue.count()) == (1, 0)
    receipt.write_text(text)
    assert row_of(house.worker.archive, row.key).view == row.view


def test_a_catalogue_that_is_away_stops_nothing_is_told_and_catches_up_by_itself(local):
    house = local(rules=HOUR, ENDTAPE_CATALOG="sqlite:///dir/catalog.db")
    (house.folder / "dir").write_text("in the way")
    for role in ("stops", "fetches", "keep", "clock"):
        house.ledger.seen(role, "test")
    recording_id, call = finished(house)
    waiting = Obligation(duty=Duty.INDEX, account=ACCOUNT, call_uuid=call)
    until(lambda: "degraded: catalog: " in house.get("/readyz").text, 10)
    assert house.get("/readyz").status_code == 200
    page = house.get("/v1/recordings").json()
    assert [v["recording_id"] for v in page["recordings"]] == [recording_id]
    assert page["degraded"].startswith("catalog: ")
    assert house.get("/v1/recordings/unknown").status_code == 503
    until(lambda: not redis_view.owed(house.ledger, Duty.PLAN))
    until(lambda: redis_view.lease_of(house.ledger, waiting) is None)
    assert redis_view.expires_in_s(house.ledger, ACCOUNT, call) == -1  # not before it is indexed
    (house.folder / "dir").unlink()
    assert catalogue_trials.turn(house.worker.catalogue, house.ledger)
    redis_view.make_due(house.ledger, waiting)
    indexed(house, recording_id)
    until(lambda: redis_view.expires_in_s(house.ledger, ACCOUNT, call) > 0)
    assert "degraded" not in house.get("/readyz").text
    until(lambda: "degraded" not in house.get("/v1/recordings").json(), 5)


def test_after_its_history_a_call_is_gone_from_redis_and_there_for_every_reader(local):
    house = local(rules=HOUR, ENDTAPE_HISTORY="1s")
    recording_id, call = finished(house, to_number="918065550101")
    before = house.recording(recording_id)
    files = [house.get(f"/v1/recordings/{recording_id}/{p}").content for p in ("audio", "receipt")]
    until(lambda: not house.ledger.events(ACCOUNT, call))
    assert house.ledger.forget(ACCOUNT) == 1
    left = redis_view.keys_about(house.ledger, recording_id, call)
    # The books of the day wait for its end.
    assert [key for key in left if key.split(":")[-2] not in {"filed", "history"}] == [
        key for key in left if ":entered:" in key
    ]
    after = house.recording(recording_id)
    assert {k: v for k, v in after.items() if k != "stop"} == {
        k: v for k, v in before.items() if k != "stop"
    }
    assert files == [
        house.get(f"/v1/recordings/{recording_id}/{p}").content for p in ("audio", "receipt")
    ]
    ranged = house.get(f"/v1/recordings/{recording_id}/signature")
    assert (ranged.status_code, b"BEGIN SSH SIGNATURE" in ranged.content) == (200, True)
    assert listed(house, "number=918065550101") == [recording_id]
    shown = house.get(f"/v1/calls/{call}").json()
    assert [r["recording_id"] for r in shown["recordings"]] == [recording_id]
    assert "RecordingStarted" in [entry["event"] for entry in shown["timeline"]]
    assert house.get("/v1/calls/unknown").status_code == 404


DEATHS = [
    (lambda house: house.worker.catalogue, "enter", False),
    (lambda house: house.worker.catalogue, "enter", True),
    (lambda house: house.ledger, "indexed", False),
    (lambda house: house.ledger, "indexed", True),
]


def test_a_crash_before_or_after_catalogue_and_ledger_leaves_one_row_and_one_entry(
    local, monkeypatch
):
    house, home = local(rules=HOUR), []
    for whose, name, after in DEATHS:
        died, in_truth = [], getattr(whose(house), name)

        def die(*given, after=after, died=died, in_truth=in_truth):
            if after or died:
                in_truth(*given)
            if not died:
                died.append(given)
                raise RuntimeError("killed")

        with monkeypatch.context() as patch:
            patch.setattr(whose(house), name, die)
            recording_id, call = finished(house)
            home.insert(0, recording_id)
            until(lambda died=died: died)
            assert listed(house) == home  # in Redis or in the catalogue or in both, shown once
            redis_view.end_leases(
                house.ledger, Obligation(duty=Duty.INDEX, account=ACCOUNT, call_uuid=call)
            )
            until(lambda: live(house) == [])
        assert (listed(house), house.worker.catalogue.count()) == (home, len(home)), (name, after)


def test_what_was_finished_before_there_was_a_catalogue_gets_there_within_the_hour(local):
    house = local(rules=HOUR)
    recording_id, _ = finished(house)
    indexed(house, recording_id)
    until(lambda: live(house) == [])
    house.worker.catalogue.remove([(ACCOUNT, recording_id)])  # an older release archived it
    index.owe_missed(house.worker)
    assert indexed(house, recording_id)
    until(lambda: live(house) == [])
    until(lambda: redis_view.owed(house.ledger, Duty.INDEX) == [])


def test_a_call_whose_recording_was_given_up_leaves_redis_in_the_end(local, monkeypatch):
    house = local(rules=HOUR)
    gave_up(house, "rec-gone")
    indexed(house, "rec-gone")
    until(lambda: redis_view.owed(house.ledger, Duty.INDEX) == [])
    owed = []
    monkeypatch.setattr(house.ledger, "ensure_due", owed.extend)
    index.owe_missed(house.worker)
    assert owed == []  # each time that it is entered, it stays for another ENDTAPE_HISTORY
    house.worker.catalogue.remove([(ACCOUNT, "rec-gone")])
    index.owe_missed(house.worker)
    assert [o.call_uuid for o in owed] == ["call-gone"]


def test_receipts_that_take_longer_than_a_lease_are_read_once(local, monkeypatch):
    house, read = local(rules=HOUR, leases_s=0.6), []

    def slowly(archive, key, **how):
        read.append(key)
        time.sleep(0.8)
        return row_of(archive, key, **how)

    monkeypatch.setattr(index, "row_of", slowly)
    indexed(house, finished(house)[0])
    until(lambda: redis_view.owed(house.ledger, Duty.INDEX) == [])
    assert len(read) == 1


def test_while_the_archive_refuses_the_catalogue_asks_it_for_nothing(local, monkeypatch):
    house = local(rules=HOUR)
    what = trials.on_this_machine("archive")
    read = []
    monkeypatch.setattr(index, "row_of", lambda *_, **_how: read.append(1))
    _, call = finished(house)
    until(lambda: read and redis_view.owed(house.ledger, Duty.INDEX) == [])
    read.clear()
    trials.failed(house.ledger, what, "it is away")
    owed = Obligation(duty=Duty.INDEX, account=ACCOUNT, call_uuid=call)
    house.ledger.ensure_due([owed])
    until(
        lambda: redis_view.due_in_s(house.ledger, owed) > 5 and not redis_view.fences(house.ledger)
    )
    assert read == []


def test_a_row_that_no_database_takes_keeps_no_other_out(local, monkeypatch):
    house = local(rules=HOUR)
    good, bad = [finished(house) for _ in range(2)]
    for recording_id, _ in (good, bad):
        indexed(house, recording_id)
    until(lambda: redis_view.owed(house.ledger, Duty.INDEX) == [])
    house.worker.catalogue.remove([(ACCOUNT, good[0]), (ACCOUNT, bad[0])])

    def spoilt(archive, key, **how):
        row = row_of(archive, key, **how)
        if bad[0] in key:
            row.view["labels"] = {"name": None}
        return row

    monkeypatch.setattr(index, "row_of", spoilt)
    index.owe_missed(house.worker)
    assert indexed(house, good[0])
    until(lambda: house.alerts() == {"poison": 1})
    assert house.worker.catalogue.find(bad[0]) is None


def test_the_children_of_keep_take_turns_at_trying_the_catalogue_sooner_while_it_is_away(local):
    house = local()
    catalogue, ledger = house.worker.catalogue, house.ledger
    assert [catalogue_trials.turn_if_ours(catalogue, ledger) for _ in range(2)] == [True, False]
    trials.failed(ledger, trials.on_this_machine(catalogue_trials.CATALOG), "away")
    assert [catalogue_trials.turn_if_ours(catalogue, ledger) for _ in range(2)] == [True, False]
    assert ledger.degraded() == {}


def test_sqlite_for_several_machines_is_degraded(local):
    house = local()
    house.ledger.seen("stops", f"{socket.gethostname()}:1")
    assert catalogue_trials.turn(house.worker.catalogue, house.ledger)
    house.ledger.seen("fetches", "there:1")
    assert not catalogue_trials.turn(house.worker.catalogue, house.ledger)
    assert list(house.ledger.degraded().values()) == [
        "processes run on 2 machines, and SQLite serves one: "
        "set ENDTAPE_CATALOG to a PostgreSQL that all reach"
    ]
