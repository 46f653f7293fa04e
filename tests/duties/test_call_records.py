"""The provider's call records are read where a rule wants every answered call recorded."""

from datetime import timedelta

import pytest

from tests.constants import ACCOUNT
from tests.waiting import until
from worker.duties import call_records as duty
from worker.ledger import call_records
from worker.ledger.daybook import end_of
from worker.vobiz import client

RULES = '[defaults]\nmax_duration = "1h"\n[[rules]]\nname = "line"\nmatch = { to = "9180*" }\nexpect = "every"\n'


@pytest.fixture
def house(local):
    return local(rules=RULES)


def over(house, to_number="918065550101", **how):
    call = house.provider.call(to_number=to_number, **how)
    call.answered_at -= 5
    house.provider.hangup(call.call_uuid)
    return call.call_uuid


def read(house, today=None):
    """Every call of a finished round, and until when they were read."""
    duty.keep_due(house.worker)
    day = today or house.ledger.now().date()
    until(lambda: call_records.read_to(house.ledger, ACCOUNT, day))
    return call_records.of_day(house.ledger, ACCOUNT, day)


def test_answered_calls_that_a_rule_wants_recorded_are_read_page_by_page(house, monkeypatch):
    monkeypatch.setattr(client, "PAGE", 2)
    lost = {over(house) for _ in range(5)}
    over(house, "917700")  # another rule's
    house.provider.call(to_number="918065550101")  # lives
    found, read_to = read(house)
    assert {call.call_uuid for call in found} == lost
    assert found[0].to_number == "918065550101"
    assert read_to <= house.ledger.now()
    due = house.ledger.next_at(duty.obligation(ACCOUNT))
    assert due <= end_of(read_to.date()) + timedelta(minutes=1)
    assert house.get("/v1/ledger").json()["totals"]["missing"] == 5


def test_records_that_cannot_be_read_are_told_and_read_later(house):
    house.provider.faults.switch_on("api-5xx", route="list-cdrs", times=1)
    call = over(house)
    duty.keep_due(house.worker)
    until(lambda: call_records.progress(house.ledger, ACCOUNT).problem)
    told = house.get("/v1/ledger").json()["call_records"][ACCOUNT]
    assert "cannot be read" in told["problem"]
    house.ledger.make_due_now(duty.obligation(ACCOUNT))
    assert [one.call_uuid for one in read(house)[0]] == [call]
    assert house.get("/v1/ledger").json()["call_records"][ACCOUNT]["problem"] is None


def test_where_no_rule_needs_them_nothing_is_asked(local):
    house = local(rules='[defaults]\nmax_duration = "1h"\n')
    duty.keep_due(house.worker)
    assert house.ledger.next_at(duty.obligation(ACCOUNT)) is None


def test_days_that_were_not_read_after_their_end_are_read_again(ledger):
    class Holder:
        first_start = ledger.now() - timedelta(days=3)

    Holder.ledger = ledger
    now, keep = ledger.now(), timedelta(days=1)
    days = [now.date() - timedelta(days=n) for n in (3, 2, 1, 0)]
    call_records.note_read(ledger, ACCOUNT, days[0], end_of(days[0]) + timedelta(minutes=1), keep)
    call_records.note_read(ledger, ACCOUNT, days[1], end_of(days[1]) - timedelta(hours=1), keep)
    assert list(duty._unread(Holder, ACCOUNT, now)) == days[1:]
