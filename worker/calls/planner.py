"""From a call and the rules to what is owed now and when to look next. Pure: `now` is an argument.

The law of a stop, in the order of its life:

    state         holds when                                                   what follows
    none          nothing is due yet, or it ended before anything was due      the next deadline
    due           the deadline or trigger has come                             DELETE at once
    accepted      a DELETE was answered 2xx: a promise                         look after confirm_within, then DELETE again
    unknown       stop_tries promises and no proof, or nothing to name it by   DELETE every 60 s while the call lives
    failed        refused although our credentials are good, or no such call   nothing is sent; it is still looked at
    confirmed     a proof reached us                                           fetch
    already_over  proven, and it had ended 2 s or more before our request      fetch

A person's stop and a hand-off send at once in every state but the last two. Errors (429, 5xx,
timeouts, a wrong path) leave the state as it is, and the request is sent again with back-off. A
proof is final: what comes later adds evidence and moves nothing back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from worker.calls import fetch_times, timing
from worker.calls.call import Call, Handoff, Phase, Recording, Start, Stop, StopState, is_no_call
from worker.calls.confirmation import confirmations
from worker.calls.events import Event, Kind
from worker.calls.handoffs import (
    UNSEEN,
    deadlines_of_the_unseen,
    left_open,
    may_go,
    moments,
    unseen,
    verdict,
)
from worker.calls.look_times import looked_since, next_look
from worker.calls.rules import DEADLINES, Action, Mode, Rules, Terms, deadline
from worker.calls.segments import is_about, lapses_at, lost, orders, orders_at, start_at, unsettled
from worker.calls.triggers import Act, act_of, acts

NO_LIVE_CALL = "no_live_call"
_ANSWERED = {
    Kind.STOP_ACCEPTED,
    Kind.CALL_FOUND_OVER,
}  # a stop request that the provider understood


@dataclass(frozen=True, kw_only=True, slots=True)
class Send:
    """A DELETE that is owed at `at`: call-wide (`url` None) or naming one recording."""

    at: datetime
    recording_ids: tuple[str, ...]
    url: str | None
    note: str | None = None  # what the timeline should say of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a call needs: conclusions to record, requests to send, and when to plan, look and fetch
    next.

    `recordings`: all that stops may be about, with the one that nobody told us of. `stop_at`,
    `look_at` and `fetch_at`: the next instant of each obligation, None where nothing is owed.
    """

    conclusions: tuple[Event, ...] = ()
    sends: tuple[Send, ...] = ()
    starts: tuple[Start, ...] = ()
    transfers: tuple[Handoff, ...] = ()
    recordings: dict[str, Recording] = field(default_factory=dict)
    stop_at: datetime | None = None
    look_at: datetime | None = None
    fetch_at: dict[str, datetime | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Owed:
    """One recording's stop as the rules see it before anything was tried."""

    due_at: datetime
    trigger: str
    rule: str
    enforced: bool
    action: str = Action.STOP


def plan(
    call: Call,
    rules: Rules,
    now: datetime,
    *,
    horizon: timedelta = timedelta(0),
    generation: int = 0,
) -> Plan:
    """What to do about a call up to `now + horizon`, and when to look again. Planning changes
    nothing, so it may be repeated.

    `generation`: the number of the last reload. A fetch that failed with earlier settings may be
    worth another try.
    """
    rule, terms = rules.choose(call)
    known = acts(call, rules)
    until = now + horizon
    hidden = unseen(call, known, terms, rule, until)
    recordings = {**call.recordings, **({UNSEEN: hidden} if hidden else {})}
    owed = {i: _owed(known, r, rule, terms) for i, r in recordings.items()}
    next_at = {
        i: _next_send(call, r, owed[i], terms, _asked_at(known, r, now))
        for i, r in recordings.items()
    }
    sends, unnamed = _sends(call, recordings, known, terms, owed, next_at, now, until)
    # While a stop is owed nothing is started: the stop would end it.
    starts = (
        [] if sends else [s for s in call.starts.values() if s.outcome is None and s.sent is None]
    )
    undecided = [
        (h, verdict(call, rules, h, act_of(known, h)))
        for h in call.handoffs.values()
        if h.decided is None
    ]
    conclusions = [
        *_unknowns(call, recordings, terms, next_at, unnamed, now),
        *fetch_times.verdicts(call, now),
        *orders(call, known, now),
        *lost(call, known, now),
        *left_open(call, undecided, now),
        *confirmations(call, lambda r: judge(call, r, rules, now, known)),
    ]
    sent = {i for s in sends for i in s.recording_ids}
    # A stop that is due and not sent has nothing to name its recording by.
    waits = [
        at if at > now else now + timing.UNKNOWN_REPEAT
        for i, at in next_at.items()
        if i not in sent and at
    ]
    waits += [start_at(s) for s in starts if start_at(s) > now]
    waits += [
        at for s in call.starts.values() if s.unclear and (at := lapses_at(call, s)) and at > now
    ]
    waits += orders_at(call, known, now)
    waits += [a.due_at for a in deadlines_of_the_unseen(call, terms, rule) if a.due_at > now]
    waits += [at for h, found in undecided for at in moments(h, found) if at > now]
    starts = [s for s in starts if start_at(s) <= now]
    transfers = [h for h, found in undecided if h.asked.body and may_go(h, found, now)]
    stop_at = min(waits, default=None)
    if stop_at and stop_at <= until and not (sends or starts or transfers):
        stop_at += horizon  # who is early can do nothing for it: not again before the moment itself
    return Plan(
        conclusions=tuple(conclusions),
        sends=tuple(sends),
        recordings=recordings,
        starts=tuple(starts),
        transfers=tuple(transfers),
        stop_at=stop_at,
        look_at=next_look(
            call, recordings, rules, {i: o.due_at for i, o in owed.items() if o and o.enforced}
        ),
        fetch_at={
            r.recording_id: fetch_times.next_fetch(r, generation) for r in call.recordings.values()
        },
    )


def judge(
    call: Call,
    recording: Recording,
    rules: Rules,
    now: datetime,
    known: Sequence[Act] | None = None,
) -> Stop:
    """One recording's stop, with its evidence, as our callers see it. `known`: the call's acts, if
    the caller has them.
    """
    rule, terms = rules.choose(call)
    owed = _owed(acts(call, rules) if known is None else known, recording, rule, terms)
    done = recording.archived
    if done and done.rule:
        # The receipt has fixed it. Later rules change nothing.
        rule, owed = done.rule, None
        if done.due_at and done.trigger:
            owed = _Owed(
                due_at=done.due_at,
                trigger=done.trigger,
                rule=done.rule,
                enforced=bool(done.enforced),
            )
    tries = [a for a in recording.attempts if a.kind in {*_ANSWERED, Kind.STOP_ERRED}]
    requested_at = min((a.requested_at for a in recording.attempts if a.requested_at), default=None)
    accepted_at = next((a.at for a in recording.attempts if a.kind is Kind.STOP_ACCEPTED), None)
    state = _state(call, recording, owed, requested_at, now)
    needed = owed is not None and (requested_at is not None or _ended_after(recording, owed.due_at))
    tail = None
    if owed and needed and recording.ended_at and recording.evidence:
        tail = round((recording.ended_at - owed.due_at) / timedelta(milliseconds=1))
    if recording.over_at and not needed:
        return Stop(
            state=StopState.NONE,
            trigger="hangup" if _ended_with_call(call, recording) else None,
            rule=rule,
            evidence=tuple(sorted(recording.evidence)),
        )
    return Stop(
        state=state,
        trigger=owed.trigger if owed else None,
        rule=owed.rule if owed else rule,
        due_at=owed.due_at if owed else None,
        requested_at=requested_at,
        accepted_at=accepted_at,
        confirmed_at=recording.over_at
        if state in {StopState.CONFIRMED, StopState.ALREADY_OVER}
        else None,
        evidence=tuple(sorted(recording.evidence)),
        attempts=len(tries),
        tail_ms=tail,
        action=owed.action if owed else None,
        problem=NO_LIVE_CALL if recording.asked and is_no_call(call, recording.attempts) else None,
    )


def _ended_with_call(call: Call, recording: Recording) -> bool:
    """Whether the call's end is what ended it: as the provider says, else whether the call was over
    when the receipt was written.
    """
    if recording.reason:
        return recording.reason.lower() == "hungup"
    written_at = recording.archived.at if recording.archived else None
    return call.over_at is not None and (written_at is None or call.over_at <= written_at)


def phase(recording: Recording, stop: Stop) -> Phase:
    if recording.archived:
        return Phase.ARCHIVED
    if recording.gave_up or recording.abandoned:
        return Phase.ABANDONED
    if recording.finalized_at:
        return Phase.FETCHING
    if recording.over_at:
        return Phase.FINALIZING
    if stop.requested_at or stop.state not in {StopState.NONE, StopState.DUE}:
        return Phase.STOPPING
    return Phase.RECORDING


def problem(recording: Recording, stop: Stop) -> str | None:
    """What a person should know about this recording, in one sentence; None when all is well."""
    if recording.gave_up:
        return recording.gave_up.reason
    if recording.archived:
        return recording.archived.reason
    if recording.failures or recording.abandoned:
        return [*recording.abandoned, *recording.failures][-1].reason
    if stop.state is StopState.UNKNOWN:
        return "no proof that the recording ended"
    errors = [a for a in recording.attempts if a.kind in {Kind.STOP_ERRED, Kind.STOP_SET_ASIDE}]
    return errors[-1].reason if errors and not recording.over_at else None


# Stops
# ------------------------------------------------------------------------------------------------------------


def _owed(known: Sequence[Act], recording: Recording, rule: str, terms: Terms) -> _Owed | None:
    if recording.asked:
        asked = recording.asked
        return _Owed(
            due_at=asked.due_at,
            trigger=asked.trigger,
            rule=asked.rule,
            enforced=True,
            action=asked.action,
        )
    first = next((a for a in recording.attempts if a.due_at and a.trigger), None)
    if first is not None and first.due_at and first.trigger:
        # The first request has fixed it. Later rules change nothing.
        return _Owed(
            due_at=first.due_at,
            trigger=first.trigger,
            rule=first.rule or rule,
            enforced=True,
            action=first.action or Action.STOP,
        )
    if recording.trunk:
        return None  # no API stops a trunk recording
    reasons = [
        _Owed(due_at=a.at, trigger=a.trigger, rule=rule, enforced=a.enforced, action=a.action)
        for a in known
        if a.ends and a.covers(recording)
    ]
    reasons += _deadlines(recording, rule, terms)
    # The first one counts. One that is only observed never hides one that is enforced.
    return min(reasons, key=lambda o: (not o.enforced, o.due_at, o.trigger), default=None)


def _asked_at(known: Sequence[Act], recording: Recording, now: datetime) -> datetime | None:
    """When a person or an application last asked for this recording's end."""
    return max(
        (a.at for a in known if a.is_asked and a.enforced and a.at <= now and a.covers(recording)),
        default=None,
    )


def _deadlines(recording: Recording, rule: str, terms: Terms) -> Iterator[_Owed]:
    latest = deadline(terms, recording.started_at)
    if latest:
        yield _Owed(
            due_at=latest[0], trigger=latest[1], rule=rule, enforced=terms.mode is Mode.ENFORCE
        )
    if (
        recording.max_duration_s is not None
    ):  # a caller asked for it, so it holds even where rules only observe
        due_at = recording.started_at + timedelta(seconds=recording.max_duration_s)
        yield _Owed(due_at=due_at, trigger="max_duration", rule=rule, enforced=True)


def _ended_after(recording: Recording, due_at: datetime) -> bool:
    end = recording.ended_at or recording.over_at
    return end is None or end > due_at


def _state(
    call: Call,
    recording: Recording,
    owed: _Owed | None,
    requested_at: datetime | None,
    now: datetime,
) -> StopState:
    if recording.over_at:
        if requested_at is None:
            return StopState.NONE if owed is None or not owed.enforced else StopState.ALREADY_OVER
        itself = (
            recording.ended_at is not None and recording.ended_at < requested_at - timing.ITSELF
        )
        return StopState.ALREADY_OVER if itself else StopState.CONFIRMED
    last = recording.attempts[-1].kind if recording.attempts else None
    if last is Kind.STOP_SET_ASIDE or (recording.asked and is_no_call(call, recording.attempts)):
        return StopState.FAILED
    if recording.unknown_at:
        return StopState.UNKNOWN
    if any(a.kind is Kind.STOP_ACCEPTED for a in recording.attempts):
        return StopState.ACCEPTED
    return StopState.DUE if owed and owed.enforced and owed.due_at <= now else StopState.NONE


def _next_send(
    call: Call, recording: Recording, owed: _Owed | None, terms: Terms, asked_at: datetime | None
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
        if last.status in {401, 403} and last.retry_at:
            return last.retry_at  # the account is halted: tried every 5 s
        errors = errors_in_a_row(recording)
        return max(
            last.at + timing.stop_backoff(errors, recording.recording_id), last.retry_at or last.at
        )
    if recording.unknown_at and (call.claimed_over_at or (call.over_at and recording.room)):
        return None  # the call is over, as far as anybody can tell
    wait = timing.UNKNOWN_REPEAT if recording.unknown_at else terms.confirm_within
    at = last.at + wait
    # A look may make the next DELETE unnecessary. It goes first, but gets only a short head start.
    return at if looked_since(call, last.at + terms.confirm_within) else at + timing.LOOK_HEAD_START


def _needs_no_more(hidden: Recording) -> bool:
    """Whether the stop of the whole call for an unknown recording was sent often enough.

    Once is enough where no proof is needed. Otherwise it is repeated until we give up or a 404
    comes. A 404 says that nothing had begun by then, or that there is no such call; another stop
    would only end what begins later.
    """
    assert hidden.asked is not None
    answered = [a for a in hidden.attempts if a.kind in _ANSWERED]
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


def _promises(recording: Recording) -> int:
    return sum(a.kind in _ANSWERED for a in recording.attempts)


def _sends(
    call: Call,
    recordings: dict[str, Recording],
    known: Sequence[Act],
    terms: Terms,
    owed: dict[str, _Owed | None],
    next_at: dict[str, datetime | None],
    now: datetime,
    until: datetime,
) -> tuple[list[Send], list[str]]:
    """The requests owed by `until`, and the recordings that are due but cannot be named."""
    due = [
        (at, recordings[i])
        for i, at in next_at.items()
        if at and at <= until and not _exhausted(recordings[i], terms)
    ]
    if not due:
        return [], []
    # One that is due a moment later waits for its own moment: sent together, they would end it too
    # early.
    moment = max(now, min(at for at, _ in due))
    due = [(at, r) for at, r in due if at <= moment]
    running = [r for r in recordings.values() if not r.over_at and not r.trunk and not r.asked]
    others = any(not _is_due(owed[r.recording_id], moment) for r in running)
    starts = _starts_beside(call, known, moment)
    sends, wide, unnamed = [], [], []
    for at, recording in due:
        spares_starts = bool(starts) and not _may_end_unclear_starts(
            recording, owed[recording.recording_id], terms
        )
        if not others and not spares_starts and _named_tries(recording) != 1:
            wide.append((at, recording))
        elif recording.url:
            sends.append(Send(at=at, recording_ids=(recording.recording_id,), url=recording.url))
        elif not recording.asked or recording.asked.proof:
            unnamed.append(recording.recording_id)
    # A stop that needs proof is also the one stop that the unknown recording needs.
    wide = [(at, r) for at, r in wide if not r.asked or r.asked.proof] or wide
    if wide:
        note = (
            "it could not be ended by name, so what a start without an answer began is ended, too"
            if starts
            else None
        )
        sends.append(
            Send(
                at=min(at for at, _ in wide),
                recording_ids=tuple(r.recording_id for _, r in wide),
                url=None,
                note=note,
            )
        )
    return sends, unnamed


def _starts_beside(call: Call, known: Sequence[Act], moment: datetime) -> list[Start]:
    """The starts that may have begun a recording which must not be ended yet."""
    ends = [a for a in known if a.ends and a.enforced and a.at <= moment]
    return [
        s
        for s in unsettled(call)
        if s.sent and not any(s.began_at <= a.at and is_about(call, a, s) for a in ends)
    ]


def _may_end_unclear_starts(recording: Recording, owed: _Owed | None, terms: Terms) -> bool:
    """Whether the whole call may be stopped although a start without an answer may have begun
    something on it.

    Only for a deadline, and only where the recording cannot be ended by name.
    """
    is_deadline = owed is not None and owed.trigger in DEADLINES
    return is_deadline and (not recording.url or _promises(recording) >= terms.stop_tries)


def _is_due(owed: _Owed | None, until: datetime) -> bool:
    return owed is not None and owed.enforced and owed.due_at <= until


def _named_tries(recording: Recording) -> int:
    return sum(bool(a.named) for a in recording.attempts if a.kind in _ANSWERED)


def _exhausted(recording: Recording, terms: Terms) -> bool:
    """Whether all tries are used up and STOP_UNKNOWN is not recorded yet. It is recorded before
    another request is sent.
    """
    return recording.unknown_at is None and _promises(recording) >= terms.stop_tries


def _unknowns(
    call: Call,
    recordings: dict[str, Recording],
    terms: Terms,
    next_at: dict[str, datetime | None],
    unnamed: list[str],
    now: datetime,
) -> Iterator[Event]:
    for i, recording in recordings.items():
        at = next_at[i]
        if recording.unknown_at or at is None or at > now:
            continue
        if i in unnamed:
            yield _unknown(
                call,
                recording,
                "its URL is not known and other recordings run, or may run, on the call, so nothing was sent",
            )
        elif _exhausted(recording, terms):
            yield _unknown(call, recording, f"no proof after {_promises(recording)} stop requests")


def _unknown(call: Call, recording: Recording, reason: str) -> Event:
    # The unknown recording has no id, and a call can have several of them in turn.
    name = recording.recording_id or f".{recording.known_at.timestamp():.3f}"
    return Event(
        id=f"unknown:{name}",
        kind=Kind.STOP_UNKNOWN,
        call_uuid=call.call_uuid,
        recording_id=recording.recording_id or None,
        reason=reason,
    )
