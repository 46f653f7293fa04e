"""How far notifications came: nothing stays in Redis for ever."""

import pytest

from tests import redis_view
from tests.constants import ACCOUNT
from worker.ledger.notices import Failing, Tries

pytestmark = pytest.mark.redis


def test_a_notice_that_was_given_up_is_listed_until_its_tries_are_forgotten(ledger):
    for call in ("old", "new"):
        tries = Tries(count=3, first_at=ledger.now(), why="answered 410", given_up=True)
        ledger.note(ACCOUNT, call, {"e n": tries})
        ledger.note_failing(
            Failing(
                account=ACCOUNT,
                call_uuid=call,
                endpoint="e",
                notice="n",
                type="stop.unknown",
                url="https://app.example.com",
                tries=3,
                why="answered 410",
                given_up=True,
            )
        )
    ledger.forget_failing()
    assert [f.call_uuid for f in ledger.failing()] == ["new", "old"]
    assert ([f.call_uuid for f in ledger.failing(1)], ledger.failing_count()) == (["new"], 2)
    redis_view.expire_notices(ledger, ACCOUNT, "old")
    ledger.forget_failing()
    assert [f.call_uuid for f in ledger.failing()] == ["new"]
