"""What other rules would have done with a call that is recorded. Pure.

The facts of the call are replayed without our own deeds, and the other rules name the first reason
to stop each recording. What the parties would have done then, nobody knows: a recording that the
other rules do not stop ends with its call, and later segments are taken as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from worker.calls import triggers
from worker.calls.call import Call, Handoff, Recording
from worker.calls.events import Event, Kind
from worker.calls.replay import replay
from worker.calls.rules import Rules
from worker.calls.stop_state import stop_owed
from worker.calls.triggers import Act, act_of
from worker.calls.views import rfc3339

BILLED_S = 60  # the provider bills a recording in minutes that have begun
# Our own deeds, and what they fixed. `HandoffDecided` stays: the transfers after a `go` were those.
_DEEDS = {
    Kind.STOP_ACCEPTED,
    Kind.STOP_ERRED,
    Kind.STOP_SET_ASIDE,
    Kind.STOP_UNKNOWN,
    Kind.STOP_CONFIRMED,
    Kind.MEDIA_ARCHIVED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a recording ends: when, and by which trigger and rule if a stop of ours ends it.

    `at` is None where nobody knows the instant. A stop that was never sent ends its recording at
    `due_at`: how long the provider would have taken, nobody knows.
    """

    at: datetime | None
    due_at: datetime | None = None
    trigger: str | None = None
    rule: str | None = None

    @property
    def is_stopped(self) -> bool:
        return self.trigger is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """One recording as it was, and as it would have been."""

    recording: Recording
    rule: str  # the one of the other rules that applies to the call
    was: Ending
    would_be: Ending

    @property
    def saved(self) -> timedelta | None:
        """How much shorter the recording would be; negative where it would be longer. None where
        one of the two ends is not known.
        """
        if self.was.at is None or self.would_be.at is None:
            return None
        return self.was.at - self.would_be.at

    def billed_minutes(self, ending: Ending) -> int | None:
        """The minutes that the provider bills for the recording; None where the end is not
        known.
        """
        if ending.at is None:
            return None
        seconds = max((ending.at - self.recording.started_at).total_seconds(), 0.0)
        return -int(-seconds // BILLED_S)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """One hand-off: the verdict that it got, and the one that it would have got.

    `would_be` is None where it would depend on a proof that was never sought.
    """

    handoff: Handoff
    rule: str
    was: str | None
    would_be: str | None


def of_call(account: str, call_uuid: str, events: Iterable[Event], rules: Rules) -> dict[str, Any]:
    """One call of a simulation as plain values: its recordings and its hand-offs."""
    log = list(events)
    return {
        "account": account,
        "call_uuid": call_uuid,
        "recordings": [view(one) for one in recordings(account, call_uuid, log, rules)],
        "handoffs": [handoff_view(one) for one in handoffs(account, call_uuid, log, rules)],
    }


def totals(calls: Iterable[Mapping[str, Any]], rate: float | None) -> list[dict[str, Any]]:
    """A row for each of the other rules, from calls as `of_call` gives them. `minutes_*` count what
    the provider bills, where both ends are known; `rate`: what it bills for one of them.
    """
    rows: dict[str, dict[str, Any]] = {}
    for played in (one for call in calls for one in call["recordings"]):
        row = rows.setdefault(
            played["rule"],
            {
                "rule": played["rule"],
                "recordings": 0,
                "stopped_was": 0,
                "stopped_would_be": 0,
                "minutes_was": 0,
                "minutes_would_be": 0,
                "unknown": 0,
            },
        )
        row["recordings"] += 1
        row["stopped_was"] += played["was"]["trigger"] is not None
        row["stopped_would_be"] += played["would_be"]["trigger"] is not None
        if played["saved_s"] is None:
            row["unknown"] += 1
        else:
            row["minutes_was"] += played["was"]["billed_minutes"]
            row["minutes_would_be"] += played["would_be"]["billed_minutes"]
    for row in rows.values():
        saved = row["minutes_was"] - row["minutes_would_be"]
        row["saved_money"] = None if rate is None else round(saved * rate, 2)
    return [rows[name] for name in sorted(rows)]


def changed(calls: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The recordings that would have ended at another second, from calls as `of_call` gives
    them.
    """
    return [
        played
        for call in calls
        for played in call["recordings"]
        if played["was"] != played["would_be"]
        and (played["saved_s"] is None or round(played["saved_s"]) != 0)
    ]


def all_handoffs(calls: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The hand-offs of calls as `of_call` gives them, each with its `call_uuid`."""
    return [one | {"call_uuid": call["call_uuid"]} for call in calls for one in call["handoffs"]]


def turned(handoffs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that would have got another verdict."""
    return [one for one in handoffs if one["would_be"] not in {one["was"], None}]


def unsought(handoffs: Iterable[Mapping[str, Any]]) -> int:
    """How many would have depended on a proof that nobody sought."""
    return sum(one["would_be"] is None for one in handoffs)


def recordings(account: str, call_uuid: str, events: Iterable[Event], rules: Rules) -> list[Played]:
    """Each recording of the call as it was, and as it would have been by these rules."""
    log = list(events)
    was = replay(account, call_uuid, log)
    call = replay(account, call_uuid, facts(log))
    rule, terms = rules.choose(call)
    acts = triggers.acts(call, rules)
    played = []
    for recording_id, recording in was.recordings.items():
        owed = stop_owed(call, call.recordings.get(recording_id, recording), acts, rule, terms)
        ended = _as_it_was(recording)
        stop = None
        if owed and owed.enforced:
            stop = Ending(at=owed.due_at, due_at=owed.due_at, trigger=owed.trigger, rule=owed.rule)
        played.append(
            Played(
                recording=recording,
                rule=rule,
                was=ended,
                would_be=_as_it_would_be(was, ended, stop),
            )
        )
    return played


def handoffs(account: str, call_uuid: str, events: Iterable[Event], rules: Rules) -> list[Answered]:
    """Each hand-off of the call, with the verdict that these rules would have given."""
    log = list(events)
    call = replay(account, call_uuid, log)
    rule, terms = rules.choose(call)
    acts = triggers.acts(call, rules)
    return [
        Answered(
            handoff=handoff,
            rule=rule,
            was=handoff.decided.verdict if handoff.decided else None,
            would_be=_verdict(call, handoff, act_of(acts, handoff), terms.if_unproven),
        )
        for handoff in call.handoffs.values()
    ]


def facts(events: Iterable[Event]) -> Iterator[Event]:
    """The events without our own deeds: what others reported, and what we saw."""
    for event in events:
        if event.kind is Kind.CALL_FOUND_OVER:
            # The provider's answer is a fact; that a stop of ours asked for it is not.
            yield replace(event, due_at=None, trigger=None, requested_at=None)
        elif event.kind not in _DEEDS:
            yield event


def _as_it_was(recording: Recording) -> Ending:
    at = recording.ended_at or recording.over_at
    sent = next((a for a in recording.attempts if a.due_at and a.trigger), None)
    by_itself = sent is not None and at is not None and sent.due_at is not None and at < sent.due_at
    if sent is None or by_itself:
        return Ending(at=at)
    return Ending(at=at, due_at=sent.due_at, trigger=sent.trigger, rule=sent.rule)


def _as_it_would_be(call: Call, was: Ending, stop: Ending | None) -> Ending:
    """The earlier of the other rules' stop and the end that would have come anyway."""
    if stop is not None and stop.due_at == was.due_at:
        return was  # the same stop
    # Where our stop ended it, it would have gone on until the call was over.
    anyway = Ending(at=call.over_at) if was.is_stopped else Ending(at=was.at)
    if stop is None or stop.at is None:
        return anyway
    if anyway.at is not None and anyway.at <= stop.at:
        return anyway
    return stop


def _verdict(call: Call, handoff: Handoff, act: Act, if_unproven: str) -> str | None:
    if not act.ends:
        return "go"
    decided = handoff.decided
    if decided is None:
        return None
    if decided.proven:
        return "go"
    if decided.verdict == "go":
        return None  # nobody sought a proof, or nobody needed one
    if any(recording.trunk for recording in call.recordings.values()):
        return "hold"  # no API stops a trunk recording
    return if_unproven  # a proof was sought, and none came in time


def view(played: Played) -> dict[str, Any]:
    """One recording of a simulation as plain values; times in RFC 3339, spans in seconds."""
    saved = played.saved
    return {
        "recording_id": played.recording.recording_id,
        "rule": played.rule,
        "started_at": rfc3339(played.recording.started_at),
        "was": _ending_view(played, played.was),
        "would_be": _ending_view(played, played.would_be),
        "saved_s": None if saved is None else saved.total_seconds(),
    }


def _ending_view(played: Played, ending: Ending) -> dict[str, Any]:
    return {
        "ended_at": rfc3339(ending.at),
        "trigger": ending.trigger,
        "rule": ending.rule,
        "billed_minutes": played.billed_minutes(ending),
    }


def handoff_view(answered: Answered) -> dict[str, Any]:
    """One hand-off of a simulation as plain values."""
    return {
        "handoff_id": answered.handoff.asked.order,
        "kind": answered.handoff.asked.trigger,
        "rule": answered.rule,
        "was": answered.was,
        "would_be": answered.would_be,
    }
