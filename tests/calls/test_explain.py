"""What `endtape explain` says about the rules of a call."""

from datetime import time, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.calls.builders import MINUTE, at, begins, call_of, event
from worker.calls import terms_file
from worker.calls.events import Kind
from worker.calls.explain import explain, terms_view
from worker.calls.rules import Action, DailyTime, Match, Mode, Rule, Rules, Terms

CALL = call_of(begins(0), event(Kind.CALL_SEEN, 0, to_number="9180"), event(Kind.DIAL_CONNECTED, 5))
SALES = Rule(name="sales", match=Match(to_number="44*"), terms=Terms())
BILLING = Rule(
    name="billing",
    match=Match(to_number="91*"),
    terms=Terms(max_duration=MINUTE, on={"transfer": Action.STOP}),
)
LAST = Rule(name="last", match=Match(), terms=Terms())
MISFIT = ("sales", False, "to is '9180', wanted '44*'")


@pytest.mark.parametrize(
    ("rules", "tried"),
    [
        (Rules(rules=(SALES, BILLING, LAST)), [MISFIT, ("billing", True, "every field fits")]),
        (Rules(rules=(SALES,)), [MISFIT, ("defaults", True, "no rule fits")]),
        (Rules(from_file=True), [("defaults", True, "there are no rules")]),
        (Rules(), [("defaults", True, "there is no rules file")]),
    ],
)
def test_each_rule_up_to_the_one_that_fits_has_its_reason(rules, tried):
    found = explain(CALL, rules, at(6))
    assert [(t["rule"], t["fits"], t["why"]) for t in found["tried"]] == tried
    assert found["rule"] == tried[-1][0]


def test_it_says_what_each_event_does_and_what_that_means_for_each_recording():
    found = explain(CALL, Rules(rules=(BILLING,)), at(6))
    assert found["events"] == [
        {
            "at": "2026-09-14T06:30:05.000Z",
            "event": "DialConnected",
            "trigger": "dial.connected",
            "action": "stop",
            "enforced": True,
        }
    ]
    assert [(r["recording_id"], r["stop"]["state"]) for r in found["recordings"]] == [("r", "due")]
    assert found["trigger"] is None


def test_for_a_named_trigger_it_says_what_the_event_and_what_a_hand_off_would_do():
    found = explain(CALL, Rules(rules=(LAST,)), at(6), trigger="transfer.blind")
    assert found["trigger"] == {"trigger": "transfer.blind", "action": "keep", "handoff": "stop"}


@pytest.mark.parametrize("text", ["1s", "90s", "5m", "36h", "30d", "3650d"])
def test_a_duration_is_spelled_as_it_is_read(text):
    assert terms_file.spelled(terms_file.duration(text)) == text


def test_terms_are_written_as_in_the_rules_file():
    terms = Terms(
        mode=Mode.OBSERVE,
        max_duration=None,
        stop_at=(DailyTime(at=time(18, 0), zone=ZoneInfo("Asia/Kolkata")),),
        confirm_within=timedelta(seconds=15),
        on={"transfer": Action.PAUSE},
    )
    assert terms_view(terms) == {
        "mode": "observe",
        "max_duration": "none",
        "stop_at": ["18:00:00 Asia/Kolkata"],
        "confirm_within": "15s",
        "stop_tries": 4,
        "if_unproven": "hold",
        "watch": False,
        "consent": "ignored",
        "consent_within": "30s",
        "tail_limit": "none",
        "retain": "forever",
        "on": {"transfer": "pause"},
    }
    assert terms_view(Terms(max_duration=MINUTE))["max_duration"] == "60s"
