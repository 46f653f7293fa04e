"""The catalogue's rows, made from what the archive holds of a recording and from nothing else. So
the rows that obligations entered and those of a rebuilt catalogue are the same. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker import wire
from worker.archive import facts
from worker.archive.checks import first_failed
from worker.archive.facts import Fact
from worker.calls.call import Phase, StopState
from worker.calls.check_words import archived_although
from worker.calls.erasure import GONE
from worker.calls.timing import KEPT_BY_PROVIDER
from worker.calls.views import rfc3339
from worker.ledger.codec import to_ms

WHY = ("at", "who", "rule", "reason")  # what of a tombstone `/v1` shows in `erased`
_NO_STOP: Mapping[str, Any] = {
    "state": StopState.NONE.value,
    "trigger": None,
    "rule": None,
    "due_at": None,
    "requested_at": None,
    "accepted_at": None,
    "confirmed_at": None,
    "evidence": [],
    "attempts": 0,
    "tail_ms": None,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One finished recording. `key`: where the archive has it, by the key of its audio or that of
    its absence. `view`: what `/v1` shows of it.
    """

    first_seen_ms: int
    key: str
    view: dict[str, Any]

    @property
    def id(self) -> tuple[str, str]:
        return self.view["account"], self.view["recording_id"]

    @property
    def columns(self) -> dict[str, Any]:
        """The values of the columns that searches ask for, by name."""
        view = self.view
        return {
            "account": view["account"],
            "recording_id": view["recording_id"],
            "first_seen_ms": self.first_seen_ms,
            "call_uuid": view["call_uuid"],
            "phase": view["phase"],
            "stop_state": view["stop"]["state"],
            "fault": view["fault"],
            "rule": view["stop"]["rule"],
            "from_digits": wire.digits(view["from"]),
            "to_digits": wire.digits(view["to"]),
            "held": view["held"],
            "restricted": view["restricted"],
            "archive_key": self.key,
            "retain_until_ms": _ms(view["retain_until"]),
            "words": words(view),
        }


def words(view: Mapping[str, Any]) -> str:
    """Every id, number and label of a recording, in lower case, with line breaks around each."""
    found = [
        view["recording_id"],
        view["call_uuid"],
        view["account"],
        view["segment_of"],
        wire.digits(view["from"]),
        wire.digits(view["to"]),
        *(f"{name}={value}" for name, value in view["labels"].items()),
    ]
    return "\n".join(["", *(word.lower() for word in found if word), ""])


def of_receipt(
    receipt: Mapping[str, Any],
    audio: str,
    known: Sequence[Fact] = (),
    derived: Sequence[dict[str, Any]] = (),
) -> Row:
    """The row of an archived recording. `audio`: the key of its audio. `known`: every fact about
    it. `derived`: what was made from it.

    Raises ValueError, KeyError or TypeError for what is no receipt.
    """
    media, provider = receipt["media"], receipt.get("provider") or {}
    failed = first_failed(receipt.get("checks") or {})
    problem = archived_although(failed, receipt["checks"][failed]) if failed else None
    return _row(
        receipt,
        audio,
        (receipt.get("fetch") or {}).get("fetched_at"),
        {
            "phase": Phase.ARCHIVED.value,
            "labels": dict(receipt.get("labels") or {}),
            "started_at": receipt.get("started_at"),
            "ended_at": receipt.get("ended_at"),
            "duration_ms": provider.get("duration_ms") or media.get("duration_ms"),
            "format": audio.rpartition(".")[2],
            "bytes": int(media["bytes"]),
            "sha256": str(media["sha256"]),
            "archive_key": audio,
            "segment_of": receipt.get("segment_of"),
            "problem": problem,
            "fault": None,
            "held": facts.is_held(known),
            "retain_until": (receipt.get("retain") or {}).get("until"),
            **_offloaded(facts.offload_of(known)),
            "consent": facts.consent(receipt, known),
            "restricted_by": facts.restricted_by(receipt, known),
            "restricted": facts.is_restricted(known),
            "derived": list(derived),
        },
    )


def of_absence(absence: Mapping[str, Any], key: str, *, held: bool = False) -> Row:
    """The row of a recording that was given up. `key`: where that is filed.

    Raises as `of_receipt` does.
    """
    return _row(
        absence,
        key,
        absence.get("at"),
        {
            "phase": Phase.ABANDONED.value,
            "labels": {},
            "started_at": absence.get("started_at"),
            "ended_at": absence.get("ended_at"),
            "duration_ms": None,
            "format": None,
            "bytes": None,
            "sha256": None,
            "archive_key": None,
            "segment_of": None,
            "problem": absence.get("reason"),
            "fault": absence.get("fault"),
            "held": held,
        },
    )


def of_tombstone(tombstone: Mapping[str, Any], key: str) -> Row:
    """The row of an erased recording. `key`: where its tombstone is filed.

    Raises as `of_receipt` does.
    """
    gone = dict.fromkeys(GONE)
    why = {name: tombstone.get(name) for name in WHY}
    return _row(
        tombstone,
        key,
        tombstone.get("at"),
        {
            **gone,
            "phase": Phase.ERASED.value,
            "labels": {},
            "started_at": tombstone.get("started_at"),
            "ended_at": tombstone.get("ended_at"),
            "sha256": tombstone.get("sha256"),
            "segment_of": None,
            "problem": None,
            "fault": None,
            "held": False,
            "erased": why,
        },
    )


def _offloaded(offload: Fact | None) -> dict[str, Any]:
    saved = offload.particulars.get("saved_per_month") if offload else None
    return {
        "deleted_at_provider": rfc3339(offload.at) if offload else None,
        "saved_per_month": saved,
    }


def _kept_until(said: Mapping[str, Any]) -> str | None:
    """Until when the provider keeps its copy, as long as an end is known."""
    ended_at = wire.parse_rfc3339(said.get("ended_at"))
    return rfc3339(ended_at + KEPT_BY_PROVIDER) if ended_at else None


def _row(said: Mapping[str, Any], key: str, written_at: str | None, more: Mapping[str, Any]) -> Row:
    """A row from what the file under a key says, written then, and `more`, which goes before it."""
    # Older files have no `first_seen_at`.
    instants = (said.get("first_seen_at"), said.get("started_at"), said.get("ended_at"), written_at)
    first_seen_at = next((text for text in instants if text), None)
    if first_seen_at is None:
        raise ValueError("no time is known at which it was first seen")
    restricted_by = more.get("restricted_by") or []
    is_gone = bool(more.get("erased") or more.get("deleted_at_provider"))
    view = {
        "recording_id": str(said["recording_id"]),
        "account": str(said["account"]),
        "call_uuid": str(said["call_uuid"]),
        "consent": None,
        **_offloaded(None),
        **more,
        "first_seen_at": first_seen_at,
        "from": said.get("from"),
        "to": said.get("to"),
        "direction": said.get("direction"),
        "stop": {**_NO_STOP, **(said.get("stop") or {})},
        "restricted": bool(restricted_by) or bool(more.get("restricted")),
        "restricted_by": restricted_by,
        "provider_keeps_until": None if is_gone else _kept_until(said),
        "retain_until": more.get("retain_until"),
        "derived": more.get("derived", []),
        "erased": more.get("erased"),
    }
    return Row(first_seen_ms=to_ms(datetime.fromisoformat(first_seen_at)), key=key, view=view)


def _ms(text: str | None) -> int | None:
    at = wire.parse_rfc3339(text)
    return to_ms(at) if at else None
