"""Counters of all processes together."""

from datetime import timedelta


def test_refusals_of_the_last_hour_are_counted_by_reason(ledger):
    for reason in ("wrong", "wrong", "missing"):
        ledger.count_refusal(reason)
    assert ledger.refusals() == {"wrong": 2, "missing": 1}
    assert ledger.refusals()["other_call"] == 0, "what was not refused yet is a count, no error"
    assert ledger.counters()["refused_total|wrong"] == 2


def test_of_each_reason_the_last_refusal_is_known_with_its_time_and_place(ledger):
    before = ledger.now()
    for where in ("POST /vobiz/MA_1/…/a", "POST /vobiz/MA_1/…/b"):
        ledger.count_refusal("unknown", where=where)
    ledger.count_refusal("key")
    last = ledger.last_refusals()
    assert {reason: told.where for reason, told in last.items()} == {
        "unknown": "POST /vobiz/MA_1/…/b",
        "key": None,
    }
    assert abs(last["unknown"].at - before) < timedelta(seconds=9)
