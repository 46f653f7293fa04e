"""Files in the spool: one for each attempt, and nothing is left of the dead."""

import contextlib
import errno
import os
import time
import tracemalloc

import pytest

from worker.archive.spool import Spool
from worker.errors import StaleLease, TryAgain


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool")


@pytest.mark.parametrize(
    "recording_id", ["..", "../x", "/x", "a/b", "", "a\0b", "a.b", "é", "x" * 129, "x\n"]
)
def test_an_id_that_is_none_makes_no_file(spool, recording_id):
    with pytest.raises(ValueError, match="recording id"):
        spool.create(recording_id, 1)
    assert not spool.place.exists()


def test_an_attempt_has_one_file(spool):
    spool.create("rec-1", 1)
    spool.create("rec-1", 2)
    with pytest.raises(StaleLease):
        spool.create("rec-1", 1)


def test_the_sweep_takes_old_parts_and_nothing_else(spool, tmp_path):
    old, young = spool.create("rec-1", 1), spool.create("rec-1", 2)
    others = [spool.place / name for name in (".rec-1.x.part", "rec-1.1.part", ".keep")]
    for path in others:
        path.write_bytes(b"x")
    for path in (old, *others):
        os.utime(path, (time.time() - 1000,) * 2)
    assert spool.sweep(900) == 1
    assert not old.exists()
    assert young.exists()
    assert all(path.exists() for path in others)
    assert Spool(tmp_path / "missing").sweep(0) == 0


@pytest.mark.parametrize("full", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_removes_the_part_and_is_tried_again(spool, full):
    part = spool.create("rec-1", 1)
    with pytest.raises(TryAgain), spool.writing(part):
        raise OSError(full, "full")
    assert not part.exists()
    part = spool.create("rec-1", 2)
    with pytest.raises(OSError, match="broken"), spool.writing(part):
        raise OSError(errno.EIO, "broken")
    assert part.exists()


def test_a_file_that_is_kept_outlives_failures_sweeps_and_full_disks_until_a_try_succeeds(tmp_path):
    spool = Spool(tmp_path)
    for fence in (1, 2, 3):
        with contextlib.suppress(OSError), spool.part("rec-1", fence) as part:
            if fence == 1:
                part.file.write(b"whole")
                part.file.flush()
                part.keep(b"note")
            assert (part.kept, part.path.read_bytes()) == (b"note", b"whole")
            assert spool.kept_bytes() == 5
            raise OSError(5, "the archive is away")
        spool.drop_leftovers()
        assert spool.sweep(older_than_s=-1.0) == 0
    os.utime(tmp_path / ".rec-1.1.part", (0, 0))
    with spool.part("rec-1", 4) as part:
        part.keep(b"another note")
        assert part.kept == b"note"  # the first stays, and the file is young again
        assert time.time() - part.path.stat().st_mtime < 60
    assert list(tmp_path.iterdir()) == []
    assert spool.kept_bytes() == 0


def test_a_kept_file_that_the_archive_has_linked_is_taken_up_again(tmp_path):
    spool = Spool(tmp_path)
    with contextlib.suppress(OSError), spool.part("rec-1", 1) as part:
        part.file.write(b"whole")
        part.keep(b"note")
        os.link(part.path, tmp_path / "archived")
        raise OSError(5, "no receipt")
    with spool.part("rec-1", 2) as part:
        assert part.kept == b"note"
    assert [path.name for path in tmp_path.iterdir()] == ["archived"]


def test_a_kept_file_that_nobody_tried_for_a_week_is_swept(tmp_path):
    spool = Spool(tmp_path)
    with contextlib.suppress(OSError), spool.part("rec-1", 1) as part:
        part.keep(b"note")
        raise OSError(5, "the archive is away")
    for days, left in ((6, 2), (8, 0)):
        at = time.time() - days * 86_400
        os.utime(tmp_path / ".rec-1.1.part", (at, at))
        spool.sweep(older_than_s=0.0)
        assert len(list(tmp_path.iterdir())) == left


def test_the_process_keeps_nothing_of_the_recordings_that_were_in_the_spool(spool):
    def played(first, last):
        for number in range(first, last):
            with spool.part(f"rec-{number}", 1):
                pass
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        warm = played(0, 20)
        assert played(20, 120) - warm < 500 * 100
    finally:
        tracemalloc.stop()
