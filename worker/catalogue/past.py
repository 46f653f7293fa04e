"""Calls that only catalogue and archive know, as `/v1` shows calls. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from worker.calls import event_words
from worker.catalogue.rows import Row


def call_view(rows: Sequence[Row], receipts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A call from the rows of its recordings and their receipts: facts, recordings, gaps and the
    timeline of the receipts. What became of its starts and hand-offs is forgotten.
    """
    views = [row.view for row in rows]
    known = next((view for view in views if view["from"] or view["to"]), views[0])
    labels: dict[str, str] = {}
    for view in views:
        labels |= view["labels"]
    return {
        "call_uuid": known["call_uuid"],
        "account": known["account"],
        "from": known["from"],
        "to": known["to"],
        "direction": known["direction"],
        "labels": labels,
        "started_at": None,
        "over_at": None,
        "consent": known["consent"],
        "recordings": views,
        "gaps": [
            {"recording_id": receipt.get("segment_of") or receipt.get("recording_id"), **gap}
            for receipt in receipts
            for gap in _listed(receipt, "gaps")
        ],
        "starts": [],
        "handoffs": [],
        "timeline": sorted(_timeline(receipts), key=lambda entry: str(entry["at"])),
    }


def joined(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """A call of which Redis knows a part: something was told of it after most of it was forgotten.
    `before`: by the catalogue; `now`: by Redis.
    """
    known = {name: now[name] if now[name] is not None else before[name] for name in before}
    return known | {
        "labels": {**before["labels"], **now["labels"]},
        **{name: [*before[name], *now[name]] for name in ("recordings", "gaps")},
        "timeline": sorted(
            [*before["timeline"], *now["timeline"]], key=lambda entry: str(entry["at"])
        ),
    }


def _timeline(receipts: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The events of all receipts; one that stands in several is told once."""
    told = set[tuple[Any, ...]]()
    for receipt in receipts:
        for event in _listed(receipt, "events"):
            same = tuple(str(event.get(name)) for name in ("at", "event", "by"))
            if same not in told:
                told.add(same)
                yield {
                    "at": event.get("at"),
                    "event": event.get("event"),
                    "recording_id": receipt.get("recording_id") if len(receipts) == 1 else None,
                    "by": event.get("by"),
                    "claimed": event.get("claimed"),
                    "signed": bool(event.get("signed")),
                    "trigger": None,
                    "verdict": None,
                    "live": None,
                    "reason": event.get("reason"),
                    "what": "; ".join(_said(event)),
                }


def _said(event: Mapping[str, Any]) -> Iterator[str]:
    """What a receipt's event means, and why it came, as far as these are texts."""
    kind, reason = event.get("event"), event.get("reason")
    if isinstance(kind, str) and (says := event_words.means(kind)):
        yield says
    if isinstance(reason, str) and reason:
        yield reason


def _listed(receipt: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of a receipt, without what is no such thing: the archive's files may be altered, and
    then show what can be shown.
    """
    said = receipt.get(name)
    return [one for one in said if _has_instants(one)] if isinstance(said, list) else []


def _has_instants(said: Any) -> bool:
    """Whether it is an object whose instants are texts."""
    return isinstance(said, dict) and all(
        isinstance(said.get(name), str | None) for name in ("at", "from", "to")
    )
