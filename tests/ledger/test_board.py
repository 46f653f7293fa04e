"""The board of what happens now: with what it remembers it is the same as without."""

from dataclasses import replace
from datetime import timedelta

from tests.constants import ACCOUNT
from worker.calls.events import Event, Fault, Kind
from worker.calls.rules import Rules
from worker.ledger import board


def heard(ledger, kind, call, recording=None, **more):
    event = Event(id=f"{kind}.{recording}", kind=kind, call_uuid=call, recording_id=recording)
    ledger.record(ACCOUNT, replace(event, **more))


def test_what_a_board_remembers_changes_nothing_of_the_next_and_spares_most_of_the_work(
    ledger, monkeypatch
):
    rules, memory, looked = Rules(), board.Memory(), []
    look = board._look
    monkeypatch.setattr(board, "_look", lambda key, *how: looked.append(key) or look(key, *how))

    def boards():
        """With memory, and without: but for the instant they are the same."""
        looked.clear()
        with_memory = board.compute(ledger, rules, [ACCOUNT], memory=memory)
        anew = {key for _, key in looked}
        without = board.compute(ledger, rules, [ACCOUNT])
        assert replace(with_memory, at=without.at) == without
        return with_memory, anew

    for i in range(3):
        heard(ledger, Kind.RECORDING_STARTED, f"call-{i}", f"rec-{i}")
    assert len(boards()[0].running) == 3
    assert boards()[1] == set()
    heard(ledger, Kind.STOP_ORDERED, "call-0", "rec-0", by="anna")
    heard(ledger, Kind.RECORDING_STARTED, "call-3", "rec-3")
    now, anew = boards()
    assert (len(now.running), anew) == (4, {"call-0", "call-3"})
    assert "call-0" in boards()[1]  # a stop is on its way: it is looked at each time
    heard(ledger, Kind.RECORDING_FINALIZED, "call-1", "rec-1", signed=True, duration_s=3.0)
    heard(ledger, Kind.FETCH_FAILED, "call-1", "rec-1", fault=Fault.STORAGE, reason="full")
    heard(ledger, Kind.ABANDONED, "call-1", "rec-1", fault=Fault.STORAGE, reason="full")
    assert len(boards()[0].abandoned) == 1
    assert "call-1" not in boards()[1]
    rules = Rules(defaults=replace(rules.defaults, max_duration=timedelta(hours=1)))
    assert len(boards()[1]) == 4  # after a reload everything is looked at
