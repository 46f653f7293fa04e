"""What a receipt says."""

import json
from datetime import UTC, datetime, timedelta, timezone

from tests.archive.builders import SOUND
from worker.archive.receipts import Receipt

START = datetime(2026, 9, 14, 23, 30, 12, 900_000, UTC)
INDIA = timezone(timedelta(hours=5, minutes=30))


def test_a_receipt_says_all_of_it_in_plain_json():
    made = Receipt(
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
    ).written()
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
        "first_seen_at",
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
