"""Which events are told, and when each is tried."""

from datetime import timedelta

import pytest

from tests.calls.builders import at, begins, call_of, decided, ours, stopped
from worker.calls.events import Kind
from worker.calls.notices import TRIED_FOR, Endpoint, next_try, notices_of


def test_tries_come_after_0_5_and_30_s_5_min_then_hourly_for_three_days():
    offsets = []
    while (due := next_try(len(offsets), at(0))) is not None:
        offsets.append((due - at(0)).total_seconds())
    assert offsets[:7] == [0, 5, 30, 300, 3600, 7200, 10800]
    assert (offsets[-1], len(offsets)) == (TRIED_FOR.total_seconds(), 4 + 72)


def test_each_told_event_has_one_notice_with_an_id_that_never_changes():
    events = [
        begins(0),
        stopped(Kind.STOP_ACCEPTED, 60),
        ours(Kind.STOP_CONFIRMED, 61, recording_id="r"),
        ours(Kind.MEDIA_ARCHIVED, 62, recording_id="r"),
        ours(Kind.ABANDONED, 63, recording_id="other"),
        decided(64, "hold"),
    ]
    first, again = (list(notices_of(call_of(*log), at(70))) for log in (events, events[::-1]))
    assert first == again
    assert [(n.type, n.subject) for n in first] == [
        ("stop.confirmed", "r"),
        ("recording.archived", "r"),
        ("recording.abandoned", "other"),
        ("handoff.decided", "h1"),
    ]
    assert len({n.id for n in first}) == 4


@pytest.mark.parametrize(("days", "told"), [(0, 1), (39, 1), (40.1, 0)])
def test_what_nobody_knows_any_more_whether_it_arrived_is_told_to_nobody(days, told):
    call = call_of(begins(0), ours(Kind.MEDIA_ARCHIVED, 62, recording_id="r"))
    assert len(list(notices_of(call, at(62) + timedelta(days=days)))) == told


def test_a_secret_is_not_in_the_repr_of_its_endpoint():
    endpoint = Endpoint(url="https://a.example/x", secrets=("whsec_c2VjcmV0",), events=frozenset())
    assert "c2VjcmV0" not in repr(endpoint)
