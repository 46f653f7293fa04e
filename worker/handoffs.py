"""The verdict of a hand-off: go when the rule keeps or the end is proven, else hold until somebody decides. Pure.

And the recording that nobody told us of: where somebody asks for a stop and no recording is known, or where a survey saw a
call live that nobody had announced, the whole call is stopped and watched as if it were one recording, without a name.
Neither a 204 nor a 404 says anything about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from worker import policy
from worker.policy import Mode, Policy
from worker.recording import Call, Event, Handoff, Kind, Recording
from worker.triggers import Act, act_of, ended_before

UNSEEN = ""      # its id
_WEB_IS_GONE = timedelta(seconds=1)      # who asked was answered by then, if anybody was left to answer
_UNASKED = timedelta(seconds=5)          # for a transfer that waits for no proof


def unseen(call: Call, acts: Iterable[Act]) -> Recording | None:
    """What may be recording unknown to us, if somebody asked for its stop; None where all that records is known."""
    asked = [a for a in acts if a.is_order and a.ends and _may_be_more(call, a)]
    if not asked:
        return found_live(call)
    last = asked[-1]
    since = last.at - policy.SHARED_STOP
    evidence = {}
    if call.hung_up_at:
        evidence["call_over"] = call.hung_up_at
    if call.declared_at and not any(at > call.declared_at for at in _reports(call)):
        evidence["declared"] = call.declared_at
    return Recording(
        recording_id=UNSEEN, known_at=last.at, trunk=call.trunk, evidence=evidence,
        attempts=tuple(e for e in call.attempts if e.requested_at and e.requested_at >= since),
        unknown_at=next((e.at for e in call.unknowns if e.at and e.at >= since), None))


def found_live(call: Call) -> Recording | None:
    """What may be recording on a call that nobody announced: from first sight until a recording is known or the call is over."""
    if not call.found_live_at or call.recordings or call.starts or call.over_at or call.claimed_over_at or call.declared_at:
        return None
    return Recording(
        recording_id=UNSEEN, known_at=call.found_live_at, provider_started_at=call.found_live_at, trunk=call.trunk,
        attempts=tuple(e for e in call.attempts if e.requested_at and e.requested_at >= call.found_live_at),
        unknown_at=next((e.at for e in call.unknowns if e.at and e.at >= call.found_live_at), None))


def _may_be_more(call: Call, act: Act) -> bool:
    unclear = any((s.unclear or s.outcome is None) and s.ordered.at and s.ordered.at <= act.at for s in call.starts.values())
    return unclear or not any(act.covers(r) for r in call.recordings.values())


def _reports(call: Call) -> list[datetime]:
    ordered = [s.ordered.at for s in call.starts.values() if s.ordered.at]
    return [*(r.known_at for r in call.recordings.values()), *ordered]


def concerning(call: Call, act: Act) -> list[Recording]:
    """What an order is about: the recordings that ran then, or those that were over already where none ran."""
    covered = [r for r in call.recordings.values() if act.covers(r)]
    hidden = unseen(call, [act]) if act.is_order and act.ends else None
    return ([r for r in covered if not ended_before(r, act.at)] or covered) + ([hidden] if hidden else [])


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """`go` is None while the proof may still come; then `at_the_end` says what the rule makes of it."""

    act: Act
    go: bool | None
    at_the_end: bool
    proven: bool
    evidence: tuple[str, ...]
    why: str
    concerned: tuple[Recording, ...]


def verdict(call: Call, rules: Policy, handoff: Handoff) -> Verdict:
    """What is to be answered, as far as it is known now."""
    act, (_, terms) = act_of(call, rules, handoff), rules.choose(call)
    concerned = concerning(call, act)
    proven = bool(concerned) and all(r.over_at for r in concerned)
    found = Verdict(act=act, go=None, at_the_end=terms.if_unproven == "go", proven=proven, concerned=tuple(concerned), why=_why(call, terms.mode, concerned),
                    evidence=tuple(sorted({e for r in concerned for e in r.evidence})) if proven else ())
    if proven:
        return replace(found, go=True, why="every recording is proven over")
    if not act.ends:
        return replace(found, go=True, why=f"the rule says {act.action}")
    if call.trunk or any(r.trunk and not r.over_at for r in concerned):
        return replace(found, go=False, why="a trunk recording cannot be stopped")
    return found


def _why(call: Call, mode: Mode, concerned: list[Recording]) -> str:
    if mode is Mode.OBSERVE:
        return "the rule only observes, so no stop was sent, and nothing proves that the recording is over"
    if not call.recordings:
        return "no recording is known on this call, so nothing can prove that none runs"
    return f"no proof yet for {', '.join(r.recording_id or 'a start without an answer' for r in concerned if not r.over_at)}"


def decided(call: Call, handoff: Handoff, found: Verdict, *, go: bool, by: str) -> Event:
    """The decision as an event. Whoever records it first has decided: a later one with the same id changes nothing."""
    return Event(id=f"decided.{handoff.asked.order}", kind=Kind.HANDOFF_DECIDED, call_uuid=call.call_uuid, order=handoff.asked.order,
                 verdict="go" if go else "hold", proven=found.proven, evidence=found.evidence, rule=found.act.rule, trigger=found.act.trigger,
                 reason=found.why, by=by)


def send_by(handoff: Handoff, found: Verdict) -> datetime:
    """Until when the provider's transfer may be sent: the end of the asker's wait, and a moment where nobody has to wait."""
    assert handoff.asked.at is not None
    return handoff.until if found.act.ends else max(handoff.until, handoff.asked.at + _UNASKED)


def may_go(call: Call, rules: Policy, handoff: Handoff, now: datetime) -> bool:
    """Whether the provider's transfer is to be sent now: proven, or kept, or without proof just before the wait ends."""
    found = verdict(call, rules, handoff)
    if found.go is False or now > send_by(handoff, found):
        return False
    return bool(found.go) or (found.at_the_end and now >= handoff.until - policy.SEND_BEFORE_END)


def moments(call: Call, rules: Policy, handoff: Handoff) -> tuple[datetime, ...]:
    """When to look at a hand-off that is not decided, if nothing happens."""
    closed = send_by(handoff, verdict(call, rules, handoff)) + _WEB_IS_GONE
    return (handoff.until - policy.SEND_BEFORE_END, closed) if handoff.asked.body else (closed,)


def left_open(call: Call, rules: Policy, waiting: Sequence[Handoff], now: datetime) -> Iterator[Event]:
    """The decisions that nobody made in time, because the process that waited is gone."""
    for handoff in waiting:
        found = verdict(call, rules, handoff)
        if now >= send_by(handoff, found) + _WEB_IS_GONE:
            yield decided(call, handoff, found, go=found.at_the_end if found.go is None else found.go, by="us")
