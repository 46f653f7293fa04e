"""What other rules would have done with a call."""

from datetime import timedelta

import pytest

from tests.calls.builders import (
    MINUTE,
    RULES,
    asked,
    at,
    begins,
    decided,
    ends,
    event,
    ours,
    stopped,
)
from worker.calls import simulation
from worker.calls.events import Kind
from worker.calls.rules import Action, Mode, Rules, Terms


def over(seconds):
    """It ended at that instant, and had begun at 0."""
    return ends(seconds, duration_s=float(seconds))


LONG = Rules(defaults=Terms(max_duration=timedelta(hours=1), on={}))
SHORT = Rules(defaults=Terms(max_duration=timedelta(seconds=30)))
WATCHES = Rules(defaults=Terms(mode=Mode.OBSERVE, max_duration=timedelta(seconds=30)))
ON_TRANSFER = Rules(defaults=Terms(max_duration=None, on={"transfer": Action.STOP}))
KEEPS = Rules(defaults=Terms(max_duration=None, on={"transfer": Action.KEEP}))
GOES = Rules(defaults=Terms(if_unproven="go", on={"transfer": Action.STOP}))
OURS = [begins(0), stopped(Kind.STOP_ACCEPTED, 60), over(61)]
BY_ITSELF = [begins(0), over(50)]
HUNG_UP = event(Kind.CALL_ENDED, 300)
TRANSFERRED = [begins(0), event(Kind.CALL_TRANSFERRED, 20), over(50)]


def played(events, rules):
    (one,) = simulation.recordings("MA_1", "c", events, rules)
    return one


@pytest.mark.parametrize(
    ("what", "events", "rules", "at_s", "trigger", "saved_s"),
    [
        ("the same rules change nothing, the tail neither", OURS, RULES, 61, "max_duration", 0),
        ("an earlier deadline", OURS, SHORT, 30, "max_duration", 31),
        ("an earlier deadline before it ended by itself", BY_ITSELF, SHORT, 30, "max_duration", 20),
        ("a later deadline: it goes on to the end of the call", [*OURS, HUNG_UP], LONG, 300, None, -239),
        ("a later deadline, and nobody knows when the call ended", OURS, LONG, 3600, "max_duration", -3539),
        ("no stop, and nobody knows when the call ended", OURS, KEEPS, None, None, None),
        ("rules that only observe stop nothing", BY_ITSELF, WATCHES, 50, None, 0),
        ("a deadline after it ended by itself", BY_ITSELF, LONG, 50, None, 0),
        ("a transfer that now stops", TRANSFERRED, ON_TRANSFER, 20, "transfer", 30),
        ("a transfer that is kept", TRANSFERRED, KEEPS, 50, None, 0),
        ("what still runs would have ended", [begins(0)], SHORT, 30, "max_duration", None),
    ],
)  # fmt: skip
def test_how_a_recording_would_have_ended(what, events, rules, at_s, trigger, saved_s):
    one = played(events, rules)
    assert one.would_be.at == (None if at_s is None else at(at_s)), what
    assert one.would_be.trigger == trigger, what
    assert one.saved == (None if saved_s is None else timedelta(seconds=saved_s)), what


def test_a_receipt_that_is_written_does_not_fix_what_other_rules_would_do():
    filed = ours(
        Kind.MEDIA_ARCHIVED,
        70,
        recording_id="r",
        rule="old",
        due_at=at(60),
        trigger="max_duration",
        enforced=True,
    )
    assert played([*OURS, filed], SHORT).would_be.at == at(30)


def test_a_404_for_the_call_stays_a_fact_and_is_no_stop_of_ours():
    found_over = stopped(Kind.CALL_FOUND_OVER, 60, recording=None)
    one = played([begins(0), found_over], LONG)
    assert (one.was.is_stopped, one.would_be.is_stopped) == (False, False)
    assert one.was.at == one.would_be.at == at(60)


@pytest.mark.parametrize(("seconds", "minutes"), [(0, 0), (1, 1), (60, 1), (60.1, 2), (3600, 60)])
def test_minutes_are_billed_as_the_provider_bills_them(seconds, minutes):
    one = played([begins(0), over(seconds)], KEEPS)
    assert one.billed_minutes(one.was) == minutes


@pytest.mark.parametrize(
    ("what", "answer", "rules", "would_be"),
    [
        ("kept is go", decided(4, "hold"), KEEPS, "go"),
        ("proven stays go", decided(4, "go", proven=True), RULES, "go"),
        ("held, and the rule still holds", decided(4, "hold"), ON_TRANSFER, "hold"),
        ("held, and the rule goes unproven", decided(4, "hold"), GOES, "go"),
        ("nobody sought a proof", decided(4, "go", proven=False), RULES, None),
    ],
)
def test_what_a_hand_off_would_have_been_told(what, answer, rules, would_be):
    (one,) = simulation.handoffs("MA_1", "c", [begins(0), asked(1), answer], rules)
    assert one.would_be == would_be, what


def test_a_trunk_recording_is_held_whatever_goes_unproven():
    trunk = begins(0, trunk=True)
    (one,) = simulation.handoffs("MA_1", "c", [trunk, asked(1), decided(4, "hold")], GOES)
    assert one.would_be == "hold"


def test_the_views_have_plain_values():
    view = simulation.view(played(OURS, SHORT))
    assert view["saved_s"] == 31.0
    assert view["would_be"] == {
        "ended_at": "2026-09-14T06:30:30.000Z",
        "trigger": "max_duration",
        "rule": "defaults",
        "billed_minutes": 1,
    }
    assert MINUTE.total_seconds() == simulation.BILLED_S
