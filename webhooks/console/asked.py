"""What a page may be asked for by its address: its keys, and instants as a person writes them."""

from __future__ import annotations

import re
from difflib import get_close_matches

from werkzeug.datastructures import MultiDict

from webhooks.api.problems import Problem
from worker import wire
from worker.calls.views import rfc3339

FILTERS = (
    *("phase", "stop", "fault", "rule", "number", "label", "call_uuid", "account", "held"),
    *("since", "until", "q"),
)
FACTS = ("call", "from", "to", "direction", "account", "label", "trigger")
# The keys that each of these pages takes. An unknown one would show everything, or stop it.
_KEYS: dict[str, tuple[str, ...]] = {
    "console.recordings": (*FILTERS, "cursor", "limit", "as"),
    "console.not_home": ("fault",),
    "console.days": ("month", "account"),
    "console.day": ("as", "now", "account"),
    "console.figure": ("rule", "start", "now", "account"),
    "console.rules": FACTS,
    "console.history": ("before", "account"),
    "console.ask_stop": ("recording_id", "account"),
}
_MINUTE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]([0-9]{2}:[0-9]{2})(:[0-9]{2})?")


def refuse_unknown(page: str, query: MultiDict[str, str]) -> None:
    """Raises Problem 400 for a key that the page does not take; with the nearest that it does.
    `page`: its endpoint.
    """
    if (keys := _KEYS.get(page)) is None:
        return
    for name in query:
        if name not in keys:
            near = get_close_matches(name, keys, n=1)
            meant = f"is `{near[0]}` meant? It takes" if near else "it takes"
            raise Problem(
                400,
                f"this page cannot be asked for `{name[:40]}`; {meant} {', '.join(keys)}",
                field=name[:40],
            )


def with_instants(query: MultiDict[str, str]) -> MultiDict[str, str]:
    """The query with its days (UTC) and minutes (UTC) as instants; the last day counts whole.
    Raises Problem 400 for what is none of them.
    """
    changed = query.copy()
    for name in ("since", "until"):
        text = query.get(name, "").strip()
        if text and wire.parse_rfc3339(text) is None:
            changed[name] = _instant(name, text)
    return changed


def _instant(name: str, text: str) -> str:
    minute = _MINUTE.fullmatch(text)
    spelled = f"{minute[1]}T{minute[2]}{minute[3] or ':00'}Z" if minute else text
    at = rfc3339(wire.bound(spelled, end=name == "until"))
    if at is None:
        raise Problem(
            400,
            f"{name}: {text[:40]!r} is no day (UTC) like 2026-09-14, no minute (UTC) like "
            "2026-09-14 06:30, and no instant like 2026-09-14T06:30:00Z",
            field=name,
        )
    return at
