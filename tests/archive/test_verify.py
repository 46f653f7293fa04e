"""Whatever is altered, forged, moved, missing or strange in an archive is found and named, and
nothing else is."""

import hashlib
import json
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.archive.builders import receipt_of
from worker.archive import signing
from worker.archive.filing import Archive
from worker.archive.signers import AllowedSigner
from worker.archive.signing_key import Signer, load_or_make
from worker.archive.verify import Report, Trust, Verifier

NAME = "endtape@example.org"
FETCHED = datetime(2026, 9, 14, 10, tzinfo=UTC)
DAY = "MA_1/2026/09/14"


class Filed:
    """An archive with three recordings, and the keys to trust."""

    def __init__(self, place, bucket=None):
        self.place, self.root = place, place / "archive"
        self.archive = Archive(bucket or self.root, place / "spool", Signer(place / "key", NAME))
        for number in range(3):
            self.file(f"{DAY}/rec-{number}.mp3", os.urandom(5000 + number))
        self.key = load_or_make(place / "key")
        self.trusted = AllowedSigner.used(NAME, self.key.public, since=FETCHED, until=None)
        self.archive.publish_signer(self.key.public.fingerprint, self.trusted.line)
        self.grow_old()

    def file(self, key, content, archive=None, **more):
        archive = archive or self.archive
        part = archive.spool.create("part", abs(hash(key)))
        with archive.spool.writing(part) as file:
            file.write(content)
        archive.publish(part, key, hashlib.sha256(content).hexdigest())
        archive.publish_receipt(key, receipt_of(key, content, **more))

    def grow_old(self):
        for path in self.root.rglob("*"):
            if path.is_file():
                os.utime(path, (time.time() - 3600,) * 2)

    def at(self, name):
        return self.root / DAY / name

    def verify(self, *trusted, quick=False):
        verifier = Verifier(self.archive.store, Trust(trusted or [self.trusted]), quick=quick)
        report = Report()
        with ThreadPoolExecutor(2) as readers:
            for folder in verifier.folders(report):
                report.take(verifier.check(folder, readers))
        return report

    def found(self, *trusted, quick=False):
        return [(f.what, f.path) for f in self.verify(*trusted, quick=quick).findings]


@pytest.fixture
def filed(tmp_path):
    return Filed(tmp_path)


def rewrite(path, **changes):
    said = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")


@pytest.mark.parametrize("quick", [False, True])
def test_an_archive_as_we_wrote_it_has_no_findings(filed, quick):
    report = filed.verify(quick=quick)
    assert report.findings == []
    assert report.counts == Counter(
        {"receipts": 3, "signed": 3, "audio": 3, **({} if quick else {"bytes": 15003})}
    )


def test_a_changed_byte_of_the_audio_is_found_and_a_changed_size_by_the_quick_way_too(filed):
    audio = filed.at("rec-1.mp3")
    content = audio.read_bytes()
    audio.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert filed.found() == [("altered", f"{DAY}/rec-1.mp3")]
    assert filed.found(quick=True) == []
    audio.write_bytes(content[:-1])
    assert filed.found(quick=True) == filed.found() == [("altered", f"{DAY}/rec-1.mp3")]


@pytest.mark.parametrize("quick", [False, True])
def test_a_receipt_forged_with_every_hash_computed_anew_is_found(filed, quick):
    forged = os.urandom(5000)
    filed.at("rec-1.mp3").write_bytes(forged)
    media = {"sha256": hashlib.sha256(forged).hexdigest(), "bytes": len(forged)}
    rewrite(filed.at("rec-1.json"), media=media)
    assert filed.found(quick=quick) == [("bad_signature", f"{DAY}/rec-1.json")]
    filed.at("rec-1.json.sig").unlink()
    rewrite(filed.at("rec-1.json"), signature=None)
    os.utime(filed.at("rec-1.json"), (time.time() - 3600,) * 2)
    assert filed.found(quick=quick) == [("unsigned", f"{DAY}/rec-1.json")]


def test_a_signature_moved_to_another_receipt_or_namespace_is_found(filed):
    sigs = [filed.at(f"rec-{n}.json.sig") for n in range(3)]
    sigs[0].write_bytes(sigs[1].read_bytes())
    sigs[2].write_bytes(filed.key.sign(filed.at("rec-2.json").read_bytes(), signing.DAYS))
    assert filed.found() == [
        ("bad_signature", f"{DAY}/rec-0.json"),
        ("bad_signature", f"{DAY}/rec-2.json"),
    ]
    details = [finding.detail for finding in filed.verify().findings]
    assert ("namespace" in details[0], "namespace" in details[1]) == (False, True)


