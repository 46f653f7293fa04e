"""Workers whose process dies whenever it works on a certain call: the others go on, and it is found
out, told and left alone."""

import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from tests.waiting import until
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.processes.supervisor import Supervisor, lines

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("poison")]
TWO_SECONDS, OTHER = "918020000001", "918065550101"

# What Celery is told to load instead of our own module: the same workers, whose children are killed
# by what is named in a file.
LETHAL = """
import os, signal
from pathlib import Path
from worker import fetch, stops
from worker.app import celery

def deadly(deed, which):
    def run(*args):
        claim = next(a for a in args if type(a).__name__ == "Claim")
        if which(claim) in Path("lethal.txt").read_text().split():
            with open("deaths.txt", "a") as deaths:
                deaths.write(f"{which(claim)}\\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return deed(*args)
    return run

fetch._fetch = deadly(fetch._fetch, lambda claim: claim.obligation.recording_id)
stops._Batch.begin = deadly(stops._Batch.begin, lambda claim: claim.obligation.call_uuid)
"""


@pytest.fixture
def lethal(service):
    """The service with deadly workers instead of its own; names what kills."""
    folder = Path(tempfile.mkdtemp(prefix="et"))
    for place in (service.folder / ".env", service.folder / "endtape.toml"):
        if place.exists():
            shutil.copy(place, folder)
    (folder / "lethal.py").write_text(LETHAL)
    (folder / "lethal.txt").write_text("")
    workers = {
        name: [word.replace("worker.processes.celery_app", "lethal") for word in lines()[name]]
        for name in ("stops", "fetches")
    }
    own = service.processes
    stopped = [own.processes[name] for name in workers]
    for process in stopped:
        os.killpg(process.pid, signal.SIGSTOP)
    with Supervisor(service.env, folder / "log", workers, folder=folder):
        until(lambda: (folder / "log").read_text().count("celery@") == 2)
        yield (
            lambda *names: (folder / "lethal.txt").write_text(" ".join(names)),
            lambda: (folder / "deaths.txt").read_text().split(),
        )
    for process in stopped:
        os.killpg(process.pid, signal.SIGCONT)
    shutil.rmtree(folder, ignore_errors=True)


def started(service, to):
    call = service.provider.call(to_number=to)
    return call.call_uuid, service.provider.record(call.call_uuid, container="wav").recording_id


def test_what_kills_its_worker_is_left_alone_and_told_and_nothing_else_waits_for_it(
    service, lethal
):
    kills, deaths = lethal
    bad_fetch = started(service, TWO_SECONDS)
    service.reach(bad_fetch[1], "recording")
    bad_stop = started(service, TWO_SECONDS)
    service.reach(bad_stop[1], "recording")
    kills(bad_fetch[1], bad_stop[0])
    good = []
    for _ in range(12):
        good.append(started(service, TWO_SECONDS))
        time.sleep(0.1)
    for _, recording in good:
        view = service.reach(recording, "archived", 40)
        assert view["stop"]["state"] == "confirmed"
    ended = [(r := service.provider.recordings[i]).ended_at - r.started_at - 2 for _, i in good]
    print(
        f"stops of the others late by at most {max(ended):.1f} s; workers killed {len(deaths())} times meanwhile"
    )
    assert max(ended) < 2 * (5 + 2)  # once with the batch that died, once with a few of it

    ledger = Ledger(connect(service.redis.url))
    until(
        lambda: (
            {o.recording_id or o.call_uuid for o in ledger.unfinished()}
            == {bad_fetch[1], bad_stop[0]}
        ),
        60,
    )
    checks = json.loads(service.command("doctor", "--json").stdout)["checks"]
    told = next(c for c in checks if c["name"] == "unfinished work")
    assert (told["state"], bad_fetch[1] in told["detail"], bad_stop[0] in told["detail"]) == (
        "warning",
        True,
        True,
    )
    until(
        lambda: b'endtape_alerts_total{alert="poison"}' in service.get("/metrics").content, 60
    )  # told when it is handed out again
    before, died = deaths().count(bad_stop[0]), time.monotonic()
    until(lambda: deaths().count(bad_stop[0]) > before, 60)  # a stop is never given up
    assert time.monotonic() - died < 60

    kills()
    assert service.command("reload").returncode == 0
    for _, recording in (bad_fetch, bad_stop):
        assert service.reach(recording, "archived", 60)["stop"]["state"] == "confirmed"
    assert [
        p for p in service.archive.rglob("*.wav") if p.stem in {bad_fetch[1], bad_stop[1]}
    ] != []
    until(lambda: ledger.unfinished() == {})
