"""A call that only catalogue and archive know."""

from tests.catalogue.builders import receipt, row
from worker.catalogue import past


def test_what_somebody_altered_in_a_receipt_is_left_out_and_the_rest_is_shown():
    event = {"at": "2026-09-14T06:30:00.000Z", "event": "RecordingStarted", "by": "Record"}
    gap = {"from": "2026-09-14T06:30:10.000Z", "to": None, "trigger": "pause"}
    odd = [1, None, "x", [], {"at": 1}, {"from": {}}]
    whole = receipt(0) | {
        "events": [*odd, event, event, {**event, "by": ["x"]}],
        "gaps": [*odd, gap],
    }
    others = [{}, {"events": 1, "gaps": "x"}, {"events": None}]
    view = past.call_view([row(0)], [whole, *others])
    assert [e["by"] for e in view["timeline"]] == ["Record", ["x"]]
    assert [(g["recording_id"], g["trigger"]) for g in view["gaps"]] == [("rec-000", "pause")]
