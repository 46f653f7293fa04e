"""What the duties share: one claim's fault does not hold up the others, and counts add up."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from worker import logs
from worker.calls.obligations import Duty, Obligation
from worker.duties.histograms import observe
from worker.duties.outcomes import do_or_report
from worker.duties.worker import Worker
from worker.errors import LedgerUnavailable, StaleLease
from worker.ledger.obligations import Claim


@pytest.fixture
def worker(ledger):
    with ThreadPoolExecutor(1) as threads:
        yield Worker(
            ledger=ledger,
            vobiz=None,
            archive=None,
            catalogue=None,
            settings=None,
            threads=threads,
            first_start=ledger.now(),
        )


def claim(duty, recording_id=None):
    owed = Obligation(duty=duty, account="MA_1", call_uuid="c", recording_id=recording_id)
    return Claim(obligation=owed, fence="1")


def raising(error):
    def work():
        raise error

    return work


def poison(worker):
    return worker.ledger.counters().get("alerts_total|poison", 0)


@pytest.mark.parametrize("duty", list(Duty))
def test_a_fault_of_ours_is_logged_with_its_traceback_and_raises_an_alert(worker, duty, capfd):
    owed = claim(duty, "r" if duty is Duty.FETCH else None)
    assert not do_or_report(worker, owed, raising(ZeroDivisionError("ours")), "it cannot be done")
    logs.flush()
    logged = "".join(capfd.readouterr())
    assert "it cannot be done" in logged
    assert "ZeroDivisionError" in logged
    assert poison(worker) == 1


def test_work_that_is_done_or_that_another_worker_has_is_no_fault(worker):
    assert do_or_report(worker, claim(Duty.LOOK), lambda: None, "it cannot be done")
    lost = raising(StaleLease("another has it"))
    assert do_or_report(worker, claim(Duty.LOOK), lost, "it cannot be done")
    assert poison(worker) == 0


def test_a_redis_that_does_not_answer_ends_the_batch(worker):
    down = raising(LedgerUnavailable("down"))
    with pytest.raises(LedgerUnavailable):
        do_or_report(worker, claim(Duty.LOOK), down, "it cannot be done")
    assert poison(worker) == 0


def test_an_observation_counts_in_its_bucket_and_in_all_above_it():
    counts = {}
    observe(counts, "tail", timedelta(seconds=0.3))
    observe(counts, "tail", timedelta(seconds=20))
    assert (counts["tail_count"], counts["tail_sum"]) == (2, 20.3)
    assert (counts["tail_bucket|0.5"], counts["tail_bucket|3600"]) == (1, 2)
    assert "tail_bucket|0.25" not in counts


@pytest.mark.parametrize(
    ("seconds", "top"), [(-1, "0.1"), (0.1, "0.1"), (3600, "3600"), (7200, None)]
)
def test_the_edges_of_a_histogram(seconds, top):
    counts = {}
    observe(counts, "tail", timedelta(seconds=seconds))
    buckets = [name.partition("|")[2] for name in counts if "|" in name]
    assert (buckets[0] if buckets else None) == top
    assert counts["tail_sum"] == max(0, seconds)
