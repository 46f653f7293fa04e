"""The verdict of a hand-off: go when the rule keeps or the end is proven, else hold until somebody decides. Pure.

And the recording that nobody told us of: where somebody asks for a stop and no recording is known, or where a survey saw a
call live that nobody had announced, the whole call is stopped and watched as if it were one recording, without a name.
Neither a 204 nor a 404 says anything about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from worker import policy
from worker.policy import Action, Mode, Policy, Terms
from worker.recording import Asked, Call, Event, Handoff, Kind, Recording, is_no_call
from worker.segments import unsettled
from worker.triggers import Act, act_of, acts, ended_before

UNSEEN = ""      # its id
_PROVEN = "every recording is proven over"
_WEB_IS_GONE = timedelta(seconds=1)      # who asked was answered by then, if anybody was left to answer
_UNASKED = timedelta(seconds=5)          # for a transfer that waits for no proof


def unseen(call: Call, known: Sequence[Act], terms: Terms, rule: str, now: datetime) -> Recording | None:
    """What may be recording unknown to us, where the whole call is to be stopped for its sake; None where it is not.

    Somebody asks for the end of everything, or a trigger comes while nobody knows what a start of ours began, or a call
    that nobody announced reaches its deadline. The last of these that has come decides.
    """
    asked = [a for a in known if a.ends and a.enforced and not a.names_one and (a.is_order or unsettled(call, a.at))]
    found = [_asked(call, a, rule) for a in asked[-1:]]
    # It is left out where it can end nothing, and one stop that needs no proof also where it would end what began later.
    found = [a for a in found if a.covers_starts or not (call.over_at or _trunk_runs(call) or (not a.proof and _newer(call, asked[-1])))]
    if deadline := deadline_from_first_sight(call, terms):
        found.append(Asked(due_at=deadline[0], trigger=deadline[1], action=Action.STOP, rule=rule, proof=True))
    come = [a for a in found if a.due_at <= now]
    last = max(come, key=lambda a: a.due_at, default=None) or min(found, key=lambda a: a.due_at, default=None)
    return _hidden(call, last) if last else None


def _asked(call: Call, act: Act, rule: str) -> Asked:
    starts = bool(unsettled(call, act.at))
    return Asked(due_at=act.at, trigger=act.trigger, action=act.action, rule=rule, covers_starts=starts, proof=starts or not _about(call, act))


def deadline_from_first_sight(call: Call, terms: Terms) -> tuple[datetime, str] | None:
    """Of a call that nobody announced, and which term set it; None where there is none."""
    if call.found_live_at is None or terms.mode is not Mode.ENFORCE or not found_live(call):
        return None
    return policy.deadline(terms, call.found_live_at)


def found_live(call: Call) -> bool:
    """Whether something may be recording on a call that nobody announced: from first sight until the call is over, or the
    recording that ran then is known. One that ended before, or that began later, is another.
    """
    seen = call.found_live_at
    if not seen or call.over_at or call.claimed_over_at or (call.declared_at and call.declared_at >= seen):
        return False
    return not any(r.ours_at is None and r.started_at <= seen + policy.SETTLE and not ended_before(r, seen) for r in call.recordings.values())


def _hidden(call: Call, asked: Asked) -> Recording:
    evidence = {}
    if call.hung_up_at:
        evidence["call_over"] = call.hung_up_at
    if declared := _declared(call, asked.due_at):
        evidence["declared"] = declared
    return Recording(
        recording_id=UNSEEN, known_at=asked.due_at, trunk=call.trunk, evidence=evidence, asked=asked,
        attempts=tuple(e for e in call.attempts if e.requested_at and e.requested_at >= asked.due_at),
        unknown_at=next((e.at for e in call.unknowns if e.at and e.at >= asked.due_at), None))


def _declared(call: Call, asked_at: datetime) -> datetime | None:
    """When an application said that nothing is being recorded, if that answers a question of this instant."""
    said = call.declared_at
    if said is None or said < asked_at - policy.DECLARED_WITHIN or any(at > said for at in _signs(call)):
        return None
    return said


def _signs(call: Call) -> list[datetime]:
    """When a recording, or the order to start one, became known."""
    return [*(r.known_at for r in call.recordings.values()), *(s.ordered.at for s in call.starts.values() if s.ordered.at)]


def _about(call: Call, act: Act) -> list[Recording]:
    """The recordings that a question is about: those that were known when it was asked, and any that ran then. One that is
    first learned of later, and had ended before, proves nothing.
    """
    return [r for r in call.recordings.values() if act.covers(r) and (r.known_at <= act.at or not ended_before(r, act.at))]


def concerning(call: Call, act: Act) -> list[Recording]:
    """What an order is about: the recordings that ran then, or those that were over already where none ran; and what
    nobody told us of, where nothing else is known or a start of ours is not settled.
    """
    covered = _about(call, act)
    asked = _asked(call, act, act.rule) if act.is_order else None
    hidden = [_hidden(call, asked)] if asked and asked.proof else []
    return ([r for r in covered if not ended_before(r, act.at)] or covered) + hidden


def no_live_call(call: Call, act: Act) -> bool:
    """Whether a stop for this order was answered that there is no such call, and nobody ever spoke of one."""
    return is_no_call(call, (e for e in call.attempts if e.requested_at and e.requested_at >= act.at))


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """`go` is None while proof may still arrive. If none arrives in time, `at_the_end` is the answer: the rule's `if_unproven`."""

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


