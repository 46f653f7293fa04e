"""Which account knows an id, and what the id means there."""

import pytest

from worker.calls.events import Event, Kind
from worker.ledger.whose import find_call, find_recording

ACCOUNTS = ["MA_1", "MA_2"]


@pytest.fixture
def book(ledger):
    def seen(account, call_uuid, **facts):
        ledger.record(
            account,
            Event(id=f"e.{call_uuid}", kind=Kind.CALL_SEEN, call_uuid=call_uuid, **facts),
        )

    seen("MA_1", "a-leg", leg="b-leg")
    seen("MA_2", "other", recording_id="r-1")
    return ledger


@pytest.mark.parametrize("a_leg_first", [False, True])
@pytest.mark.parametrize(
    ("uuid", "known_as"),
    [
        ("a-leg", ("MA_1", "a-leg")),
        ("b-leg", ("MA_1", "a-leg")),
        ("other", ("MA_2", "other")),
        ("nobody", None),
        ("a b", None),
        ("", None),
    ],
)
def test_a_call_is_found_under_any_account_and_by_its_other_leg(book, uuid, known_as, a_leg_first):
    assert find_call(book, ACCOUNTS, uuid, a_leg_first=a_leg_first) == known_as
    assert find_call(book, [], uuid, a_leg_first=a_leg_first) is None


def test_a_leg_that_is_also_a_call_of_its_own_is_whichever_is_asked_for_first(book):
    book.record("MA_1", Event(id="own", kind=Kind.CALL_SEEN, call_uuid="b-leg"))
    assert find_call(book, ACCOUNTS, "b-leg", a_leg_first=False) == ("MA_1", "b-leg")
    assert find_call(book, ACCOUNTS, "b-leg", a_leg_first=True) == ("MA_1", "a-leg")


def test_a_recording_is_found_with_its_call_under_any_account(book):
    book.record(
        "MA_2",
        Event(id="rec", kind=Kind.RECORDING_STARTED, call_uuid="other", recording_id="r-1"),
    )
    call, recording = find_recording(book, ACCOUNTS, "r-1")
    assert (call.account, call.call_uuid, recording.recording_id) == ("MA_2", "other", "r-1")
    assert find_recording(book, ["MA_1"], "r-1") is None
    assert find_recording(book, ACCOUNTS, "r-2") is None
    assert find_recording(book, ACCOUNTS, "r 1") is None