def test_a_receipt_moved_with_its_signature_to_another_recording_is_found(filed):
    for end in ("json", "json.sig", "mp3"):
        filed.at(f"rec-0.{end}").rename(filed.at(f"moved.{end}"))
    assert ("misplaced", f"{DAY}/moved.json") in filed.found()
    (filed.root / DAY).rename(filed.root / "MA_1/2026/09/15")
    (filed.root / "MA_1").rename(filed.root / "MA_2")
    assert [what for what, _ in filed.found()] == ["misplaced"] * 3


def test_an_unknown_key_is_found_also_where_the_archive_itself_names_it(filed):
    strange = load_or_make(filed.place / "strange")
    line = AllowedSigner.used(NAME, strange.public, since=FETCHED, until=None).line
    filed.archive.publish_signer(strange.public.fingerprint, line)
    for n in range(3):
        receipt = filed.at(f"rec-{n}.json")
        filed.at(f"rec-{n}.json.sig").write_bytes(
            strange.sign(receipt.read_bytes(), signing.RECEIPTS)
        )
    assert {what for what, _ in filed.found()} == {"unknown_key"}


def test_a_key_is_good_for_its_own_time_and_an_older_one_goes_on_verifying(filed):
    later, long_ago = FETCHED + timedelta(days=3), FETCHED - timedelta(days=30)
    rotated = AllowedSigner.used(NAME, filed.key.public, since=long_ago, until=FETCHED)
    new = load_or_make(filed.place / "new")
    current = AllowedSigner.used(NAME, new.public, since=FETCHED, until=None)
    assert filed.found(current, rotated) == []
    for wrong in (
        AllowedSigner.used(NAME, filed.key.public, since=later, until=None),
        AllowedSigner.used(NAME, filed.key.public, since=long_ago, until=FETCHED - timedelta(3)),
        replace(rotated, namespaces=("git",)),
    ):
        assert {what for what, _ in filed.found(wrong, current)} == {"expired_key"}


def test_audio_without_receipt_and_receipt_without_audio_are_found_unless_they_are_of_just_now(
    filed,
):
    for end in ("json", "json.sig"):
        filed.at(f"rec-0.{end}").unlink()
    filed.at("rec-1.mp3").unlink()
    filed.at("rec-2.json.sig").unlink()
    wrong = [
        ("receipt_missing", f"{DAY}/rec-0.mp3"),
        ("audio_missing", f"{DAY}/rec-1.json"),
        ("unsigned", f"{DAY}/rec-2.json"),
    ]
    assert filed.found() == wrong
    for name in ("rec-0.mp3", "rec-2.json"):
        os.utime(filed.at(name))
    assert filed.found() == wrong[1:2]
    assert filed.verify().counts["unfinished"] == 2
    ahead = time.time() + 9000
    os.utime(filed.at("rec-0.mp3"), (ahead, ahead))  # nobody wrote it just now
    assert filed.found() == wrong[:2]


def test_receipts_from_before_signing_began_are_counted_and_not_failed(filed):
    unsigned = Archive(filed.root, filed.place / "spool")
    for number, day in ((7, "2026-09-13"), (8, "2026-09-15")):
        filed.file(
            f"{DAY}/rec-{number}.mp3",
            os.urandom(99),
            unsigned,
            signature=None,
            fetch={"fetched_at": f"{day}T10:00:00.000Z"},
        )
    filed.grow_old()
    assert filed.found() == [("unsigned", f"{DAY}/rec-8.json")]
    assert filed.verify().counts["before_signing"] == 1


def test_what_says_of_itself_to_be_from_before_signing_began_and_cannot_be_is_found(filed):
    later, said = "MA_1/2026/09/15", {"account": "MA_1", "at": "2020-01-01T00:00:00.000Z"}
    forged = {"signature": None, "fetch": {"fetched_at": said["at"]}}
    filed.file(f"{later}/rec-9.mp3", b"x", Archive(filed.root, filed.place / "spool"), **forged)
    names = [f"{kind}.{kind}.json" for kind in ("absent", "erased")]
    names.append(f"rec-0.derived.transcript.{'0' * 16}.json")
    for name in names:  # these were signed from the first on
        about = {"recording_id": name.partition(".")[0], **said}
        filed.at(name).write_text(json.dumps(about))
    filed.grow_old()
    found = filed.found()
    assert {path for what, path in found if what == "unsigned"} == {
        f"{later}/rec-9.json",
        *(f"{DAY}/{name}" for name in names),
    }
    assert filed.verify().counts["before_signing"] == 0


def test_what_does_not_say_when_it_was_signed_is_not_good_by_a_key_whose_time_is_over(filed):
    receipt = filed.at("rec-0.json")
    rewrite(receipt, fetch={})
    filed.at("rec-0.json.sig").write_bytes(filed.key.sign(receipt.read_bytes(), signing.RECEIPTS))
    assert filed.found() == []
    assert filed.found(replace(filed.trusted, valid_before=FETCHED + timedelta(days=2))) == [
        ("expired_key", f"{DAY}/rec-0.json")
    ]


