"""How `endtape watch` and `run` print one event."""

import pytest

from worker.calls.events import Event, Kind
from worker.command import event_lines

CALL, RECORDING = "ca11aaa1-0000-4000-8000-aaaaaaaaaaaa", "4ec04d1f-0000-4000-8000-bbbbbbbbbbbb"
WHY = (
    "not fetched in the 30 days that the provider keeps recordings; last: the provider does not "
    f"list recording {RECORDING}"
)
EVENT = Event(id="e", kind=Kind.FETCH_FAILED, call_uuid=CALL, recording_id=RECORDING, reason=WHY)


@pytest.mark.parametrize("width", [20, 80, 120, 200])
def test_an_event_on_a_terminal_keeps_every_word(width):
    text = event_lines.text("MA_1", EVENT, width=width)
    assert text.split() == [
        word
        for word in event_lines.text("MA_1", EVENT, width=None).split()
        if width >= 120 or word not in {CALL, "MA_1"}
    ]
    first, *below = text.splitlines()
    assert first.startswith(f"- {EVENT.kind.value}")
    assert below
    assert all(line.startswith("  ") for line in below)
    assert max(map(len, text.splitlines())) <= max(width, 40)


def test_an_event_in_a_pipe_is_one_line_whatever_its_length():
    text = event_lines.text("MA_1", EVENT, width=None)
    assert (text.count("\n"), text.endswith(f"list recording {RECORDING}")) == (0, True)
