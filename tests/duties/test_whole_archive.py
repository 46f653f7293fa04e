"""An archive as contract 6 has it, in a directory and in a bucket: everything that can happen to a
recording, then a closed day, then whoever reads: strangers, `endtape verify`, `endtape index`, `/v1`.
"""

import hashlib
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import requests

from tests import redis_view
from tests.bad_days import ended
from tests.constants import ACCOUNT, KEY
from tests.waiting import until
from tests.webhooks.application import Application
from worker.archive import days as day_files
from worker.archive import signers
from worker.archive.verify import Report, Trust
from worker.archive.verify_all import WholeArchive
from worker.calls.events import Kind
from worker.catalogue.database import Catalogue
from worker.catalogue.rebuild import rebuild
from worker.catalogue.wanted import Wanted
from worker.duties import clocks
from worker.duties import days as duty

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("s3")]
RULES = """
[defaults]
max_duration = "1h"
consent = "required"
consent_within = "30s"
[[rules]]
name = "offloaded"
match = { to = "91805*" }
consent = "ignored"
keep_at_provider = "0s"
"""
FROM, TO, OFFLOADED = "919820055512", "918065550101", "918055550101"


@pytest.fixture(params=["directory", "bucket"])
def house(request, local):
    if request.param == "directory":
        return local(rules=RULES)
    s3 = request.getfixturevalue("s3")
    return local(rules=RULES, ENDTAPE_ARCHIVE=s3.place().url, **s3.variables())


def archived(app, to=TO):
    call = app.house.provider.call(from_number=FROM, to_number=to).call_uuid
    app.put(f"/calls/{call}", {"consent": {"kind": "dtmf", "by": f"ivr {TO}"}})
    recording = app.house.provider.record(call).recording_id
    app.house.reach(recording, "recording")
    app.house.provider.hangup(call)
    app.house.reach(recording, "archived")
    return recording, call


def told(app, method, recording, what, **body):
    headers = {"Authorization": f"Bearer {KEY}", "X-Endtape-Actor": f"anna {FROM}"}
    url = f"{app.house.base}/v1/recordings/{recording}/{what}"
    return requests.request(method, url, json=body or None, headers=headers, timeout=10)


def gave_up(house):
    call, recording = ended(house, fault="media-5xx", days_ago=31)
    until(lambda: Kind.ABSENCE_FILED in house.kinds(call))
    return recording.recording_id


def close_today(house, monkeypatch):
    """Today is over, by both clocks."""
    later = house.ledger.now() + timedelta(days=1)
    monkeypatch.setattr(clocks, "here", lambda: datetime.now(UTC) + timedelta(days=1))
    before = house.ledger.now().date()
    house.ledger.first_day(ACCOUNT, before)
    duty._close_one(house.worker, ACCOUNT, later, lambda: None)
    return before


def copied(house, to):
    store = house.worker.archive.store
    for entry in store.list(""):
        (to / entry.name).parent.mkdir(parents=True, exist_ok=True)
        (to / entry.name).write_bytes(store.read(entry.name))
    return to / ACCOUNT


def rows(catalogue):
    found = catalogue.search(Wanted(), before=None, down_to=None, limit=100)
    return [(row.key, row.columns, row.view) for row in found]


