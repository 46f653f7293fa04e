"""What a downloaded file is checked for."""

import pytest

from tests.archive.builders import SOUND
from worker.archive.checks import check_media, first_failed
from worker.archive.media import Media
from worker.vobiz.client import Download


def arrived(total=1000, declared=1000):
    return Download(bytes=total, sha256="0", declared_bytes=declared, content_type=None, hops=0)


def test_a_sound_file_passes_every_check():
    assert set(check_media(SOUND, arrived(), 100.0, 5000).values()) == {"passed"}


@pytest.mark.parametrize(
    ("media", "download", "provider_s", "max_bytes", "which"),
    [
        (SOUND, arrived(declared=None), 100.0, 5000, None),
        (SOUND, arrived(declared=1001), 100.0, 5000, "length"),
        (SOUND, arrived(), 102.0, 5000, None),
        (SOUND, arrived(), 102.1, 5000, "duration"),
        (SOUND, arrived(), 98.0, 5000, None),
        (SOUND, arrived(), 97.9, 5000, "duration"),
        (SOUND, arrived(), None, 5000, "duration"),
        (SOUND, arrived(), 100.0, 999, "size"),
        (Media(container="mp3", bytes=9, duration_s=1000.0), arrived(), 1020.0, 5000, None),
        (Media(container="mp3", bytes=9, duration_s=1000.0), arrived(), 1021.0, 5000, "duration"),
        (
            Media(container="mp3", bytes=9, duration_s=100.0, problem="a gap"),
            arrived(),
            100.0,
            5000,
            "frames",
        ),
        (Media(container="html", bytes=9, problem="HTML"), arrived(), 100.0, 5000, "container"),
        (
            Media(container="empty", bytes=0, problem="empty"),
            arrived(0, 0),
            100.0,
            5000,
            "container",
        ),
    ],
)
def test_the_first_check_that_failed(media, download, provider_s, max_bytes, which):
    found = check_media(media, download, provider_s, max_bytes)
    assert list(found) == ["length", "container", "frames", "duration", "size"]
    assert first_failed(found) == which


@pytest.mark.parametrize(
    ("lost_s", "provider_s", "which"),
    [
        (None, 100.0, "frames"),
        (50.0, 100.0, None),
        (1.0, 100.0, None),
        (1.0, 100.4, None),
        (1.0, 101.0, "frames"),
        (1.0, 100.7, "frames"),
        (0.05, 100.05, None),
        (1.0, None, "frames"),
        (1e6, 99.0, None),
    ],
)
def test_the_provider_s_figure_tells_whether_audio_is_missing_where_the_bytes_do_not(
    lost_s, provider_s, which
):
    doubtful = Media(
        container="wav", bytes=1000, duration_s=100.0, problem="the audio is cut", lost_s=lost_s
    )
    assert first_failed(check_media(doubtful, arrived(), provider_s, 5000)) == which


def test_a_length_that_was_not_announced_is_said_so():
    assert check_media(SOUND, arrived(declared=None), 100.0, 5000)["length"] == "not announced"


def test_a_body_that_broke_off_fails_its_length_also_where_the_host_announced_none():
    # Cut at a frame's end and within the tolerance of `duration`, nothing else shows it.
    found = check_media(SOUND, arrived(declared=None), 100.0, 5000, broken_off="1000 bytes, no end")
    assert (first_failed(found), found["length"]) == ("length", "1000 bytes, no end")
