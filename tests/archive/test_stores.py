"""What every store promises: directories and buckets alike."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.archive.builders import AUDIO, KEY, SHA, receipt_of, spooled
from tests.s3 import Whims
from worker.archive import bucket, signing
from worker.archive.bucket import BucketStore
from worker.archive.filing import Archive
from worker.archive.signing_key import Signer
from worker.errors import Conflict, Unstored

NAME = "endtape@example.org"
OTHER = b"other content"
OTHER_SHA = hashlib.sha256(OTHER).hexdigest()


@pytest.fixture(params=["directory", pytest.param("bucket", marks=pytest.mark.xdist_group("s3"))])
def place(request, tmp_path):
    if request.param == "directory":
        return tmp_path / "archive"
    return request.getfixturevalue("s3").place()


@pytest.fixture
def archive(place, tmp_path):
    return made(place, tmp_path)


@pytest.fixture
def store(archive):
    return archive.store


def made(place, tmp_path):
    return Archive(place, tmp_path / "spool", Signer(tmp_path / "key", NAME))


def names(store):
    return [entry.name for entry in store.list("")]


def part(tmp_path, content):
    path = tmp_path / f"part-{hashlib.sha256(content).hexdigest()[:8]}"
    path.write_bytes(content)
    return path


# ── a store ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_overwritten_and_identical_content_is_a_success(store, tmp_path):
    for _ in range(2):
        store.create("a/b.json", b"one")
        store.put_file("a/c.mp3", part(tmp_path, AUDIO), SHA)
    with pytest.raises(Conflict, match="other content"):
        store.create("a/b.json", b"two")
    with pytest.raises(Conflict, match="other content"):
        store.put_file("a/c.mp3", part(tmp_path, OTHER), OTHER_SHA)
    assert (store.read("a/b.json"), store.read("a/c.mp3")) == (b"one", AUDIO)
    assert part(tmp_path, OTHER).exists()


def test_many_writers_at_once_leave_what_one_of_them_wrote(store):
    outcomes = []

    def write(number):
        try:
            store.create("a/b", b"%d" % (number % 2))
            outcomes.append(number % 2)
        except Conflict:
            outcomes.append("conflict")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert outcomes.count("conflict") == 4
    assert store.read("a/b") in {b"0", b"1"}


def test_what_is_missing_is_said_to_be_and_deleting_it_is_done(store):
    for read in (store.read, store.open, store.head):
        with pytest.raises(FileNotFoundError):
            read("a/b")
    store.delete("a/b")
    store.create("a/b", b"x")
    store.delete("a/b")
    store.delete("a/b")
    assert names(store) == []


def test_files_are_found_by_the_beginning_of_their_names(store):
    for name in ("a/r-1.json", "a/r-1.mp3", "a/r-1.json.sig", "a/r-10.mp3", "a/r-0.mp3", "a/r-1/x"):
        store.create(name, b"x")
    found = [entry.name for entry in store.starting("a/r-1.")]
    assert found == ["a/r-1.json", "a/r-1.json.sig", "a/r-1.mp3"]
    assert list(store.starting("b/r-1.")) == []


def test_a_file_is_read_from_any_place_in_it(store, tmp_path):
    content = os.urandom(700_001)
    sha = hashlib.sha256(content).hexdigest()
    store.put_file("a/c.mp3", part(tmp_path, content), sha)
    opened = store.open("a/c.mp3")
    assert opened.entry.bytes == store.head("a/c.mp3").bytes == len(content)
    assert abs(opened.entry.modified - datetime.now(UTC).timestamp()) < 60
    with opened as file:
        for at, size in ((0, 10), (300_000, 400_000), (699_990, 100), (5, 5), (800_000, 5)):
            assert file.seek(at) == at
            read = b"".join(iter(lambda left=size: file.read(left), b""))[:size]
            assert read == content[at : at + size], at
        assert file.seek(-3, os.SEEK_END) == len(content) - 3
        assert file.read(10) == content[-3:]


def test_listings_are_in_the_order_of_the_bytes_and_hide_what_begins_with_a_dot(store):
    for name in ("b/2", "b/10", "b-x", "b.json", "b/1/z", "a", "b/.half.part", "b/.x/y"):
        if "/." in name and not isinstance(store, BucketStore):
            path = store.root / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")
        else:
            store.create(name, b"x")
    assert names(store) == ["a", "b-x", "b.json", "b/1/z", "b/10", "b/2"]
    assert [entry.name for entry in store.list("b")] == ["b/1/z", "b/10", "b/2"]
    level = store.level("b")
    assert (level.folders, [entry.name for entry in level.files]) == (["1"], ["b/10", "b/2"])
    assert store.level("").folders == ["b"]
    for nothing in (store.level("c"), store.level("b/1/z")):
        assert (nothing.folders, nothing.files) == ([], [])


# ── an archive ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_audio_receipt_and_signature_are_filed_and_read_back(archive):
    key = archive.publish(spooled(archive, 1), KEY, SHA)
    archive.publish_receipt(key, receipt_of(key))
    folder = KEY.rpartition("/")[0]
    assert names(archive.store) == [
        f"{folder}/rec-1.json",
        f"{folder}/rec-1.json.sig",
        f"{folder}/rec-1.mp3",
    ]
    with archive.open_file(key) as file:
        assert file.read() == AUDIO
    signing.verify(archive.receipt(key), archive.signature(key), signing.RECEIPTS)
    assert archive.first_day("MA_1") == datetime(2026, 9, 14, tzinfo=UTC)
    assert archive.first_day("MA_2") is None
    assert [path.name for path in archive.spool.place.iterdir()] == [".rec-1.1.part"]


@pytest.mark.parametrize("after", range(1, 7))
def test_a_crash_at_any_point_between_put_receipt_signature_and_read_back_loses_nothing(
    place, tmp_path, after
):
    """The process dies before or after the nth request that changes something."""
    first = made(place, tmp_path)
    steps = []

    class Death(BaseException):
        pass

    def dying(do):
        def step(*what):
            steps.append(what)
            if len(steps) * 2 - 1 == after:
                raise Death
            do(*what)
            if len(steps) * 2 == after:
                raise Death

        return step

    proxy = type("Dying", (), {"__getattr__": lambda _s, name: getattr(inner, name)})()
    inner, first.store = first.store, proxy
    proxy.create, proxy.put_file = dying(inner.create), dying(inner.put_file)
    with pytest.raises(Death):
        first.publish_receipt(first.publish(spooled(first, 1), KEY, SHA), receipt_of(KEY))
    again = made(place, tmp_path)
    key = again.publish(spooled(again, 2), KEY, SHA)
    again.publish_receipt(key, receipt_of(KEY) | {"fetch": {"attempts": 2}})
    with again.open_file(key) as file:
        assert file.read() == AUDIO
    signing.verify(again.receipt(key), again.signature(key), signing.RECEIPTS)
    attempts = again.read_receipt(key)["fetch"]["attempts"]
    assert attempts == (2 if after < 4 else 1)  # the first receipt stays
    assert len(names(again.store)) == 3


def test_two_workers_at_the_same_recording_leave_one_receipt_with_a_good_signature(place, tmp_path):
    both = threading.Barrier(2)

    def work(number):
        own = made(place, tmp_path)
        both.wait()
        key = own.publish(spooled(own, number), KEY, SHA)
        own.publish_receipt(key, receipt_of(KEY) | {"fetch": {"attempts": number}})
        return key

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(work, (1, 2))) == {KEY}
    reader = made(place, tmp_path)
    signing.verify(reader.receipt(KEY), reader.signature(KEY), signing.RECEIPTS)
    assert len(names(reader.store)) == 3


def test_where_other_content_has_the_name_the_digest_name_is_used(archive):
    archive.publish(spooled(archive, 1), KEY, SHA)
    key = archive.publish(spooled(archive, 2, OTHER), KEY, OTHER_SHA)
    assert key == f"{KEY[:-4]}.{OTHER_SHA[:16]}.mp3"
    archive.publish_receipt(key, receipt_of(KEY, OTHER))
    assert archive.audio_of(KEY, OTHER_SHA) == key
    left = spooled(archive, 3)
    with pytest.raises(Conflict, match="a receipt for other content"):
        archive.publish(left, KEY, SHA)
    assert left.exists()


def test_a_receipt_without_its_audio_is_not_written(archive):
    with pytest.raises(FileNotFoundError):
        archive.publish_receipt(KEY, receipt_of(KEY))
    assert names(archive.store) == []


def test_an_absence_and_a_key_are_filed_once(archive):
    said = {"schema": "endtape/absent/1", "account": "MA_1", "recording_id": "rec-1"}
    for number in (1, 2):
        archive.publish_absence(KEY, said | {"attempts": number})
    folder = KEY.rpartition("/")[0]
    stands = archive.store.read(f"{folder}/rec-1.absent.json")
    assert json.loads(stands)["attempts"] == 1
    signing.verify(stands, archive.store.read(f"{folder}/rec-1.absent.json.sig"), signing.RECEIPTS)
    assert [archive.publish_signer("SHA256:a/b+c", word) for word in ("one", "two")] == ["one"] * 2


# ── a bucket ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def own(s3):
    return s3.place()


def test_a_file_above_32_mib_goes_in_parts_under_its_digest_and_the_receipt_makes_it_count(
    own, tmp_path, monkeypatch
):
    monkeypatch.setattr(bucket, "ONE_STEP_BYTES", 20_000)
    archive = made(own, tmp_path)
    for fence in (1, 2):  # a repeat finds it
        key = archive.publish(spooled(archive, fence), KEY, SHA)
        assert key == f"{KEY[:-4]}.{SHA[:16]}.mp3"
    archive.publish_receipt(key, receipt_of(KEY))
    with archive.open_file(archive.audio_of(KEY, SHA)) as file:
        assert file.read() == AUDIO
    archive.store.delete(key)
    archive.store.create(key, OTHER)
    with pytest.raises(Conflict):
        archive.store.put_file(key, part(tmp_path, AUDIO), SHA)


def test_an_object_says_its_type_and_its_digest(own, s3, tmp_path):
    archive = made(own, tmp_path)
    archive.publish_receipt(archive.publish(spooled(archive, 1), KEY, SHA), receipt_of(KEY))
    said = {
        entry.name.rpartition(".")[2]: s3.headers(f"{own.name}/{own.prefix}/{entry.name}")
        for entry in archive.store.list("")
    }
    kinds = {ending: headers["Content-Type"] for ending, headers in said.items()}
    assert kinds == {"json": "application/json", "sig": "text/plain", "mp3": "audio/mpeg"}
    assert said["mp3"]["x-amz-meta-sha256"] == SHA


def test_encryption_and_storage_class_are_asked_for_as_the_options_say(s3, tmp_path):
    options = (("server_side_encryption", "AES256"), ("storage_class", "STANDARD_IA"))
    place = s3.place(options=options)
    made(place, tmp_path).store.create("a", b"x")
    said = s3.headers(f"{place.name}/{place.prefix}/a")
    assert said["x-amz-server-side-encryption"] == "AES256"
    assert said["x-amz-storage-class"] == "STANDARD_IA"
    with pytest.raises(ValueError, match="colour"):
        BucketStore(s3.place(name="any", options=(("colour", "red"),)))


def test_an_error_names_the_bucket_what_was_refused_and_the_way_out(s3, tmp_path):
    missing = made(s3.place(name="missing"), tmp_path).store
    for attempt in (
        lambda: missing.create("a", b"x"),
        lambda: missing.read("a"),
        lambda: missing.level("a"),
    ):
        with pytest.raises(
            Unstored, match=r"s3://missing/some/prefix.*NoSuchBucket.*make the bucket"
        ):
            attempt()
    away = made(s3.place(name="any", port=1), tmp_path).store
    with pytest.raises(Unstored, match=r"s3://any/.*put a was refused.*endpoint") as error:
        away.create("a", b"x")
    assert "secret" not in str(error.value)


FORKED = """
import hashlib, os, sys
from pathlib import Path
from worker.archive.filing import Archive
from worker.archive.places import parse, with_client

