"""Files in the archive: whole or absent, never replaced, never outside, whatever dies and whatever
is full."""

import hashlib
import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from tests.archive.builders import AUDIO, KEY, SHA, files_below, spooled
from worker.archive.filing import FLOOR_BYTES, Archive
from worker.errors import Conflict, StaleLease, TryAgain

RECEIPT = {"schema": "endtape/receipt/1", "media": {"sha256": SHA}, "from": "é"}


@pytest.fixture
def place(tmp_path):
    return tmp_path / "deep" / "archive", tmp_path / "spool"


@pytest.fixture
def archive(place):
    return Archive(*place)


def test_a_file_and_its_receipt_come_under_their_names(archive, place):
    root, spool = place
    part = spooled(archive, 1)
    assert part.name == ".rec-1.1.part"
    archive.publish(part, KEY, SHA)
    archive.publish_receipt(KEY, RECEIPT)
    assert files_below(root) == ["MA_1/2026/09/14/rec-1.json", KEY]
    assert files_below(spool) == [".rec-1.1.part"]  # what else it wrote there is gone
    assert (root / KEY).read_bytes() == AUDIO
    with archive.open_file(KEY) as file:
        assert file.read() == AUDIO
    assert json.loads(archive.receipt(KEY)) == RECEIPT
    assert archive.read_receipt(KEY) == RECEIPT
    text = (root / "MA_1/2026/09/14/rec-1.json").read_text()
    assert text == json.dumps(RECEIPT, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def test_only_the_owner_may_read_what_was_recorded(archive, place):
    archive.publish(spooled(archive, 1), KEY, SHA)
    for path in [*place, *place[0].rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_to_repeat_it_is_harmless_and_writes_nothing(archive, place):
    archive.publish(spooled(archive, 1), KEY, SHA)
    before = (place[0] / KEY).stat()
    archive.publish(spooled(archive, 2), KEY, SHA)
    after = (place[0] / KEY).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert all(
        name.endswith(".part") and name.startswith(".rec-1.") for name in files_below(place[1])
    )


def test_where_other_content_has_the_name_it_is_left_alone_and_the_digest_name_is_used(
    archive, place
):
    other, sha = b"other", hashlib.sha256(b"other").hexdigest()
    archive.publish(spooled(archive, 1), KEY, SHA)
    for fence in (2, 3):  # a repeat finds it
        key = archive.publish(spooled(archive, fence, other), KEY, sha)
        assert key == f"MA_1/2026/09/14/rec-1.{sha[:16]}.mp3"
    assert [(place[0] / name).read_bytes() for name in (KEY, key)] == [AUDIO, other]
    archive.publish_receipt(key, {"media": {"sha256": sha}})
    assert archive.audio_of(KEY, sha) == key
    part = spooled(archive, 4)
    with pytest.raises(Conflict, match="a receipt for other content"):
        archive.publish(part, KEY, SHA)
    assert part.exists()
    (place[0] / key).unlink()
    (place[0] / key).write_bytes(b"another")
    (place[0] / KEY).with_suffix(".json").unlink()
    with pytest.raises(Conflict):
        archive.publish(spooled(archive, 5, other), KEY, sha)


def test_a_receipt_is_never_replaced(archive, place):
    archive.publish(spooled(archive, 1), KEY, SHA)
    archive.publish_receipt(KEY, RECEIPT)
    archive.publish_receipt(KEY, RECEIPT)
    archive.publish_receipt(KEY, RECEIPT | {"fetch": {"attempts": 7}})
    assert archive.read_receipt(KEY) == RECEIPT
    with pytest.raises(Conflict):
        archive.publish_receipt(KEY, {"media": {"sha256": "other"}})
    assert archive.read_receipt(KEY) == RECEIPT
    assert all(
        name.endswith(".part") and name.startswith(".rec-1.") for name in files_below(place[1])
    )


def test_audio_of_another_kind_does_not_join_a_receipt_for_other_content(archive, place):
    archive.publish(spooled(archive, 1), KEY, SHA)
    archive.publish_receipt(KEY, RECEIPT)
    with pytest.raises(Conflict):
        archive.publish(
            spooled(archive, 2, b"RIFF"),
            KEY.replace("mp3", "wav"),
            hashlib.sha256(b"RIFF").hexdigest(),
        )
    assert not (place[0] / KEY.replace("mp3", "wav")).exists()


def test_no_receipt_without_its_audio_nor_beside_an_unreadable_one(archive, place):
    with pytest.raises(FileNotFoundError):
        archive.publish_receipt(KEY, RECEIPT)
    archive.publish(spooled(archive, 1), KEY, SHA)
    (place[0] / KEY).with_suffix(".json").write_text("{")
    with pytest.raises(Conflict, match="cannot be read"):
        archive.publish_receipt(KEY, RECEIPT)


def test_many_at_once_leave_whole_files_only_and_the_first_receipt_decides(archive, place):
    outcomes = []

    def one(fence):
        content = AUDIO if fence % 2 else b"other" * 1000
        part = spooled(archive, fence, content)
        try:
            sha = hashlib.sha256(content).hexdigest()
            key = archive.publish(part, KEY, sha)
            assert (place[0] / key).read_bytes() == content
            archive.publish_receipt(key, {"media": {"sha256": sha}})
            outcomes.append("done")
        except Conflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=one, args=(fence,)) for fence in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (outcomes.count("done"), outcomes.count("conflict")) == (6, 6)
    said = archive.read_receipt(KEY)["media"]["sha256"]
    kept = (place[0] / archive.audio_of(KEY, said)).read_bytes()
    assert hashlib.sha256(kept).hexdigest() == said


# ── nothing outside ────────────────────────────────────────────────────────────────────────────────────────────────

TRAVERSALS = [
    "../x.mp3",
    "/etc/passwd",
    "MA_1/../../x/09/14/r.mp3",
    "MA_1/2026/09/14/../r.mp3",
    "MA_1/2026/09/14/r/../../x.mp3",
    "",
    ".",
    "..",
    "MA_1/2026/09/14/.r.mp3",
    "MA_1/2026/09/14/r.mp3\n",
    "MA_1/2026/09/14/r\0.mp3",
    "MA_1//2026/09/14/r.mp3",
    "MA_1/2026/09/14/r.json",
    "MA_1\\2026\\09\\14\\r.mp3",
    "C:/2026/09/14/r.mp3",
    "MA_1/2026/09/14/r.mp3/x",
    "MA_1/2026/09/14/é.mp3",
    f"MA_1/2026/09/14/{'r' * 129}.mp3",
    "MA_1/2026/9/14/r.mp3",
    "~/2026/09/14/r.mp3",
    "MA_1/2026/09/14/r",
    "MA_1/2026/09/14/r.MP3",
    "MA_1/２０２６/09/14/r.mp3",
]


@pytest.mark.parametrize("key", TRAVERSALS)
def test_a_key_that_is_none_writes_and_reads_nothing(archive, place, tmp_path, key):
    part = spooled(archive, 1)
    for attempt in (
        lambda: archive.publish(part, key, SHA),
        lambda: archive.publish_receipt(key, RECEIPT),
        lambda: archive.open_file(key),
    ):
        with pytest.raises(ValueError, match="not a key"):
            attempt()
    assert files_below(tmp_path) == ["spool/.rec-1.1.part"]


@pytest.mark.parametrize("step", ["MA_1", "MA_1/2026", "MA_1/2026/09/14"])
def test_a_link_below_the_root_leads_nowhere(archive, place, tmp_path, step):
    outside = tmp_path / "outside"
    outside.mkdir()
    (place[0] / step).parent.mkdir(parents=True)
    (place[0] / step).symlink_to(outside)
    with pytest.raises(Conflict):
        archive.publish(spooled(archive, 1), KEY, SHA)
    assert list(outside.iterdir()) == []


def test_the_root_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    archive = Archive(tmp_path / "link", tmp_path / "spool")
    archive.publish(spooled(archive, 1), KEY, SHA)
    assert (tmp_path / "real" / KEY).read_bytes() == AUDIO


def test_links_and_pipes_under_a_name_are_not_followed(archive, place, tmp_path):
    archive.publish(spooled(archive, 1), KEY, SHA)
    twin = place[0] / KEY.replace("rec-1", "rec-2")
    twin.symlink_to(place[0] / KEY)
    pipe = place[0] / KEY.replace("rec-1", "rec-3")
    os.mkfifo(pipe)
    for fence, path in ((2, twin), (3, pipe)):
        name = str(path.relative_to(place[0]))
        assert archive.publish(spooled(archive, fence), name, SHA) != name
        for read in (archive.open_file, archive.store.read, archive.store.head):
            with pytest.raises(Conflict):
                read(name)
    (place[1] / ".rec-1.9.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StaleLease):
        archive.spool.create("rec-1", 9)
    assert not (tmp_path / "elsewhere").exists()


def test_a_floor_of_free_space_is_kept(archive, monkeypatch):
    archive.reserve(1000)
    with pytest.raises(TryAgain, match="disk is full"):
        archive.reserve(archive.free_bytes() - FLOOR_BYTES + (1 << 30))
    monkeypatch.setattr(Archive, "free_bytes", lambda _self: FLOOR_BYTES + 10)
    archive.reserve(10)
    for declared in (11, FLOOR_BYTES):
        with pytest.raises(TryAgain):
            archive.reserve(declared)


def test_the_first_day_is_the_earliest_under_which_anything_is_filed(archive, place):
    assert archive.first_day("MA_1") is None
    archive.publish(spooled(archive, 1), KEY, SHA)
    for empty in ("2025/01/02", "2026/02/30", "x", "2024"):
        (place[0] / "MA_1" / empty).mkdir(parents=True)
    (place[0] / "MA_1" / "2025/01/02" / ".half.part").write_bytes(b"")
    assert archive.first_day("MA_1") == datetime(2026, 9, 14, tzinfo=UTC)
    assert archive.first_day("MA_2") is None


def test_the_way_to_a_folder_is_gone_once_within_it_and_by_that_thread_alone(archive, place):
    root, _ = place
    part, store, elsewhere = spooled(archive, 1), archive.store, "MA_1/2026/09/15/rec-2.json"
    day = (root / KEY).parent
    with store.within(KEY):
        day.rename(day.with_name("moved"))
        day.symlink_to(root.parent)
        archive.publish(part, KEY, SHA)  # a link that comes meanwhile leads it nowhere
        store.create(elsewhere, b"{}")
        assert store.read(elsewhere) == b"{}"
        read = ThreadPoolExecutor(1).submit(store.read, KEY)
        with pytest.raises(Conflict):  # another thread goes the way itself
            read.result()
    assert (day.with_name("moved") / "rec-1.mp3").read_bytes() == AUDIO
    with pytest.raises(Conflict):
        store.read(KEY)
