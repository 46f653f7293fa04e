"""What the console's pages draw and say, without a server."""

import shutil
import socket
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from webhooks.console import sound, words
from webhooks.console.services import services
from webhooks.console.trouble import troubles
from worker.calls.obligations import Duty
from worker.catalogue import last_hour
from worker.catalogue.board import Board
from worker.catalogue.last_hour import Hour


def view(**stop):
    return {
        "started_at": "2026-09-14T06:30:00.000Z",
        "ended_at": "2026-09-14T06:31:00.100Z",
        "duration_ms": 60_100,
        "stop": {"due_at": "2026-09-14T06:31:00.000Z", "tail_ms": 100, **stop},
    }


OUTLINE = {"bucket_ms": 100, "channels": [[0, 255] * 300 + [0], [128] * 601]}


def test_the_marks_lie_on_the_axis_of_the_sound_and_the_tail_from_the_trigger_to_its_end():
    drawn = sound.drawn(view(confirmed_at="2026-09-14T06:31:00.300Z"), OUTLINE)
    assert [(m.word, m.at_ms, m.after_ms) for m in drawn.marks] == [
        ("trigger", 60_000, None),
        ("end", 60_100, 100),
        ("proof", 60_300, 300),
    ]
    whole, near = drawn.whole, drawn.near
    assert whole.to_ms == 60_300
    places = dict(whole.marks)
    assert places["proof"] == 1000
    assert places["trigger"] == pytest.approx(60_000 / 60_300 * 1000, abs=0.1)
    assert whole.end_x == places["end"]
    assert (near.from_ms, near.to_ms) == (59_700, 60_600)
    assert dict(near.marks) == {"trigger": 333.3, "end": 444.4, "proof": 666.7}
    assert near.tail == (333.3, 111.1)
    assert len(near.lanes) == 2
    assert near.height == 120


def test_nothing_is_drawn_beyond_the_sound_and_far_marks_are_only_listed():
    late = sound.drawn(view(confirmed_at="2026-09-14T09:00:00.000Z"), OUTLINE)
    assert late.whole.to_ms == 60_100
    assert "proof" not in dict(late.whole.marks)
    assert late.marks[-1].word == "proof"
    for drawing in (late.whole, late.near):
        for path in drawing.lanes if drawing else []:
            points = path.removeprefix("M").removesuffix(" Z").split(" L")
            across = [float(point.split(",")[0]) for point in points]
            assert min(across) >= 0
            assert max(across) <= drawing.end_x


def test_a_recording_without_length_start_or_outline_is_drawn_as_far_as_it_is_known():
    nothing = {"started_at": None, "ended_at": None, "duration_ms": None, "stop": {}}
    assert sound.drawn(nothing, None) is None
    bare = sound.drawn(nothing | {"duration_ms": 5000}, None)
    assert (bare.marks, bare.whole.lanes, bare.near) == ([], [], None)
    assert sound.drawn(nothing, OUTLINE).duration_ms == 60_100
    empty = sound.drawn(nothing | {"duration_ms": 5000}, {"bucket_ms": 20, "channels": [[]]})
    assert empty.whole.lanes == [""]


def test_a_chart_counts_each_value_in_the_first_bar_that_holds_it():
    chart = last_hour.chart("Lateness", "late", [-3.0, 5.0, 5.1, 20.0, 99.0, 5000.0], (5, 20, 100))
    assert [(name, count) for name, count, _ in chart.bars] == [
        ("≤ 5 ms", 2),
        ("≤ 20 ms", 2),
        ("≤ 100 ms", 1),
        ("> 100 ms", 1),
    ]
    assert [height for *_, height in chart.bars] == [1, 1, 0.5, 0.5]
    assert (chart.count, chart.most_ms) == (6, 5000)
    assert last_hour.chart("Tail", "", [], (5,)).middle_ms is None


