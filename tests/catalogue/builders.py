"""What tests of the catalogue are made of."""

from datetime import UTC, datetime, timedelta

from worker.catalogue import rows

BEGAN = datetime(2026, 9, 14, 6, 30, tzinfo=UTC)


def at(n):
    return BEGAN + timedelta(minutes=n)


def spelled(instant):
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def receipt(n, *, recording_id=None, first_seen_at=None, **more):
    """The n-th receipt: one a minute."""
    stop = {"state": "confirmed", "rule": "defaults", "evidence": ["listed"], "attempts": 1}
    began = spelled(at(n))
    return {
        "schema": "endtape/receipt/1",
        "recording_id": recording_id or f"rec-{n:03d}",
        "account": "MA_1",
        "call_uuid": f"call-{n:03d}",
        "from": "919820055512",
        "to": f"9180655501{n:02d}",
        "direction": "inbound",
        "labels": {},
        "first_seen_at": first_seen_at or began,
        "started_at": began,
        "ended_at": spelled(at(n) + timedelta(seconds=30)),
        "provider": {"duration_ms": 30_000},
        "media": {"bytes": 1000, "sha256": "ab" * 32, "duration_ms": 30_000},
        "checks": {},
        "fetch": {"attempts": 1, "fetched_at": began},
        **more,
        "stop": {**stop, **more.get("stop", {})},
    }


def row(n, **more):
    said = receipt(n, **more)
    return rows.of_receipt(said, f"MA_1/2026/09/14/{said['recording_id']}.mp3")


def ids(found):
    return [one.view["recording_id"] for one in found]
