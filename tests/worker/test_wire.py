"""However a value is spelled, reading it gives a value that is safe to use, or None."""

import re
from datetime import UTC, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker import wire

numbers = st.one_of(
    st.floats(),
    st.integers(),
    st.decimals(),
    st.from_regex(r"[+-]?[0-9_eE.]{0,30}"),
    st.text("0123456789.eE+-_ ", max_size=400),
)
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=60),
    st.binary(max_size=20),
    numbers,
    st.lists(st.integers(), max_size=3),
)
stamps = st.one_of(
    st.from_regex(r"[0-9]{1,4}-[0-9]{1,2}-[0-9]{1,2}([T ][0-9:.]{1,20}([+-][0-9:]{1,6}|Z)?)?"),
    st.datetimes().map(str),
    st.datetimes().map(lambda t: t.isoformat()),
)


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


@given(
    st.one_of(
        st.datetimes().map(lambda t: t.isoformat(timespec="milliseconds")),
        st.from_regex(
            r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\.[0-9]{3}",
            fullmatch=True,
        ),
    )
)
@example("2026-02-30T00:00:00.000")
@example("2016-12-31T23:59:60.000")
@example("2026-01-01T24:00:00.000")
def test_an_instant_as_we_spell_it_is_the_same_as_in_any_other_spelling_of_rfc_3339(text):
    found = wire.parse_rfc3339(f"{text}Z")
    assert found == wire.parse_rfc3339(f"{text}+00:00")
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026-09-14", "2026-09-14T00:00:00.000Z", "2026-09-14T23:59:59.999Z"),
        ("2026-09-14T12:00:00+05:30", "2026-09-14T06:30:00Z", "2026-09-14T06:30:00Z"),
    ],
)
def test_a_day_as_a_bound_is_all_of_it_in_utc(text, first, last):
    assert wire.bound(text) == wire.parse_rfc3339(first)
    assert wire.bound(text, end=True) == wire.parse_rfc3339(last)


@pytest.mark.parametrize("text", ["2026-02-30", "14.09.2026", "2026-9-14", "2026-09-14T06:30:00"])
def test_no_other_text_is_a_bound(text):
    assert (wire.bound(text), wire.bound(text, end=True)) == (None, None)


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


NUMBERS = {
    "+918041234567": "918041234567",
    "00918041234567": "918041234567",
    " 080-4123 4567 ": "08041234567",
    "+91 (80) 4123.4567": "918041234567",
    "+91\u00a080\u20114123": "91804123",
    "sip:+918041234567@203.0.113.7:5060": "918041234567",
    "<sip:1001@10.0.0.5:5060;transport=udp>": "1001",
    "tel:+918041234567;phone-context=+91": "918041234567",
    "sips:1001@[2001:db8::7]:5061": "1001",
    "SIP:1001@h": "1001",
    "TEL:+91-80-4123-4567": "918041234567",
    "tel:4567;phone-context=example.com": "4567",
    '"Bob 7" <sip:1001@10.0.0.5>': "1001",
    '"Bob <9>" <sip:1001@10.0.0.5>;tag=9': "1001",
    "Bob 7 <sip:1001@h>": "1001",
    "Bob sip:1001@h": "1001",
    '"a\\"<5>" <tel:42>': "42",
    "<sip:+91804@h>, <tel:+91805>": "91804",
    "<sip:1001@10.0.0.5": "1001",
    "<+918041234567>": "918041234567",
    "sip:1001:secret9@h": "1001",
    "sip:1001;isub=12@10.0.0.5": "1001",
    "sip:+91804;phone-context=+91@10.0.0.5;user=phone": "91804",
    "sip:1001@h?Replaces=9%40x": "1001",
    "sip:%2B918041234567@10.0.0.5": "918041234567",
    "sip:1001%3Bisub=2@10.0.0.5": "1001",
    "918041234567@10.0.0.5:5060": "918041234567",
    "918041234567@example7.com": "918041234567",
    "sip:918041234567": "918041234567",
    "sip:+1001;transport=udp": "1001",
    "sip://1001@10.0.0.5": "1001",
    "sip:00918041234567@h": "918041234567",
    "918041234567;phone-context=+91": "918041234567",
    "+91804123,,9": "91804123",
    "918041234567": "918041234567",
    918041234567: "918041234567",
    "*86": "86",
    "\u202a+9180\u202c": "9180",
    "1.800.555.1234": "18005551234",
}
NONE = [
    "sip:agent7@10.0.0.5",
    "agent7",
    "sip:10.0.0.5:5060",
    "10.0.0.5",
    "10.0.0.5:5060",
    "sip:10.0.0.5",
    "2001:db8::7",
    "sip:[2001:db8::7]:5060",
    "sip:@10.0.0.5",
    "<sip:10.0.0.5;transport=udp>",
    "anonymous",
    "sip:anonymous@anonymous.invalid",
    '"+918041234567" <sip:anonymous@10.0.0.5>',
    "sip:example7.com",
    "archive2",
    "",
    " ",
    None,
    "+",
    "00",
    "sip:",
    "<>",
    "<sip:>",
    "tel:",
    "tel:;phone-context=+91",
    "urn:service:sos7",
    "client:bob_5@10.0.0.5",
    "\u0663\u0664",
    "\uff11\uff12",
    "9\uff11\uff12",
    "1-800-FLOWERS",
    "9" * 41,
    "sip:" + "1" * 5000 + "@h",
    True,
    "sip:1001:5060",
    "unknown@10.0.0.5",
    "sip:;x=1@10.0.0.5",
]


@pytest.mark.parametrize("text", NUMBERS, ids=str)
def test_of_a_sip_or_tel_address_the_user_part_counts(text):
    assert wire.digits(text) == NUMBERS[text]


@pytest.mark.parametrize("text", NONE, ids=lambda t: ascii(t)[:40])
def test_who_has_no_number_gets_none_from_its_host_or_its_name(text):
    assert wire.digits(text) is None


@given(st.from_regex(r"[0-9.:;@<>+%\"a-c \-]{0,40}", fullmatch=True))
def test_whatever_stands_behind_an_at_sign_adds_no_digit(text):
    assert wire.digits(f"sip:{text}@10.0.0.5:5060") in {wire.digits(f"sip:{text}@h"), None}
