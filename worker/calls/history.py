"""Who did what to a recording: the entries of the history, before they are filed. Pure.

An entry holds no telephone numbers: runs of seven digits or more in what people write are masked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from worker import wire
from worker.calls.events import Event, Kind

PLAYED_WITHIN = timedelta(minutes=10)  # plays of one person within this time are one entry
_LONGEST_REASON = 300
_ORDERS = frozenset({"api", "pause", "resume"})  # are entered when they are ordered


class Deed(StrEnum):
    """What is done to a recording and stands in the history."""

    STOP = "stop"
    PLAY = "play"
    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"
    ERASE = "erase"
    DERIVE = "derive"  # a file that was made from it was linked to it


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One deed. `who`: `api`, `app`, `view` or the name of a key; `rule:NAME`; `cli:USER`.
    `claimed`: whom the caller says that it acts for. `recording_id` None: every recording of the
    call. `restricted`: it was so when it was played.
    """

    what: Deed
    who: str
    call_uuid: str
    recording_id: str | None
    reason: str | None = None
    claimed: str | None = None
    restricted: bool = False

    def written(self) -> dict[str, str]:
        """The entry as JSON data, with what is known."""
        said = {
            "what": self.what.value,
            "who": _plain(self.who),
            "claimed": _plain(self.claimed),
            "call_uuid": self.call_uuid,
            "recording_id": self.recording_id,
            "reason": _plain(self.reason),
        }
        return {name: value for name, value in said.items() if value is not None}

    @property
    def once(self) -> str | None:
        """What two plays have in common that are one entry; None for every other deed. Why a
        restricted recording is played stands there also where it was played just before it was one.
        """
        if self.what is not Deed.PLAY:
            return None
        same = ("play", self.recording_id or "", self.who, self.claimed or "")
        return "|".join((*same, "restricted") if self.restricted else same)


def _plain(text: str | None) -> str | None:
    """What a person wrote, without numbers, and without the half of a surrogate pair that JSON can
    spell and UTF-8 cannot.
    """
    if not text:
        return None
    return wire.without_numbers(text.encode("utf-8", "replace").decode())[:_LONGEST_REASON]


def stops_by_rules(before: Iterable[Event], found: Iterable[Event]) -> list[tuple[str, Entry]]:
    """The entries for the stops that a rule sent and the provider accepted, each with the id of its
    event. `found`: what is about to be recorded. A stop that is sent again is no new deed.
    """
    accepted = [event for event in found if event.kind is Kind.STOP_ACCEPTED]
    if not accepted:
        return []
    known = {event.recording_id for event in before if event.kind is Kind.STOP_ACCEPTED}
    return [
        (
            event.id,
            Entry(
                what=Deed.STOP,
                who=f"rule:{event.rule or 'defaults'}",
                call_uuid=event.call_uuid,
                recording_id=event.recording_id,
                reason=event.trigger,
            ),
        )
        for event in accepted
        if event.recording_id not in known and event.trigger not in _ORDERS
    ]
