"""The answers to our stops, added to a call that is replayed already. Pure.

A worker replays a call once. When the answers to its stops come, it adds them here, because that
costs less than half of another replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from worker.calls.call import Call
from worker.calls.events import Event, Kind
from worker.calls.replay import replay
from worker.calls.replay_starts import wide_stops
from worker.calls.trust import by_receipt, received_at

# What these say concerns the attempts of a stop, and nothing else of the call.
_ONLY_ATTEMPTS = {Kind.STOP_ACCEPTED, Kind.STOP_ERRED, Kind.STOP_SET_ASIDE}


def replay_on(call: Call, new: Sequence[Event]) -> Call:
    """The call after further events: the same as a replay of all of them from the beginning."""
    new = sorted(new, key=by_receipt)
    wide = wide_stops(new)
    if not new or not _add_attempts_only(call, new, wide):
        return replay(call.account, call.call_uuid, [*call.events, *new])
    recordings = dict(call.recordings)
    for event in new:
        if event.recording_id in recordings:
            before = recordings[event.recording_id]
            recordings[event.recording_id] = replace(before, attempts=(*before.attempts, event))
    return replace(
        call,
        recordings=recordings,
        attempts=(*call.attempts, *wide),
        events=(*call.events, *new),
    )


def _add_attempts_only(call: Call, new: Sequence[Event], wide: Sequence[Event]) -> bool:
    """Whether the new events are attempts, come after all others, and change nothing but what was
    attempted.

    A stop of the whole call can also explain the end of a recording that was not known yet, or
    what a start of ours began.
    """
    if any(e.kind not in _ONLY_ATTEMPTS for e in new):
        return False
    if call.events and received_at(call.events[-1]) >= received_at(new[0]):
        return False
    if not wide:
        return True
    known = {e.requested_at for e in call.attempts}
    explains = bool(call.starts) or any(r.evidence for r in call.recordings.values())
    return not explains and not any(e.requested_at in known for e in wide)
