"""One list of what is live and what is finished: in order, nothing twice and nothing missing, also
while recordings move from one to the other.
"""

import threading
from itertools import islice

import pytest

from tests.builders import started
from tests.catalogue.builders import row, spelled
from worker.calls.rules import Rules
from worker.catalogue.database import Catalogue
from worker.catalogue.listing import Listing
from worker.catalogue.live import Live
from worker.catalogue.wanted import Wanted
from worker.ledger.codec import from_ms

COUNT = 60


@pytest.fixture
def catalogue(tmp_path):
    found = Catalogue(f"sqlite:///{tmp_path / 'catalog.db'}")
    yield found
    found.close()


def filled(ledger, catalogue):
    """Recordings that are live, finished or both by turns; equal instants among them. Returns all,
    in the order of the list.
    """
    for n in range(COUNT):
        ledger.record("MA_1", started(call=f"c{n}", recording=f"r{n:02d}"))
    sights = list(ledger.live(["MA_1"]))
    again = {s.recording_id: sights[n // 3 * 3].ms for n, s in enumerate(sights)}
    ledger.command(
        "ZADD", ledger.key("live", "MA_1"), *(x for i, ms in again.items() for x in (ms, i))
    )
    sights = list(ledger.live(["MA_1"]))
    for n, sight in enumerate(sights):
        if n % 3:
            finish(catalogue, sight)
        if n % 3 == 1:  # as one that is archived; n % 3 == 2 as one that was given up
            ledger.indexed("MA_1", [sight.recording_id])
    return sights


def finish(catalogue, sight):
    seen = spelled(from_ms(sight.ms))
    catalogue.enter([row(0, recording_id=sight.recording_id, first_seen_at=seen)])


def walked(listing, limit=7, **wanted):
    found, before = [], None
    while True:
        page = listing.page(Wanted(**wanted), ["MA_1"], limit=limit, before=before)
        assert page.degraded is None
        found += [view["recording_id"] for view in page.views]
        before = page.end
        if before is None:
            return found


@pytest.mark.parametrize("at_once", [1, 4, 200])
def test_pages_hold_everything_once_whether_it_is_live_or_finished_or_both(
    ledger, catalogue, at_once
):
    order = [sight.recording_id for sight in filled(ledger, catalogue)]
    live = Live(ledger, Rules)
    listing = Listing(ledger, live, catalogue, at_once=at_once)
    assert walked(listing) == walked(listing, limit=COUNT) == walked(listing, limit=1) == order
    in_redis = {s.recording_id for s in ledger.live(["MA_1"])}
    assert walked(listing, phase="archived") == [i for i in order if i not in in_redis]
    assert walked(listing, phase="recording") == [i for i in order if i in in_redis]
    assert walked(Listing(ledger, live, catalogue, at_once=at_once, for_s=0)) == order


def test_nothing_is_missing_from_pages_while_it_moves_to_the_catalogue(ledger, catalogue):
    sights = filled(ledger, catalogue)
    order = [sight.recording_id for sight in sights]
    listing = Listing(ledger, Live(ledger, Rules), catalogue, at_once=2)

    def move():
        for sight in sights:
            finish(catalogue, sight)
            ledger.indexed("MA_1", [sight.recording_id])

    mover = threading.Thread(target=move)
    mover.start()
    walks = [walked(listing)]
    while mover.is_alive():
        walks.append(walked(listing))
    mover.join()
    assert walks == [order] * len(walks)
    assert list(islice(ledger.live(["MA_1"]), 1)) == []
    assert walked(listing) == order
