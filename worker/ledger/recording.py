"""Recording what is reported: an event, all that points to it, and the nonces that came with it.

{endtape}:room:ACCOUNT:ROOM       hash    CALL|MEMBER of a conference room → in, out, or first
{endtape}:nonces:HOUR:XX          hash    digest of a nonce → digest of the body that came with it

The other keys are those of calls.py. One script writes an event and all that points to it, so no
crash falls between them.
"""

from __future__ import annotations

import base64
import hashlib
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty, Obligation
from worker.errors import LedgerUnavailable
from worker.ledger.codec import encode, from_ms, to_ms
from worker.ledger.store import Store, span_ms

# Two transfers that look alike count as one within this time: the second is a provider's retry.
REPEAT_AFTER = timedelta(seconds=15)
_REPEATABLE = {Kind.CALL_TRANSFERRED, Kind.CALL_REDIRECTED}
_ENTERED_OR_LEFT = {Kind.CONFERENCE_ENTERED, Kind.CONFERENCE_LEFT}


class Recorded(StrEnum):
    """What became of an event."""

    NEW = "new"
    REPEAT = "repeat"
    NOTED = "noted"  # there was no event to record, only a nonce
    NONCE_REUSED = "nonce"  # the nonce came with another body before; nothing was recorded


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What is to be recorded: an event, or None where there are only nonces to note. `body`: the
    request's body that came with the nonces, as received.
    """

    account: str
    event: Event | None
    nonces: Sequence[str] = ()
    body: bytes = b""


class Recording(Store):
    """Events in."""

    def record(
        self, account: str, event: Event | None, *, nonces: Sequence[str] = (), body: bytes = b""
    ) -> tuple[Recorded, datetime]:
        """Writes one event and makes its call due. With None it only notes the nonces. Repeating
        it is harmless.

        `body`: the request's body that came with the nonces, as received. Returns what became of
        the event, and the instant by Redis's clock.
        """
        report = Report(account=account, event=event, nonces=nonces, body=body)
        (outcome,) = self.record_each([report])
        if isinstance(outcome, LedgerUnavailable):
            raise outcome
        return outcome

    def record_each(
        self, reports: Sequence[Report]
    ) -> list[tuple[Recorded, datetime] | LedgerUnavailable]:
        """As `record` for each of these, all in one round trip; a report about a room takes one or
        two more. A report that Redis refuses has its LedgerUnavailable in its place.

        Raises LedgerUnavailable if Redis does not answer; then any of them may have been written.
        """
        answers = self.run_each("record", [self._written(report) for report in reports])
        outcomes: list[tuple[Recorded, datetime] | LedgerUnavailable] = [
            a if isinstance(a, LedgerUnavailable) else (Recorded(a[0]), from_ms(a[1]))
            for a in answers
        ]
        moving = [at for at, report in enumerate(reports) if _moves(report, outcomes[at])]
        failed = self._move_in_rooms([reports[at] for at in moving]) if moving else {}
        for at, error in failed.items():
            outcomes[moving[at]] = error
        return outcomes

    def _written(self, report: Report) -> tuple[list[str], list[Any]]:
        """The keys and arguments of `record.lua`."""
        account, event = report.account, report.event
        places, fields = self._nonces(report.nonces)
        keys = self._record_keys(account, event.call_uuid if event else "")
        return [*keys, *places], [*_record_args(account, event, report.body), *fields]

    def _record_keys(self, account: str, call_uuid: str) -> list[str]:
        return [
            self.call_key(account, call_uuid),
            self.key("due", Duty.PLAN),
            self.key("leases", Duty.PLAN),
            self.key("recordings", account),
            self.key("recent", account),
            self.key("hints"),
            self.key("aliases", account),
            self.key("metrics"),
            self.key("listeners", account, call_uuid),
            self.key("live", account),
            self.key("hinted"),
            self.key("news"),
        ]

    def _nonces(self, nonces: Sequence[str]) -> tuple[list[str], list[str]]:
        # Many small hashes, because Redis packs those: 20 bytes for a nonce instead of 90.
        hour, places, fields = int(time.time() // 3600), list[str](), list[str]()
        for field in dict.fromkeys(_short(nonce.encode("utf-8", "replace"), 9) for nonce in nonces):
            bucket = f"{zlib.crc32(field.encode()) % 256:02x}"
            places += [self.key("nonces", str(h), bucket) for h in (hour, hour - 1)]
            fields.append(field)
        return places, fields

    def _move_in_rooms(self, reports: Sequence[Report]) -> dict[int, LedgerUnavailable]:
        """Moves each of these in its room, and records whom that joins. Returns those that failed,
        by their place.
        """
        # Runs before the provider gets its answer, and is safe to repeat: if this process dies in
        # between, the provider sends the event again.
        failed, joins = dict[int, LedgerUnavailable](), list[tuple[int, Report]]()
        moves = [_move(report) for report in reports]
        rooms = self.run_each(
            "enter_room", [([self.key("room", a, room)], words) for a, room, words in moves]
        )
        for at, (report, inside) in enumerate(zip(reports, rooms, strict=True)):
            if isinstance(inside, LedgerUnavailable):
                failed[at] = inside
            elif report.event and report.event.kind is Kind.CONFERENCE_ENTERED:
                joins += [
                    (at, Report(account=report.account, event=_join(report.event, call_uuid)))
                    for call_uuid in sorted(_joined(report.event, set(inside)))
                ]
        outcomes = self.record_each([join for _, join in joins]) if joins else []
        for (at, _), outcome in zip(joins, outcomes, strict=True):
            if isinstance(outcome, LedgerUnavailable):
                failed[at] = outcome
        return failed


def may_happen_again(event: Event) -> bool:
    """Whether two events that look alike may be two events: nothing in them names the dial or the
    transfer that they report.
    """
    return event.kind in _REPEATABLE or (event.kind is Kind.DIAL_ENDED and event.b_leg is None)


def _record_args(account: str, event: Event | None, body: bytes) -> list[Any]:
    call_uuid = event.call_uuid if event else ""
    planner = Obligation(duty=Duty.PLAN, account=account, call_uuid=call_uuid)
    if event is None:
        return [str(planner), "", "", _short(body, 8), "", call_uuid, 0, "", "", ""]
    first_seen = event.first_seen_at
    repeat_after = REPEAT_AFTER if may_happen_again(event) else timedelta(0)
    return [
        str(planner),
        event.id,
        encode(event, account),
        _short(body, 8),
        event.recording_id or "",
        call_uuid,
        span_ms(repeat_after),
        " ".join(leg for leg in (event.leg, event.b_leg) if leg),
        event.kind.value,
        to_ms(first_seen) if first_seen else "",
    ]


def _moves(report: Report, outcome: tuple[Recorded, datetime] | LedgerUnavailable) -> bool:
    """Whether a report that was recorded moves a member in a room."""
    event = report.event
    return bool(
        event
        and event.room
        and event.kind in _ENTERED_OR_LEFT
        and not isinstance(outcome, LedgerUnavailable)
        and outcome[0] is not Recorded.NONCE_REUSED
    )


def _move(report: Report) -> tuple[str, str, list[str]]:
    """Account and room of a report that moves a member, and the arguments of `enter_room.lua`."""
    event = report.event
    assert event is not None and event.room is not None  # noqa: PT018
    state = "out" if event.kind is Kind.CONFERENCE_LEFT else "first" if event.first else "in"
    return report.account, event.room, [f"{event.call_uuid}|{event.member or ''}", state]


def _joined(event: Event, inside: set[str]) -> set[str]:
    """The calls that are joined by this one entering a room with the calls `inside`."""
    if event.call_uuid in inside and len(inside) > 1:
        return inside
    # `first=false` says that somebody was in the room, even if nobody reported who.
    return {event.call_uuid} if event.first is False else set()


def _join(event: Event, call_uuid: str) -> Event:
    return Event(
        id=f"join:{event.id}",
        kind=Kind.CONFERENCE_JOINED,
        call_uuid=call_uuid,
        b_leg=None,
        signed=event.signed,
        reason=event.room,
        by=event.call_uuid,
    )


def _short(content: bytes, size: int) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()[:size]).decode().rstrip("=")
