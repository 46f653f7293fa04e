"""How calls, recordings, stops and hand-offs look from outside."""

import json
import time
from datetime import timedelta

import pytest

from tests.calls.builders import (
    RULES,
    asked,
    at,
    begins,
    call_of,
    decided,
    ends,
    event,
    ours,
    start,
    stopped,
)
from worker.calls.call import StopState
from worker.calls.events import Fault, Kind
from worker.calls.rules import Rules, Terms
from worker.calls.stop_state import judge
from worker.calls.views import (
    call_view,
    handoff_view,
    judging,
    recording_view,
    recordings_shown,
    rfc3339,
    stop_view,
    stops_view,
    transfer_state,
)

ACCEPTED = stopped(Kind.STOP_ACCEPTED, 60)
ARCHIVED = ours(
    Kind.MEDIA_ARCHIVED, 70, recording_id="r", archive_key="k.mp3", format="mp3", bytes=9, sha256="5e"
)  # fmt: skip


def test_instants_are_written_in_utc_with_milliseconds():
    assert rfc3339(at(0.0625)) == "2026-09-14T06:30:00.062Z"
    assert rfc3339(None) is None


def test_a_recording_shows_its_file_once_it_is_archived():
    call = call_of(begins(0), ACCEPTED, ends(61, duration_s=61.0), ARCHIVED)
    view = recording_view(call, call.recordings["r"], RULES, at(80))
    shown = {name: view[name] for name in ("phase", "bytes", "sha256", "archive_key", "format")}
    assert shown == {
        "phase": "archived",
        "bytes": 9,
        "sha256": "5e",
        "archive_key": "k.mp3",
        "format": "mp3",
    }
    assert (view["duration_ms"], view["problem"], view["fault"]) == (61_000, None, None)


def test_a_recording_that_cannot_be_fetched_shows_why_and_whose_fault_it_is():
    failed = ours(Kind.FETCH_FAILED, 70, recording_id="r", fault=Fault.STORAGE, reason="disk full")
    call = call_of(ends(61), failed)
    view = recording_view(call, call.recordings["r"], RULES, at(80))
    assert (view["phase"], view["problem"], view["fault"]) == ("fetching", "disk full", "storage")


def test_a_stop_shows_a_problem_only_where_it_has_one():
    call = call_of(begins(0), ACCEPTED)
    view = stop_view(judge(call, call.recordings["r"], RULES, at(61)))
    assert (view["state"], view["due_at"], view["attempts"]) == ("accepted", rfc3339(at(60)), 1)
    assert "problem" not in view


def test_several_stops_are_summed_up_by_the_one_that_is_furthest_from_proven():
    call = call_of(begins(0), begins(0, "s"), ACCEPTED, ends(61), ours(Kind.STOP_ORDERED, 62))
    view = stops_view(call, list(call.recordings.values()), judging(call, RULES, at(65)))
    assert [r["recording_id"] for r in view["recordings"]] == ["r", "s"]
    assert [r["stop"]["state"] for r in view["recordings"]] == ["confirmed", "due"]
    assert view["stop"]["state"] == StopState.DUE
    assert stops_view(call, [], judging(call, RULES, at(65)))["stop"] is None


def test_a_known_recording_is_judged_once_for_many_questions():
    call = call_of(begins(0), ACCEPTED)
    stop_of = judging(call, RULES, at(65))
    recording = call.recordings["r"]
    assert stop_of(recording) is stop_of(recording)


def test_the_unseen_recording_is_summed_up_but_not_listed():
    call = call_of(asked(5), decided(9, "hold", reason="no proof"))
    view = handoff_view(call, call.handoffs["h1"], RULES, at(10))
    assert (view["verdict"], view["kind"], view["action"]) == ("hold", "transfer.blind", "stop")
    assert (view["stop"]["state"], view["recordings"]) == ("due", [])
    assert "transfer" not in view


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([decided(6, "hold")], "not_sent"),
        ([decided(6, by="api")], "not_sent"),
        ([decided(6, by="us")], "unknown"),
        ([decided(6, by="us"), ours(Kind.TRANSFER_SENT, 7, order="h1")], "sent"),
        ([decided(6, by="us"), ours(Kind.TRANSFER_FAILED, 7, order="h1")], "failed"),
        ([decided(6, by="us"), ours(Kind.TRANSFER_UNCLEAR, 7, order="h1")], "unknown"),
    ],
)
def test_what_became_of_the_providers_transfer(events, state):
    call = call_of(asked(5, body={"legs": "aleg"}), *events)
    assert transfer_state(call.handoffs["h1"]) == state
    assert handoff_view(call, call.handoffs["h1"], RULES, at(10))["transfer"] == state


