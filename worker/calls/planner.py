"""From a call and the rules to what is owed now and when to plan again. Pure: `now` is an argument.

The law of a stop, in the order of its life:

state         holds when                                     what follows
none          nothing is due yet, or the recording ended     the next deadline
              before anything was due
due           the deadline or trigger has come               DELETE at once
accepted      a DELETE was answered 2xx: a promise           look after confirm_within, then DELETE
                                                             again
unknown       stop_tries promises and no proof, or the       DELETE every 60 s while the call lives
              recording cannot be named
failed        refused although our credentials are good,     nothing is sent; looks go on
              or no such call
confirmed     a proof reached us                             fetch
already_over  proven, and it had ended 2 s or more before    fetch
              our request

A person's stop and a hand-off send at once in every state but the last two. Errors (429, 5xx,
timeouts, a wrong path) leave the state as it is, and the request is sent again with back-off.
Later events add evidence. One kind of proof can be taken back: a 404, by a sign of life of the call
that reaches us after it (`call_end`).

`stop_state` names the state of a stop, `stop_requests` what follows from it. `plan` puts five parts
together: stops, fetches, starts, transfers and looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from worker.calls import erasure, fetch_times, restriction, starts, timing, triggers
from worker.calls.call import Call, Handoff, Recording, Start
from worker.calls.confirmation import confirmations
from worker.calls.events import Event
from worker.calls.handoffs import left_open, may_go, moments, verdict
from worker.calls.look_times import next_look
from worker.calls.rules import Rules
from worker.calls.stop_requests import Send, Stops, requests, stops_of, unknowns
from worker.calls.stop_state import judge
from worker.calls.triggers import Act, act_of
from worker.calls.unseen import deadlines_of_the_unseen


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a call needs: conclusions to record, requests to send, and when to plan, look and fetch
    next.

    `recordings`: each recording that a stop may be about, also the unseen one. `acts`: the call's
    acts, as judged for this plan. `plan_at`: when to
    plan the call again (PLAN). `look_at`, `fetch_at`: when LOOK and FETCH are due. None: not owed.
    `erase_again`: erased recordings for which ERASE is due now. `facts_at`: when FACTS is due.
    """

    conclusions: tuple[Event, ...] = ()
    sends: tuple[Send, ...] = ()
    starts: tuple[Start, ...] = ()
    transfers: tuple[Handoff, ...] = ()
    recordings: dict[str, Recording] = field(default_factory=dict)
    acts: Sequence[Act] = ()
    plan_at: datetime | None = None
    look_at: datetime | None = None
    fetch_at: dict[str, datetime | None] = field(default_factory=dict)
    erase_again: tuple[str, ...] = ()
    facts_at: datetime | None = None


