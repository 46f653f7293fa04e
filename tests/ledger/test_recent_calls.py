"""The calls that were first seen of late, newest first, and their logs."""

from datetime import timedelta

import pytest

from tests.builders import started
from tests.constants import ACCOUNT
from worker.ledger import recent_calls
from worker.ledger.codec import to_ms

pytestmark = pytest.mark.redis


def test_each_call_is_named_once_by_its_newest_recording_and_its_log_is_read(ledger):
    since = ledger.now() - timedelta(minutes=1)
    for n, (call, recording) in enumerate((("a", "r1"), ("b", "r2"), ("a", "r3"))):
        ledger.record(ACCOUNT, started(f"e{n}", call, recording))
        ledger.command("ZADD", ledger.key("recent", ACCOUNT), to_ms(since) + 60_000 + n, recording)
    calls = list(recent_calls.first_seen(ledger, [ACCOUNT, "MA_2"], since=since))
    assert calls == [(ACCOUNT, "a"), (ACCOUNT, "b")]
    read = [(call, len(log)) for _, call, log in recent_calls.logs(ledger, calls)]
    assert read == [("a", 2), ("b", 1)]
    later = ledger.now() + timedelta(hours=1)
    assert list(recent_calls.first_seen(ledger, [ACCOUNT], since=later)) == []
