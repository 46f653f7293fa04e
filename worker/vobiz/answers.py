"""What an answer of the provider's REST API means: a value, or an error that is named for what to
do about it. Pure.

The provider spells bodies in seven ways and lists in three (observed or documented; see the
fixtures). So we parse every spelling, but trust little: a 2xx with an `error` is no success, and a
gateway's 404 says nothing about a call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any
from urllib.parse import parse_qs, urlsplit

from worker import wire
from worker.calls.completeness import AnsweredCall
from worker.errors import Refused, TryAgain, WrongPath

# Messages of gateways for a route that does not exist. The provider's own was observed; the others
# are those of Kong and FastAPI.
_NO_ROUTE = ("not found", "no route matched with those values")
_APPLICATION_KEYS = ("api_id", "error", "status")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A complete HTTP answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON, or None where it is none."""
        if not self.body:
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What the provider's list says about one recording; None for each fact that is missing."""

    recording_id: str
    call_uuid: str | None = None
    url: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    added_at: datetime | None = None
    duration_s: float | None = None
    format: str | None = None
    recording_type: str | None = None
    from_number: str | None = None
    to_number: str | None = None
    rounded_s: float | None = None  # what storage is charged for
    storage_rate: float | None = None  # for a minute and month
    storage_amount: float | None = None  # for a month, where the provider states it

    @property
    def storage_per_month(self) -> float | None:
        """What a month of keeping it costs, by the provider's own figures; None where it states
        none. In US dollars, by its documentation.
        """
        if self.storage_amount:
            return self.storage_amount
        if self.storage_rate is None or self.rounded_s is None:
            return None
        return round(self.storage_rate * self.rounded_s / 60, 6)


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveCall:
    """What the provider says about a call that is live."""

    from_number: str | None = None
    to_number: str | None = None
    direction: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    rows: list[Row]
    length: int  # rows as sent, readable or not
    next_offset: int | None  # as the provider gives it
    last: bool | None  # whether this is the last page; None where the provider does not say


@dataclass(frozen=True, kw_only=True, slots=True)
class CallRecords:
    """One page of call records: answered calls, each with the instant at which it was answered."""

    answered: list[tuple[datetime, AnsweredCall]]
    last: bool


def is_gone(answer: Answer) -> bool:
    """Whether this is a 404 of the provider's application. A gateway's 404 proves nothing.

    The body `{}` is the application's (seen in the provider's Go SDK). A body that is no JSON
    object is a gateway's.
    """
    if answer.status != 404:
        return False
    body = answer.json()
    return isinstance(body, dict) and not _from_gateway(body)


def _from_gateway(body: dict[str, Any]) -> bool:
    if any(key in body for key in _APPLICATION_KEYS):
        return False
    words = body.get("message") or body.get("detail")
    return isinstance(words, str) and words.strip().rstrip(".").lower() in _NO_ROUTE


def expect_success(answer: Answer, *, now: datetime) -> dict[str, Any]:
    """The JSON object of a 2xx; an empty one where the body holds none.

    For any other answer raises Refused (401, 403), WrongPath (a gateway's 404, a redirect) or
    TryAgain, with the status.
    """
    status, body = answer.status, answer.json()
    fields = body if isinstance(body, dict) else {}
    reason = _reason(fields)
    if status in (401, 403):
        raise Refused(f"the provider answered {status}{reason}", status=status)
    if 300 <= status < 400 or (status == 404 and not is_gone(answer)):
        raise WrongPath(
            f"not the provider's application but a gateway answered, with {status}{reason}: "
            "check VOBIZ_API_URL"
        )
    if not 200 <= status < 300 or fields.get("error"):
        raise TryAgain(
            f"the provider answered {status}{reason}",
            after_s=wanted_pause_s(answer, now=now),
            status=status,
        )
    return fields


def describe(answer: Answer) -> str:
    """One sentence about an answer, for logs and our own callers."""
    body = answer.json()
    return f"the provider answered {answer.status}{_reason(body if isinstance(body, dict) else {})}"


def _reason(fields: dict[str, Any]) -> str:
    error = fields.get("error") or fields.get("message") or ""
    words = error.get("message") or error.get("code") if isinstance(error, dict) else error
    ticket = fields.get("requestId") or fields.get("api_id")  # what the provider's support asks for
    return (f": {str(words)[:200]!r}" if words else "") + (
        f" ({str(ticket)[:64]})" if ticket else ""
    )


def wanted_pause_s(answer: Answer, *, now: datetime) -> float | None:
    """Seconds that the provider asks us to wait, at least 0; None where it does not ask.

    `Retry-After` (seconds or a date), else `error.details.retryAfter` (documented), else
    `X-RateLimit-Reset` (seconds, or an epoch in seconds or milliseconds; read by the provider's
    Python SDK).
    """
    header = answer.headers.get("retry-after", "").strip()
    found = _seconds(header)
    if found is None and header:
        found = _until(header, now)
    if found is None:
        found = _seconds(_dig(answer.json(), "error", "details", "retryAfter"))
    if found is None:
        found = _seconds(answer.headers.get("x-ratelimit-reset"))
        if found is not None and found > 1e9:
            found = (found / 1000 if found > 1e11 else found) - now.timestamp()
    return None if found is None else max(0.0, found)


