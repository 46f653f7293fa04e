"""What the console draws to scale, and the states of days, without a server."""

from datetime import UTC, date, datetime, timedelta

import pytest

from webhooks.console import course, month, sound
from worker.calls import figure_words

BEGAN = datetime(2026, 9, 14, 6, 30, tzinfo=UTC)


def at(seconds):
    instant = BEGAN + timedelta(seconds=seconds)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event(seconds, kind, **more):
    return {"at": at(seconds), "event": kind, "signed": False, "by": None, **more}


VIEW = {
    "recording_id": "rec-1",
    "phase": "archived",
    "started_at": at(1),
    "ended_at": at(61),
    "duration_ms": 60_000,
    "stop": {"due_at": at(60), "requested_at": at(60.5), "confirmed_at": at(62), "tail_ms": 1000},
}
TIMELINE = [
    event(0, "CallSeen", signed=True),
    event(1.1, "RecordingStarted", signed=True),
    event(62, "StopConfirmed"),
    event(64, "MediaArchived"),
    event(90, "RecordingHeld"),
]
GAP = {"from": at(61), "to": at(63), "trigger": "custom.card", "reason": None}


def lanes(drawn):
    return {
        lane.name.partition(":")[0]: [(s.x, round(s.x + s.width, 1)) for s in lane.spans]
        for lane in drawn.lanes
    }


def test_a_recording_is_drawn_to_scale_from_the_first_callback_to_the_archive():
    whole, end = course.of_recording(VIEW, TIMELINE, [GAP], BEGAN)
    assert (whole.from_at, whole.to_at) == (BEGAN, BEGAN + timedelta(seconds=64))
    places = lanes(whole)
    assert places["recording"] == [(1.56, pytest.approx(61 / 64 * 100, abs=0.1))]
    assert places["gaps"] == [(95.31, pytest.approx(63 / 64 * 100, abs=0.1))]
    assert places["to the archive"][0][1] == 100
    assert [ms for _, ms in whole.ticks] == [0, 16_000, 32_000, 48_000, 64_000]
    # What came after the archive is no part of the way there.
    (events,) = [lane.instants for lane in whole.lanes if lane.name == "events"]
    assert [(name, how) for name, how, _ in events][::3] == [
        ("CallSeen", "signed"),
        ("MediaArchived", "ours"),
    ]
    # The end again: from a tenth before the trigger on.
    assert end.from_at == BEGAN + timedelta(seconds=59.6)
    due, sent = lanes(end)["stop"]
    assert due[0] == pytest.approx(0.4 / 4.4 * 100, abs=0.1)
    assert due[1] == pytest.approx(sent[0], abs=0.2)


def test_what_is_not_over_goes_on_until_now_and_the_past_ends_with_its_receipt():
    running = VIEW | {"phase": "recording", "ended_at": None, "stop": dict.fromkeys(VIEW["stop"])}
    (drawn,) = course.of_recording(running, TIMELINE[:2], [], BEGAN + timedelta(seconds=10))
    (lane,) = [lane for lane in drawn.lanes if lane.name == "recording"]
    assert lane.spans[0].milliseconds is None
    assert lanes(drawn)["recording"] == [(10, 100)]
    past, _ = course.of_recording(VIEW, TIMELINE[:3], [], BEGAN, fetched_at=at(63))
    assert past.to_at == BEGAN + timedelta(seconds=63)
    assert course.of_recording(running | {"started_at": None}, [], [], BEGAN) == []


@pytest.mark.parametrize("broken", [{"ended_at": at(-5)}, {"started_at": at(500)}])
def test_facts_that_contradict_each_other_break_no_drawing(broken):
    for drawn in course.of_recording(VIEW | broken, TIMELINE, [GAP], BEGAN):
        for lane in drawn.lanes:
            assert all(s.x >= 0 and s.x + s.width <= 100.5 for s in lane.spans)


def test_a_call_is_drawn_with_its_recordings_gaps_and_events():
    call = {"over_at": at(80), "recordings": [VIEW], "gaps": [GAP], "timeline": TIMELINE}
    (drawn,) = course.of_call(call, BEGAN)
    assert list(lanes(drawn)) == ["call", "recording rec-1", "gaps", "events"]
    assert lanes(drawn)["call"] == [(0, pytest.approx(80 / 90 * 100, abs=0.1))]
    assert course.of_call(call | {"timeline": []}, BEGAN) == []


def test_a_gap_is_marked_at_the_edge_of_the_sound_that_it_follows_or_precedes():
    outline = {"bucket_ms": 100, "channels": [[100] * 601]}
    after = sound.drawn(VIEW | {"stop": {}}, outline, [GAP]).whole
    assert after.gaps == [(sound.WIDTH - sound.STRIP, sound.STRIP)]
    later = VIEW | {"started_at": at(63), "ended_at": at(123), "stop": {}}
    before = sound.drawn(later, outline, [GAP, GAP | {"to": None}]).whole
    assert before.gaps[0] == (0, sound.STRIP)
    far = VIEW | {"started_at": at(900), "ended_at": at(960), "stop": {}}
    assert sound.drawn(far, outline, [GAP]).whole.gaps == []


TOTALS = dict.fromkeys(figure_words.MEANINGS, 0)


@pytest.mark.parametrize(
    ("totals", "state"),
    [
        ({}, "empty"),
        ({"expected": 2, "archived": 2, "verified": 2}, "good"),
        ({"expected": 2, "verified": 1, "under_way": 1}, "busy"),
        ({"expected": 2, "under_way": 1, "restricted": 1}, "warn"),
        ({"expected": 2, "without_consent": 1, "unexplained": 1}, "bad"),
    ],
)
def test_a_day_has_the_worst_state_of_its_ledger(totals, state):
    assert month.state_of(TOTALS | totals) == state
    partial = month.state_of(TOTALS | totals, is_whole=False)
    assert partial == ("bad" if state == "bad" else "partial")
    assert month.state_of(month.together([TOTALS, TOTALS | totals])) == state


def test_a_month_is_a_grid_of_weeks_from_monday_on_and_each_state_has_a_sign_of_its_own():
    known = {date(2026, 2, 3): month.Day(day=date(2026, 2, 3), state="bad")}
    weeks = month.weeks(date(2026, 2, 1), known)
    assert [len(week) for week in weeks] == [7] * len(weeks)
    assert weeks[0][:6] == [None] * 6
    assert (weeks[1][1].sign, weeks[1][2].sign) == ("✗", "")
    assert len(month.days_of(date(2024, 2, 1))) == 29
    assert len({sign for sign, _ in month.STATES.values()}) == len(month.STATES)