def test_a_call_shows_everything_as_json_can_write_it():
    order, sent, unclear = start()
    call = call_of(
        event(Kind.CALL_SEEN, 0, from_number="91", to_number="92", direction="inbound"),
        begins(0),
        ours(Kind.PAUSE_ORDERED, 10, reason="card"),
        ends(11),
        order,
        sent,
        unclear,
        asked(12),
        decided(13),
        asked(14, "h2"),
    )
    view = call_view(call, RULES, at(20))
    assert json.loads(json.dumps(view)) == view
    assert (view["from"], view["to"], view["direction"]) == ("91", "92", "inbound")
    assert [(g["recording_id"], g["trigger"], g["to"]) for g in view["gaps"]] == [
        ("r", "pause", None)
    ]
    assert [s["state"] for s in view["starts"]] == ["unknown"]
    assert [h["handoff_id"] for h in view["handoffs"]] == ["h1"], "only those that are decided"
    assert len(view["timeline"]) == len(call.events)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        (start()[:1], "ordered"),
        (start()[:2], "ordered"),
        (start(), "unknown"),
        ([*start()[:2], ours(Kind.START_FAILED, 3, order="s1")], "failed"),
        ([*start()[:2], ours(Kind.START_ACCEPTED, 3, order="s1", recording_id="r")], "started"),
    ],
)
def test_how_far_a_start_came(events, state):
    assert [s["state"] for s in call_view(call_of(*events), RULES, at(9))["starts"]] == [state]


def test_what_a_call_shows_grows_with_its_hand_offs_and_not_with_their_square():
    def took(number):
        events = [event(Kind.CALL_SEEN, 0), begins(0)]
        for i in range(number):
            second = 10 + 3 * i
            sent = stopped(Kind.STOP_ACCEPTED, second + 0.1, trigger="transfer.blind", due_at=at(second))  # fmt: skip
            word = "go" if i % 2 else "hold"
            events += [asked(second, f"h{i}"), sent, decided(second + 1, word, f"h{i}")]
        call = call_of(*events)
        assert len(call.handoffs) == number
        began = time.process_time()
        assert len(call_view(call, RULES, at(20_000))["handoffs"]) == number
        return time.process_time() - began

    few, many = (min(took(number) for _ in range(3)) for number in (100, 800))
    assert many < 24 * few, "eight times as many took the square of that, 64 times as long"


CONSENT = Rules(
    defaults=Terms(
        max_duration=timedelta(seconds=60),
        consent_required=True,
        consent_within=timedelta(seconds=30),
        tail_limit=timedelta(seconds=1),
    )
)


@pytest.mark.parametrize(
    ("events", "changes"),
    [
        ([begins(0)], [30]),
        ([begins(0), begins(10, "r2")], [30, 40]),
        ([begins(0), ours(Kind.CONSENT_GIVEN, 5, body={"kind": "verbal"})], [60]),
        ([begins(0, max_duration_s=20.0)], [30]),
        ([begins(0), ACCEPTED], [30]),
        ([begins(15), ends(20)], [45]),
        ([begins(0), ACCEPTED, ends(61, duration_s=61.0), ARCHIVED], []),
    ],
)
def test_what_is_shown_stays_the_same_until_the_instant_that_it_names(events, changes):
    call, found = call_of(*events), []
    shown = recordings_shown(call, CONSENT, at(0))
    for now in (at(seconds / 2) for seconds in range(200)):
        if shown.until and now >= shown.until:
            before, shown = shown, recordings_shown(call, CONSENT, now)
            found += [now] if shown.views != before.views else []
        assert shown.views == {
            i: recording_view(call, r, CONSENT, now) for i, r in call.recordings.items()
        }
    assert found == [at(seconds) for seconds in changes]
