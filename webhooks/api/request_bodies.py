"""The bodies that our callers may send, field by field. A refusal names the unknown field or the
impossible value.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from webhooks.api.problems import Problem
from webhooks.body import read_body
from worker import wire
from worker.calls import terms_file

T = TypeVar("T", bound=Struct)
# Python's `$` also matches before a final newline, which would come into ids and the log of a call.
_END = r"$(?!\n)"
Text = Annotated[str, Meta(min_length=1, max_length=200)]
Identifier = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-]{1,128}" + _END, description="an id: letters, digits, `_` and `-`"
    ),
]
Label = Annotated[str, Meta(min_length=1, max_length=64)]
Labels = Annotated[dict[Label, Annotated[str, Meta(max_length=256)]], Meta(max_length=32)]
Wait = Annotated[float, Meta(ge=0, le=30, description="seconds to wait for the proof")]
Duration = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,9}[smhd]" + _END,
        description='a duration of at least 1s like "45s", "15m" or "2h"',
    ),
]
Address = Annotated[
    str,
    Meta(
        pattern=r"^https?://[!-~]{1,1990}" + _END,
        description="an http or https address of plain characters",
    ),
]
Kind = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9_-]{1,40}" + _END,
        description="`blind`, `attended`, `conference`, `ai_to_human`, or any word used in rules",
    ),
]
Number = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=300,
        description="a telephone number, or a SIP or tel: address, whose user part counts",
    ),
]
Instant = Annotated[str, Meta(min_length=10, max_length=40, description="RFC 3339, with its zone")]
Account = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        description="may be left out where there is one account, or where one alone knows the call",
    ),
]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors write one at the beginning of a file
_PATTERNS: list[Meta] = [get_args(kind)[1] for kind in (Identifier, Duration, Address, Kind)]


class _Body(Struct, forbid_unknown_fields=True, kw_only=True):
    account: Account | None = None


class StartBody(_Body):
    max_duration: Duration | None = None
    format: Literal["mp3", "wav"] | None = None
    channels: Annotated[int, Meta(ge=1, le=2)] | None = None
    labels: Labels = {}


class AnnouncedRecording(Struct, forbid_unknown_fields=True, kw_only=True):
    """One of `recording_id` and `url` is needed; the id stands in the provider's own addresses."""

    recording_id: Identifier | None = None
    url: Address | None = None
    started_at: Instant | None = None


class ConsentBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """That the parties agreed to be recorded: `kind` is needed, unless it is `withdrawn`."""

    kind: Annotated[str, Meta(min_length=1, max_length=60)] | None = None
    at: Instant | None = None
    by: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    evidence: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    withdrawn: bool = False

    def names(self) -> dict[str, str]:
        """What was given of kind, who and evidence."""
        given = {"kind": self.kind, "by": self.by, "evidence": self.evidence}
        return {name: value for name, value in given.items() if value is not None}


class CallBody(_Body, rename={"from_": "from"}):
    """`recordings: []` declares that nothing is being recorded on the call."""

    recordings: Annotated[list[AnnouncedRecording], Meta(max_length=50)] | UnsetType = UNSET
    started_at: Instant | None = None
    from_: Number | None = None
    to: Number | None = None
    direction: Literal["inbound", "outbound"] | None = None
    labels: Labels = {}
    consent: ConsentBody | None = None


class StopBody(_Body):
    """Without `recording_id` and `url` all recordings of the call are meant."""

    recording_id: Identifier | None = None
    url: Address | None = None
    reason: Text | None = None
    wait_s: Wait = 0


class ResumeBody(_Body):
    reason: Text | None = None
    wait_s: Wait = 10


class HandoffBody(_Body):
    kind: Kind | None = None
    to: Text | None = None
    wait_s: Wait = 3
    reason: Text | None = None
    labels: Labels = {}
    transfer: (
        Annotated[
            dict[str, Any],
            Meta(
                min_length=1,
                max_length=20,
                description="the body of the provider's transfer request, which we send on go",
            ),
        ]
        | None
    ) = None


class FailedBody(_Body):
    reason: Text | None = None
    wait_s: Wait = 3


class EventBody(Struct, kw_only=True):
    """`custom.NAME` of a call; or any request of the provider's, with its own fields, as a form or
    as JSON.
    """

    event: Text
    call_uuid: Identifier
    reason: Text | None = None


class ConsentEventBody(ConsentBody, kw_only=True):
    """Consent of a call as an event: its fields stand beside `event`, or in `consent`."""

    event: Literal["consent"]
    call_uuid: Identifier
    account: Account | None = None
    consent: ConsentBody | None = None


class ReasonBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """`reason` is needed, here or in the query."""

    reason: Text | None = None


class RetryBody(Struct, forbid_unknown_fields=True, kw_only=True):
    reason: Text | None = None


def read(kind: type[T]) -> T:
    """The request's body; an absent one counts as an empty object. Raises Problem 400 that names
    the field, RequestEntityTooLarge.
    """
    return decode(read_body(), kind)


def decode(raw: bytes, kind: type[T]) -> T:
    """The same for a body that is read already."""
    try:
        return msgspec.json.decode(raw.removeprefix(_BYTE_ORDER_MARK) or b"{}", type=kind)
    except msgspec.ValidationError as error:
        field, says = _field(str(error)), _plainly(str(error))
        raise Problem(400, f"{field}: {says}" if field else says, field=field) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"the body is not JSON: {str(error)[:100]}") from None


def _plainly(message: str) -> str:
    """Msgspec's message without the place. Where it shows only a pattern: that pattern in words."""
    text = message.partition(" - at ")[0]
    for meta in _PATTERNS:
        if meta.description and repr(meta.pattern) in text:
            return f"must be {meta.description}"
    return text


def _field(message: str) -> str | None:
    """The field that msgspec's message is about, as a path; None where it is the body itself."""
    unknown = re.search(r"unknown field `([^`]{0,80})`", message)
    place = re.search(r"`\$\.?([^`]*)`$", message)
    inside = place[1] if place else ""
    return f"{inside}.{unknown[1]}".lstrip(".") if unknown else inside or None


def instant(text: str | None, field: str) -> datetime | None:
    """An instant that a caller sent, from a body or a query, as aware UTC. Raises Problem 400."""
    if text is None:
        return None
    at = wire.parse_rfc3339(text)
    if at is None:
        raise Problem(
            400,
            f"{field}: {text[:40]!r} is no instant with its zone, like 2026-09-14T06:30:00Z or"
            " 2026-09-14T12:00:00+05:30 (in a query `+` is written %2B)",
            field=field,
        )
    return at


def seconds(text: str | None, field: str) -> float | None:
    """A duration that a caller sent, in seconds. Raises Problem 400."""
    if text is None:
        return None
    duration: timedelta | None = terms_file.duration(text)
    if duration is None:
        raise Problem(
            400,
            f'{field}: {text!r} is no duration of at least 1s like "45s", "15m" or "2h"',
            field=field,
        )
    return duration.total_seconds()
