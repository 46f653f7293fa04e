"""The verdict of a hand-off: go when the rule keeps or the end is proven, else hold until somebody
decides. Pure.

Also here: the recording that nobody told us of. Somebody asks for a stop and no recording is known,
or a survey sees a call live that nobody announced. Then the whole call is stopped, and watched as
if it were one recording without a name. Neither a 204 nor a 404 proves that this recording is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from worker.calls import timing
from worker.calls.call import Asked, Call, Handoff, Recording, is_no_call
from worker.calls.events import Event, Kind
from worker.calls.rules import Action, Mode, Rules, Terms, deadline
from worker.calls.segments import is_to_go_on, unsettled, unsettled_by
from worker.calls.triggers import Act, act_of, acts, ended_before

UNSEEN = ""  # the id of the recording that nobody told us of
_PROVEN = "every recording is proven over"
_WEB_IS_GONE = timedelta(
    seconds=1
)  # a web process that has not decided so long after the wait ended is gone: the worker decides
_UNASKED = timedelta(seconds=5)  # a transfer that waits for no proof may be sent for so long


def unseen(
    call: Call, known: Sequence[Act], terms: Terms, rule: str, now: datetime
) -> Recording | None:
    """The recording that may run unknown to us, if the whole call is to be stopped because of it;
    else None.

    There are three reasons: somebody asks for the end of everything; a trigger comes while nobody
    knows what a start of ours began; a deadline comes, of such a start or of a call that nobody
    announced. The last reason whose time has come decides, else the next one.
    """
    ending = [a for a in known if a.ends and a.enforced and (a.is_order or unsettled_by(call, a))]
    reasons = []
    if ending:
        act = ending[-1]
        asked = _asked(call, act, rule)
        ends_nothing = call.over_at or _trunk_runs(call)
        ends_what_began_later = not asked.proof and _newer(call, act)
        if asked.covers_starts or not (ends_nothing or ends_what_began_later):
            reasons.append(asked)
    reasons += deadlines_of_the_unseen(call, terms, rule)
    due = [a for a in reasons if a.due_at <= now]
    reason = max(due, key=lambda a: a.due_at, default=None) or min(
        reasons, key=lambda a: a.due_at, default=None
    )
    return _hidden(call, reason) if reason else None


def _asked(call: Call, act: Act, rule: str) -> Asked:
    covers_starts = bool(unsettled_by(call, act))
    return Asked(
        due_at=act.at,
        trigger=act.trigger,
        action=act.action,
        rule=rule,
        covers_starts=covers_starts,
        proof=covers_starts or not _about(call, act),
    )


def deadlines_of_the_unseen(call: Call, terms: Terms, rule: str) -> list[Asked]:
    """The deadline of a call that nobody announced, from first sight, and that of each start
    without an answer.
    """
    found = []
    if (
        call.found_live_at
        and found_live(call)
        and (end := _deadline(terms, call.found_live_at, None))
    ):
        found.append(
            Asked(due_at=end[0], trigger=end[1], action=Action.STOP, rule=rule, proof=True)
        )
    unanswered = [s for s in unsettled(call) if s.sent and s.outcome]
    deadlines = [_deadline(terms, s.began_at, s.ordered.max_duration_s) for s in unanswered]
    return found + [
        Asked(
            due_at=d[0], trigger=d[1], action=Action.STOP, rule=rule, proof=True, covers_starts=True
        )
        for d in deadlines
        if d
    ]


def _deadline(
    terms: Terms, began_at: datetime, max_duration_s: float | None
) -> tuple[datetime, str] | None:
    """The first instant that bounds it, and what set that: the terms if they are enforced, or what
    was asked for.
    """
    found = deadline(terms, began_at) if terms.mode is Mode.ENFORCE else None
    asked = (
        (began_at + timedelta(seconds=max_duration_s), "max_duration")
        if max_duration_s is not None
        else None
    )
    return min((d for d in (found, asked) if d), default=None)


def found_live(call: Call) -> bool:
    """Whether something may be recording on a call that nobody announced.

    From first sight until the call is over, an application declares that nothing records, or the
    recording that ran at first sight is known. A recording that ended before, or began later, is
    not that one.
    """
    seen_at = call.found_live_at
    if (
        not seen_at
        or call.over_at
        or call.claimed_over_at
        or (call.declared_at and call.declared_at >= seen_at)
    ):
        return False
    return not any(
        r.ours_at is None
        and r.started_at <= seen_at + timing.SETTLE
        and not ended_before(r, seen_at)
        for r in call.recordings.values()
    )


def _hidden(call: Call, asked: Asked) -> Recording:
    evidence = {}
    if call.hung_up_at:
        evidence["call_over"] = call.hung_up_at
    if declared := _declared(call, asked.due_at):
        evidence["declared"] = declared
    return Recording(
        recording_id=UNSEEN,
        known_at=asked.due_at,
        trunk=call.trunk,
        evidence=evidence,
        asked=asked,
        attempts=tuple(
            e for e in call.attempts if e.requested_at and e.requested_at >= asked.due_at
        ),
        unknown_at=next((e.at for e in call.unknowns if e.at and e.at >= asked.due_at), None),
    )


def _declared(call: Call, asked_at: datetime) -> datetime | None:
    """When an application declared that nothing is being recorded, if that counts for a question of
    this instant.

    It does not count if it came too long before, or if a recording or an order to start one became
    known after it.
    """
    declared_at = call.declared_at
    if (
        declared_at is None
        or declared_at < asked_at - timing.DECLARED_WITHIN
        or any(at >= declared_at for at in _signs(call))
    ):
        return None
    return declared_at


def _signs(call: Call) -> list[datetime]:
    """When a recording, or the order to start one, became known."""
    return [
        *(r.known_at for r in call.recordings.values()),
        *(s.ordered.at for s in call.starts.values() if s.ordered.at),
    ]


def _about(call: Call, act: Act) -> list[Recording]:
    """The recordings that a question is about: those that we knew when it was asked, and those that
    ran then.

    A recording that had ended before the question, and of which we learn only after it, proves
    nothing.
    """
    return [
        r
        for r in call.recordings.values()
        if act.covers(r) and (r.known_at <= act.at or not ended_before(r, act.at))
    ]


def concerning(call: Call, act: Act) -> list[Recording]:
    """The recordings whose ends must be proven for this order.

    Those that ran when it came; where none ran, those that were over already. Also the one that
    nobody told us of, where nothing else is known, or where a start of ours may have begun
    something.
    """
    covered = _about(call, act)
    running = [r for r in covered if not ended_before(r, act.at)]
    asked = (
        _asked(call, act, act.rule)
        if act.is_order or (act.names_one and unsettled_by(call, act))
        else None
    )
    hidden = [_hidden(call, asked)] if asked and asked.proof else []
    return (running or covered) + hidden


def no_live_call(call: Call, act: Act) -> bool:
    """Whether a stop for this order was answered that there is no such call, and nobody ever spoke
    of one.
    """
    return is_no_call(
        call, (e for e in call.attempts if e.requested_at and e.requested_at >= act.at)
    )


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
    proven = bool(concerned) and all(r.over_at for r in concerned) and not _trunk_runs(call)
    if proven and not (act.enforced and act.ends):
        # Such a question makes no resumption lapse: one that was asked for before it counts as
        # running.
        proven = not is_to_go_on(call, acts(call, rules), act.at)
    evidence = {name for r in concerned for name in r.evidence} if proven else set()
    found = Verdict(
        act=act,
        go=None,
        at_the_end=proven or terms.if_unproven == "go",
        proven=proven,
        evidence=tuple(sorted(evidence)),
        why=_why(call, terms.mode, concerned),
    )
    if proven and (not act.enforced or not act.ends or was_sent(call, act)):
        return replace(found, go=True, why=_PROVEN)
    if not act.ends:
        return replace(found, go=True, why=f"the rule says {act.action}")
    if proven:
        return replace(found, why=_PROVEN)
    if _trunk_runs(call):
        return replace(found, go=False, at_the_end=False, why="a trunk recording cannot be stopped")
    if no_live_call(call, act):
        return replace(
            found,
            go=None if found.at_the_end else False,
            why="the provider knows no such live call, and nobody ever reported one",
        )
    return found


def _trunk_runs(call: Call) -> bool:
    """Whether a trunk recording runs. It records the whole call, and no API stops it."""
    trunks = [r for r in call.recordings.values() if r.trunk]
    return not call.over_at and (any(not r.over_at for r in trunks) or (call.trunk and not trunks))


def was_sent(call: Call, act: Act) -> bool:
    """Whether the whole call was stopped since the question, or will not be. Such a stop also ends
    what nobody told us of.
    """
    if call.over_at or _declared(call, act.at) or _newer(call, act):
        return True
    return any(e.requested_at >= act.at for e in call.attempts if e.requested_at)


def _newer(call: Call, act: Act) -> bool:
    """Whether a recording may run that an act does not cover: a stop of the whole call would end it
    as well.
    """
    if any(s.began_at > act.at for s in unsettled(call)):
        return True
    return any(not act.covers(r) and not r.over_at for r in call.recordings.values())


def _why(call: Call, mode: Mode, concerned: list[Recording]) -> str:
    if mode is Mode.OBSERVE:
        return "the rule only observes, so no stop was sent, and nothing proves that the recording is over"
    if not call.recordings:
        return "no recording is known on this call, so nothing can prove that none runs"
    unproven = [
        r.recording_id or "a recording that nobody told us of" for r in concerned if not r.over_at
    ]
    return f"no proof yet for {', '.join(unproven)}"


def decided(call: Call, handoff: Handoff, found: Verdict, *, go: bool, by: str) -> Event:
    """The decision as an event. The first one that is recorded counts: a later one has the same id,
    so it changes nothing.
    """
    return Event(
        id=f"decided.{handoff.asked.order}",
        kind=Kind.HANDOFF_DECIDED,
        call_uuid=call.call_uuid,
        order=handoff.asked.order,
        verdict="go" if go else "hold",
        proven=found.proven,
        evidence=found.evidence,
        rule=found.act.rule,
        trigger=found.act.trigger,
        reason=found.why,
        by=by,
    )


def send_by(handoff: Handoff, found: Verdict) -> datetime:
    """Until when the provider's transfer may be sent: the end of the asker's wait; at least 5 s
    where no proof is waited for.
    """
    assert handoff.asked.at is not None
    return handoff.until if found.act.ends else max(handoff.until, handoff.asked.at + _UNASKED)


def may_go(handoff: Handoff, found: Verdict, now: datetime) -> bool:
    """Whether to send the provider's transfer now: at once if the verdict is go; else just before
    the wait ends, if the rule goes unproven.
    """
    if found.go is False or now > send_by(handoff, found):
        return False
    return bool(found.go) or (found.at_the_end and now >= handoff.until - timing.SEND_BEFORE_END)


def moments(handoff: Handoff, found: Verdict) -> tuple[datetime, ...]:
    """When to plan an undecided hand-off again if no event comes before."""
    closed = send_by(handoff, found) + _WEB_IS_GONE
    return (handoff.until - timing.SEND_BEFORE_END, closed) if handoff.asked.body else (closed,)


def left_open(
    call: Call, waiting: Sequence[tuple[Handoff, Verdict]], now: datetime
) -> Iterator[Event]:
    """The decisions for hand-offs whose web process is gone: it let the time pass."""
    for handoff, found in waiting:
        if now >= send_by(handoff, found) + _WEB_IS_GONE:
            yield decided(call, handoff, found, go=found.last_word, by="us")
