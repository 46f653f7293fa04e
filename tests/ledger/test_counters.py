"""Counters of all processes together."""


def test_refusals_of_the_last_hour_are_counted_by_reason(ledger):
    for reason in ("wrong", "wrong", "missing"):
        ledger.count_refusal(reason)
    assert ledger.refusals() == {"wrong": 2, "missing": 1}
    assert ledger.counters()["refused_total|wrong"] == 2
