"""The stop of one recording: when the rules owe it, how far it came, and what proves it. Pure.

`planner` states the law of a stop. This module names the state; `stop_requests` names the requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.calls import consent, timing, triggers
from worker.calls.call import Call, Phase, Recording, Stop, StopState, is_no_call
from worker.calls.erasure import BEING_ERASED
from worker.calls.events import Event, Kind
from worker.calls.rules import DEADLINES, Action, Mode, Rules, Terms, deadline
from worker.calls.triggers import Act

NO_LIVE_CALL = "no_live_call"
# The stop requests that the provider's application answered: with a 2xx, or with its own 404.
ANSWERED = {Kind.STOP_ACCEPTED, Kind.CALL_FOUND_OVER}


@dataclass(frozen=True, kw_only=True, slots=True)
class Owed:
    """Why and when a recording has to stop. `enforced`: False where the rules only observe."""

    due_at: datetime
    trigger: str
    rule: str
    enforced: bool
    action: str = Action.STOP

    def is_due(self, instant: datetime) -> bool:
        """Whether the stop has to be sent by then."""
        return self.enforced and self.due_at <= instant


def judge(
    call: Call,
    recording: Recording,
    rules: Rules,
    now: datetime,
    acts: Sequence[Act] | None = None,
) -> Stop:
    """The recording's stop with its evidence, as `/v1` and the receipt show it.

    `acts`: the call's acts, if the caller has computed them already.
    """
    rule, terms = rules.choose(call)
    acts = triggers.acts(call, rules) if acts is None else acts
    owed = stop_owed(call, recording, acts, rule, terms)
    if recording.archived and recording.archived.rule:
        # The receipt is written: later rules change nothing.
        rule, owed = recording.archived.rule, _owed_by_receipt(recording.archived)
    requested_at = _first_request(recording)
    needed = owed is not None and (requested_at is not None or _ended_after(recording, owed.due_at))
    if recording.over_at and not needed:
        return Stop(
            state=StopState.NONE,
            trigger="hangup" if _ended_with_call(call, recording) else None,
            rule=rule,
            evidence=tuple(sorted(recording.evidence)),
        )
    state = _state(call, recording, owed, now)
    is_proven = state in {StopState.CONFIRMED, StopState.ALREADY_OVER}
    return Stop(
        state=state,
        trigger=owed.trigger if owed else None,
        rule=owed.rule if owed else rule,
        due_at=owed.due_at if owed else None,
        requested_at=requested_at,
        accepted_at=next((a.at for a in recording.attempts if a.kind is Kind.STOP_ACCEPTED), None),
        confirmed_at=recording.over_at if is_proven else None,
        evidence=tuple(sorted(recording.evidence)),
        attempts=sum(a.kind in {*ANSWERED, Kind.STOP_ERRED} for a in recording.attempts),
        tail_ms=_tail_ms(recording, owed) if needed else None,
        overdue_since=_overdue_since(call, recording, acts, owed, rules),
        action=owed.action if owed else None,
        problem=NO_LIVE_CALL if recording.asked and is_no_call(call, recording.attempts) else None,
    )


def phase(recording: Recording, stop: Stop) -> Phase:
    """Where a recording stands between its start and the archive."""
    if recording.erased:
        return Phase.ERASED
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
    """What an operator should know about this recording, in one sentence; None when all is well."""
    if recording.erasing:
        return None if recording.erased else BEING_ERASED
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


# What is owed
# ------------------------------------------------------------------------------------------------


def stop_owed(
    call: Call, recording: Recording, acts: Sequence[Act], rule: str, terms: Terms
) -> Owed | None:
    """The first reason to stop a recording; None where there is none.

    An enforced reason always goes before one that is only observed. Once a stop is requested its
    reason is fixed: later rules change nothing.
    """
    if recording.asked:
        asked = recording.asked
        return Owed(
            due_at=asked.due_at,
            trigger=asked.trigger,
            rule=asked.rule,
            enforced=True,
            action=asked.action,
        )
    requested = next((a for a in recording.attempts if a.due_at and a.trigger), None)
    if requested is not None and requested.due_at and requested.trigger:
        return Owed(
            due_at=requested.due_at,
            trigger=requested.trigger,
            rule=requested.rule or rule,
            enforced=True,
            action=requested.action or Action.STOP,
        )
    if recording.trunk:
        return None  # no API stops a trunk recording
    return _first_reason(call, recording, acts, rule, terms)


def _first_reason(
    call: Call, recording: Recording, acts: Sequence[Act], rule: str, terms: Terms
) -> Owed | None:
    """The first reason by what is known now, whatever was requested; an enforced one if any is."""
    reasons = [
        Owed(due_at=a.at, trigger=a.trigger, rule=rule, enforced=a.enforced, action=a.action)
        for a in acts
        if a.ends and a.covers(recording)
    ]
    reasons += _deadlines(recording, rule, terms)
    reasons += _for_want_of_consent(call, recording, rule, terms)
    return min(reasons, key=lambda r: (not r.enforced, r.due_at, r.trigger), default=None)


def _overdue_since(
    call: Call, recording: Recording, acts: Sequence[Act], owed: Owed | None, rules: Rules
) -> datetime | None:
    """When the rules wanted the recording ended, where that was before its stop was due: nobody had
    told us of it, or of its start, when the stop was requested. Fixed by the receipt.
    """
    if recording.archived:
        return recording.archived.overdue_since
    requested_at = _first_request(recording)
    if owed is None or requested_at is None or recording.asked or recording.trunk:
        return None
    if owed.trigger in DEADLINES and recording.known_at <= requested_at:
        return None  # by the rules of then it was the first; a reload may have changed them
    first = _first_reason(call, recording, acts, *rules.choose(call))
    is_earlier = first is not None and first.enforced and first.due_at < owed.due_at
    return first.due_at if first and is_earlier else None


def _deadlines(recording: Recording, rule: str, terms: Terms) -> Iterator[Owed]:
    latest = deadline(terms, recording.started_at)
    if latest:
        due_at, trigger = latest
        yield Owed(due_at=due_at, trigger=trigger, rule=rule, enforced=terms.mode is Mode.ENFORCE)
    if recording.max_duration_s is not None:
        # A caller asked for this limit, so it holds even where the rules only observe.
        due_at = recording.started_at + timedelta(seconds=recording.max_duration_s)
        yield Owed(due_at=due_at, trigger="max_duration", rule=rule, enforced=True)


def _for_want_of_consent(
    call: Call, recording: Recording, rule: str, terms: Terms
) -> Iterator[Owed]:
    due_at = consent.lacking_from(call, recording, terms)
    if due_at:
        enforced = terms.mode is Mode.ENFORCE
        yield Owed(due_at=due_at, trigger=consent.TRIGGER, rule=rule, enforced=enforced)


def _owed_by_receipt(archived: Event) -> Owed | None:
    """The stop as MEDIA_ARCHIVED recorded it; None where none was owed."""
    if not (archived.rule and archived.due_at and archived.trigger):
        return None
    return Owed(
        due_at=archived.due_at,
        trigger=archived.trigger,
        rule=archived.rule,
        enforced=bool(archived.enforced),
    )


# How far it came
# ------------------------------------------------------------------------------------------------


def _state(call: Call, recording: Recording, owed: Owed | None, now: datetime) -> StopState:
    if recording.over_at:
        return _proven_state(recording, owed)
    last = recording.attempts[-1].kind if recording.attempts else None
    if last is Kind.STOP_SET_ASIDE or (recording.asked and is_no_call(call, recording.attempts)):
        return StopState.FAILED
    if recording.unknown_at:
        return StopState.UNKNOWN
    if any(a.kind is Kind.STOP_ACCEPTED for a in recording.attempts):
        return StopState.ACCEPTED
    return StopState.DUE if owed and owed.is_due(now) else StopState.NONE


def _proven_state(recording: Recording, owed: Owed | None) -> StopState:
    """The state of a stop whose recording is proven over. Here it becomes CONFIRMED."""
    requested_at = _first_request(recording)
    if requested_at is None:
        return StopState.NONE if owed is None or not owed.enforced else StopState.ALREADY_OVER
    ended_at = recording.ended_at
    ended_by_itself = ended_at is not None and ended_at < requested_at - timing.ITSELF
    return StopState.ALREADY_OVER if ended_by_itself else StopState.CONFIRMED


def _first_request(recording: Recording) -> datetime | None:
    return min((a.requested_at for a in recording.attempts if a.requested_at), default=None)


def _ended_after(recording: Recording, due_at: datetime) -> bool:
    """Whether a recording ran on after its stop was due. True for one that still runs."""
    end = recording.ended_at or recording.over_at
    return end is None or end > due_at


def _ended_with_call(call: Call, recording: Recording) -> bool:
    """Whether the hang-up ended the recording.

    The provider's end reason decides. Without one: whether the call was over when the receipt was
    written.
    """
    if recording.reason:
        return recording.reason.lower() == "hungup"
    written_at = recording.archived.at if recording.archived else None
    return call.over_at is not None and (written_at is None or call.over_at <= written_at)


def _tail_ms(recording: Recording, owed: Owed | None) -> int | None:
    """From the instant the stop was due to the provider's end; None until the end is known."""
    if not (owed and recording.ended_at and recording.evidence):
        return None
    return round((recording.ended_at - owed.due_at) / timedelta(milliseconds=1))