def _seconds(value: object) -> float | None:
    try:
        found = float(value.strip() if isinstance(value, str) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if isfinite(found) and not isinstance(value, bool) else None


def _until(header: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, TypeError, OverflowError):
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()


def _dig(value: object, *path: str) -> object:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def page(fields: dict[str, Any]) -> Page | None:
    """One page of a list of recordings, or None where there is no list in the answer."""
    found = next(
        (
            fields[key]
            for key in ("objects", "recordings", "data")
            if isinstance(fields.get(key), list)
        ),
        None,
    )
    if found is None:
        return None
    meta = fields.get("meta")
    pointer = meta.get("next") if isinstance(meta, dict) else None
    return Page(
        rows=[row for raw in found if isinstance(raw, dict) and (row := read_row(raw))],
        length=len(found),
        next_offset=_offset(pointer),
        last=not pointer if isinstance(meta, dict) and "next" in meta else None,
    )


def _offset(pointer: object) -> int | None:
    # `meta.next` is a path without the `/api` of the base (documented example), so only its offset
    # is of use.
    try:
        text = parse_qs(urlsplit(str(pointer)).query).get("offset", [""])[-1]
    except ValueError:
        return None
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def read_row(raw: dict[str, Any]) -> Row | None:
    """The facts of one list entry or flat object under any name they were seen under; None without
    a usable id.
    """
    recording_id = wire.identifier(_first(raw, "recording_id", "id"))
    if recording_id is None:
        return None
    milliseconds = wire.number(_first(raw, "recording_duration_ms", "duration_ms"))
    seconds = wire.number(_first(raw, "duration", "recording_duration", "duration_s"))
    return Row(
        recording_id=recording_id,
        call_uuid=wire.identifier(_first(raw, "call_uuid", "call_id")),
        url=_text(_first(raw, "recording_url", "url", "record_url"), limit=4096),
        started_at=wire.instant(_first(raw, "recording_start_ms", "start_time", "started_at")),
        ended_at=wire.instant(_first(raw, "recording_end_ms", "end_time", "ended_at")),
        added_at=wire.instant(_first(raw, "add_time", "created_at")),
        duration_s=wire.seconds(milliseconds or (seconds * 1000 if seconds else None)),
        format=_text(_first(raw, "recording_format", "file_format", "format")),
        recording_type=_text(_first(raw, "recording_type", "type")),
        from_number=wire.digits(_first(raw, "from_number", "from")),
        to_number=wire.digits(_first(raw, "to_number", "to")),
        rounded_s=wire.number(raw.get("rounded_recording_duration")),
        storage_rate=wire.number(raw.get("recording_storage_rate")),
        storage_amount=wire.number(raw.get("monthly_recording_storage_amount")),
    )


def call_records(fields: dict[str, Any], account: str) -> CallRecords | None:
    """One page of the list of call records, or None where there is no list in the answer. Of the
    records only those of answered calls that are over.
    """
    found = fields.get("data")
    if not isinstance(found, list):
        return None
    pages = fields.get("pagination")
    more = bool(pages.get("has_next")) if isinstance(pages, dict) else False
    read = [_call_record(raw, account) for raw in found if isinstance(raw, dict)]
    return CallRecords(answered=[one for one in read if one], last=not more or not found)


def _call_record(raw: dict[str, Any], account: str) -> tuple[datetime, AnsweredCall] | None:
    call_uuid = wire.identifier(raw.get("uuid"))
    answered_at = wire.instant(raw.get("answer_time"))
    ended_at = wire.instant(raw.get("end_time"))
    if not (call_uuid and answered_at and ended_at and wire.number(raw.get("billsec"))):
        return None
    direction = str(raw.get("call_direction") or "").lower()
    call = AnsweredCall(
        account=account,
        call_uuid=call_uuid,
        ended_at=ended_at,
        from_number=wire.digits(raw.get("caller_id_number")),
        to_number=wire.digits(raw.get("destination_number")),
        direction=direction if direction in {"inbound", "outbound"} else None,
        bridge=wire.identifier(raw.get("bridge_uuid")),
    )
    return answered_at, call


def live_calls(fields: dict[str, Any]) -> list[str] | None:
    """The ids in a list of live calls, or None where there is no list in the answer."""
    found = fields.get("calls")
    return (
        list(dict.fromkeys(i for raw in found if (i := wire.identifier(raw))))
        if isinstance(found, list)
        else None
    )


def read_live_call(raw: dict[str, Any]) -> LiveCall:
    direction = str(raw.get("direction") or "").lower()
    return LiveCall(
        from_number=wire.digits(raw.get("from")),
        to_number=wire.digits(raw.get("to")),
        direction=direction if direction in {"inbound", "outbound"} else None,
    )


def _first(raw: dict[str, Any], *names: str) -> object:
    return next((raw[name] for name in names if raw.get(name) not in (None, "")), None)


def _text(value: object, *, limit: int = 64) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= limit else None
