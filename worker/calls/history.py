"""Who did what to a recording: the entries of the history, before they are filed. Pure.

An entry holds no telephone numbers: runs of seven digits or more in what people write are masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from worker import wire

PLAYED_WITHIN = timedelta(minutes=10)  # plays of one person within this time are one entry
_LONGEST_REASON = 300


class Deed(StrEnum):
    """What is done to a recording and stands in the history."""

    STOP = "stop"
    PLAY = "play"
    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"
    ERASE = "erase"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One deed. `who`: `api`, `app`, `view` or the name of a key; `rule:NAME`; `cli:USER`.
    `claimed`: whom the caller says that it acts for. `recording_id` None: every recording of the
    call.
    """

    what: Deed
    who: str
    call_uuid: str
    recording_id: str | None
    reason: str | None = None
    claimed: str | None = None

    def written(self) -> dict[str, str]:
        """The entry as JSON data, with what is known."""
        said = {
            "what": self.what.value,
            "who": self.who,
            "claimed": wire.without_numbers(self.claimed) if self.claimed else None,
            "call_uuid": self.call_uuid,
            "recording_id": self.recording_id,
            "reason": wire.without_numbers(self.reason)[:_LONGEST_REASON] if self.reason else None,
        }
        return {name: value for name, value in said.items() if value is not None}

    @property
    def once(self) -> str | None:
        """What two plays have in common that are one entry; None for every other deed."""
        if self.what is not Deed.PLAY:
            return None
        return "|".join(("play", self.recording_id or "", self.who, self.claimed or ""))
