"""Removing a recording from an archive: everything but its tombstone, in order, at every crash."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.archive.builders import AUDIO, KEY, SHA, receipt_of, spooled
from tests.archive.test_facts import HOLD
from worker.archive import erasing, fact_files, facts, keys
from worker.archive.facts import FactKind
from worker.archive.filing import Archive
from worker.archive.receipts import Tombstone
from worker.archive.signers import AllowedSigner
from worker.archive.signing_key import Signer
from worker.archive.verify import Report, Trust
from worker.archive.verify_all import WholeArchive
from worker.errors import Conflict, Gone, Held

AT = datetime(2026, 9, 14, 10, tzinfo=UTC)
TOMBSTONE = Tombstone(
    account="MA_1",
    call_uuid="call-1",
    recording_id="rec-1",
    first_seen_at=AT,
    started_at=AT,
    ended_at=None,
    at=AT,
    sha256=SHA,
    rule=None,
    reason="asked for by 918065550101",
    who="anna",
    claimed=None,
    stop={"state": "confirmed"},
)


@pytest.fixture(params=["directory", pytest.param("bucket", marks=pytest.mark.xdist_group("s3"))])
def archive(request, tmp_path):
    bucket = request.param == "bucket"
    place = request.getfixturevalue("s3").place() if bucket else tmp_path / "archive"
    return Archive(place, tmp_path / "spool", Signer(tmp_path / "key", "endtape@example.org"))


def filed(archive):
    """A recording with all that may lie beside it, and its facts; another one beside it."""
    for fence, key in enumerate((KEY, KEY.replace("rec-1", "rec-10")), 1):
        archive.publish(spooled(archive, fence), key, SHA)
        archive.publish_receipt(key, receipt_of(key))
        archive.publish_peaks(key, b"{}")
    other = "MA_1/2026/09/14/rec-1.0123456789abcdef.wav"  # of a try that came to nothing
    archive.store.create(other, b"x")
    absence = {n: receipt_of(KEY)[n] for n in ("account", "call_uuid", "recording_id")}
    archive.publish_absence(KEY, {"schema": "endtape/absent/1", **absence})
    fact_files.add(archive.store, archive.signer, HOLD)
    fact_files.add(archive.store, archive.signer, replace(HOLD, kind=FactKind.RELEASE))


def names(archive):
    return [entry.name for entry in archive.store.list("MA_1") if "rec-10" not in entry.name]


def verified(archive):
    key = archive.signer.key().public
    trusted = AllowedSigner.used("endtape@example.org", key, since=AT, until=None)
    report, whole = Report(), WholeArchive(archive.store, Trust([trusted]), quick=False)
    with ThreadPoolExecutor(2) as readers:
        for unit in whole.units(report):
            report.take(whole.check(unit, readers))
    return sorted((f.what, f.path) for f in report.findings)


def test_all_of_a_recording_goes_but_its_tombstone_and_nothing_of_another(archive):
    filed(archive)
    fact_files.add(archive.store, archive.signer, replace(HOLD, kind=FactKind.ERASE))
    archive.publish_tombstone(KEY, TOMBSTONE.written())
    order = erasing.files_of(archive.store, KEY)
    assert order[:2] == ["MA_1/2026/09/14/rec-1.0123456789abcdef.wav", KEY]
    assert order[-2:] == ["MA_1/facts/rec-1/3.json", "MA_1/facts/rec-1/3.json.sig"]
    assert erasing.remove(archive.store, KEY, lambda: None) == len(order) == 13
    tombstone = keys.parse(KEY).tombstone
    assert names(archive) == [tombstone, f"{tombstone}.sig"]
    assert erasing.remove(archive.store, KEY, lambda: None) == 0
    assert archive.store.read(KEY.replace("rec-1", "rec-10")) == AUDIO
    assert verified(archive) == []


def test_a_tombstone_has_no_numbers_is_signed_and_stays_the_first(archive):
    archive.publish_tombstone(KEY, TOMBSTONE.written())
    archive.publish_tombstone(KEY, replace(TOMBSTONE, who="eve").written())
    said = archive.tombstone(KEY)
    assert (said["schema"], said["sha256"], said["who"]) == ("endtape/erased/1", SHA, "anna")
    assert said["reason"] == "asked for by …"
    assert said["signature"]["namespace"] == "endtape-receipt"
    assert archive.tombstone(KEY.replace("rec-1", "rec-2")) is None
    assert verified(archive) == []


def test_after_a_crash_between_any_two_steps_the_rest_goes_and_the_tombstone_stood(archive):
    filed(archive)
    archive.publish_tombstone(KEY, TOMBSTONE.written())
    done = 0
    while left := len(erasing.files_of(archive.store, KEY)):
        steps = iter([None])

        def one_step(steps=steps):
            if next(steps, "crash"):
                raise KeyboardInterrupt

        if left > 1:
            with pytest.raises(KeyboardInterrupt):
                erasing.remove(archive.store, KEY, one_step)
        else:
            erasing.remove(archive.store, KEY, one_step)
        assert archive.tombstone(KEY)
        assert len(erasing.files_of(archive.store, KEY)) == left - 1
        done += 1
    assert done == 11


def test_verify_names_what_a_restored_backup_brought_back(archive, monkeypatch):
    filed(archive)
    backup = {n: archive.store.read(n) for n in erasing.files_of(archive.store, KEY)}
    archive.publish_tombstone(KEY, TOMBSTONE.written())
    assert verified(archive) == []  # it is being erased
    erasing.remove(archive.store, KEY, lambda: None)
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 3600)
    assert verified(archive) == []
    for name, content in backup.items():
        archive.store.create(name, content)
    assert verified(archive) == [("came_back", name) for name in sorted(backup)]


def test_of_a_hold_and_an_erasure_that_race_the_first_number_wins(archive):
    """Each looks at all numbers before its own, so whoever comes second has seen the first."""
    store, signer = archive.store, archive.signer
    erase = replace(HOLD, kind=FactKind.ERASE)

    def not_held(known):
        if facts.is_held(known):
            raise Held

    def another_is_quicker(fact, then):
        def may(known):
            if not known:
                fact_files.add(store, signer, fact)
            then(known)

        return may

    with pytest.raises(Held):
        fact_files.add(store, signer, erase, another_is_quicker(HOLD, not_held))
    assert facts.is_held(fact_files.read_all(store, "MA_1", "rec-1"))
    other = {"account": "MA_2"}
    slower = another_is_quicker(replace(erase, **other), lambda _: None)
    with pytest.raises(Gone):
        fact_files.add(store, signer, replace(HOLD, **other), slower)
    known = fact_files.read_all(store, "MA_2", "rec-1")
    assert (facts.is_held(known), facts.erasing(known).n) == (False, 1)


def test_a_tombstone_that_cannot_be_read_is_no_licence(archive):
    archive.store.create(keys.parse(KEY).tombstone, b"[]")
    with pytest.raises(Conflict):
        archive.tombstone(KEY)
