"""How values look on the pages: filters of the templates. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from worker import wire
from worker.calls import figure_words
from worker.calls.events import Fault, Kind

_FOUND = {Kind.RECORDING_LISTED, Kind.LOOKED, Kind.CALL_FOUND_LIVE, Kind.CALL_FOUND_OVER}
_CONCLUDED = {Kind.HANDOFF_DECIDED, Kind.CONFERENCE_JOINED}
_ORDERS = {
    *(Kind.STOP_ORDERED, Kind.PAUSE_ORDERED, Kind.RESUME_ORDERED, Kind.START_ORDERED),
    *(Kind.RETRY_ORDERED, Kind.HANDOFF_ASKED, Kind.RECORDING_HELD, Kind.RECORDING_RELEASED),
    Kind.ERASE_BEGUN,
}
# Whose fault it is that a recording is not home: what that means, and what to do.
FAULTS = {
    Fault.PROVIDER: (
        "The provider answered with an error or not at all, or does not list the file.",
        "Wait: it is tried again. Where it lasts for hours, ask the provider.",
    ),
    Fault.STORAGE: (
        "Our spool or archive is full, away, cannot be written, or holds other content.",
        "Give it room, or the right to write; then it goes on by itself.",
    ),
    Fault.MEDIA: (
        "The bytes that came are not the recording, or fail a check.",
        "Play it at the provider; where it is sound there, try again.",
    ),
    Fault.OURS: (
        "An error of Endtape itself that nobody expected.",
        "Read the workers' log, upgrade or report it; then run `endtape reload` and try again.",
    ),
    Fault.SETTINGS: (
        "The provider refuses id or token, or a setting does not allow the file or its host.",
        "Correct the setting; then run `endtape reload`.",
    ),
}


def clock(instant: str | None) -> str:
    """An RFC 3339 instant to the second, without its zone: the pages say UTC."""
    return instant[:19].replace("T", " ") if instant else "–"


def fine_clock(instant: str | None) -> str:
    """The time of day with milliseconds."""
    return instant[11:23] if instant else "–"


def span(milliseconds: float | None) -> str:
    """A duration as people read it; a dash where it is not known."""
    return "–" if milliseconds is None else wire.length(milliseconds)


def ahead(instant: datetime | None, now: datetime) -> str:
    """How far off an instant is, in the unit that reads best; None means that it never comes."""
    if instant is None:
        return "not by itself"
    seconds = (instant - now).total_seconds()
    if seconds < 1:
        return "now"
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"in {seconds / length:.0f} {unit}"
    return f"in {seconds:.0f} s"


def between(instants: tuple[str | None, str | None]) -> float | None:
    """Milliseconds from one RFC 3339 instant to another; None where one is not known."""
    begin, end = (wire.parse_rfc3339(instant) for instant in instants)
    return (end - begin) / timedelta(milliseconds=1) if begin and end else None


def size(count: int | None) -> str:
    """Bytes, in the unit that reads best."""
    if count is None:
        return "–"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def masked(number: str | None) -> str | None:
    """A telephone number of which the middle is hidden."""
    if not number:
        return number
    return f"{number[:2]}…{number[-2:]}" if len(number) > 5 else "…"


def without_numbers(view: Mapping[str, Any]) -> dict[str, Any]:
    """A recording or call as `/v1` shows it, with its numbers masked."""
    shown = dict(view) | {side: masked(view.get(side)) for side in ("from", "to")}
    if shown.get("recordings"):
        shown["recordings"] = [without_numbers(recording) for recording in shown["recordings"]]
    if shown.get("labels"):
        shown["labels"] = {k: wire.without_numbers(v) for k, v in shown["labels"].items()}
    return shown


def host(url: str) -> str:
    """The host of an application's URL: path and query may hold its secrets."""
    return urlsplit(url).hostname or "?"


def command(*parts: str | None) -> str:
    """A command line, quoted for a shell."""
    return shlex.join(part for part in parts if part is not None)


def pretty(value: Any) -> str:
    """JSON data for reading."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def sureness(event: Mapping[str, Any]) -> tuple[str, str]:
    """How sure an event of a timeline is: a word, and what it means."""
    kind, by = event["event"], event["by"]
    if event["signed"]:
        return "signed", "the provider's signature was verified"
    if kind in _FOUND:
        return "confirmed", "Endtape read it from the provider's own API"
    if not by or by == "us" or kind in _CONCLUDED:
        return "ours", "Endtape did it, or concluded it"
    if kind in _ORDERS and by.startswith("rule:"):
        return "ours", "a rule wants it"
    if kind in _ORDERS:
        return "order", "somebody with a key, or a command, asked for it"
    return "claimed", "reported, and no signature stands for it"


def fault_means(fault: str | None) -> str:
    """What a fault means, and what to do; empty for what is none of ours."""
    return " ".join(FAULTS[Fault(fault)]) if fault in set(Fault) else ""


FILTERS: dict[str, Callable[..., Any]] = {
    "clock": clock,
    "fine_clock": fine_clock,
    "span": span,
    "ahead": ahead,
    "between": between,
    "size": size,
    "host": host,
    "pretty": pretty,
    "sureness": sureness,
    "without_numbers": wire.without_numbers,
    "spelled": figure_words.spelled,
    "fault_means": fault_means,
}
