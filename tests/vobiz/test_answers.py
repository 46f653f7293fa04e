"""What the provider's answers mean, as tables; over sockets the same is tried in test_vobiz.py."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import EndtapeError, Refused, TryAgain, WrongPath
from worker.vobiz import answers
from worker.vobiz.answers import Answer, Row

NOW = datetime(2026, 9, 14, 6, 30, tzinfo=UTC)
ENVELOPE = (Path(__file__).parent.parent / "fixtures" / "error_429_envelope.json").read_bytes()
LATER = NOW + timedelta(seconds=100)


@pytest.mark.parametrize(
    ("headers", "body", "after_s"),
    [
        ({"retry-after": "7"}, b"{}", 7),
        ({"retry-after": " 1.5 "}, b"{}", 1.5),
        ({"retry-after": "0"}, ENVELOPE, 0),
        ({"retry-after": "-3"}, b"{}", 0),
        ({"retry-after": format_datetime(LATER, usegmt=True)}, b"{}", 100),
        ({"retry-after": format_datetime(NOW - timedelta(days=1), usegmt=True)}, b"{}", 0),
        ({"retry-after": "soon"}, ENVELOPE, 1),
        ({}, ENVELOPE, 1),
        ({"x-ratelimit-reset": "12"}, b"{}", 12),
        ({"x-ratelimit-reset": str(LATER.timestamp())}, b"{}", 100),
        ({"x-ratelimit-reset": str(LATER.timestamp() * 1000)}, b"{}", 100),
        ({"retry-after": "nan", "x-ratelimit-reset": "inf"}, b"not json", None),
        ({"retry-after": "Mon, 99 Foo 2026"}, b"{}", None),
        ({}, b'{"error": {"details": []}}', None),
        ({}, b'{"error": {"details": {"retryAfter": true}}}', None),
    ],
)
def test_how_long_the_provider_asks_us_to_wait(headers, body, after_s):
    assert (
        answers.wanted_pause_s(Answer(status=429, headers=headers, body=body), now=NOW) == after_s
    )


@pytest.mark.parametrize(
    ("body", "ours"),
    [
        (b"{}", True),
        (b'{"api_id": "a", "error": "call not found"}', True),
        (b'{"status": "failure", "message": "Not Found"}', True),
        (b'{"message": "no such call"}', True),
        (b'{"message":"Not Found"}', False),
        (b'{"message": "not found."}', False),
        (b'{"message":"no Route matched with those values","request_id":"1"}', False),
        (b'{"detail": "Not Found"}', False),
        (b"<html>404</html>", False),
        (b"", False),
        (b"[]", False),
        (b'"gone"', False),
    ],
)
def test_whose_404_it_is(body, ours):
    assert answers.is_gone(Answer(status=404, headers={}, body=body)) is ours
    assert not answers.is_gone(Answer(status=410, headers={}, body=body))


def test_a_row_without_facts_is_still_a_row():
    raw = {
        "recording_id": "r-1",
        "recording_duration_ms": "-1",
        "recording_start_ms": None,
        "from_number": 5,
        "recording_url": 7,
    }
    assert answers.read_row(raw) == Row(recording_id="r-1", from_number="5")
    assert answers.read_row(raw | {"recording_id": "../x"}) is None


def test_the_provider_s_words_and_ticket_are_in_the_message():
    with pytest.raises(
        TryAgain, match=r"429: 'CPS limit exceeded for this trunk' \(req_4c1d9a6b7e\)"
    ):
        answers.expect_success(Answer(status=429, headers={}, body=ENVELOPE), now=NOW)


@given(
    st.integers(100, 599),
    st.one_of(st.binary(max_size=60), st.sampled_from([ENVELOPE, b"{}", b"[" * 100_000])),
)
def test_every_answer_becomes_fields_or_an_error_of_ours(status, body):
    answer = Answer(status=status, headers={}, body=body)
    try:
        outcome = answers.expect_success(answer, now=NOW)
    except EndtapeError as error:
        outcome = error
    assert isinstance(
        outcome,
        dict
        if 200 <= status < 300 and isinstance(outcome, dict)
        else (Refused, TryAgain, WrongPath),
    )
    assert not answers.is_gone(answer) or status == 404


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text("a0-:", max_size=8) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "objects",
                    "recordings",
                    "data",
                    "meta",
                    "next",
                    "recording_id",
                    "call_uuid",
                    "recording_url",
                    "duration",
                    "recording_start_ms",
                    "add_time",
                    "from_number",
                    "recording_duration_ms",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["objects", "recordings", "data", "meta"]), anything, max_size=4
    )
)
def test_no_list_whatever_it_holds_is_an_error(fields):
    page = answers.page(fields)
    assert page is None or all(row.recording_id for row in page.rows)