BOARD = {
    "at": datetime(2026, 9, 14, tzinfo=UTC),
    "in_flight": 0,
    "coming": 0,
    "degraded": {},
    "alive": {},
    "undelivered": 0,
    "is_cut": False,
    **{
        name: []
        for name in ("running", "unproven", "failing", "abandoned", "waiting", "halted", "missing")
    },
}


def test_nothing_is_wrong_where_all_runs_and_what_may_still_record_comes_first():
    assert troubles(Board(**BOARD), {}, Hour()) == []
    assert (
        troubles(Board(**BOARD | {"failing": [{}]}), {}, Hour()) == []
    )  # is tried again by itself
    wrong = {"unproven": [{}], "missing": ["clock"], "abandoned": [{}], "undelivered": 2}
    overdue = {Duty.PLAN: (3, timedelta(seconds=12)), Duty.FETCH: (2, timedelta(seconds=12))}
    hour = Hour(to_explain=({"started_at": "2026-09-14T06:30:00.000Z"},))
    said = troubles(Board(**BOARD | wrong | {"is_cut": True}), overdue, hour)
    ledger = "/days/2026-09-14/unexplained"
    pages = [None, "/system", "/system", ledger, "/not-home", "/notifications", None]
    assert [one.page for one in said] == pages
    assert "3 calls to plan and stop: due and not begun, the oldest for 12.0 s" in said[2].says
    assert said[0].says.startswith("1 recording has no proof of the end")


def test_what_a_machine_reports_of_archive_and_catalogue_is_told_and_its_disk_is_left_alone(
    tmp_path, monkeypatch
):
    settings = SimpleNamespace(spool=tmp_path, archive=tmp_path, catalog="sqlite:///c.db")
    well = {one.name: one.says for one in services(Board(**BOARD), {}, settings) if one.is_well}
    assert well["Archive"] == "directory: takes what it is given"
    assert {"Disk of the archive", "Disk of the spool", "Catalogue"} <= well.keys()
    here = socket.gethostname()
    degraded = {f"archive@{here}": "hangs", "archive@other": "hangs", f"catalog@{here}": "away"}
    board = Board(**BOARD | {"degraded": degraded})
    monkeypatch.setattr(shutil, "disk_usage", {tmp_path: SimpleNamespace(free=2e9)}.pop)
    wrong = {one.name: one.says for one in services(board, {}, settings) if not one.is_well}
    assert (wrong["Archive"], wrong["Catalogue"]) == ("hangs", "away")
    assert wrong["Disk of the archive"] == "hangs"  # and only the spool's was looked at


@pytest.mark.parametrize(
    ("event", "signed", "by", "word"),
    [
        ("RecordingStarted", True, "Record", "signed"),
        ("RecordingStarted", False, "Record", "claimed"),
        ("RecordingListed", False, None, "confirmed"),
        ("StopAccepted", False, None, "ours"),
        ("HandoffDecided", False, "api", "ours"),
        ("StopOrdered", False, "anna", "order"),
        ("RecordingHeld", False, "anna", "order"),
        ("RecordingReleased", False, "cli:root", "order"),
        ("EraseBegun", False, "anna", "order"),
        ("EraseBegun", False, "rule:sales", "ours"),
        ("RecordingStarted", False, "rule:sales", "claimed"),
        ("CallAnnounced", False, "api", "claimed"),
    ],
)
def test_each_event_says_how_sure_it_is(event, signed, by, word):
    assert words.sureness({"event": event, "signed": signed, "by": by})[0] == word


def test_spans_sizes_and_numbers_are_readable():
    times = [None, -850, 0, 2340, 59_999, 245_000, 3_845_000]
    assert [words.span(ms) for ms in times] == ["–", "-850 ms", "0 ms", "2.3 s", "60.0 s", "4:05 min", "1:04:05 h"]  # fmt: skip
    assert [words.size(n) for n in (None, 12, 496_000, 2_000_000)] == ["–", "12 B", "496.0 kB", "2.0 MB"]  # fmt: skip
    assert [words.masked(n) for n in (None, "100", "918065550101")] == [None, "…", "91…01"]
