"""The end of a call: what proves it, what only claims it, and what shows that the call lives. Pure.

A signed hang-up proves the end. So does a 404 for a call that the provider itself reported, unless
a sign of life reached us since. Everything else is a claim, which makes us look.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.calls.events import Event, Kind
from worker.calls.trust import (
    BEGINS_WITHIN,
    CLOCKS_DIFFER,
    FROM_PROVIDER,
    is_end,
    is_start,
    received_at,
)

_SIGNS_OF_LIFE = {
    Kind.CALL_SEEN,
    Kind.RECORDING_STARTED,
    Kind.CALL_TRANSFERRED,
    Kind.CALL_REDIRECTED,
    Kind.DIAL_ANSWERED,
    Kind.DIAL_CONNECTED,
    Kind.CONFERENCE_ENTERED,
    Kind.MACHINE_DETECTED,
}
# So late after its first callbacks a call may still be missing from the live calls.
_LIVE_WITHIN = timedelta(seconds=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class CallEnd:
    """What is known about the end of the call.

    `gone`: each 404 that proves it, as (when we asked, when we were answered). `claimed_at`: the
    first claim that no look has refuted since.
    """

    reported: bool  # the provider itself named this uuid as the A-leg, in a signed callback
    hung_up_at: datetime | None
    gone: tuple[tuple[datetime, datetime], ...]
    claimed_at: datetime | None

    @property
    def over_at(self) -> datetime | None:
        """When the first proof of the end reached us."""
        ends = [answered_at for _, answered_at in self.gone]
        if self.hung_up_at:
            ends.append(self.hung_up_at)
        return min(ends, default=None)

    def proves(self, known_at: datetime, began_at: datetime | None) -> datetime | None:
        """When the call's end proved that a recording is over. None where it proves nothing: the
        recording began later.
        """
        proofs = [
            answered_at
            for asked_at, answered_at in self.gone
            if known_at <= asked_at or (began_at and began_at <= asked_at - BEGINS_WITHIN)
        ]
        if self.hung_up_at and not (began_at and began_at > self.hung_up_at + CLOCKS_DIFFER):
            proofs.append(self.hung_up_at)
        return min(proofs, default=None)


def call_end(by_time: Sequence[Event]) -> CallEnd:
    """What the events of one call, by time, say about its end."""
    reported = any(e.signed and e.kind in FROM_PROVIDER for e in by_time)
    hang_ups = [e for e in by_time if e.kind is Kind.CALL_ENDED]
    not_found = [e for e in by_time if _is_not_found(e)]
    proofs = _proofs(by_time, not_found) if reported and not_found else []
    proving = {e.id for e in proofs}
    claims = [received_at(e) for e in hang_ups if not e.signed]
    claims += [received_at(e) for e in not_found if e.id not in proving]
    seen_live_at = max(
        (received_at(e) for e in by_time if e.kind is Kind.LOOKED and e.live), default=None
    )
    return CallEnd(
        reported=reported,
        hung_up_at=next((received_at(e) for e in hang_ups if e.signed), None),
        gone=tuple((_asked_at(e), received_at(e)) for e in proofs),
        claimed_at=min(
            (at for at in claims if seen_live_at is None or at > seen_live_at), default=None
        ),
    )


def _proofs(by_time: Sequence[Event], not_found: Sequence[Event]) -> list[Event]:
    """The 404s that no sign of life has refuted."""
    ended = {e.recording_id for e in by_time if is_end(e)}
    alive_at = max((at for e in by_time for at in _signs_of_life(e, ended)), default=None)
    return [e for e in not_found if alive_at is None or _asked_at(e) > alive_at + _blind_for(e)]


def _asked_at(event: Event) -> datetime:
    return event.requested_at or received_at(event)


def _blind_for(event: Event) -> timedelta:
    """How long after a sign of life a 404 of this kind proves nothing: the live calls show a call
    only a moment after it began.
    """
    return _LIVE_WITHIN if event.kind is Kind.LOOKED else timedelta(0)


def _is_not_found(event: Event) -> bool:
    """Whether an event is a 404 for the call. A 404 to a stop that names a recording is about that
    recording at most.
    """
    if event.kind is Kind.LOOKED:
        return event.live is False and event.reason is None
    return event.kind is Kind.CALL_FOUND_OVER and not event.named


def _signs_of_life(event: Event, ended: Collection[str | None]) -> Iterator[datetime]:
    """The instants at which an event shows that the call was live. A 404 before such an instant
    came too early, or was wrong.
    """
    if _shows_life(event, ended):
        yield received_at(event)
    if (
        (is_end(event) or event.kind is Kind.RECORDING_LISTED)
        and is_start(event)
        and event.started_at
    ):
        yield event.started_at - CLOCKS_DIFFER  # a recording of the call began then


def _shows_life(event: Event, ended: Collection[str | None]) -> bool:
    """Whether an event says that the call is live. `ended`: the recordings that ended."""
    if event.kind is Kind.RECORDING_STARTED and event.recording_id in ended:
        return False  # the callback came late: the recording is over by now
    if event.kind is Kind.LOOKED:
        return bool(event.live)
    return event.kind in {Kind.CALL_FOUND_LIVE, Kind.START_ACCEPTED} or (
        event.signed and event.kind in _SIGNS_OF_LIFE
    )
