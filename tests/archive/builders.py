"""What tests of the archive are made of."""

import hashlib
import os

from worker.archive import keys
from worker.archive.media import Media

KEY = "MA_1/2026/09/14/rec-1.mp3"
AUDIO = os.urandom(30_000)
SHA = hashlib.sha256(AUDIO).hexdigest()
SOUND = Media(
    container="mp3",
    bytes=1000,
    extension="mp3",
    codec="mp3",
    channels=1,
    sample_rate=8000,
    duration_s=100.0,
)


def receipt_of(key, content=AUDIO, **more):
    """The part of a receipt that the archive reads."""
    parsed = keys.parse(key)
    return {
        "schema": "endtape/receipt/1",
        "account": parsed.folder.partition("/")[0],
        "call_uuid": "call-1",
        "recording_id": parsed.recording_id,
        "media": {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)},
        "fetch": {"attempts": 1, "fetched_at": "2026-09-14T10:00:00.000Z"},
        **more,
    }


def spooled(archive, fence, content=AUDIO):
    part = archive.spool.create("rec-1", fence)
    with archive.spool.writing(part) as file:
        file.write(content)
    return part


def files_below(directory):
    return sorted(
        str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()
    )
