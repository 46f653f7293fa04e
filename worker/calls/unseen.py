"""The unseen recording: one that may run on a call and that no event names. Pure.

Three things suggest one: somebody asks for a stop and no recording is known; a start of ours got no
answer; a survey sees a call live that nobody announced. Then the whole call is stopped, and watched
as if it were one recording without a name. Neither a 204 nor a 404 proves that it is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from worker.calls import timing
from worker.calls.call import Asked, Call, Recording
from worker.calls.rules import Action, Mode, Terms, deadline
from worker.calls.starts import unsettled, unsettled_by
from worker.calls.triggers import Act, ended_before

UNSEEN = ""  # the id of the unseen recording


def unseen(
    call: Call, acts: Sequence[Act], terms: Terms, rule: str, now: datetime
) -> Recording | None:
    """The unseen recording, if the whole call is to be stopped because of it; else None.

    There are three reasons: somebody asks for the end of everything; a trigger comes while nobody
    knows what a start of ours began; a deadline comes, of such a start or of a call that nobody
    announced. Of the reasons that are due the latest decides; if none is due, the earliest.
    """
    ending = [a for a in acts if a.ends and a.enforced and (a.is_order or unsettled_by(call, a))]
    reasons = []
    if ending:
        act = ending[-1]
        asked = asked_by(call, act, rule)
        ends_nothing = call.over_at or trunk_runs(call)
        ends_what_began_later = not asked.proof and newer_runs(call, act)
        if asked.covers_starts or not (ends_nothing or ends_what_began_later):
            reasons.append(asked)
    reasons += deadlines_of_the_unseen(call, terms, rule)
    due = [a for a in reasons if a.due_at <= now]
    reason = max(due, key=lambda a: a.due_at, default=None) or min(
        reasons, key=lambda a: a.due_at, default=None
    )
    return unseen_because(call, reason) if reason else None


def unseen_because(call: Call, asked: Asked) -> Recording:
    """The unseen recording for one reason, with the attempts and proofs that count for it."""
    evidence = {}
    if call.hung_up_at:
        evidence["call_over"] = call.hung_up_at
    if declared_at := declared_for(call, asked.due_at):
        evidence["declared"] = declared_at
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


# Why it is to be stopped
# ------------------------------------------------------------------------------------------------


def asked_by(call: Call, act: Act, rule: str) -> Asked:
    """The reason that an act gives to stop the whole call. It needs proof if the act is about no
    known recording, or if a start of ours may have begun something.
    """
    covers_starts = bool(unsettled_by(call, act))
    return Asked(
        due_at=act.at,
        trigger=act.trigger,
        action=act.action,
        rule=rule,
        covers_starts=covers_starts,
        proof=covers_starts or not recordings_about(call, act),
    )


def deadlines_of_the_unseen(call: Call, terms: Terms, rule: str) -> list[Asked]:
    """The deadline of a call that nobody announced, counted from first sight, and that of each
    start without an answer.
    """
    deadlines = []
    if call.found_live_at and found_live(call):
        deadlines.append((_deadline(terms, call.found_live_at, None), False))
    deadlines += [
        (_deadline(terms, s.began_at, s.ordered.max_duration_s), True)
        for s in unsettled(call)
        if s.sent and s.outcome
    ]
    return [
        Asked(
            due_at=end[0],
            trigger=end[1],
            action=Action.STOP,
            rule=rule,
            proof=True,
            covers_starts=covers_starts,
        )
        for end, covers_starts in deadlines
        if end
    ]


def _deadline(
    terms: Terms, began_at: datetime, max_duration_s: float | None
) -> tuple[datetime, str] | None:
    """The earlier of the terms' deadline, if they are enforced, and the limit that was asked for.

    As (instant, trigger); None where neither bounds the recording.
    """
    by_terms = deadline(terms, began_at) if terms.mode is Mode.ENFORCE else None
    asked = (
        (began_at + timedelta(seconds=max_duration_s), "max_duration")
        if max_duration_s is not None
        else None
    )
    return min((d for d in (by_terms, asked) if d), default=None)


def found_live(call: Call) -> bool:
    """Whether something may be recording on a call that nobody announced.

    True from first sight on, until one of three things: the call is over; an application declares
    that nothing is being recorded; we know the recording that ran at first sight. A recording that
    ended before first sight, or began later, is another one.
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


# What speaks for and against it
# ------------------------------------------------------------------------------------------------


def recordings_about(call: Call, act: Act) -> list[Recording]:
    """The recordings that an act is about: those known when it came, and those that ran then.

    A recording that ended before the act, and that became known only after it, proves nothing.
    """
    return [
        r
        for r in call.recordings.values()
        if act.covers(r) and (r.known_at <= act.at or not ended_before(r, act.at))
    ]


def declared_for(call: Call, asked_at: datetime) -> datetime | None:
    """When an application declared that nothing is being recorded, if that counts for a question
    that was asked at `asked_at`.

    A declaration does not count if it is too old, or if a recording, or an order to start one,
    became known after it.
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
    """When each recording, or the order to start one, became known."""
    return [
        *(r.known_at for r in call.recordings.values()),
        *(s.ordered.at for s in call.starts.values() if s.ordered.at),
    ]


def newer_runs(call: Call, act: Act) -> bool:
    """Whether a recording may run that an act does not cover: a stop of the whole call would end it
    as well.
    """
    if any(s.began_at > act.at for s in unsettled(call)):
        return True
    return any(not act.covers(r) and not r.over_at for r in call.recordings.values())


def trunk_runs(call: Call) -> bool:
    """Whether a trunk recording runs. It records the whole call, and no API stops it."""
    trunks = [r for r in call.recordings.values() if r.trunk]
    return not call.over_at and (any(not r.over_at for r in trunks) or (call.trunk and not trunks))
