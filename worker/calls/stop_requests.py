"""Which DELETEs a call is owed, and when. Pure.

A DELETE is call-wide, or it names one recording by its URL. A call-wide one also ends recordings
that must go on, and recordings that we do not know. So a stop names its recording while anything
else runs, or may run, on the call; otherwise it is call-wide. Two exceptions. After the first stop
by URL the second names the recording too, even if nothing else runs by then. And a deadline may end
what a start without an answer began.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.calls import timing
from worker.calls.call import Call, Recording, Start
from worker.calls.events import Event, Kind
from worker.calls.look_times import looked_since
from worker.calls.rules import DEADLINES, Rules, Terms
from worker.calls.starts import is_about, unsettled
from worker.calls.stop_state import ANSWERED, Owed, stop_owed
from worker.calls.triggers import Act
from worker.calls.unseen import UNSEEN, unseen


@dataclass(frozen=True, kw_only=True, slots=True)
class Send:
    """A DELETE that is owed at `at`: call-wide (`url` None) or naming one recording."""

    at: datetime
    recording_ids: tuple[str, ...]
    url: str | None
    note: str | None = None  # what the timeline should say about it


@dataclass(frozen=True, kw_only=True, slots=True)
class Stops:
    """The stops of one call at `now`. The dicts are keyed by recording id.

    `until`: requests that are due by then are planned now, so that they leave on time.
    """

    call: Call
    terms: Terms
    acts: Sequence[Act]
    now: datetime
    until: datetime
    recordings: dict[str, Recording]  # with the unseen one, if the call is to be stopped for it
    owed: dict[str, Owed | None]
    next_at: dict[str, datetime | None]  # when the next DELETE is owed; None: none is


def stops_of(
    call: Call, rules: Rules, acts: Sequence[Act], now: datetime, until: datetime
) -> Stops:
    """What each recording of a call is owed."""
    rule, terms = rules.choose(call)
    hidden = unseen(call, acts, terms, rule, until)
    recordings = {**call.recordings, **({UNSEEN: hidden} if hidden else {})}
    owed = {i: stop_owed(call, r, acts, rule, terms) for i, r in recordings.items()}
    next_at = {
        i: _next_request(call, r, owed[i], terms, _asked_at(acts, r, now))
        for i, r in recordings.items()
    }
    return Stops(
        call=call,
        terms=terms,
        acts=acts,
        now=now,
        until=until,
        recordings=recordings,
        owed=owed,
        next_at=next_at,
    )


# When the next one is due
# ------------------------------------------------------------------------------------------------


def _asked_at(acts: Sequence[Act], recording: Recording, now: datetime) -> datetime | None:
    """When a person or an application last asked for this recording's end."""
    return max(
        (a.at for a in acts if a.is_asked and a.enforced and a.at <= now and a.covers(recording)),
        default=None,
    )


def _next_request(
    call: Call, recording: Recording, owed: Owed | None, terms: Terms, asked_at: datetime | None
) -> datetime | None:
    """When the next DELETE for a recording is owed; None when none is."""
    if recording.over_at or owed is None or not owed.enforced:
        return None
    if not recording.attempts:
        return owed.due_at
    last = recording.attempts[-1]
    assert last.at is not None
    requested_at = max(
        (a.requested_at for a in recording.attempts if a.requested_at), default=last.at
    )
    if asked_at is not None and asked_at > requested_at and not recording.asked:
        return asked_at  # a person's stop and a hand-off send at once, whatever was tried before
    if recording.asked and _needs_no_more(recording):
        return None
    if last.kind is Kind.STOP_SET_ASIDE:
        return None
    if last.kind is Kind.STOP_ERRED:
        return _after_error(recording, last, last.at)
    return _repeat_at(call, recording, terms, last.at)


def _after_error(recording: Recording, last: Event, erred_at: datetime) -> datetime:
    """When a request that failed is sent again."""
    if last.status in {401, 403} and last.retry_at:
        return last.retry_at  # the account is halted: tried every 5 s
    backoff = timing.stop_backoff(errors_in_a_row(recording), recording.recording_id)
    return max(erred_at + backoff, last.retry_at or erred_at)


def _repeat_at(
    call: Call, recording: Recording, terms: Terms, answered_at: datetime
) -> datetime | None:
    """When an answered request without proof is sent again; None once the call is over."""
    if recording.unknown_at and (call.claimed_over_at or (call.over_at and recording.room)):
        return None  # the call is over, as far as anybody can tell
    at = answered_at + (timing.UNKNOWN_REPEAT if recording.unknown_at else terms.confirm_within)
    # A look may make the next DELETE unnecessary. It goes first, but gets only a short head start.
    has_looked = looked_since(call, answered_at + terms.confirm_within)
    return at if has_looked else at + timing.LOOK_HEAD_START


def _needs_no_more(hidden: Recording) -> bool:
    """Whether the stop of the whole call for an unseen recording was sent often enough.

    Once is enough where no proof is needed. Otherwise it is repeated until we give up or a 404
    comes. A 404 says that nothing had begun by then, or that there is no such call; another stop
    would only end what begins later.
    """
    assert hidden.asked is not None
    answered = [a for a in hidden.attempts if a.kind in ANSWERED]
    not_found = any(a.kind is Kind.CALL_FOUND_OVER for a in answered)
    return bool(hidden.unknown_at or not_found or (answered and not hidden.asked.proof))


