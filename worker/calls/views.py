"""How calls and recordings look from outside: plain values, times in RFC 3339 UTC. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from worker.calls import consent, erasure, event_words, restriction, stop_state
from worker.calls.call import Call, Handoff, Recording, Start, Stop, StopState
from worker.calls.events import Event, Kind
from worker.calls.fetch_times import kept_until
from worker.calls.handoffs import concerning
from worker.calls.rules import Rules
from worker.calls.segments import Gap, gaps
from worker.calls.triggers import Act, act_of, acts
from worker.calls.unseen import UNSEEN

# A summary of several stops shows the worst one. The worst state stands first.
_WORST = (
    StopState.FAILED,
    StopState.UNKNOWN,
    StopState.DUE,
    StopState.NONE,
    StopState.ACCEPTED,
    StopState.CONFIRMED,
    StopState.ALREADY_OVER,
)
_TRANSFER = {
    Kind.TRANSFER_SENT: "sent",
    Kind.TRANSFER_FAILED: "failed",
    Kind.TRANSFER_UNCLEAR: "unknown",
}

StopOf = Callable[[Recording], Stop]


def judging(call: Call, rules: Rules, now: datetime) -> StopOf:
    """A function that judges the stops of a call's recordings. It judges each known recording once,
    because many hand-offs may ask for it.
    """
    call_acts = acts(call, rules)
    judged: dict[str, Stop] = {}

    def stop_of(recording: Recording) -> Stop:
        # The unseen recording is another one for each question, so its stop is not kept.
        if recording.recording_id == UNSEEN:
            return stop_state.judge(call, recording, rules, now, call_acts)
        if recording.recording_id not in judged:
            stop = stop_state.judge(call, recording, rules, now, call_acts)
            judged[recording.recording_id] = stop
        return judged[recording.recording_id]

    return stop_of


def recording_view(call: Call, recording: Recording, rules: Rules, now: datetime) -> dict[str, Any]:
    """One recording, as `GET /v1/recordings/ID` shows it."""
    stop = stop_state.judge(call, recording, rules, now)
    return _recording_view(call, recording, stop, rules, now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """The recordings of a call by id, as `/v1` shows them. `until`: the instant at which time alone
    changes what is shown; None: it never does.
    """

    views: dict[str, dict[str, Any]]
    until: datetime | None


def recordings_shown(call: Call, rules: Rules, now: datetime) -> Shown:
    """All recordings of a call. The same events and rules show the same until `until`: only a stop
    that falls due and consent that is not given in time wait for nothing but the clock.
    """
    stop_of, terms = judging(call, rules, now), rules.choose(call)[1]
    recordings = call.recordings.values()
    instants = {stop_of(r).due_at for r in recordings}
    instants |= {restriction.limits_of(r, terms).consent_by for r in recordings}
    return Shown(
        views={
            r.recording_id: _recording_view(call, r, stop_of(r), rules, now) for r in recordings
        },
        until=min((at for at in instants if at and at > now), default=None),
    )


def _recording_view(
    call: Call, recording: Recording, stop: Stop, rules: Rules, now: datetime
) -> dict[str, Any]:
    done, gone = recording.archived, recording.offloaded
    limits = restriction.limits_of(recording, rules.choose(call)[1])
    restricted_by = restriction.restricted_by(call, recording, limits, stop, now)
    view = {
        "recording_id": recording.recording_id,
        "account": call.account,
        "call_uuid": call.call_uuid,
        "phase": stop_state.phase(recording, stop).value,
        "labels": call.labels,
        "started_at": rfc3339(recording.started_at),
        "ended_at": rfc3339(recording.ended_at),
        "duration_ms": round(recording.duration_s * 1000) if recording.duration_s else None,
        "format": done.format if done else recording.format,
        "bytes": done.bytes if done else None,
        "sha256": done.sha256 if done else None,
        "archive_key": done.archive_key if done else None,
        "segment_of": recording.segment_of,
        "first_seen_at": rfc3339(recording.first_seen_at or recording.known_at),
        "from": call.from_number,
        "to": call.to_number,
        "direction": call.direction,
        "held": recording.held,
        "stop": stop_view(stop),
        "consent": consent_view(call),
        "restricted": bool(restricted_by),
        "restricted_by": list(restricted_by),
        "problem": stop_state.problem(recording, stop),
        "fault": recording.fault.value if recording.fault else None,
        "provider_keeps_until": None if gone else rfc3339(kept_until(call, recording)),
        "deleted_at_provider": rfc3339(gone.happened_at) if gone else None,
        "saved_per_month": gone.saved_per_month if gone else None,
        "retain_until": rfc3339(done.retain_until) if done else None,
        "derived": [_derived_view(made) for made in recording.derived],
        "erased": _erased_view(recording),
    }
    begun = recording.erasing
    return erasure.without_what_goes(view, begun.sha256) if begun else view


def _erased_view(recording: Recording) -> dict[str, Any] | None:
    """Why and by whom a recording was erased, or is being erased."""
    begun = recording.erasing
    if begun is None:
        return None
    return {"at": rfc3339(begun.at), "who": begun.by, "rule": begun.rule, "reason": begun.reason}


def _derived_view(made: Event) -> dict[str, Any]:
    """A file that was made from a recording."""
    return {
        "name": f"{made.made}.{(made.sha256 or '')[:16]}",
        "kind": made.made,
        "content_type": made.content_type,
        "bytes": made.bytes,
        "sha256": made.sha256,
        "at": rfc3339(made.happened_at),
        "who": made.by,
    }


def consent_view(call: Call) -> dict[str, Any] | None:
    """The last that an application said of the call's consent; None where nobody said anything."""
    return consent.statement(call.consents[-1]) if call.consents else None


