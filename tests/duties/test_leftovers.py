"""What a machine's spool keeps of a recording that another machine brought home."""

import contextlib
import os
import time

import pytest

from tests.constants import ACCOUNT
from worker.archive.spool import Spool
from worker.calls.events import Event, Kind
from worker.duties import leftovers


class Refused(Exception):
    pass


def keeps(spool, recording_id, *, age_s=100):
    """The archive refused the file."""
    with contextlib.suppress(Refused), spool.part(recording_id, 1) as part:
        part.file.write(b"audio")
        part.keep(b"note")
        raise Refused
    for path in spool.place.glob(f".{recording_id}.*"):
        os.utime(path, (time.time() - age_s,) * 2)


def tells(ledger, recording_id, kind):
    event = Event(id=f"{kind}", kind=kind, call_uuid=f"c-{recording_id}", recording_id=recording_id)
    ledger.record(ACCOUNT, event)


@pytest.mark.redis
def test_what_another_machine_archived_or_erased_goes_from_the_spool_and_nothing_else(
    ledger, tmp_path
):
    spool = Spool(tmp_path / "spool")
    for recording_id in ("home", "erased", "waits", "unknown", "held"):
        keeps(spool, recording_id)
    keeps(spool, "young", age_s=0)
    for recording_id in ("home", "erased", "waits", "held", "young"):
        tells(ledger, recording_id, Kind.RECORDING_LISTED)
    for recording_id in ("home", "held", "young"):
        tells(ledger, recording_id, Kind.MEDIA_ARCHIVED)
    tells(ledger, "erased", Kind.ERASE_BEGUN)
    with spool.part("held", 2) as part:  # an attempt of this machine goes on with it
        leftovers.remove(ledger, [ACCOUNT], spool)
        assert part.path.exists()
    left = {path.name.split(".")[1] for path in spool.place.iterdir()}
    assert left == {"waits", "unknown", "young"}
    assert spool.kept_bytes() == 15
