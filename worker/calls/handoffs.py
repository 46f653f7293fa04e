"""The verdict of a hand-off: go when the rule keeps or the end is proven, else hold until the
decision. Pure.

The web process that was asked records the decision. The worker records it where it sends the
provider's transfer itself, and where that web process is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from worker.calls import timing
from worker.calls.call import Call, Handoff, Recording, is_no_call
from worker.calls.events import Event, Kind
from worker.calls.rules import Mode, Rules
from worker.calls.segments import is_to_go_on
from worker.calls.starts import unsettled_by
from worker.calls.triggers import Act, act_of, acts, ended_before
from worker.calls.unseen import (
    asked_by,
    declared_for,
    newer_runs,
    recordings_about,
    trunk_runs,
    unseen_because,
)

_PROVEN = "every recording is proven over"
# A web process that has not decided so long after the wait ended is gone: the worker decides.
_WEB_IS_GONE = timedelta(seconds=1)
_UNASKED = timedelta(seconds=5)  # a transfer that waits for no proof may be sent for so long


# What must be proven
# ------------------------------------------------------------------------------------------------


def concerning(call: Call, act: Act) -> list[Recording]:
    """The recordings whose ends must be proven for a stop or hand-off (`act`).

    Those that ran when the act came. If none ran: those that were over already. The unseen one is
    added if no recording is known, or if a start of ours may have begun something.
    """
    covered = recordings_about(call, act)
    running = [r for r in covered if not ended_before(r, act.at)]
    asked = (
        asked_by(call, act, act.rule)
        if act.is_order or (act.names_one and unsettled_by(call, act))
        else None
    )
    hidden = [unseen_because(call, asked)] if asked and asked.proof else []
    return (running or covered) + hidden


def no_live_call(call: Call, act: Act) -> bool:
    """Whether the provider answered the act's stop with "no such call", and no event but our
    callers' orders ever named the call.
    """
    return is_no_call(
        call, (e for e in call.attempts if e.requested_at and e.requested_at >= act.at)
    )


def was_sent(call: Call, act: Act) -> bool:
    """Whether no stop of the whole call is left to send: it was sent since the act, or none will
    be. Such a stop also ends the unseen recording.
    """
    if call.over_at or declared_for(call, act.at) or newer_runs(call, act):
        return True
    return any(e.requested_at >= act.at for e in call.attempts if e.requested_at)


# The verdict
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """`go` is None while proof may still arrive. If none arrives in time, `at_the_end` is the
    answer: the rule's `if_unproven`.
    """

    act: Act
    go: bool | None
    at_the_end: bool
    proven: bool
    evidence: tuple[str, ...]
    why: str

    @property
    def last_word(self) -> bool:
        """The answer once nobody waits for proof any longer: True for go."""
        return self.at_the_end if self.go is None else self.go


def verdict(call: Call, rules: Rules, handoff: Handoff, act: Act | None = None) -> Verdict:
    """The answer, as far as it is known now. `act`: the hand-off's own act, if the caller has
    it.
    """
    if act is None:
        act = act_of(acts(call, rules), handoff)
    _, terms = rules.choose(call)
    concerned = concerning(call, act)
    proven = _is_proven(call, rules, act, concerned)
    evidence = {name for r in concerned for name in r.evidence} if proven else set()
    return _decide(
        call,
        Verdict(
            act=act,
            go=None,
            at_the_end=proven or terms.if_unproven == "go",
            proven=proven,
            evidence=tuple(sorted(evidence)),
            why=_why_unproven(call, terms.mode, concerned),
        ),
    )


def _is_proven(call: Call, rules: Rules, act: Act, concerned: Sequence[Recording]) -> bool:
    """Whether every recording that the hand-off is about is proven over."""
    if not concerned or trunk_runs(call) or not all(r.over_at for r in concerned):
        return False
    if act.enforced and act.ends:
        return True
    # A hand-off that ends nothing cancels no resumption. So a recording that is about to resume
    # counts as running.
    return not is_to_go_on(call, acts(call, rules), act.at)


def _decide(call: Call, open_verdict: Verdict) -> Verdict:
    """The verdict with `go` and `why`, as far as they are certain."""
    act, proven = open_verdict.act, open_verdict.proven
    if proven and (not act.enforced or not act.ends or was_sent(call, act)):
        return replace(open_verdict, go=True, why=_PROVEN)
    if not act.ends:
        return replace(open_verdict, go=True, why=f"the rule says {act.action}")
    if proven:
        return replace(open_verdict, why=_PROVEN)
    if trunk_runs(call):
        why = "a trunk recording cannot be stopped"
        return replace(open_verdict, go=False, at_the_end=False, why=why)
    if no_live_call(call, act):
        why = "the provider knows no such live call, and nobody ever reported one"
        return replace(open_verdict, go=None if open_verdict.at_the_end else False, why=why)
    return open_verdict


def _why_unproven(call: Call, mode: Mode, concerned: Sequence[Recording]) -> str:
    if mode is Mode.OBSERVE:
        return (
            "the rule only observes, so no stop was sent,"
            " and nothing proves that the recording is over"
        )
    if not call.recordings:
        return "no recording is known on this call, so nothing can prove that none runs"
    unproven = [
        r.recording_id or "a recording that nobody told us of" for r in concerned if not r.over_at
    ]
    return f"no proof yet for {', '.join(unproven)}"


# The decision
# ------------------------------------------------------------------------------------------------


def decided(call: Call, handoff: Handoff, answer: Verdict, *, go: bool, by: str) -> Event:
    """The decision as an event. The first one that is recorded counts: a later one has the same id,
    so it changes nothing.
    """
    return Event(
        id=f"decided.{handoff.asked.order}",
        kind=Kind.HANDOFF_DECIDED,
        call_uuid=call.call_uuid,
        order=handoff.asked.order,
        verdict="go" if go else "hold",
        proven=answer.proven,
        evidence=answer.evidence,
        rule=answer.act.rule,
        trigger=answer.act.trigger,
        reason=answer.why,
        by=by,
    )


def send_by(handoff: Handoff, answer: Verdict) -> datetime:
    """The last instant to send the provider's transfer: the end of the asker's wait. Where no proof
    is needed: at least 5 s after the question.
    """
    assert handoff.asked.at is not None
    return handoff.until if answer.act.ends else max(handoff.until, handoff.asked.at + _UNASKED)


def may_go(handoff: Handoff, answer: Verdict, now: datetime) -> bool:
    """Whether to send the provider's transfer now: at once if the verdict is go; else just before
    the wait ends, if the rule goes unproven.
    """
    if answer.go is False or now > send_by(handoff, answer):
        return False
    return bool(answer.go) or (answer.at_the_end and now >= handoff.until - timing.SEND_BEFORE_END)


def moments(handoff: Handoff, answer: Verdict) -> tuple[datetime, ...]:
    """When to plan an undecided hand-off again if no event comes before."""
    closed = send_by(handoff, answer) + _WEB_IS_GONE
    return (handoff.until - timing.SEND_BEFORE_END, closed) if handoff.asked.body else (closed,)


def left_open(
    call: Call, undecided: Sequence[tuple[Handoff, Verdict]], now: datetime
) -> Iterator[Event]:
    """The worker's decisions for hand-offs whose web process is gone."""
    for handoff, answer in undecided:
        if now >= send_by(handoff, answer) + _WEB_IS_GONE:
            yield decided(call, handoff, answer, go=answer.last_word, by="us")
