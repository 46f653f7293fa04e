"""Files that were made from a recording: linked to it and signed like it, over a real archive."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests import redis_view
from tests.constants import ACCOUNT, APP_KEY, KEY, VIEW_KEY
from tests.waiting import until
from tests.webhooks.test_governing import archived, ask, deeds, erase, files, forgotten, hold
from worker.archive import derived, signers, signing
from worker.archive.verify import Report, Trust, Verifier
from worker.calls import timing
from worker.calls.events import Event, Kind
from worker.catalogue import rebuild
from worker.duties.archived_before import archived_before

RULES = '[defaults]\nmax_duration = "1h"\nconfirm_within = "1s"\n'
MOST = 4_000_000
TEXT = "Good morning, my card is … ".encode() * 20_000  # more than a body of JSON may have


@pytest.fixture
def house(local, monkeypatch):
    monkeypatch.setattr(timing, "index_at", lambda now: now)
    return local(
        rules=RULES,
        ENDTAPE_APP_KEY=APP_KEY,
        ENDTAPE_VIEW_KEY=VIEW_KEY,
        ENDTAPE_MAX_MEDIA_BYTES=str(MOST),
    )


def link(house, recording, data=TEXT, kind="transcript", key=KEY, content_type="text/plain"):
    headers = {"Authorization": f"Bearer {key}", "Content-Type": content_type}
    url = f"{house.base}/v1/recordings/{recording}/derived?kind={kind}"
    return requests.post(url, data=data, headers=headers, timeout=10)


def verified(house):
    """What `endtape verify` finds in the folders of recordings, and what it counts."""
    trusted = signers.of_service(house.ledger.signing_keys())
    verifier, report = Verifier(house.worker.archive.store, Trust(trusted), quick=False), Report()
    with ThreadPoolExecutor(2) as readers:
        for folder in verifier.folders(report):
            report.take(verifier.check(folder, readers))
    return sorted((f.what, f.path.rpartition("/")[2]) for f in report.findings), report.counts


def shows_it(browser, recording, made, receipt):
    """The console's page lists the file, opens it only to who may hear the recording, and never as
    a page of ours.
    """
    url = f"/recordings/{recording}/derived/{made['name']}"
    for key, opens in ((VIEW_KEY, False), (KEY, True)):
        browser.post("/login", data={"password": key})
        page = browser.get(f"/recordings/{recording}").text
        assert (made["sha256"] in page, f'href="{url}"' in page) == (True, opens)
        assert browser.get(f"{url}/receipt").data == receipt
        got = browser.get(url)
        assert (got.status_code, got.data == TEXT) == ((200, True) if opens else (403, False))
    assert got.mimetype == "application/octet-stream"
    assert got.headers["Content-Disposition"].startswith("attachment; ")


@pytest.mark.parametrize("known_to", ["redis", "the catalogue"])
def test_a_file_made_from_a_recording_is_linked_and_signed_like_it(house, known_to):
    call, recording = archived(house)
    if known_to == "the catalogue":
        forgotten(house, call)
    sha256 = hashlib.sha256(TEXT).hexdigest()
    answer = link(house, recording, iter([TEXT[:70_000], TEXT[70_000:]]))  # of unknown length
    made = answer.json()
    assert answer.status_code == 201, answer.text
    original = house.recording(recording)["sha256"]
    assert made["derived_from"] == {"recording_id": recording, "sha256": original}
    assert (made["sha256"], made["bytes"], made["kind"]) == (sha256, len(TEXT), "transcript")
    assert made["name"] == f"transcript.{sha256[:16]}"

    again = link(house, recording)
    assert (again.status_code, again.json()) == (200, made)
    shown = until(lambda: house.recording(recording)["derived"])
    assert shown == [{n: v for n, v in made.items() if n in shown[0]}]
    got = house.get(f"/v1/recordings/{recording}/derived/{made['name']}")
    assert (got.content, got.headers["Content-Type"]) == (TEXT, "text/plain; charset=utf-8")
    receipt = house.get(f"/v1/recordings/{recording}/derived/{made['name']}/receipt").content
    signature = house.get(f"/v1/recordings/{recording}/derived/{made['name']}/signature").content
    signing.verify(receipt, signature, signing.RECEIPTS)
    said = json.loads(receipt)
    assert (said["derived_from"], said["content_type"]) == (made["derived_from"], "text/plain")
    assert [d["what"] for d in deeds(house)].count("derive") == 1
    listed = house.ledger.filed(ACCOUNT, until=house.ledger.now() + timing.ITSELF)
    assert [line for line in listed if line.startswith(f"{sha256}  ")]
    shows_it(house.app.test_client(), recording, made, receipt)

    findings, counts = verified(house)
    assert (findings, counts["derived"]) == ([], 1)
    until(lambda: (row := house.worker.catalogue.find(recording)) and row.view["derived"] == shown)
    rebuild.rebuild(house.worker.catalogue, house.worker.archive, lambda *_: None)
    assert house.worker.catalogue.find(recording).view["derived"] == shown


def test_one_that_is_altered_or_lost_is_found_and_a_hold_keeps_it_and_erasing_takes_it(house):
    _, recording = archived(house)
    name = link(house, recording).json()["name"]
    other = link(house, recording, b'{"words": []}', "words", content_type="application/json")
    assert hold(house, recording).status_code == 200
    assert erase(house, recording).status_code == 409
    store = house.worker.archive.store
    place = derived.file_of(house.recording(recording)["archive_key"], name)
    path = house.settings.archive / place
    path.chmod(0o600)
    path.write_bytes(TEXT.replace(b"card", b"bird", 1))
    key = house.recording(recording)["archive_key"]
    store.delete(derived.file_of(key, other.json()["name"]))
    last = f"{recording}.derived"
    assert verified(house)[0] == [
        ("altered", f"{last}.{name}"),
        ("derived_missing", f"{last}.{other.json()['name']}.json"),
    ]
    assert ask(house, "DELETE", recording, "hold", json={"reason": "over"}).status_code == 200
    assert erase(house, recording).status_code == 202
    assert link(house, recording).status_code == 410
    assert house.get(f"/v1/recordings/{recording}/derived/{name}").status_code == 410
    assert house.recording(recording)["derived"] == []
    house.reach(recording, "erased")
    assert [f for f in files(house) if recording in f] == [
        f"{recording}.erased.json",
        f"{recording}.erased.json.sig",
    ]


def test_a_redis_that_was_emptied_learns_of_it_from_the_archive(house):
    call, recording = archived(house)
    made = link(house, recording).json()
    row = Event(
        id="row",
        kind=Kind.RECORDING_LISTED,
        call_uuid=call,
        recording_id=recording,
        started_at=house.call(call).recordings[recording].started_at,
    )
    events = archived_before(house.worker.archive, ACCOUNT, row)
    assert [(e.kind, e.made, e.sha256) for e in events][1:] == [
        (Kind.FILE_DERIVED, "transcript", made["sha256"])
    ]


@pytest.mark.parametrize(
    ("how", "status", "says"),
    [
        ({"key": APP_KEY}, 403, "application key"),
        ({"key": VIEW_KEY}, 403, "view key"),
        ({"key": "wrong"}, 401, "ENDTAPE_API_KEY"),
        ({"kind": "../x"}, 400, "kind"),
        ({"kind": ""}, 400, "kind"),
        ({"data": b""}, 400, "empty"),
        ({"content_type": "multipart/form-data; boundary=x"}, 400, "the file itself"),
        ({"content_type": "text"}, 400, "media type"),
        ({"data": b"x" * (MOST + 1)}, 413, "ENDTAPE_MAX_MEDIA_BYTES"),
        ({"data": iter([b"x" * MOST, b"x"])}, 413, "ENDTAPE_MAX_MEDIA_BYTES"),
    ],
)
def test_what_cannot_be_linked_is_refused_and_leaves_nothing(lasting_house, how, status, says):
    house, recording = lasting_house
    try:
        answer = link(house, recording, **how)
    except requests.ConnectionError:
        assert status == 413  # it was refused while it was sent
        return
    assert (answer.status_code, says in answer.text) == (status, True), answer.text
    assert house.recording(recording)["derived"] == []
    assert list(house.settings.spool.glob(".derived.*")) == []


@pytest.fixture(scope="module")
def lasting_house(lasting):
    house = lasting(
        rules=RULES,
        ENDTAPE_APP_KEY=APP_KEY,
        ENDTAPE_VIEW_KEY=VIEW_KEY,
        ENDTAPE_MAX_MEDIA_BYTES=str(MOST),
    )
    call = house.provider.call().call_uuid
    recording = house.provider.record(call).recording_id
    house.reach(recording, "recording")
    assert link(house, recording).status_code == 409
    house.provider.hangup(call)
    house.reach(recording, "archived")
    assert redis_view.owed(house.ledger, "erase") == []
    return house, recording
