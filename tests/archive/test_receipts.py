"""Where a file is filed, what it is checked for, and what its receipt says."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from worker.archive.directory import checks, failed, key, receipt
from worker.archive.media import Media
from worker.vobiz.piece import Download

START = datetime(2026, 9, 14, 23, 30, 12, 900_000, UTC)
INDIA = timezone(timedelta(hours=5, minutes=30))
SOUND = Media(
    container="mp3",
    bytes=1000,
    extension="mp3",
    codec="mp3",
    channels=1,
    sample_rate=8000,
    duration_s=100.0,
)


def filed(**facts):
    known = {
        "started_at": None,
        "ended_at": None,
        "duration_s": None,
        "added_at": None,
        "extension": "mp3",
    } | facts
    return key("MA_1", "rec-1", **known)


@pytest.mark.parametrize(
    ("facts", "day"),
    [
        ({"started_at": START}, "2026/09/14"),
        ({"started_at": datetime(2026, 9, 15, 1, 0, tzinfo=INDIA)}, "2026/09/14"),
        ({"ended_at": START + timedelta(hours=1), "duration_s": 3600.0}, "2026/09/14"),
        (
            {"ended_at": START + timedelta(hours=1), "added_at": START + timedelta(days=1)},
            "2026/09/15",
        ),
        ({"duration_s": 5.0, "added_at": START}, "2026/09/14"),
    ],
)
def test_a_recording_is_filed_by_its_start_in_utc(facts, day):
    assert filed(**facts) == f"MA_1/{day}/rec-1.mp3"


def test_without_any_time_it_cannot_be_filed():
    with pytest.raises(ValueError, match="rec-1"):
        filed(ended_at=START)


@pytest.mark.parametrize(
    "bad", ["", "..", "a/b", "a.b", "/etc", "a\0", "a" * 129, "é", "CON:", "a\n"]
)
def test_names_that_are_no_names_are_refused(bad):
    facts = {"started_at": START, "ended_at": None, "duration_s": None, "added_at": None}
    for account, recording_id, extension in ((bad, "r", "mp3"), ("a", bad, "mp3"), ("a", "r", bad)):
        with pytest.raises(ValueError, match="file name"):
            key(account, recording_id, extension=extension, **facts)


def arrived(total=1000, declared=1000):
    return Download(bytes=total, sha256="0", declared_bytes=declared, content_type=None, hops=0)


def test_a_sound_file_passes_every_check():
    assert set(checks(SOUND, arrived(), 100.0, 5000).values()) == {"passed"}


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
    found = checks(media, download, provider_s, max_bytes)
    assert list(found) == ["length", "container", "frames", "duration", "size"]
    assert failed(found) == which


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
    assert failed(checks(doubtful, arrived(), provider_s, 5000)) == which


def test_a_length_that_was_not_announced_is_said_so():
    assert checks(SOUND, arrived(declared=None), 100.0, 5000)["length"] == "not announced"


def test_a_receipt_says_all_of_it_in_plain_json():
    made = receipt(
        account="MA_1",
        call_uuid="c-1",
        recording_id="r-1",
        from_number="911",
        to_number=None,
        direction="inbound",
        labels={"team": "billing"},
        started_at=START,
        ended_at=None,
        provider_url="https://media.vobiz.ai/x",
        provider_duration_s=100.04,
        provider_format="wav",
        media=SOUND,
        sha256="abc",
        checks={"length": "passed"},
        stop={"state": "confirmed", "due_at": START, "evidence": ("callback", "listed")},
        attempts=2,
        fetched_at=START,
        events=[{"at": START.astimezone(INDIA), "kind": "CallEnded"}],
    )
    assert json.loads(json.dumps(made)) == made
    assert list(made) == [
        "schema",
        "recording_id",
        "account",
        "call_uuid",
        "from",
        "to",
        "direction",
        "labels",
        "started_at",
        "ended_at",
        "provider",
        "media",
        "checks",
        "stop",
        "fetch",
        "gaps",
        "events",
        "signature",
    ]
    assert (made["schema"], made["signature"], made["ended_at"]) == (
        "endtape/receipt/1",
        None,
        None,
    )
    assert made["provider"] == {
        "url": "https://media.vobiz.ai/x",
        "duration_ms": 100040,
        "format": "wav",
    }
    assert made["media"] == {
        "container": "mp3",
        "codec": "mp3",
        "channels": 1,
        "sample_rate": 8000,
        "duration_ms": 100000,
        "bytes": 1000,
        "sha256": "abc",
    }
    instant = "2026-09-14T23:30:12.900Z"
    assert (
        made["started_at"]
        == made["stop"]["due_at"]
        == made["fetch"]["fetched_at"]
        == made["events"][0]["at"]
        == instant
    )
    assert made["stop"]["evidence"] == ["callback", "listed"]