def test_in_the_folder_of_the_public_keys_strangers_and_altered_keys_are_found(filed):
    folder = filed.root / "allowed_signers"
    (key,) = folder.iterdir()
    (folder / "note").write_text("x")
    (folder / "deep").mkdir()
    (folder / "link").symlink_to(key)
    other = load_or_make(filed.place / "other").public
    key.write_text(key.read_text().replace(filed.key.public.text, other.text))
    assert filed.found() == [
        ("unreferenced", "allowed_signers/deep"),
        ("altered", f"allowed_signers/{key.name}"),
        ("unreadable", "allowed_signers/link"),
        ("unreferenced", "allowed_signers/note"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "note.txt",
        "MA_1/note.txt",
        "MA_1/2026/note.txt",
        "MA_1/2026/09/14/ä.mp3",
        "MA_1/2026/09/14/rec-9.json.sig",
        "MA_1/2026/09/14/rec-0.mp3.sig",
        "MA_1/2026/09/14/rec-0.wav",
        "MA_1/2026/09/14/rec-9.peaks",
        "MA_1/2026/09/14/deep/rec-0.mp3",
        "MA_1/20260914/rec-0.mp3",
    ],
)
def test_an_object_that_nobody_knows_is_found_and_what_is_unfinished_or_known_is_not(filed, name):
    place = filed.root / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("x")
    for known in ("MA_1/days/2026-09-14.json", "MA_1/allowed_signers", f"{DAY}/.rec-0.1.part"):
        (filed.root / known).parent.mkdir(exist_ok=True)
        (filed.root / known).write_text("x")
    filed.at("rec-0.peaks").write_text("{}")
    ((what, path),) = filed.found()
    assert what == "unreferenced"
    assert name.startswith(path)


def test_links_and_files_that_are_no_json_are_found(filed):
    filed.at("rec-0.mp3").rename(filed.place / "elsewhere")
    filed.at("rec-0.mp3").symlink_to(filed.place / "elsewhere")
    filed.at("rec-1.json").write_text("[1]")
    (filed.root / "MA_3").symlink_to(filed.root / "MA_1")
    assert filed.found() == [
        ("unreferenced", "MA_3"),
        ("unreferenced", f"{DAY}/rec-0.mp3"),
        ("audio_missing", f"{DAY}/rec-0.json"),
        ("unreadable", f"{DAY}/rec-1.json"),
    ]


def test_what_was_given_up_or_erased_is_signed_like_a_receipt(filed):
    for kind, end in (("absent", "absent.json"), ("erased", "erased.json")):
        said = {"account": "MA_1", "recording_id": kind, "at": "2026-09-14T10:00:00.000Z"}
        place = filed.at(f"{kind}.{end}")
        place.write_text(json.dumps(said))
        filed.at(f"{kind}.{end}.sig").write_bytes(
            filed.key.sign(place.read_bytes(), signing.RECEIPTS)
        )
    report = filed.verify()
    assert (report.findings, report.counts["absent"], report.counts["erased"]) == ([], 1, 1)
    rewrite(filed.at("absent.absent.json"), fault="provider")
    assert filed.found() == [("bad_signature", f"{DAY}/absent.absent.json")]


def test_where_other_content_had_the_name_the_digest_in_it_says_which_file_is_meant(filed):
    digest = json.loads(filed.at("rec-0.json").read_text())["media"]["sha256"]
    filed.at("rec-0.mp3").rename(filed.at(f"rec-0.{digest[:16]}.mp3"))
    assert filed.found() == []
    filed.at("rec-0.mp3").write_text("other")
    assert filed.found() == [("unreferenced", f"{DAY}/rec-0.mp3")]


@pytest.mark.parametrize("quick", [False, True])
def test_an_archive_in_a_bucket_is_verified_as_one_in_a_directory(tmp_path, s3, quick, monkeypatch):
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 3600)
    filed = Filed(tmp_path, s3.place())
    store = filed.archive.store
    assert filed.found(quick=quick) == []
    forged = json.loads(store.read(f"{DAY}/rec-1.json")) | {"from": "forged"}
    for name, content in (
        ("rec-0.mp3", b"x" * 5000),
        ("rec-1.json", json.dumps(forged).encode()),
        ("rec-2.mp3", None),
        ("strange", b"x"),
        ("rec-7.mp3", b"x"),
    ):
        store.delete(f"{DAY}/{name}")
        if content is not None:
            store.create(f"{DAY}/{name}", content)
    assert sorted(filed.found(quick=quick)) == sorted(
        [
            *([] if quick else [("altered", f"{DAY}/rec-0.mp3")]),
            ("bad_signature", f"{DAY}/rec-1.json"),
            ("audio_missing", f"{DAY}/rec-2.json"),
            ("unreferenced", f"{DAY}/strange"),
            ("receipt_missing", f"{DAY}/rec-7.mp3"),
        ]
    )