def stop_view(stop: Stop) -> dict[str, Any]:
    return {
        "state": stop.state.value,
        "trigger": stop.trigger,
        "rule": stop.rule,
        "due_at": rfc3339(stop.due_at),
        "requested_at": rfc3339(stop.requested_at),
        "accepted_at": rfc3339(stop.accepted_at),
        "confirmed_at": rfc3339(stop.confirmed_at),
        "evidence": list(stop.evidence),
        "attempts": stop.attempts,
        "tail_ms": stop.tail_ms,
        **({"overdue_since": rfc3339(stop.overdue_since)} if stop.overdue_since else {}),
        **({"problem": stop.problem} if stop.problem else {}),
    }


def stops_view(call: Call, concerned: list[Recording], stop_of: StopOf) -> dict[str, Any]:
    """Each recording's stop, and in `stop` the one that is furthest from proven."""
    judged = [(r, stop_of(r)) for r in concerned]
    worst = min(
        judged, key=lambda pair: (bool(pair[0].over_at), _WORST.index(pair[1].state)), default=None
    )
    view: dict[str, Any] = {"call_uuid": call.call_uuid, "account": call.account, "stop": None}
    if worst:
        _, stop = worst
        view["stop"] = stop_view(stop)
        if stop.problem:
            view["problem"] = stop.problem
    view["recordings"] = [
        {"recording_id": r.recording_id, "stop": stop_view(stop)}
        for r, stop in judged
        if r.recording_id != UNSEEN
    ]
    return view


def handoff_view(call: Call, handoff: Handoff, rules: Rules, now: datetime) -> dict[str, Any]:
    """A decided hand-off, as its asker sees it."""
    return _handoff_view(
        call, handoff, act_of(acts(call, rules), handoff), judging(call, rules, now)
    )


def _handoff_view(call: Call, handoff: Handoff, act: Act, stop_of: StopOf) -> dict[str, Any]:
    assert handoff.decided is not None
    decision = handoff.decided
    view = {
        "verdict": decision.verdict,
        "proven": bool(decision.proven),
        "kind": handoff.asked.trigger,
        "action": act.action.value,
        "rule": decision.rule,
        "evidence": list(decision.evidence),
        "reason": decision.reason,
        "handoff_id": handoff.asked.order,
        **stops_view(call, concerning(call, act), stop_of),
    }
    if handoff.asked.body:
        view["transfer"] = transfer_state(handoff)
    return view


def transfer_state(handoff: Handoff) -> str:
    """What became of the provider's transfer: `sent`, `failed`, `unknown` or `not_sent`."""
    if handoff.transfer is not None:
        return _TRANSFER[handoff.transfer.kind]
    return "unknown" if handoff.is_ours_to_send else "not_sent"


def call_view(call: Call, rules: Rules, now: datetime) -> dict[str, Any]:
    """The whole call, as `GET /v1/calls/UUID` shows it: facts, recordings, gaps, timeline."""
    call_acts, stop_of = acts(call, rules), judging(call, rules, now)
    asked = {a.event.order: a for a in call_acts if a.event.kind is Kind.HANDOFF_ASKED}
    roots = dict.fromkeys(r.root for r in call.recordings.values())
    numbers = event_words.tries(call.events)
    return {
        "call_uuid": call.call_uuid,
        "account": call.account,
        "from": call.from_number,
        "to": call.to_number,
        "direction": call.direction,
        "labels": call.labels,
        "started_at": rfc3339(call.started_at),
        "over_at": rfc3339(call.over_at),
        "consent": consent_view(call),
        "recordings": [
            _recording_view(call, r, stop_of(r), rules, now) for r in call.recordings.values()
        ],
        "gaps": [
            {"recording_id": root, **gap_view(gap)}
            for root in roots
            for gap in gaps(call, root, call_acts)
        ],
        "starts": [_start_view(s) for s in call.starts.values()],
        "handoffs": [
            _handoff_view(call, h, asked[h.asked.order], stop_of)
            for h in call.handoffs.values()
            if h.decided
        ],
        "timeline": [timeline_view(e, numbers.get(e.id)) for e in call.events],
    }


def gap_view(gap: Gap) -> dict[str, Any]:
    return {
        "from": rfc3339(gap.began_at),
        "to": rfc3339(gap.ended_at),
        "trigger": gap.trigger,
        "reason": gap.reason,
        "resumed_by": gap.resumed_by,
    }


def _start_view(start: Start) -> dict[str, Any]:
    return {
        "state": _start_state(start),
        "recording_id": start.recording_id,
        "segment_of": start.ordered.segment_of,
        "ordered_at": rfc3339(start.ordered.at),
        "reason": start.outcome.reason if start.outcome else None,
    }


def _start_state(start: Start) -> str:
    if start.recording_id:
        return "started"
    if start.failed:
        return "failed"
    return "unknown" if start.outcome else "ordered"


def timeline_view(event: Event, number: int | None = None) -> dict[str, Any]:
    """An event as the timeline of a call shows it. `number`: as `event_words.what` takes it."""
    return {
        "at": rfc3339(event.at),
        "event": event.kind.value,
        "recording_id": event.recording_id,
        "by": event.by,
        "claimed": event.claimed,
        "signed": event.signed,
        "trigger": event.trigger,
        "verdict": event.verdict,
        "live": event.live,
        "reason": event.reason,
        "what": event_words.what(event, number),
    }


def rfc3339(instant: datetime | None) -> str | None:
    """An instant in UTC with milliseconds, like `2026-09-14T06:30:00.000Z`."""
    return (
        instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if instant
        else None
    )
