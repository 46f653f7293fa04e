"""The provider's fields in a request, in whatever encoding it came. Pure.

Sources disagree about case, names and encodings, so every variant that a source shows is
accepted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

MAX_FIELDS = 100
_TELLING = {"event", "recordingid", "dialstatus"}  # a request without any of them is no event
_TRANSCRIPT = {"transcription", "transcriptionid"}
_REST = {  # the provider's own spelling, for a recording that REST started
    "api_id",
    "record_url",
    "call_uuid",
    "recording_id",
    "recording_duration",
    "recording_duration_ms",
    "recording_start_ms",
    "recording_end_ms",
    "transcription",
    "transcription_id",
}
_TRUNK_EVENT = "recording.completed"
_TRUNK = {  # its fields beside those that begin with a capital
    "event",
    "call_uuid",
    "recording_id",
    "recording_url",
    "recording_duration_sec",
    "from_number",
    "to_number",
    "started_at",
}
_FINISHED = {"recordurl", "recordingduration", "recordingdurationms"}
_PART_NAME = re.compile(
    r'^content-disposition:[^\n]*[;\s]name=(?:"([^"\n]*)"|([^;\s]+))', re.IGNORECASE | re.MULTILINE
)
_MARK = "\ufeff"  # a byte order mark
_EDGE = _MARK + " \t\r\n"
_LONGEST_NAME = 40  # characters; a longer one is not remembered
Fields = dict[str, str]


class Unreadable(Exception):
    """The body, or an id in it, cannot be read. The message says why, and is safe to log."""


class Nothing(Unreadable):
    """The request has no field of the provider's: somebody checks whether the address answers."""


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """The content of a request. `fields` by normalised name: lower case, without `_` and `-`;
    `form` as it was sent.
    """

    fields: Fields
    form: tuple[tuple[str, str], ...] = ()


def read_fields(*, body: bytes, content_type: str, query: str) -> ParsedRequest:
    """The fields of a request, in whatever encoding they came. Raises Unreadable, Nothing.

    They are taken from the body, and from the query only if there is no body: the operator may
    have put parameters of its own into the callback URL.
    """
    text = body.decode("utf-8", "replace").strip(_EDGE)
    kind = content_type.partition(";")[0].strip().lower()
    is_multipart = kind.startswith("multipart/")
    parts = _multipart(text, content_type) if is_multipart or text.startswith("--") else None
    form: list[tuple[str, str]] = []
    if text.startswith(("{", "[")):
        pairs = _json(text)
        doubtful = False
    else:
        form = _form(text) if parts is None else parts
        pairs = dict(form)
        doubtful = kind.endswith("json") or (is_multipart and parts is None)
    if not pairs:
        found = of_provider(_form(query))
        if found is None:
            raise Nothing("the request carries no fields of the provider's")
        return ParsedRequest(found)
    fields = _unwrapped(pairs)
    if (doubtful or "\ufffd" in text or "\0" in text) and not fields.keys() & _TELLING:
        raise Unreadable("the body is not text, or not what its Content-Type says")
    return ParsedRequest(fields, tuple(form))


def of_provider(pairs: Iterable[tuple[str, str]]) -> Fields | None:
    """The provider's own fields among the parameters of a query; None where there are none.

    The operator's parameters may stand there too. The provider appends its own: of two with the
    same spelling, the last is the provider's.
    """
    by_name = {name.strip(_EDGE): value for name, value in pairs}
    wrapped = _object(by_name.get("response", ""))
    if wrapped is not None and (inside := _normalised(wrapped)).keys() & _TELLING:
        return inside
    rest = _normalised({name: value for name, value in by_name.items() if name in _REST})
    if rest.keys() >= {"calluuid", "recordingid"} and rest.keys() & _FINISHED:
        return {name: value for name, value in rest.items() if name not in _TRANSCRIPT}
    xml = _normalised({name: value for name, value in by_name.items() if name[:1].isupper()})
    if by_name.get("Event", by_name.get("event")) == _TRUNK_EVENT:
        return (
            xml
            | _normalised({n: value for n, value in by_name.items() if n in _TRUNK})
            | {"event": _TRUNK_EVENT}
        )
    if xml.keys() & _TELLING:
        return xml
    return rest if "recordingid" in rest else None


def _unwrapped(pairs: Mapping[str, Any]) -> Fields:
    """Add the fields inside `response`: one integration receives all its fields as JSON there.
    A `response` that cannot be parsed is dropped.
    """
    fields = _normalised(pairs)
    wrapped = fields.get("response", "").strip(_EDGE)
    if wrapped.startswith("{"):
        try:
            return fields | _normalised(_json(wrapped))
        except Unreadable:
            if not fields.keys() & _TELLING:
                raise
    return fields


def _normalised(pairs: Mapping[str, Any]) -> Fields:
    found = {normal_name(name): _plain(value).lstrip(_MARK) for name, value in pairs.items()}
    if len(found) == len(pairs):
        return found
    # If two names differ in spelling only, the one that begins with a capital counts: that is the
    # provider's.
    spelled = sorted(pairs.items(), key=lambda pair: pair[0].strip(_EDGE)[:1].isupper())
    return {normal_name(name): _plain(value).lstrip(_MARK) for name, value in spelled}


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list | bool):
        try:
            return json.dumps(value)
        except RecursionError:
            return ""
    return "" if value is None else str(value)


def normal_name(name: str) -> str:
    return _remembered(name) if len(name) <= _LONGEST_NAME else _normal(name)


def _normal(name: str) -> str:
    return name.strip(_EDGE).lower().replace("_", "").replace("-", "")


_remembered = lru_cache(maxsize=1024)(_normal)


def _form(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text.strip(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Unreadable(f"more than {MAX_FIELDS} fields") from None


def _multipart(text: str, content_type: str) -> list[tuple[str, str]] | None:
    """The named parts of a multipart body, files included; None for any other body. Raises
    Unreadable for one that is cut off.
    """
    named = re.search(r'boundary="?([^";,\s]{1,200})', content_type, re.IGNORECASE)
    first = re.match(r"--(\S{1,200})", text)
    boundary = next(
        (b for b in (named and named[1], first and first[1]) if b and f"--{b}" in text), None
    )
    if boundary is None:
        return None
    pieces = re.split(rf"(?:^|\r?\n)--{re.escape(boundary)}(--)?[ \t]*(?=\r?\n|$)", text)
    bodies, ends = pieces[2::2], pieces[1::2]
    if "--" not in ends:
        raise Unreadable("the multipart body broke off: its last boundary is missing")
    if len(bodies) > MAX_FIELDS + 1:
        raise Unreadable(f"more than {MAX_FIELDS} fields")
    found = []
    for part in bodies[: ends.index("--")]:
        head, _, value = part.replace("\r\n", "\n").removeprefix("\n").partition("\n\n")
        name = _PART_NAME.search(head)
        if name:
            found.append((name[1] or name[2] or "", value))
    return found


def _object(text: str) -> dict[str, Any] | None:
    try:
        return _json(text.strip(_EDGE))
    except Unreadable:
        return None


def _json(text: str) -> dict[str, Any]:
    try:
        # Numbers stay text. So a number that Python cannot hold spoils its own field only.
        found = json.loads(text, strict=False, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        raise Unreadable("the body is not JSON") from None
    if not isinstance(found, dict) or len(found) > MAX_FIELDS:
        raise Unreadable(f"the body is not a JSON object of at most {MAX_FIELDS} fields")
    return found
