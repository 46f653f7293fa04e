"""Where a recording is filed."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from worker.archive.keys import key_of, parse

START = datetime(2026, 9, 14, 23, 30, 12, 900_000, UTC)
INDIA = timezone(timedelta(hours=5, minutes=30))


def filed(**facts):
    known = {
        "started_at": None,
        "ended_at": None,
        "duration_s": None,
        "added_at": None,
        "extension": "mp3",
    } | facts
    return key_of("MA_1", "rec-1", **known)


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
            key_of(account, recording_id, extension=extension, **facts)


def test_a_key_is_taken_apart_as_it_was_put_together():
    key = parse(filed(started_at=START))
    assert (key.folder, key.recording_id, key.extension) == ("MA_1/2026/09/14", "rec-1", "mp3")
    assert (key.audio, key.receipt) == ("MA_1/2026/09/14/rec-1.mp3", "MA_1/2026/09/14/rec-1.json")


def test_a_key_may_carry_the_first_16_digits_of_the_digest():
    digest = "0123456789abcdef" * 4
    named = parse("MA_1/2026/09/14/rec-1.mp3").with_digest(digest)
    assert named.audio == "MA_1/2026/09/14/rec-1.0123456789abcdef.mp3"
    assert parse(named.audio) == named
    assert named.receipt == "MA_1/2026/09/14/rec-1.json"
    assert named.plain().audio == "MA_1/2026/09/14/rec-1.mp3"
    for wrong in ("rec-1.0123456789abcde.mp3", "rec-1.0123456789ABCDEF.mp3", "rec-1.x.mp3"):
        with pytest.raises(ValueError, match="not a key"):
            parse(f"MA_1/2026/09/14/{wrong}")