def plan(
    call: Call,
    rules: Rules,
    now: datetime,
    *,
    horizon: timedelta = timedelta(0),
    generation: int = 0,
) -> Plan:
    """What to do about a call up to `now + horizon`, and when to plan it again. Planning changes
    nothing, so it may be repeated.

    `generation`: the number of the last reload. A fetch that failed with earlier settings may be
    worth another try.
    """
    acts = triggers.acts(call, rules)
    stops = stops_of(call, rules, acts, now, now + horizon)
    stopping = _stops(stops, rules)
    fetching = _fetches(call, now, generation)
    starting = _starts(call, acts, now, stops_first=bool(stopping.sends))
    transferring = _transfers(call, rules, acts, now)
    plan_at = min((*stopping.again_at, *starting.again_at, *transferring.again_at), default=None)
    sends_nothing = not (stopping.sends or starting.starts or transferring.transfers)
    if plan_at and plan_at <= now + horizon and sends_nothing:
        # The clock claims ahead of time, and nothing can be sent yet. With the horizon added, the
        # next plan is made at the moment itself.
        plan_at += horizon
    return Plan(
        conclusions=(
            *stopping.conclusions,
            *fetching.conclusions,
            *starting.conclusions,
            *transferring.conclusions,
            *confirmations(call, lambda r: judge(call, r, rules, now, acts)),
        ),
        sends=stopping.sends,
        starts=starting.starts,
        transfers=transferring.transfers,
        recordings=stops.recordings,
        acts=acts,
        plan_at=plan_at,
        look_at=_look_at(stops, rules),
        fetch_at=fetching.fetch_at,
        erase_again=tuple(erasure.owed_again(call)),
        facts_at=_facts_at(call, rules, acts, now),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """What one part adds to a plan. `again_at`: when it needs the call to be planned again."""

    conclusions: tuple[Event, ...] = ()
    sends: tuple[Send, ...] = ()
    starts: tuple[Start, ...] = ()
    transfers: tuple[Handoff, ...] = ()
    fetch_at: dict[str, datetime | None] = field(default_factory=dict)
    again_at: tuple[datetime, ...] = ()


_NOTHING = _Part()


def _stops(stops: Stops, rules: Rules) -> _Part:
    """The DELETEs that are due, and the stops that stay unproven."""
    now = stops.now
    sends, unnamed = requests(stops)
    sent = {i for s in sends for i in s.recording_ids}
    # A stop that is due and not sent has no URL to name its recording by.
    waiting = [
        at if at > now else now + timing.UNKNOWN_REPEAT
        for i, at in stops.next_at.items()
        if i not in sent and at
    ]
    rule, _ = rules.choose(stops.call)
    waiting += [
        a.due_at for a in deadlines_of_the_unseen(stops.call, stops.terms, rule) if a.due_at > now
    ]
    return _Part(conclusions=tuple(unknowns(stops, unnamed)), sends=sends, again_at=tuple(waiting))


def _fetches(call: Call, now: datetime, generation: int) -> _Part:
    """When to fetch each recording, and which ones are abandoned or given up."""
    return _Part(
        conclusions=tuple(fetch_times.conclusions(call, now)),
        fetch_at={i: fetch_times.next_fetch(r, generation) for i, r in call.recordings.items()},
    )


def _starts(call: Call, acts: Sequence[Act], now: datetime, *, stops_first: bool) -> _Part:
    """The recordings to start, and the outcomes that no sender will record.

    `stops_first`: nothing is started while a stop is sent, because the stop would end it.
    """
    if not acts and not call.starts:
        return _NOTHING
    unsent = [s for s in call.starts.values() if s.outcome is None and s.sent is None]
    send_at = [] if stops_first else [(starts.start_at(s), s) for s in unsent]
    lapses_at = [starts.lapses_at(call, s) for s in call.starts.values() if s.unclear]
    return _Part(
        conclusions=(*starts.owed(call, acts, now), *starts.lost(call, acts, now)),
        starts=tuple(s for at, s in send_at if at <= now),
        again_at=(
            *(at for at, _ in send_at if at > now),
            *(at for at in lapses_at if at and at > now),
            *starts.owed_at(call, acts, now),
        ),
    )


def _transfers(call: Call, rules: Rules, acts: Sequence[Act], now: datetime) -> _Part:
    """The provider's transfers to send, and the decisions that no web process is left to make."""
    if not call.handoffs:
        return _NOTHING
    undecided = [
        (h, verdict(call, rules, h, act_of(acts, h)))
        for h in call.handoffs.values()
        if h.decided is None
    ]
    return _Part(
        conclusions=tuple(left_open(call, undecided, now)),
        transfers=tuple(h for h, answer in undecided if h.asked.body and may_go(h, answer, now)),
        again_at=tuple(at for h, answer in undecided for at in moments(h, answer) if at > now),
    )


def _facts_at(call: Call, rules: Rules, acts: Sequence[Act], now: datetime) -> datetime | None:
    """When the archive has to be told of consent and restrictions."""
    owed = (restriction.owed_at(call, r, rules, acts, now) for r in call.recordings.values())
    return min((at for at in owed if at), default=None)


def _look_at(stops: Stops, rules: Rules) -> datetime | None:
    """When to ask the provider about the call."""
    enforced = {i: o.due_at for i, o in stops.owed.items() if o and o.enforced}
    return next_look(stops.call, stops.recordings, rules, enforced)
