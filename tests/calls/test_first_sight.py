"""How a recording became known where callbacks were lost."""

import pytest

from tests.calls.builders import RULES, T0, at, begins, call_of, ends, event
from worker.calls.events import Kind
from worker.calls.first_sight import told_late
from worker.calls.views import call_view


def listed(seconds, **facts):
    facts = {"recording_id": "r", "started_at": T0, **facts}
    return event(Kind.RECORDING_LISTED, seconds, **facts)


ENDED = {"ended_at": at(30), "duration_s": 30.0}
LIST = "first known from the provider's list at 06:3"


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([listed(44, **ENDED)], f"no callback told of it; {LIST}0:44, 14.0 s after its end"),
        ([listed(90)], f"no callback told of it; {LIST}1:30, 30.0 s after it was to end"),
        ([listed(20)], f"no callback told of it; {LIST}0:20"),
        ([listed(44, **ENDED), ends(50)], f"no callback told of it until 06:30:50; {LIST}0:44, 20.0 s"),
        ([begins(0), listed(44, **ENDED)], None),
        ([event(Kind.RECORDING_ANNOUNCED, 1, recording_id="r"), listed(44)], None),
    ],
)  # fmt: skip
def test_what_the_list_told_first_is_said_with_how_late_it_was(events, says):
    shown = call_view(call_of(*events), RULES, at(100))
    told = told_late(shown["recordings"][0], shown["timeline"])
    assert told == says or (says and told and told.startswith(says[:-6]))
