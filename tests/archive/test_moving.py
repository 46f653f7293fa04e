"""What a fallback took is moved into the archive: nothing is lost on the way, whatever dies, and
nothing that stands is replaced."""

import hashlib
import os
import time

import pytest

from tests.archive.builders import AUDIO, KEY, receipt_of, spooled
from worker.archive import signing
from worker.archive.filing import Archive
from worker.archive.moving import move_back
from worker.archive.signing_key import Signer

BIG = os.urandom(1_500_000)
NAMES = [f"{KEY[:-4]}.json", f"{KEY[:-4]}.json.sig", KEY]


@pytest.fixture(params=["directory", pytest.param("bucket", marks=pytest.mark.xdist_group("s3"))])
def archive(request, tmp_path):
    first = tmp_path / "archive"
    if request.param == "bucket":
        first = request.getfixturevalue("s3").place()
    signer = Signer(tmp_path / "key", "endtape@example.org")
    return Archive(first, tmp_path / "spool", signer, fallback=tmp_path / "fallback")


def names(store):
    return [entry.name for entry in store.list("MA_1")]


def filed(archive, content=AUDIO, **more):
    sha256 = hashlib.sha256(content).hexdigest()
    key = archive.publish(spooled(archive, int(time.monotonic_ns()), content), KEY, sha256)
    archive.publish_receipt(key, receipt_of(KEY, content) | more)
    return key


def always():
    return True


@pytest.mark.parametrize("content", [AUDIO, BIG], ids=["small", "large"])
def test_all_files_of_a_recording_are_copied_read_back_and_then_removed(archive, content):
    filed(archive.fallback, content)
    with archive.open_file(KEY) as file:
        assert file.read() == content  # while it is there
    moved = move_back(archive, always)
    assert (moved.files, moved.stay) == (3, [])
    assert (names(archive.store), names(archive.fallback.store)) == (NAMES, [])
    with archive.open_file(KEY) as file:
        assert file.read() == content
    signing.verify(archive.receipt(KEY), archive.signature(KEY), signing.RECEIPTS)
    assert move_back(archive, always).files == 0


@pytest.mark.parametrize("dies_at", range(1, 7))
def test_whatever_dies_between_two_steps_a_file_is_in_one_place_or_in_both(
    archive, dies_at, monkeypatch
):
    filed(archive.fallback)
    steps = []

    def dying(store, name):
        do = getattr(store, name)

        def step(*what):
            steps.append(what)
            if len(steps) == dies_at:
                raise KeyboardInterrupt
            do(*what)

        monkeypatch.setattr(store, name, step)

    for store, name in (
        (archive.store, "create"),
        (archive.store, "put_file"),
        (archive.fallback.store, "delete"),
    ):
        dying(store, name)
    with pytest.raises(KeyboardInterrupt):
        move_back(archive, always)
    monkeypatch.undo()
    assert set(names(archive.store)) | set(names(archive.fallback.store)) == set(NAMES)
    move_back(archive, always)
    assert (names(archive.store), names(archive.fallback.store)) == (NAMES, [])
    with archive.open_file(KEY) as file:
        assert file.read() == AUDIO


def test_a_recording_that_is_in_both_places_keeps_the_archives_receipt(archive):
    filed(archive)
    filed(archive.fallback, fetch={"attempts": 7, "fetched_at": "2026-09-14T10:00:00.000Z"})
    stands = archive.receipt(KEY)
    assert move_back(archive, always).stay == []
    assert (archive.receipt(KEY), names(archive.fallback.store)) == (stands, [])
    signing.verify(stands, archive.signature(KEY), signing.RECEIPTS)


def test_a_receipt_whose_signature_a_crash_left_out_is_signed(archive):
    filed(archive)
    archive.store.delete(f"{KEY[:-4]}.json.sig")
    filed(archive.fallback, fetch={"attempts": 7, "fetched_at": "2026-09-14T10:00:00.000Z"})
    assert move_back(archive, always).stay == []
    assert names(archive.fallback.store) == []
    signing.verify(archive.receipt(KEY), archive.signature(KEY), signing.RECEIPTS)


def test_what_has_the_name_of_other_content_stays_and_is_named(archive):
    filed(archive)
    filed(archive.fallback, BIG)
    before = {name: archive.store.read(name) for name in names(archive.store)}
    assert sorted(move_back(archive, always).stay) == sorted(NAMES)
    assert {name: archive.store.read(name) for name in names(archive.store)} == before
    assert names(archive.fallback.store) == NAMES


def test_a_statement_that_stands_in_both_places_keeps_the_archives_own(archive):
    said = {"account": "MA_1", "call_uuid": "c", "recording_id": "rec-1", "schema": "absent"}
    archive.publish_absence(KEY, said | {"attempts": 1})
    before = {name: archive.store.read(name) for name in names(archive.store)}
    archive.store.delete(f"{KEY[:-4]}.absent.json.sig")  # its put seemed to fail
    archive.fallback.publish_absence(KEY, said | {"attempts": 2})
    assert move_back(archive, always).stay == []
    assert names(archive.fallback.store) == []
    after = {name: archive.store.read(name) for name in names(archive.store)}
    assert after.keys() == before.keys()
    assert after[f"{KEY[:-4]}.absent.json"] == before[f"{KEY[:-4]}.absent.json"]
    signing.verify(*after.values(), signing.RECEIPTS)
    archive.fallback.publish_absence(KEY, said | {"call_uuid": "another"})
    assert len(move_back(archive, always).stay) == 2


def test_the_line_of_a_key_that_the_archive_has_of_another_day_stays_as_it_is(archive):
    archive.publish_signer("SHA256:abc", 'me valid-after="20260914" ssh-ed25519 AAAA')
    archive.fallback.publish_signer("SHA256:abc", 'me valid-after="20260915" ssh-ed25519 AAAA')
    assert move_back(archive, always).stay == []
    stands = archive.publish_signer("SHA256:abc", "-")
    assert "20260914" in stands
    assert list(archive.fallback.store.list("")) == []


def test_who_is_to_end_moves_no_further_file(archive):
    filed(archive.fallback)
    left = [True, False]
    assert move_back(archive, lambda: left.pop(0) if left else False).files == 1
    assert len(names(archive.fallback.store)) == 2
