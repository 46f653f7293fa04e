"""Which events of a call act, what each act covers, and when it may be acted upon."""

import pytest

from tests.calls.builders import (
    MINUTE,
    RULES,
    asked,
    at,
    begins,
    call_of,
    decided,
    ends,
    event,
    ours,
)
from worker.calls.events import TRIGGERS, Kind
from worker.calls.rules import Action, Mode, Rules, Terms
from worker.calls.triggers import act_of, acts, ended_before, is_transfer, trigger_of


def acted(*events, rules=RULES):
    return [(a.trigger, a.action) for a in acts(call_of(*events), rules)]


@pytest.mark.parametrize(
    ("what", "events", "expected"),
    [
        ("by its key", [event(Kind.CALL_TRANSFERRED, 1)], [("transfer", Action.STOP)]),
        ("by the key of all transfers", [event(Kind.DIAL_CONNECTED, 1)], [("dial.connected", Action.STOP)]),
        ("without a key", [event(Kind.CALL_REDIRECTED, 1)], [("redirect", Action.KEEP)]),
        ("an order", [ours(Kind.RESUME_ORDERED, 1)], [("resume", Action.RESUME)]),
        ("of our callers' making", [ours(Kind.CUSTOM_REPORTED, 1, trigger="custom.card")], [("custom.card", Action.PAUSE)]),
        ("a machine", [event(Kind.MACHINE_DETECTED, 1, machine=True)], [("machine", Action.KEEP)]),
        ("a person, not a machine", [event(Kind.MACHINE_DETECTED, 1, machine=False)], []),
        ("a dial that failed", [event(Kind.DIAL_ENDED, 1, connected=False)], [("transfer.failed", Action.KEEP)]),
        ("no trigger", [begins(0), event(Kind.CALL_ENDED, 1)], []),
        (
            "in time order",
            [ours(Kind.STOP_ORDERED, 2), event(Kind.CALL_TRANSFERRED, 1)],
            [("transfer", Action.STOP), ("api", Action.STOP)],
        ),
    ],
)  # fmt: skip
def test_what_acts(what, events, expected):
    assert acted(*events) == expected, what


@pytest.mark.parametrize(
    ("seconds", "failed_at", "verdict", "is_that_transfer"),
    [
        (11, None, "go", True),
        (129, None, "go", True),
        (130, None, "go", False),
        (9, None, "go", False),
        (11, None, "hold", False),
        (30, 20, "go", False),
    ],
)
def test_for_two_minutes_after_a_go_a_transfer_event_is_the_transfer_that_was_asked_about(
    seconds, failed_at, verdict, is_that_transfer
):
    failed = [ours(Kind.HANDOFF_FAILED, failed_at)] if failed_at else []
    transfer = event(Kind.CALL_TRANSFERRED, seconds)
    triggers = [t for t, _ in acted(asked(8), decided(10, verdict), *failed, transfer)]
    assert ("transfer" not in triggers) is is_that_transfer


def test_where_rules_only_observe_nothing_but_orders_is_enforced():
    observe = Rules(defaults=Terms(mode=Mode.OBSERVE, max_duration=MINUTE))
    call = call_of(event(Kind.CALL_TRANSFERRED, 1), asked(2), ours(Kind.STOP_ORDERED, 3))
    assert [a.enforced for a in acts(call, observe)] == [False, False, True]


@pytest.mark.parametrize(
    ("known", "facts", "covered"),
    [
        (0, {}, True),
        (14, {}, True),
        (16, {}, False),
        (40, {"started_at": at(5)}, True),
        (40, {"started_at": at(12)}, False),
    ],
)
def test_an_act_covers_what_had_begun_and_what_is_first_reported_within_five_seconds(
    known, facts, covered
):
    call = call_of(begins(known, **facts), ours(Kind.STOP_ORDERED, 10))
    (act,) = acts(call, RULES)
    assert act.covers(call.recordings["r"]) is covered


def test_an_act_never_covers_a_recording_that_we_start_later():
    order = ours(Kind.START_ORDERED, 11, order="s1")
    accepted = ours(Kind.START_ACCEPTED, 12, order="s1", recording_id="r")
    call = call_of(ours(Kind.STOP_ORDERED, 10), order, accepted)
    (act,) = acts(call, RULES)
    assert not act.covers(call.recordings["r"])


@pytest.mark.parametrize(
    ("facts", "is_order", "covered"),
    [
        ({}, True, ["r", "s"]),
        ({"recording_id": "r"}, False, ["r"]),
        ({"url": "https://m/s"}, False, ["s"]),
    ],
)
def test_an_order_may_name_one_recording_by_its_id_or_url(facts, is_order, covered):
    call = call_of(begins(0), begins(1, "s"), ours(Kind.STOP_ORDERED, 10, **facts))
    (act,) = acts(call, RULES)
    assert (act.is_asked, act.is_order) == (True, is_order)
    assert [i for i, r in call.recordings.items() if act.covers(r)] == covered


@pytest.mark.parametrize(("whole", "settled"), [(None, 12), (True, 10)])
def test_a_failed_leg_is_acted_upon_two_seconds_later_than_a_failed_dial(whole, settled):
    (act,) = acts(call_of(event(Kind.DIAL_ENDED, 10, connected=False, whole=whole)), RULES)
    assert act.settled_at == at(settled)


def test_each_hand_off_has_an_act_of_its_own():
    call = call_of(asked(1), asked(2, "h2"))
    act = act_of(acts(call, RULES), call.handoffs["h2"])
    assert (act.at, act.trigger, act.is_order) == (at(2), "transfer.blind", True)


def test_triggers_are_named_as_rules_spell_them():
    for kind, trigger in TRIGGERS.items():
        assert trigger_of(event(kind)) == trigger
    assert trigger_of(event(Kind.DIAL_ENDED)) == "transfer.failed"
    assert trigger_of(ours(Kind.CUSTOM_REPORTED, trigger="custom.card")) == "custom.card"
    handing_over = {"transfer", "transfer.warm", "redirect", "dial.connected", "conference.join"}
    assert all(is_transfer(trigger) for trigger in handing_over)
    assert not any(is_transfer(t) for t in ("transfer.failed", "api", "machine", "custom.card"))


def test_a_recording_ended_before_an_instant_by_the_providers_figure_if_there_is_one():
    recording = call_of(begins(0), ends(20, ended_at=at(10))).recordings["r"]
    assert [ended_before(recording, at(s)) for s in (10, 11)] == [False, True]
    assert not ended_before(call_of(begins(0)).recordings["r"], at(100))
