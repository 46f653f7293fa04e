"""Which events of a call the operator's applications are notified of, and when each is tried. Pure.

A notice is about one event. Its id is the same at every try and for every endpoint, so a receiver
can tell a repeat. docs/notifications.md describes the wire.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from worker.calls.call import Call
from worker.calls.events import Event, Kind
from worker.calls.trust import received_at

RECORDING_ARCHIVED = "recording.archived"
TYPES = {
    Kind.STOP_CONFIRMED: "stop.confirmed",
    Kind.STOP_UNKNOWN: "stop.unknown",
    Kind.MEDIA_ARCHIVED: RECORDING_ARCHIVED,
    Kind.ABANDONED: "recording.abandoned",
    Kind.GAVE_UP: "recording.abandoned",
    Kind.HANDOFF_DECIDED: "handoff.decided",
}
ACCOUNT_HALTED, TEST = "account.halted", "test"
RECORDING_ERASED, DAY_CLOSED = "recording.erased", "day.closed"
ALL_TYPES = (*dict.fromkeys(TYPES.values()), RECORDING_ERASED, ACCOUNT_HALTED, DAY_CLOSED)

# When a notice is tried, counted from its first try. Then hourly.
_FIRST_TRIES = (timedelta(0), timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=5))
_HOURLY = timedelta(hours=1)
TRIED_FOR = timedelta(days=3)
# So long the ledger knows what became of a notice. Nobody can say of an older one whether it
# arrived, so it is not sent again.
KNOWN_FOR = timedelta(days=40)


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """An application that is notified, as the rules file names it, or a command.

    `secrets`: those that sign, the newest first. `private`: its host may have a private or loopback
    address, and http. `numbers`: whether telephone numbers are sent to it. `command`: the words of
    a command, which may run for `within`; it has no `url`.
    """

    url: str
    secrets: tuple[str, ...] = field(repr=False)
    events: frozenset[str]
    private: bool = False
    numbers: bool = False
    command: tuple[str, ...] = ()
    within: timedelta = timedelta(0)

    @property
    def name(self) -> str:
        """A short name that the URL or the command always has, for the ledger."""
        return hashlib.sha256(self.shown.encode()).hexdigest()[:12]

    @property
    def shown(self) -> str:
        """What a person knows it by."""
        return self.url or shlex.join(self.command)


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """One event that an endpoint is to hear of. `subject`: the recording or hand-off (by its
    order) that it is about; None: the whole call.
    """

    id: str
    type: str
    at: datetime
    subject: str | None


def notices_of(call: Call, now: datetime) -> Iterator[Notice]:
    """The notices of a call, in the order of its events."""
    for event in call.events:
        if event.kind not in TYPES or event.at is None or event.at < now - KNOWN_FOR:
            continue
        yield Notice(
            id=notice_id(call.account, call.call_uuid, event.id),
            type=TYPES[event.kind],
            at=event.at,
            subject=event.recording_id or event.order,
        )


def handed_on(call: Call, archived: Event) -> Notice:
    """The notice that a recording is home, for whoever its rule hands it on to. `archived`: the
    event that says so.
    """
    return Notice(
        id=notice_id(call.account, call.call_uuid, archived.id, "after_archive"),
        type=RECORDING_ARCHIVED,
        at=received_at(archived),
        subject=archived.recording_id,
    )


def notice_id(*parts: str) -> str:
    """The id of a notice about what these parts name."""
    return "msg_" + hashlib.sha256("|".join(parts).encode()).hexdigest()[:24]


def is_told(kind: Kind) -> bool:
    """Whether anybody may be notified of such an event."""
    return kind in TYPES


def next_try(tries: int, first_at: datetime) -> datetime | None:
    """When a notice is tried again after so many failed tries; None: never."""
    if tries < len(_FIRST_TRIES):
        return first_at + _FIRST_TRIES[tries]
    at = first_at + _HOURLY * (tries - len(_FIRST_TRIES) + 1)
    return at if at <= first_at + TRIED_FOR else None
