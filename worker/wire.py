"""Reads numbers, times, telephone numbers and ids as the provider spells them; shows durations, and
texts without telephone numbers, as people read them. Pure; tolerant by design.

The provider sends every value as a string, durations as `"60040.00000"`, unknown ones as `-1` or an
empty string, and instants in four spellings: epoch milliseconds, ISO 8601 with `T` and `Z`,
`YYYY-MM-DD HH:MM:SS.fffff+05:30`, and without any zone (UTC for `SessionStart`, India's for the
`StartTime`, `AnswerTime` and `EndTime` of a hang-up).
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from urllib.parse import unquote

INDIA = timezone(timedelta(hours=5, minutes=30))
_SANE_YEARS = range(2000, 2200)
# A call ends after a day at the latest, and nothing is longer than the 30 days that it is kept for.
_LONGEST_S = 30 * 86400
_DIGITS = frozenset("0123456789")
_LONGEST_NUMBER = 40
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})"
    r"((?:\.[0-9]+)?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))"
)
# As we spell instants ourselves: the ledger of a day reads tens of thousands of them.
_OURS = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9]\.[0-9]{3}Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LONG_NUMBER = re.compile(r"[0-9]{7,}")  # may be somebody's
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def number(value: object) -> float | None:
    """A finite number above 0, or None: the provider's -1, 0, empty, `nan` and words all mean
    "unknown".
    """
    if value is None or isinstance(value, bool):
        return None
    try:
        exact = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return float(exact) if exact.is_finite() and 0 < exact < Decimal(10) ** 18 else None


def seconds(milliseconds: float | None) -> float | None:
    """A duration in seconds, or None where it is unknown or longer than any call can be."""
    if milliseconds is None or milliseconds / 1000 > _LONGEST_S:
        return None
    return milliseconds / 1000


def length(milliseconds: float) -> str:
    """A duration as people read it: `850 ms`, `2.3 s`, `4:05 min`, `1:04:05 h`."""
    sign, rest = ("-" if milliseconds < 0 else ""), abs(milliseconds)
    if rest < 1000:
        return f"{sign}{rest:.0f} ms"
    if rest < 60_000:
        return f"{sign}{rest / 1000:.1f} s"
    minutes, seconds = divmod(round(rest / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return sign + (
        f"{hours}:{minutes:02}:{seconds:02} h" if hours else f"{minutes}:{seconds:02} min"
    )


def instant(value: object, *, naive: timezone = UTC) -> datetime | None:
    """Any of the four spellings as aware UTC, or None. `naive` is the zone of a time that is spelt
    without one.
    """
    text = str(value or "").strip()
    milliseconds = number(text)
    try:
        if milliseconds is not None:
            at = datetime.fromtimestamp(milliseconds / 1000, UTC)
        else:
            at = datetime.fromisoformat(_six_digits(text))
            at = at.replace(tzinfo=naive) if at.tzinfo is None else at
    except (ValueError, OverflowError, OSError):
        return None
    return at.astimezone(UTC) if at.year in _SANE_YEARS else None


def parse_rfc3339(text: str | None) -> datetime | None:
    """An instant as our own callers must spell it, in RFC 3339 with its zone, as aware UTC; None
    for any other text, and for None.
    """
    if not text:
        return None
    if _OURS.fullmatch(text):
        return _sane(text)
    match = _RFC3339.fullmatch(text)
    if not match:
        return None
    day, clock, seconds, rest = match.groups()
    if seconds != "60":
        return instant(f"{day}T{clock}:{seconds}{rest.upper()}")
    # A leap second comes only at the end of a day, in UTC.
    before = instant(f"{day}T{clock}:59{rest.upper()}")
    if before is None or (before.hour, before.minute) != (23, 59):
        return None
    return before.replace(microsecond=0) + timedelta(seconds=1)


def bound(text: str, *, end: bool = False) -> datetime | None:
    """A bound of a search: an instant as `parse_rfc3339` takes it, or a date such as `2026-09-14`,
    which means that day in UTC: its first instant, or with `end` its last millisecond. None for any
    other text.
    """
    if not _DATE.fullmatch(text):
        return parse_rfc3339(text)
    return parse_rfc3339(f"{text}T23:59:59.999Z" if end else f"{text}T00:00:00.000Z")


def _sane(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.year in _SANE_YEARS else None


def digits(value: object) -> str | None:
    """A telephone number as digits, without `+` or a leading `00`; None where there is none.

    Of a SIP or `tel:` address only the user part counts, never a digit of the host. A user whose
    name has a letter (`sip:agent7@host`, `anonymous`) has no number.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit():
        written = value if len(value) <= _LONGEST_NUMBER else None
    else:
        written = bare_digits(user_part(value))
    return written.removeprefix("00") or None if written else None


def number_pattern(text: str) -> str | None:
    """A number to look for as digits, with a `*` at either end where the text has one; None where
    it holds no digit.
    """
    text = text.strip()
    found = digits(text.strip("*"))
    if found is None:
        return None
    return f"{'*' * text.startswith('*')}{found}{'*' * text.endswith('*')}"


def bare_digits(text: str) -> str | None:
    """The digits of a number that may hold spaces, brackets, dashes and dots; None where the text
    is no number.
    """
    if any(char.isalnum() and char not in _DIGITS for char in text):
        return None
    digits = "".join(char for char in text if char in _DIGITS)
    return digits if 0 < len(digits) <= _LONGEST_NUMBER else None


def without_numbers(text: str) -> str:
    """The text with `…` in the place of each run of seven digits or more: telephone numbers stand
    in receipts only.
    """
    return _LONG_NUMBER.sub("…", text)


def user_part(value: object) -> str:
    """The user of a SIP or `tel:` address: `1001` of
    `"Bob" <sip:1001;isub=2@10.0.0.5:5060;transport=udp>`. Empty where the address names no user.
    """
    text = "" if isinstance(value, bool) else str(value if value is not None else "").strip()
    inside = re.match(r'(?:"(?:[^"\\]|\\.)*"|[^<"])*<([^>]*)', text)
    text = inside[1] if inside else text
    scheme = re.search(r"(?:^|\s)(sips?|tel):(?://)?", text, re.IGNORECASE)
    address = text[scheme.end() :] if scheme else text
    user, at, _ = address.partition("@")
    if (
        not at
        and (scheme is None or scheme[1].lower() != "tel")
        and _is_host(address, bare=scheme is None)
    ):
        return ""
    return re.split("[;:@,?]", unquote(user))[0]


def _is_host(address: str, *, bare: bool) -> bool:
    # Without `@` a SIP address has no user. But some senders leave out the host, so plain digits
    # count as a number.
    named = re.split("[;?]", address)[0].strip()
    if not bare:
        return not re.fullmatch(r"\+?[0-9]+", named)
    try:
        ipaddress.IPv4Address(named)
    except ValueError:
        return ":" in named
    return True


def identifier(value: object) -> str | None:
    """An opaque id of at most 128 safe characters, or None. Ids become parts of keys and file
    names, so no other character may pass.
    """
    text = str(value or "").strip()
    return text if _ID.fullmatch(text) else None


def _six_digits(text: str) -> str:
    # Five-digit fractions occur (`12:05:27.79276+05:30`); Python 3.11 reads three or six.
    return re.sub(r"\.(\d+)", lambda m: "." + m.group(1)[:6].ljust(6, "0"), text)
