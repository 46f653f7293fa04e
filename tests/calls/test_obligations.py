"""The name under which the ledger keeps what is owed."""

import pytest

from worker.calls.obligations import Duty, Obligation


@pytest.mark.parametrize("duty", Duty)
@pytest.mark.parametrize("recording_id", [None, "r"])
def test_an_obligation_is_read_back_as_it_was_written(duty, recording_id):
    obligation = Obligation(duty=duty, account="MA_1", call_uuid="c", recording_id=recording_id)
    assert Obligation.parse(str(obligation)) == obligation


def test_it_is_written_as_duty_account_call_and_recording():
    fetch = Obligation(duty=Duty.FETCH, account="MA_1", call_uuid="c", recording_id="r")
    assert str(fetch) == "fetch|MA_1|c|r"
    assert str(Obligation(duty=Duty.PLAN, account="MA_1", call_uuid="c")) == "plan|MA_1|c"


@pytest.mark.parametrize("text", ["", "plan", "plan|MA_1", "dance|MA_1|c"])
def test_where_a_part_is_missing_it_is_no_obligation(text):
    with pytest.raises(ValueError):
        Obligation.parse(text)