def errors_in_a_row(recording: Recording) -> int:
    """How many of the latest stop requests failed (STOP_ERRED), one after the other."""
    count = 0
    for attempt in reversed(recording.attempts):
        if attempt.kind is not Kind.STOP_ERRED:
            break
        count += 1
    return count


# Which ones leave now, and how they name what they end
# ------------------------------------------------------------------------------------------------


def requests(stops: Stops) -> tuple[tuple[Send, ...], list[str]]:
    """The DELETEs owed by `until`, and the ids of recordings that are due but cannot be named."""
    moment, due = _due_together(stops)
    if not due:
        return (), []
    others = _others_run(stops, moment)
    starts = _starts_beside(stops, moment)
    sends, wide, unnamed = [], [], []
    for at, recording in due:
        spares_starts = bool(starts) and not _may_end_unclear_starts(stops, recording)
        if not others and not spares_starts and _tries_by_url(recording) != 1:
            wide.append((at, recording))
        elif recording.url:
            sends.append(Send(at=at, recording_ids=(recording.recording_id,), url=recording.url))
        elif not recording.asked or recording.asked.proof:
            unnamed.append(recording.recording_id)
    if wide:
        sends.append(_call_wide(wide, ends_starts=bool(starts)))
    return tuple(sends), unnamed


def _due_together(stops: Stops) -> tuple[datetime, list[tuple[datetime, Recording]]]:
    """The instant of the next requests, and the recordings that are due by that instant.

    A recording that is due a moment later waits for its own moment: a shared request would end it
    too early.
    """
    due = [
        (at, stops.recordings[i])
        for i, at in stops.next_at.items()
        if at and at <= stops.until and not _is_exhausted(stops.recordings[i], stops.terms)
    ]
    moment = max(stops.now, min((at for at, _ in due), default=stops.now))
    return moment, [(at, r) for at, r in due if at <= moment]


def _others_run(stops: Stops, moment: datetime) -> bool:
    """Whether a recording runs that must not be ended yet."""
    due = {i for i, owed in stops.owed.items() if owed and owed.is_due(moment)}
    return any(
        i not in due
        for i, r in stops.recordings.items()
        if not r.over_at and not r.trunk and not r.asked
    )


def _call_wide(wide: list[tuple[datetime, Recording]], *, ends_starts: bool) -> Send:
    """One DELETE of the whole call. `ends_starts`: it may end what an unclear start began."""
    # A stop that needs proof is also the one stop that the unseen recording needs.
    wide = [(at, r) for at, r in wide if not r.asked or r.asked.proof] or wide
    note = "it could not be ended by name, so what a start without an answer began is ended, too"
    return Send(
        at=min(at for at, _ in wide),
        recording_ids=tuple(r.recording_id for _, r in wide),
        url=None,
        note=note if ends_starts else None,
    )


def _starts_beside(stops: Stops, moment: datetime) -> list[Start]:
    """The starts that may have begun a recording which must not be ended yet."""
    ends = [a for a in stops.acts if a.ends and a.enforced and a.at <= moment]
    return [
        s
        for s in unsettled(stops.call)
        if s.sent and not any(s.began_at <= a.at and is_about(stops.call, a, s) for a in ends)
    ]


def _may_end_unclear_starts(stops: Stops, recording: Recording) -> bool:
    """Whether the whole call may be stopped although a start without an answer may have begun
    something on it.

    Only for a deadline, and only where the recording cannot be ended by name.
    """
    owed = stops.owed[recording.recording_id]
    is_deadline = owed is not None and owed.trigger in DEADLINES
    return is_deadline and (not recording.url or _promises(recording) >= stops.terms.stop_tries)


def _promises(recording: Recording) -> int:
    return sum(a.kind in ANSWERED for a in recording.attempts)


def _tries_by_url(recording: Recording) -> int:
    return sum(bool(a.named) for a in recording.attempts if a.kind in ANSWERED)


def _is_exhausted(recording: Recording, terms: Terms) -> bool:
    """Whether all tries are used up and STOP_UNKNOWN is not recorded yet. It is recorded before
    another request is sent.
    """
    return recording.unknown_at is None and _promises(recording) >= terms.stop_tries


# The conclusion that nothing is proven
# ------------------------------------------------------------------------------------------------


def unknowns(stops: Stops, unnamed: list[str]) -> Iterator[Event]:
    """STOP_UNKNOWN for each recording whose tries are used up, or whose stop cannot name it.

    `unnamed`: as `requests` returned them.
    """
    for i, recording in stops.recordings.items():
        at = stops.next_at[i]
        if recording.unknown_at or at is None or at > stops.now:
            continue
        if i in unnamed:
            reason = (
                "its URL is not known and other recordings run, or may run, on the call,"
                " so nothing was sent"
            )
            yield _unknown(stops.call, recording, reason)
        elif _is_exhausted(recording, stops.terms):
            reason = f"no proof after {_promises(recording)} stop requests"
            yield _unknown(stops.call, recording, reason)


def _unknown(call: Call, recording: Recording, reason: str) -> Event:
    # The unseen recording has no id, and a call can have several of them in turn.
    name = recording.recording_id or f".{recording.known_at.timestamp():.3f}"
    return Event(
        id=f"unknown:{name}",
        kind=Kind.STOP_UNKNOWN,
        call_uuid=call.call_uuid,
        recording_id=recording.recording_id or None,
        reason=reason,
    )