def test_whatever_happens_to_recordings_the_archive_alone_tells_it_signed_and_without_numbers(
    house, tmp_path, monkeypatch
):
    app = Application(house)
    kept, call = archived(app)
    held, erased, offloaded = (archived(app, to)[0] for to in (TO, TO, OFFLOADED))
    absent = gave_up(house)
    assert told(app, "PUT", held, "hold", reason=f"case 12, {FROM}").status_code == 200
    assert told(app, "POST", erased, "erase", reason=f"asked by {FROM}").status_code == 202
    app.put(f"/calls/{call}", {"consent": {"withdrawn": True}})
    assert told(app, "GET", kept, f"audio?reason=complaint+of+{FROM}").status_code == 200
    house.reach(erased, "erased")
    until(lambda: house.recording(offloaded)["deleted_at_provider"])
    until(lambda: redis_view.owed(house.ledger, "index") == [])
    until(lambda: house.ledger.outstanding() == 0)
    day = close_today(house, monkeypatch)
    place = copied(house, tmp_path / "copy")
    by_recording = {
        i: {path.name.removeprefix(i) for path in place.rglob(f"{i}.*")}
        for i in (kept, held, erased, offloaded, absent)
    }
    of_audio = {".mp3", ".json", ".json.sig", ".peaks"}
    assert by_recording == {
        kept: of_audio, held: of_audio, offloaded: of_audio,
        erased: {".erased.json", ".erased.json.sig"},
        absent: {".absent.json", ".absent.json.sig"},
    }  # fmt: skip
    assert facts(place, held) == ["hold"]
    assert facts(place, kept) == ["consent", "restricted"]
    assert facts(place, offloaded) == ["deleted_at_provider"] * 2
    assert facts(place, erased) == []
    numbers_stand_in_receipts_only(place)
    a_stranger_finds_all_in_order(house, place, day, kept)
    trusted = signers.of_service(house.ledger.signing_keys())
    assert verified(house, trusted) == []
    anew = Catalogue(f"sqlite:///{tmp_path / 'anew.db'}")
    rebuild(anew, house.worker.archive, lambda *_: None)
    assert rows(anew) == rows(house.worker.catalogue)
    sums = json.loads((place / day_files.day_name(day)).read_text())
    counts = {name: sums["counts"][name] for name in ("archived", "absent", "erased")}
    assert counts == {"archived": 4, "absent": 1, "erased": 1}  # as they were filed that day
    deeds = [
        json.loads(line) for line in (place / day_files.history_name(day)).read_text().splitlines()
    ]
    assert sorted(d["what"] for d in deeds) == ["erase", "hold", "play"]


def facts(place, recording):
    found = sorted((place / "facts" / recording).glob("*.json"))
    assert all(path.with_name(f"{path.name}.sig").exists() for path in found)
    return [json.loads(path.read_text())["kind"] for path in found]


def numbers_stand_in_receipts_only(place):
    for path in place.rglob("*"):
        is_receipt = path.suffix == ".json" and path.stem.count(".") == 0 and "20" in path.parts
        if path.is_file() and path.suffix in {".json", ".jsonl", ".sha256"} and not is_receipt:
            text = path.read_text()
            if '"schema": "endtape/receipt/1"' not in text:
                assert not any(digits[-7:] in text for digits in (FROM, TO, OFFLOADED)), path


def a_stranger_finds_all_in_order(house, place, day, recording):
    keys = place / "allowed_signers"
    keys.write_text(signers.written(signers.of_service(house.ledger.signing_keys())))
    name, receipt = house.settings.signer, next(place.rglob(f"{recording}.json"))
    for namespace, file in (
        ("endtape-receipt", receipt.relative_to(place)),
        ("endtape-day", day_files.list_name(day)),
        ("endtape-day", day_files.day_name(day)),
        ("endtape-history", day_files.history_name(day)),
    ):
        check = f"ssh-keygen -Y verify -f allowed_signers -I {name} -n {namespace} -s {file}.sig"
        subprocess.run(f"{check} < {file}", shell=True, cwd=place, check=True, capture_output=True)
    sums = ["sha256sum", "--check", "--strict", "--ignore-missing", day_files.list_name(day)]
    ran = subprocess.run(sums, cwd=place, check=True, capture_output=True, text=True)
    listed = (place / day_files.list_name(day)).read_text().splitlines()
    missing = [line for line in listed if not (place / line.split("  ")[1]).exists()]
    assert (ran.stdout.count(": OK"), len(listed) - len(missing)) == (
        len(listed) - len(missing),
    ) * 2
    said = json.loads(receipt.read_text())
    audio = next(path for path in place.rglob(f"{recording}.mp3"))
    assert hashlib.sha256(audio.read_bytes()).hexdigest() == said["media"]["sha256"]


def verified(house, trusted):
    whole, outside = (
        WholeArchive(house.worker.archive.store, Trust(trusted), quick=False),
        Report(),
    )
    units = whole.units(outside)
    with ThreadPoolExecutor(2) as readers:
        for unit in units:
            outside.take(whole.check(unit, readers))
    return [(f.what, f.path, f.detail) for f in outside.findings]
