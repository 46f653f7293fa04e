"""Entries of the history: who did what, without telephone numbers."""

import pytest

from tests.calls.builders import event
from worker.calls.events import Kind
from worker.calls.history import Deed, Entry, stops_by_rules


def accepted(seconds, trigger, recording="r", **facts):
    facts = {"rule": "payments 918065550101", **facts}
    return event(Kind.STOP_ACCEPTED, seconds, recording_id=recording, trigger=trigger, **facts)


def test_no_telephone_number_stands_in_an_entry():
    said = Entry(
        what=Deed.HOLD,
        who="anna",
        claimed="agent 0049 1512345678",
        call_uuid="c1234567890",
        recording_id="r1234567890",
        reason="of +918065550101, case 123456",
    ).written()
    assert said == {
        "what": "hold",
        "who": "anna",
        "claimed": "agent 0049 …",
        "call_uuid": "c1234567890",
        "recording_id": "r1234567890",
        "reason": "of +…, case 123456",
    }


def test_half_a_surrogate_pair_which_json_can_spell_harms_no_entry():
    said = Entry(what=Deed.STOP, who="a", call_uuid="c", recording_id=None, reason="x\ud800y")
    assert said.written()["reason"].encode() == b"x?y"


@pytest.mark.parametrize(
    ("before", "found", "who"),
    [
        ([], [accepted(5, "max_duration")], ["rule:payments …"]),
        ([], [accepted(5, "transfer.blind", rule=None)], ["rule:defaults"]),
        ([], [accepted(5, "api"), accepted(5, "pause"), accepted(5, "resume")], []),
        ([accepted(4, "max_duration")], [accepted(5, "max_duration")], []),
        ([accepted(4, "max_duration", "q")], [accepted(5, "max_duration")], ["rule:payments …"]),
        ([], [event(Kind.STOP_ERRED, 5, recording_id="r", trigger="max_duration")], []),
    ],
)
def test_a_stop_by_a_rule_is_a_deed_once_and_an_ordered_one_was_entered_before(before, found, who):
    entries = stops_by_rules(before, found)
    assert [entry.written()["who"] for _, entry in entries] == who
    assert all(entry.reason for _, entry in entries)
