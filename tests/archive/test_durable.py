"""How a file gets its name: across file systems, without hard links, and when death comes at any
step."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.archive.builders import AUDIO, KEY, SHA, files_below, spooled
from worker.archive.filing import Archive
from worker.errors import Conflict, CorruptMedia, TryAgain

RECEIPT = {"schema": "endtape/receipt/1", "media": {"sha256": SHA}}


@pytest.fixture
def place(tmp_path):
    return tmp_path / "archive", tmp_path / "spool"


@pytest.fixture
def archive(place):
    return Archive(*place)


def no_link_across(monkeypatch, *, at_all=False):
    link = os.link

    def refuse(source, name, *, src_dir_fd=None, **more):
        if src_dir_fd is None or at_all:
            raise OSError(errno.EXDEV, "other device")
        link(source, name, src_dir_fd=src_dir_fd, **more)

    monkeypatch.setattr(os, "link", refuse)


def test_from_another_file_system_it_is_copied_first(archive, place, monkeypatch):
    no_link_across(monkeypatch)
    day = (place[0] / KEY).parent
    day.mkdir(parents=True)
    for name, age_s in (
        (".rec-1.mp3.dead.part", 7200),
        (".rec-1.mp3.busy.part", 5),
        (".rec-2.mp3.dead.part", 7200),
    ):
        (day / name).write_bytes(b"x")
        os.utime(day / name, (time.time() - age_s,) * 2)
    archive.publish(spooled(archive, 1), KEY, SHA)
    archive.publish(spooled(archive, 2), KEY, SHA)
    archive.publish_receipt(KEY, RECEIPT)
    assert (place[0] / KEY).read_bytes() == AUDIO
    assert sorted(path.name for path in day.iterdir()) == [
        ".rec-1.mp3.busy.part",
        ".rec-2.mp3.dead.part",
        "rec-1.json",
        "rec-1.mp3",
    ]
    with pytest.raises(Conflict):
        archive.publish(spooled(archive, 3, b"other"), KEY, hashlib.sha256(b"other").hexdigest())
    with pytest.raises(CorruptMedia):
        archive.publish(spooled(archive, 4), KEY.replace("rec-1", "rec-5"), "0" * 64)


def test_a_file_system_without_links_is_named_and_nothing_is_left(archive, place, monkeypatch):
    no_link_across(monkeypatch, at_all=True)
    with pytest.raises(TryAgain, match="hard links"):
        archive.publish(spooled(archive, 1), KEY, SHA)
    assert files_below(place[0]) == []


DYING = """
import os, signal, sys
from pathlib import Path
from worker.archive.filing import Archive

root, spool, sha, key, point, across = *sys.argv[1:5], int(sys.argv[5]), sys.argv[6] == "True"
count = 0

def dying(call, name):
    def step(*args, **kwargs):
        global count
        if name == "link" and across and kwargs.get("src_dir_fd") is None:
            raise OSError(18, "other device")
        count += 1
        if count == point:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return step

for name in ("fsync", "link", "unlink", "mkdir"):
    setattr(os, name, dying(getattr(os, name), name))
archive = Archive(Path(root), Path(spool))
archive.publish(Path(spool) / ".rec-1.1.part", key, sha)
archive.publish_receipt(key, {"media": {"sha256": sha}})
print(count)
"""


@pytest.mark.parametrize("across", [False, True])
def test_death_at_any_step_leaves_all_or_nothing_and_a_repeat_completes_it(tmp_path, across):
    def attempt(number, point):
        place = tmp_path / str(number)
        archive = Archive(place / "archive", place / "spool")
        spooled(archive, 1)
        return (
            archive,
            place / "archive",
            subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    DYING,
                    place / "archive",
                    place / "spool",
                    SHA,
                    KEY,
                    str(point),
                    str(across),
                ],
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
            ),
        )

    *_, whole = attempt("whole", 0)
    steps = int(whole.communicate()[0])
    assert steps >= 8
    for archive, root, process in [attempt(point, point) for point in range(1, steps + 1)]:
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        names = [name for name in files_below(root) if not Path(name).name.startswith(".")]
        assert names in ([], [KEY], ["MA_1/2026/09/14/rec-1.json", KEY])
        if names:
            assert (root / KEY).read_bytes() == AUDIO
        archive.publish(spooled(archive, 2), KEY, SHA)
        archive.publish_receipt(KEY, RECEIPT)
        assert (root / KEY).read_bytes() == AUDIO
        assert archive.read_receipt(KEY)["media"] == {"sha256": SHA}
