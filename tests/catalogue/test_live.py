"""What is kept of live calls is never older than the question, and never more than it may be."""

import time
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.builders import started
from worker.calls.events import Event, Kind
from worker.calls.rules import Rules, Terms
from worker.catalogue import live as kept
from worker.catalogue.live import Live
from worker.ledger.calls import SeenAt

HOUR, MINUTE = (Rules(defaults=Terms(max_duration=timedelta(seconds=s))) for s in (3600, 60))


@pytest.fixture
def replays(monkeypatch):
    """The calls that were replayed, in order."""
    found = []

    def told(account, call_uuid, events, replay=kept.replay):
        found.append(call_uuid)
        return replay(account, call_uuid, events)

    monkeypatch.setattr(kept, "replay", told)
    return found


def shown(live, *recordings):
    sights = [SeenAt(0, recording, "MA_1") for recording in recordings]
    return {sight.recording_id: view for sight, view in live.views(sights)}


def test_only_a_call_whose_log_changed_is_replayed_again(ledger, replays):
    live = Live(ledger, lambda: HOUR)
    for n in range(3):
        ledger.record("MA_1", started(call=f"c{n}", recording=f"r{n}"))
    first = shown(live, "r0", "r1", "r2")
    assert list(first) == ["r0", "r1", "r2"]
    assert (shown(live, "r0", "r1", "r2"), sorted(replays)) == (first, ["c0", "c1", "c2"])
    replays.clear()
    ledger.record("MA_1", replace(started("e2", call="c1", recording="r9"), from_number="92"))
    assert shown(live, "r0", "r1", "r9")["r1"]["from"] == "92"
    assert replays == ["c1"]
    log = dict(ledger.texts("MA_1", ["c1"]))["c1"]
    ledger.forget_numbers("MA_1", "c1", log)  # the one change that makes no log longer
    assert shown(live, "r1")["r1"]["from"] is None
    same = dict(ledger.texts("MA_1", ["c2"]))["c2"].replace('"91"', '"94"')
    ledger.command("SET", ledger.call_key("MA_1", "c2"), same)
    assert shown(live, "r2")["r2"]["to"] == "94"
    assert shown(live, "nobody") == {}


def test_a_reload_and_the_clock_change_what_is_shown(ledger, replays):
    rules = HOUR
    live = Live(ledger, lambda: rules)
    now = ledger.now()
    ledger.record("MA_1", replace(started(), started_at=now - timedelta(seconds=59.6)))
    assert shown(live, "r")["r"]["stop"]["state"] == "none"
    rules = MINUTE
    assert shown(live, "r")["r"]["stop"]["state"] == "none"
    assert replays == ["c", "c"]
    due = now + timedelta(seconds=0.4)
    while ledger.now() < due:
        time.sleep(0.05)
    assert [shown(live, "r")["r"]["stop"]["state"] for _ in range(2)] == ["due", "due"]
    assert replays == ["c", "c", "c"]


def test_no_more_calls_are_kept_than_may_be(ledger, replays):
    live = Live(ledger, lambda: HOUR, most=2)
    for n in range(3):
        ledger.record("MA_1", started(call=f"c{n}", recording=f"r{n}"))
    for recording in ("r0", "r1", "r0", "r2", "r0", "r1"):
        assert list(shown(live, recording)) == [recording]
    assert replays == ["c0", "c1", "c2", "c1"]


def test_a_log_that_cannot_be_read_hides_its_recordings_and_no_others(ledger):
    ledger.record("MA_1", started(call="c0", recording="r0"))
    ledger.record("MA_1", started(call="c1", recording="r1"))
    ledger.command("SET", ledger.call_key("MA_1", "c0"), "nonsense")
    assert list(shown(Live(ledger, lambda: HOUR), "r0", "r1")) == ["r1"]


def test_what_is_shown_of_a_call_has_its_end_and_the_questions_that_wait(ledger):
    ledger.record("MA_1", started())
    asked = Event(
        id="asked.h",
        kind=Kind.HANDOFF_ASKED,
        call_uuid="c",
        order="h",
        trigger="transfer",
        wait_s=3,
    )
    ledger.record("MA_1", asked)
    (call,) = Live(ledger, lambda: HOUR).calls("MA_1", ["c"])
    assert ([h.asked.order for h in call.waiting], call.over_at) == (["h"], {})
    ledger.record("MA_1", Event(id="over", kind=Kind.CALL_ENDED, call_uuid="c", signed=True))
    (call,) = Live(ledger, lambda: HOUR).calls("MA_1", ["c"])
    assert list(call.over_at) == ["r"]
