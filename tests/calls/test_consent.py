"""Consent on a call: when a recording lacks it, what is stopped for the want of it, and what is restricted."""

from datetime import timedelta

import pytest

from tests.calls.builders import at, begins, call_of, ends, event, ours, stopped
from worker.calls import restriction, timing
from worker.calls.call import StopState
from worker.calls.consent import lacking_from
from worker.calls.events import Kind
from worker.calls.planner import plan
from worker.calls.replay import replay
from worker.calls.rules import Action, Mode, Rules, Terms
from worker.calls.stop_state import judge

HALF = timedelta(seconds=30)
REQUIRED = Rules(defaults=Terms(max_duration=None, consent_required=True, consent_within=HALF))
OBSERVED = Rules(
    defaults=Terms(mode=Mode.OBSERVE, max_duration=None, consent_required=True, consent_within=HALF)
)
TAIL = Rules(
    defaults=Terms(
        max_duration=timedelta(seconds=60),
        tail_limit=timedelta(seconds=1),
        on={"transfer": Action.STOP},
    )
)


def given(seconds, happened=None, **facts):
    facts = {"body": {"kind": "verbal"}, **facts}
    return ours(
        Kind.CONSENT_GIVEN, seconds, happened_at=None if happened is None else at(happened), **facts
    )


def withdrawn(seconds, happened=None):
    return ours(
        Kind.CONSENT_WITHDRAWN, seconds, happened_at=None if happened is None else at(happened)
    )


CASES = [
    ("none came", [], 30),
    ("in time", [given(10)], None),
    ("before the recording", [given(-20)], None),
    ("at the last instant", [given(30)], None),
    ("too late", [given(31)], 30),
    ("in time, told late", [given(300, happened=20)], None),
    ("given too late, told later", [given(300, happened=40)], 30),
    ("a date in the future counts as now", [given(31, happened=5000)], 30),
    ("doubled", [given(10), given(12)], None),
    ("withdrawn while it runs", [given(10), withdrawn(100)], 100),
    ("withdrawn before it was due", [given(5), withdrawn(12)], 12),
    ("withdrawn, and given again", [given(5), withdrawn(12), given(20)], 12),
    ("withdrawn before it began", [given(-20), withdrawn(-10)], 30),
    ("withdrawn before it began, and given anew", [given(-20), withdrawn(-10), given(3)], None),
]


@pytest.mark.parametrize(("what", "events", "lacks"), CASES)
def test_when_a_recording_lacks_the_consent_that_is_required(what, events, lacks):
    call = call_of(begins(0), *events)
    assert lacking_from(call, call.recordings["r"], REQUIRED.defaults) == (
        None if lacks is None else at(lacks)
    ), what
    assert lacking_from(call, call.recordings["r"], Terms()) is None


@pytest.mark.parametrize(("what", "events", "lacks"), CASES)
def test_in_whatever_order_it_is_told_consent_adds_up_to_the_same(what, events, lacks):
    log = [begins(0), *events]
    assert replay("MA_1", "c", log).consents == replay("MA_1", "c", log[::-1]).consents


def test_what_lacks_consent_is_stopped_by_the_trigger_consent_and_is_restricted():
    call = call_of(begins(0), given(31))
    stop = judge(call, call.recordings["r"], REQUIRED, at(35))
    assert (stop.state, stop.trigger, stop.due_at) == (StopState.DUE, "consent", at(30))
    assert restricted(call, REQUIRED, 35) == ("no_consent",)
    assert restricted(call, REQUIRED, 29) == ()


def test_rules_that_observe_stop_nothing_for_the_want_of_consent_and_restrict_all_the_same():
    call = call_of(begins(0))
    assert judge(call, call.recordings["r"], OBSERVED, at(35)).state is StopState.NONE
    assert restricted(call, OBSERVED, 35) == ("no_consent",)


