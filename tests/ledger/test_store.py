"""One Redis that does not answer, or answers by another protocol."""

from datetime import timedelta

import pytest

from tests.builders import obligation
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty
from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger
from worker.ledger.obligations import Claim, Commit
from worker.ledger.store import as_dict, connect
from worker.processes.supervisor import free_port

PLAN = obligation(Duty.PLAN, "c")
CLAIM = Claim(obligation=PLAN, fence="1")


@pytest.mark.parametrize(
    "ask",
    [
        lambda ledger: ledger.now(),
        lambda ledger: ledger.record(
            "MA_1", Event(id="e", kind=Kind.CALL_SEEN, call_uuid="c"), nonces=["n"]
        ),
        lambda ledger: ledger.claim(lead=timedelta(0), batch=1, free={}),
        lambda ledger: ledger.load([CLAIM]),
        lambda ledger: ledger.commit([Commit(claim=CLAIM)]),
        lambda ledger: ledger.ensure_due([PLAN]),
        lambda ledger: ledger.make_all_due(),
        lambda ledger: ledger.wait_for_wake(0.1),
        lambda ledger: ledger.tidy(),
        lambda ledger: ledger.accounts(),
        lambda ledger: ledger.forget("MA_1"),
        lambda ledger: ledger.take("api", "MA_1", 1, 1.0),
        lambda ledger: ledger.degrade("archive", "why"),
        lambda ledger: ledger.count_refusal("wrong"),
    ],
)
def test_a_redis_that_does_not_answer_is_one_error_whatever_was_asked(ask):
    with connect(f"redis://127.0.0.1:{free_port()}") as client, pytest.raises(LedgerUnavailable):
        ask(Ledger(client))


def test_the_answer_to_hgetall_is_a_dict_by_either_protocol():
    assert as_dict(["a", "1", "b", "2"]) == as_dict({"a": "1", "b": "2"}) == {"a": "1", "b": "2"}
