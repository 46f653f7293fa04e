"""A bucket that is away loses nothing: the file waits in the spool, a fallback takes over, and what
it took is moved back."""

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.bad_days import ended
from tests.constants import ACCOUNT, KEY
from tests.s3 import Whims
from tests.waiting import until
from worker.archive import filing
from worker.archive.filing import Archive
from worker.archive.moving import move_back
from worker.calls.events import Kind
from worker.catalogue.rebuild import row_of
from worker.duties import archiving, fetch
from worker.duties.trials import Trials

pytestmark = pytest.mark.xdist_group("s3")


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Who waits for the archive tries again a hundred times as soon as in truth."""
    monkeypatch.setattr(filing, "_REST_S", 0.05)
    monkeypatch.setattr(archiving, "_SHORTEST", timedelta(seconds=0.1))
    monkeypatch.setattr(archiving, "_LONGEST", timedelta(seconds=0.3))


@pytest.fixture
def bucket(s3):
    """A bucket behind a proxy that can have whims."""
    with Whims(s3) as proxy:
        place = s3.place(port=proxy.port)
        env = {"ENDTAPE_ARCHIVE": place.url, **s3.variables(proxy.port)}
        yield proxy, env


def away(method, _):
    return "refuse" if method == "PUT" else None


def back(_method, _path):
    return None


def downloads(house):
    return len([e for e in house.provider.journal.since() if e["kind"] == "media"])


def failures(house, call):
    return [e for e in house.ledger.events(ACCOUNT, call) if e.kind is Kind.FETCH_FAILED]


def kept(house):
    return [path.name for path in house.settings.spool.glob(".*.kept")]


def trial(house):
    settings = replace(house.settings)
    return Trials(house.ledger, lambda: settings, lambda: False, shared=True).turn()


def test_a_recording_is_archived_in_a_bucket_and_its_audio_is_read_back_with_ranges(local, bucket):
    house = local(**bucket[1])
    _, recording = ended(house)
    view = house.reach(recording.recording_id, "archived")
    whole = house.get(f"/v1/recordings/{recording.recording_id}/audio")
    assert (whole.status_code, len(whole.content)) == (200, view["bytes"])
    assert whole.headers["Accept-Ranges"] == "bytes"
    with house.app.test_client() as client:
        some = client.get(
            f"/v1/recordings/{recording.recording_id}/audio",
            headers={"Range": "bytes=100-199", "Authorization": f"Bearer {KEY}"},
        )
    assert (some.status_code, some.data) == (206, whole.content[100:200])
    assert some.headers["Content-Range"] == f"bytes 100-199/{view['bytes']}"
    for what in ("receipt", "signature"):
        assert house.get(f"/v1/recordings/{recording.recording_id}/{what}").status_code == 200
    assert list(house.settings.spool.iterdir()) == []
    bucket[0].whim = lambda *_: "refuse"
    for what in ("audio", "receipt"):
        assert house.get(f"/v1/recordings/{recording.recording_id}/{what}").status_code == 503


def test_a_put_that_is_refused_is_tried_again_from_the_spool_without_a_new_download(local, bucket):
    proxy, env = bucket
    house = local(**env)
    proxy.whim = away
    call, recording = ended(house)
    until(lambda: len([1 for method, _ in proxy.seen if method == "PUT"]) > 6)
    assert (downloads(house), len(kept(house))) == (1, 1)
    assert len(failures(house, call)) == 1  # however often it is refused
    view = house.recording(recording.recording_id)
    assert (view["phase"], view["fault"]) == ("fetching", "storage")
    assert "was refused" in view["problem"]
    assert "degraded: archive: s3://" in house.get("/readyz").text
    proxy.whim = back
    house.reach(recording.recording_id, "archived")
    assert downloads(house) == 1
    assert list(house.settings.spool.iterdir()) == []
    assert "degraded" not in house.get("/readyz").text


def test_the_first_success_releases_all_that_wait(local, bucket, monkeypatch):
    proxy, env = bucket
    house = local(**env)
    proxy.whim = away
    recordings = [ended(house)[1].recording_id for _ in range(3)]
    until(lambda: len(kept(house)) == 3)
    monkeypatch.setattr(archiving, "_SHORTEST", timedelta(hours=1))
    monkeypatch.setattr(archiving, "_LONGEST", timedelta(hours=1))
    until(lambda: not house.ledger.unfinished() and _all_wait(house, recordings))
    proxy.whim = back
    assert trial(house)
    for recording_id in recordings:
        house.reach(recording_id, "archived")
    assert downloads(house) == 3


def _all_wait(house, recordings):
    waiting = house.ledger.redis.zrangebyscore(
        house.ledger.key("due", "fetch"), house.ledger.now().timestamp() * 1000 + 60_000, "+inf"
    )
    return len([w for w in waiting if any(r in str(w) for r in recordings)]) == len(recordings)


def test_above_the_most_that_may_wait_no_download_begins_and_stops_go_on(local, bucket):
    proxy, env = bucket
    house = local(**env)
    house.worker.settings = replace(house.worker.settings, spool_max=1)
    proxy.whim = away
    first = ended(house)[1].recording_id
    until(lambda: len(kept(house)) == 1)
    call, second = ended(house)
    until(lambda: failures(house, call))
    assert "ENDTAPE_SPOOL_MAX" in house.recording(second.recording_id)["problem"]
    assert downloads(house) == 1
    proxy.whim = back
    for recording_id in (first, second.recording_id):
        house.reach(recording_id, "archived")


def test_a_fallback_is_used_while_the_archive_refuses_and_what_it_holds_is_moved_back(
    local, bucket, tmp_path
):
    proxy, env = bucket
    house = local(ENDTAPE_ARCHIVE_FALLBACK=str(tmp_path / "fallback"), **env)
    proxy.whim = lambda *_: "refuse"
    _, recording = ended(house)
    key = house.reach(recording.recording_id, "archived")["archive_key"]
    assert (tmp_path / "fallback" / key).exists()
    assert "degraded: archive: s3://" in house.get("/readyz").text
    audio = f"/v1/recordings/{recording.recording_id}/audio"
    content = house.get(audio).content
    outline = house.get(audio.replace("/audio", "/peaks")).content
    stored = (tmp_path / "fallback" / key).with_suffix(".peaks")
    assert stored.read_bytes() == outline
    proxy.whim = back
    assert trial(house)
    first = Archive(house.settings.archive, tmp_path / "spool-2")
    until(lambda: first.head(key))
    names = [entry.last for entry in first.store.list(ACCOUNT)]
    assert sorted(names) == sorted(
        [
            key.rpartition("/")[2],
            f"{recording.recording_id}.json",
            f"{recording.recording_id}.json.sig",
            f"{recording.recording_id}.peaks",
        ]
    )
    assert [path for path in (tmp_path / "fallback").rglob("*") if path.is_file()] == []
    assert house.get(audio).content == content
    assert house.get(audio.replace("/audio", "/peaks")).content == outline
    assert "degraded" not in house.get("/readyz").text


def test_an_outline_of_the_fallback_gives_way_to_the_one_of_the_archive(tmp_path):
    fallback = Archive(tmp_path / "fallback", tmp_path / "spool")
    fallback.publish_peaks("MA_1/2026/09/14/rec-1.wav", b"older")
    archive = Archive(tmp_path / "archive", tmp_path / "spool", fallback=tmp_path / "fallback")
    archive.publish_peaks("MA_1/2026/09/14/rec-1.wav", b"newer")
    moved = move_back(archive, lambda: True)
    assert (moved.files, moved.stay) == (1, [])
    assert archive.peaks("MA_1/2026/09/14/rec-1.wav") == b"newer"


def test_the_catalogue_has_what_still_lies_in_the_fallback(tmp_path):
    archive = Archive(tmp_path / "archive", tmp_path / "spool", fallback=tmp_path / "fallback")
    key = f"{ACCOUNT}/2026/09/14/rec-1"
    said = {"account": ACCOUNT, "call_uuid": "c", "recording_id": "rec-1"}
    archive.fallback.publish_absence(f"{key}.absent", said | {"at": "2026-09-14T10:00:00Z"})
    assert row_of(archive, f"{key}.absent").view["phase"] == "abandoned"
    media = {"bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
    archive.fallback.store.create(f"{key}.wav", b"abc")
    archive.fallback.publish_receipt(
        f"{key}.wav", said | {"media": media, "started_at": "2026-09-14T10:00:00Z"}
    )
    assert row_of(archive, f"{key}.wav").view["phase"] == "archived"


@pytest.mark.parametrize("where", ["directory", "bucket"])
def test_a_worker_that_dies_with_all_filed_and_nothing_recorded_is_followed_by_one_that_files_nothing_new(
    local, bucket, monkeypatch, where
):
    house = local(leases_s=0.3, **(bucket[1] if where == "bucket" else {}))
    record, died = fetch.commit_and_plan, []

    def dying(worker, found, call, **more):
        is_filed = any(event.kind is Kind.MEDIA_ARCHIVED for event in found.events)
        if is_filed and not died:
            died.append(found)
            raise RuntimeError("killed")
        return record(worker, found, call, **more)

    monkeypatch.setattr(fetch, "commit_and_plan", dying)
    call, recording = ended(house)
    until(lambda: died)
    stands = archived_files(house)
    view = house.reach(recording.recording_id, "archived")
    assert (archived_files(house), len(stands)) == (stands, 4)
    assert sum(kind is Kind.MEDIA_ARCHIVED for kind in house.kinds(call)) == 1
    lines = house.ledger.filed(ACCOUNT, until=house.ledger.now() + timedelta(days=1))
    receipt = house.get(f"/v1/recordings/{recording.recording_id}/receipt").content
    assert {line.split()[0] for line in lines if "/days/" not in line} == {
        view["sha256"],
        hashlib.sha256(receipt).hexdigest(),
    }


def archived_files(house):
    """What stands in the archive, with its bytes."""
    store = house.worker.archive.store
    return {e.name: store.read(e.name) for e in store.list(ACCOUNT) if "signers" not in e.name}