def verdict(call: Call, rules: Policy, handoff: Handoff, act: Act | None = None) -> Verdict:
    """What is to be answered, as far as it is known now. `act`: what the hand-off itself does, where that is known already."""
    act, (_, terms) = act or act_of(acts(call, rules), handoff), rules.choose(call)
    concerned = concerning(call, act)
    proven = bool(concerned) and all(r.over_at for r in concerned) and not _trunk_runs(call)
    found = Verdict(act=act, go=None, at_the_end=proven or terms.if_unproven == "go", proven=proven,
                    why=_why(call, terms.mode, concerned), evidence=tuple(sorted({e for r in concerned for e in r.evidence})) if proven else ())
    if proven and (not act.enforced or not act.ends or was_sent(call, act)):
        return replace(found, go=True, why=_PROVEN)
    if not act.ends:
        return replace(found, go=True, why=f"the rule says {act.action}")
    if proven:
        return replace(found, why=_PROVEN)
    if _trunk_runs(call):
        return replace(found, go=False, at_the_end=False, why="a trunk recording cannot be stopped")
    if no_live_call(call, act):
        return replace(found, go=None if found.at_the_end else False, why="the provider knows no such live call, and nobody ever reported one")
    return found


def _trunk_runs(call: Call) -> bool:
    """A trunk records the whole call, whoever else does, and nothing can stop it."""
    trunks = [r for r in call.recordings.values() if r.trunk]
    return not call.over_at and (any(not r.over_at for r in trunks) or (call.trunk and not trunks))


def was_sent(call: Call, act: Act) -> bool:
    """Whether the stop that a question asks for has left, or will not leave. It ends what nobody told us of."""
    if call.over_at or _declared(call, act.at) or _newer(call, act):
        return True
    requests = [*call.attempts, *(e for r in call.recordings.values() for e in r.attempts)]
    return any(e.requested_at >= act.at for e in requests if e.requested_at)


def _newer(call: Call, act: Act) -> bool:
    """Whether a recording that we started after an act may run: a stop of the whole call would end it as well."""
    return any(not act.covers(r) and not r.over_at for r in call.recordings.values()) or any(s.began_at > act.at for s in unsettled(call))


def _why(call: Call, mode: Mode, concerned: list[Recording]) -> str:
    if mode is Mode.OBSERVE:
        return "the rule only observes, so no stop was sent, and nothing proves that the recording is over"
    if not call.recordings:
        return "no recording is known on this call, so nothing can prove that none runs"
    return f"no proof yet for {', '.join(r.recording_id or 'a recording that nobody told us of' for r in concerned if not r.over_at)}"


def decided(call: Call, handoff: Handoff, found: Verdict, *, go: bool, by: str) -> Event:
    """The decision as an event. Whoever records it first has decided: a later one with the same id changes nothing."""
    return Event(id=f"decided.{handoff.asked.order}", kind=Kind.HANDOFF_DECIDED, call_uuid=call.call_uuid, order=handoff.asked.order,
                 verdict="go" if go else "hold", proven=found.proven, evidence=found.evidence, rule=found.act.rule, trigger=found.act.trigger,
                 reason=found.why, by=by)


def send_by(handoff: Handoff, found: Verdict) -> datetime:
    """Until when the provider's transfer may be sent: the end of the asker's wait, and a moment where nobody has to wait."""
    assert handoff.asked.at is not None
    return handoff.until if found.act.ends else max(handoff.until, handoff.asked.at + _UNASKED)


def may_go(handoff: Handoff, found: Verdict, now: datetime) -> bool:
    """Whether the provider's transfer is to be sent now: proven, or kept, or without proof just before the wait ends."""
    if found.go is False or now > send_by(handoff, found):
        return False
    return bool(found.go) or (found.at_the_end and now >= handoff.until - policy.SEND_BEFORE_END)


def moments(handoff: Handoff, found: Verdict) -> tuple[datetime, ...]:
    """When to look at a hand-off that is not decided, if nothing happens."""
    closed = send_by(handoff, found) + _WEB_IS_GONE
    return (handoff.until - policy.SEND_BEFORE_END, closed) if handoff.asked.body else (closed,)


def left_open(call: Call, waiting: Sequence[tuple[Handoff, Verdict]], now: datetime) -> Iterator[Event]:
    """The decisions that nobody made in time, because the process that waited is gone."""
    for handoff, found in waiting:
        if now >= send_by(handoff, found) + _WEB_IS_GONE:
            yield decided(call, handoff, found, go=found.last_word, by="us")