def test_a_stop_that_was_sent_stays_when_consent_is_told_late_and_the_restriction_goes():
    sent = stopped(Kind.STOP_ACCEPTED, 30, due_at=at(30), trigger="consent")
    call = call_of(begins(0), sent, ends(31, duration_s=31.0), given(300, happened=20))
    stop = judge(call, call.recordings["r"], REQUIRED, at(400))
    assert (stop.state, stop.trigger) == (StopState.CONFIRMED, "consent")
    assert restricted(call, REQUIRED, 400) == ()


def test_a_later_recording_needs_consent_again_after_a_withdrawal():
    call = call_of(begins(0), given(5), withdrawn(40), begins(50, "second"))
    second = call.recordings["second"]
    assert lacking_from(call, second, REQUIRED.defaults) == at(80)


@pytest.mark.parametrize(
    ("what", "events", "reasons"),
    [
        ("a short tail", [ends(20.9, duration_s=20.9)], ()),
        ("a long tail", [ends(21.2, duration_s=21.2)], ("long_tail",)),
        ("it had ended before the trigger", [ends(15, duration_s=15.0)], ()),
        ("nobody knows the tail, and the file is archived", [ends(25, ended_at=None, duration_s=21.0)], ("long_tail",)),
        ("nobody knows the tail yet", [], ()),
    ],
)  # fmt: skip
def test_a_stop_by_trigger_with_a_tail_above_the_limit_restricts(what, events, reasons):
    transfer = event(Kind.CALL_TRANSFERRED, 20)
    sent = stopped(Kind.STOP_ACCEPTED, 20, due_at=at(20), trigger="transfer")
    call = call_of(begins(0), transfer, sent, *events)
    assert restricted(call, TAIL, 100) == reasons, what


def test_a_deadline_restricts_nothing_however_long_its_tail():
    call = call_of(begins(0), stopped(Kind.STOP_ACCEPTED, 60), ends(90, duration_s=90.0))
    assert restricted(call, TAIL, 100) == ()


def test_the_limits_of_the_receipt_hold_whatever_the_rules_say_since():
    filed = ours(Kind.MEDIA_ARCHIVED, 50, recording_id="r", consent_by=at(30))
    call = call_of(begins(0), ends(20, duration_s=20.0), filed)
    assert restricted(call, Rules(), 100) == ("no_consent",)
    unlimited = ours(Kind.MEDIA_ARCHIVED, 50, recording_id="r")
    assert restricted(call_of(begins(0), ends(20, duration_s=20.0), unlimited), REQUIRED, 100) == ()


def test_a_restriction_that_was_read_back_from_a_receipt_holds():
    filed = ours(Kind.MEDIA_ARCHIVED, 50, recording_id="r", restricted_by=("long_tail",))
    call = call_of(begins(0), ends(20, duration_s=20.0), filed)
    assert restricted(call, Rules(), 100) == ("long_tail",)


def test_the_archive_is_owed_what_changes_after_the_receipt_once_and_when_consent_runs_out():
    filed = ours(Kind.MEDIA_ARCHIVED, 10, recording_id="r", consent_by=at(30))
    home = [begins(0), ends(5), filed]

    def owed(seconds, *events):
        return plan(call_of(*home, *events), Rules(), at(seconds)).facts_at

    def told(seconds, *events):
        """The archive was told of what was known then."""
        call = call_of(*home, *events)
        digest = restriction.digest(call, restricted(call, Rules(), seconds))
        return [*events, ours(Kind.FACTS_FILED, seconds, recording_id="r", digest=digest)]

    assert owed(12) == at(30) + timing.FACTS_AFTER
    assert owed(31) == at(31)
    lacking = told(31)
    assert owed(32, *lacking) is None
    assert owed(301, *lacking, given(300, happened=20)) == at(301)
    lifted = told(302, *lacking, given(300, happened=20))
    assert owed(303, *lifted) is None
    assert owed(401, *lifted, withdrawn(400)) == at(401)
    assert plan(call_of(begins(0), ends(5)), REQUIRED, at(40)).facts_at is None  # not home yet


def restricted(call, rules, seconds):
    recording = call.recordings["r"]
    limits = restriction.limits_of(recording, rules.defaults)
    stop = judge(call, recording, rules, at(seconds))
    return restriction.restricted_by(call, recording, limits, stop, at(seconds))