place = with_client(parse(sys.argv[1]), os.environ, ())
archive = Archive(place, Path(sys.argv[2]))
part = archive.spool.create("rec-1", 1)
with archive.spool.writing(part) as file:
    file.write(b"audio")
sha = hashlib.sha256(b"audio").hexdigest()
def attempt(name):
    try:
        archive.publish(part, name, sha)
        return 0
    except RuntimeError as error:
        print(error, flush=True)
        return 1
child = os.fork()
if not child:
    os._exit(attempt("MA_1/2026/09/14/rec-1.mp3"))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
archive.store.head("MA_1/2026/09/14/rec-1.mp3")
child = os.fork()
if not child:
    os._exit(attempt("MA_1/2026/09/14/rec-1.mp3"))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os._exit(0)
"""


def test_a_forked_worker_uploads_and_a_fork_after_the_first_use_is_refused_at_once(
    own, s3, tmp_path
):
    ran = subprocess.run(
        [sys.executable, "-c", FORKED, own.url, tmp_path],
        env={**os.environ, **s3.variables()},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.splitlines() == ["0", "a bucket was used before this process was forked", "1"]


# ── a bucket on a bad day ──────────────────────────────────────────────────────────────────────────────────────────


def only(method, ending, whim, times=1):
    """The whim, for so many requests of this kind."""
    left = [whim] * times

    def decide(asked, path):
        fits = asked == method and path.partition("?")[0].endswith(ending)
        return left.pop() if fits and left else None

    return decide


@pytest.mark.parametrize("ending", ["rec-1.mp3", "rec-1.json", "rec-1.json.sig"])
@pytest.mark.parametrize("whim", ["refuse", "forbid", "late"])
def test_a_bucket_that_fails_or_answers_late_with_success_loses_and_doubles_nothing(
    s3, tmp_path, ending, whim
):
    with Whims(s3, only("PUT", ending, whim, times=9)) as proxy:
        place = s3.place(port=proxy.port)
        archive = made(place, tmp_path)
        left = spooled(archive, 1)
        with pytest.raises(Unstored, match=place.url):
            archive.publish_receipt(archive.publish(left, KEY, SHA), receipt_of(KEY))
        assert left.exists()
        proxy.whim = lambda *_: None
        archive.publish(spooled(archive, 2), KEY, SHA)
        archive.publish_receipt(KEY, receipt_of(KEY) | {"fetch": {"attempts": 2}})
        signing.verify(archive.receipt(KEY), archive.signature(KEY), signing.RECEIPTS)
        with archive.open_file(KEY) as file:
            assert file.read() == AUDIO
        assert len(names(archive.store)) == 3


def test_a_bucket_that_forgets_what_it_took_gets_no_receipt(s3, tmp_path):
    with Whims(s3, only("PUT", "rec-1.mp3", "forget")) as proxy:
        archive = made(s3.place(port=proxy.port), tmp_path)
        key = archive.publish(spooled(archive, 1), KEY, SHA)
        with pytest.raises(FileNotFoundError):
            archive.publish_receipt(key, receipt_of(KEY))
        assert names(archive.store) == []


def test_what_a_reader_seeks_is_asked_for_in_bounded_ranges(s3, tmp_path):
    content = os.urandom(6_000_000)
    with Whims(s3) as proxy:
        store = made(s3.place(port=proxy.port), tmp_path).store
        store.put_file("a", part(tmp_path, content), hashlib.sha256(content).hexdigest())
        assert store.read("a") == content
        proxy.seen.clear()
        with store.open("a") as file:
            file.seek(5_999_000)
            assert file.read(500) == content[5_999_000:5_999_500]
            assert len(proxy.seen) == 2  # what it is, and one range
            file.seek(0)
            assert b"".join(iter(lambda: file.read(65_536), b"")) == content
        assert len(proxy.seen) == 4


def test_a_store_that_takes_connections_and_never_answers_holds_nobody_for_more_than_seconds(
    s3, tmp_path
):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        archive = made(s3.place(name="any", port=silent.getsockname()[1]), tmp_path)
        store, large = archive.store, part(tmp_path, os.urandom(2_000_000))
        attempts = [
            lambda: archive.publish(large, KEY, SHA),
            lambda: store.create("a", b"x"),
            lambda: store.read("a"),
            lambda: store.open("a"),
            lambda: store.level("a"),
            lambda: next(iter(store.list("a"))),
            lambda: store.delete("a"),
        ]

        def held_s(attempt):
            began = time.monotonic()
            with pytest.raises(Unstored, match="endpoint"):
                attempt()
            return time.monotonic() - began

        with ThreadPoolExecutor(len(attempts)) as pool:
            assert max(pool.map(held_s, attempts)) < 8


def test_a_large_file_has_as_much_longer_as_a_slow_link_needs(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(bucket, "_ANSWER_S", 0.5)
    monkeypatch.setattr(bucket, "ONE_STEP_BYTES", 2 << 20)
    with Whims(s3, lambda method, path: "slow" if method != "HEAD" else None) as proxy:
        store = made(s3.place(port=proxy.port), tmp_path).store
        with pytest.raises(Unstored):
            store.create("few", b"bytes")
        for name, size in (("one-step", 1_500_000), ("parts", 3_000_000)):
            content = os.urandom(size)
            store.put_file(name, part(tmp_path, content), hashlib.sha256(content).hexdigest())
            assert store.head(name).bytes == size
