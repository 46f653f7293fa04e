"""However a value is spelled, reading it gives a value that is safe to use, or None."""

import re
from datetime import UTC, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from worker import wire

numbers = st.one_of(st.floats(), st.integers(), st.decimals(), st.from_regex(r"[+-]?[0-9_eE.]{0,30}"), st.text("0123456789.eE+-_ ", max_size=400))
anything = st.one_of(st.none(), st.booleans(), st.text(max_size=60), st.binary(max_size=20), numbers, st.lists(st.integers(), max_size=3))
stamps = st.one_of(st.from_regex(r"[0-9]{1,4}-[0-9]{1,2}-[0-9]{1,2}([T ][0-9:.]{1,20}([+-][0-9:]{1,6}|Z)?)?"), st.datetimes().map(str), st.datetimes().map(lambda t: t.isoformat()))


@given(anything)
@example("1e999999999")
@example("9" * 5000)
@example("１２")
@example("-0")
def test_a_number_is_above_nothing_and_finite_or_none(value):
    found = wire.number(value)
    assert found is None or 0 < found <= 1e18
    milliseconds = wire.seconds(found)
    assert milliseconds is None or 0 <= milliseconds <= timedelta(days=30).total_seconds()


@given(st.one_of(anything, stamps))
@example("0001-01-01T00:00:00+23:59")
@example("9999-12-31T23:59:59-23:59")
@example("253402300800000")
@example("2026-W01-1")
def test_an_instant_is_in_a_sane_year_and_in_utc_or_none(value):
    for naive in (UTC, wire.INDIA):
        found = wire.instant(value, naive=naive)
        assert found is None or (found.tzinfo is UTC and 1999 <= found.year <= 2200)


@given(anything)
@example("a\n")
@example("a" * 129)
@example("é")
@example("../a")
def test_an_id_is_a_harmless_file_name_and_key_or_none(value):
    found = wire.identifier(value)
    assert found is None or re.fullmatch(r"[A-Za-z0-9_-]{1,128}", found)


@given(anything)
@example("٣٤")
def test_a_telephone_number_is_plain_digits_or_none(value):
    found = wire.digits(value)
    assert found is None or re.fullmatch(r"[0-9]+", found)
