"""The pages of one recording and of one call."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from flask import Response, request

from webhooks.api.problems import Problem
from webhooks.api.reading import Reader
from webhooks.console import course, sound
from webhooks.console.deeds import on_open_days
from webhooks.console.page import address, rendered, seen, session
from worker.calls.call import RUNNING, Call, Phase, is_no_call
from worker.calls.first_sight import told_late
from worker.calls.legs import legs_view
from worker.calls.replay import replay

_SAID = {
    "stop": "The stop is ordered. The proof follows below; the page of the call shows each step.",
    "retry": "Another try is ordered.",
    "hold": "It is on hold now: Endtape deletes no copy of it, here or at the provider, until "
    "somebody releases it. The provider itself still deletes its own after 30 days.",
    "held_again": "It was on hold already; both reasons stand in its facts, and in who did what "
    "below.",
    "release": "The hold is over. Deletions that waited for it are taken up again; without such, "
    "nothing changes.",
    "not_held": "It was not on hold, so nothing was done.",
    "erase": "It is erased: a signed tombstone stands in its place, and the copies are deleted "
    "within minutes.",
    "erased": "It was erased before, so nothing was done.",
}
_UNREADABLE = "What the archive has cannot be read."
_HISTORY = 50


class Details:
    def __init__(self, reader: Reader) -> None:
        self._reader, self._ledger, self._settings = reader, reader.ledger, reader.settings

    def recording(self, recording_id: str) -> str:
        """One recording: its sound, its stop, its receipt, how a stranger checks it."""
        view = self._reader.view(recording_id)
        if watched := self._watched(view):
            view = self._reader.view(recording_id)  # with what came in between
        receipt, no_receipt = _tried(self._reader.receipt, recording_id, view, _is_receipt)
        outline, no_outline = _tried(self._reader.peaks, recording_id, view, sound.is_outline)
        found, _ = _or_why(lambda: self._reader.whole_call(view["call_uuid"]))
        call = found or {"gaps": [], "timeline": [], "recordings": []}
        root = view["segment_of"] or recording_id
        gaps = _begun([gap for gap in call["gaps"] if gap["recording_id"] == root])
        timeline = [e for e in call["timeline"] if e["recording_id"] in {None, recording_id}]
        fetched_at = receipt["fetch"]["fetched_at"] if receipt else None
        key = PurePosixPath(view["archive_key"] or "")
        return rendered(
            "recording.html",
            view=seen(view),
            watched=watched,
            sound=sound.drawn(view, outline, gaps),
            courses=course.of_recording(
                view, timeline, gaps, self._ledger.now(), fetched_at=fetched_at
            ),
            no_outline=no_outline,
            receipt=receipt,
            no_receipt=no_receipt,
            timeline=timeline,
            told_late=told_late(view, timeline),
            gaps=gaps,
            segments=[
                other
                for other in call["recordings"]
                if root in {other["recording_id"], other["segment_of"]}
            ],
            history=list(islice(on_open_days(self._ledger, view), _HISTORY)),
            file=key.name,
            stem=recording_id,
            signer=self._settings().signer,
            reason=request.args.get("reason", "").strip(),
            said=_SAID.get(request.args.get("said", "")),
            acts=session().acts,
        )

    def call(self, call_uuid: str) -> str:
        """A call: its legs, recordings, hand-offs and events."""
        call, now = self._reader.whole_call(call_uuid), self._ledger.now()
        if watched := self._watched(call):
            call = self._reader.whole_call(call_uuid)  # with what came in between
        replayed = self._replayed(call["account"], call["call_uuid"])
        unheard = bool(replayed and is_no_call(replayed, replayed.attempts))
        asked = {h.asked.order: h.asked for h in replayed.handoffs.values()} if replayed else {}
        return rendered(
            "call.html",
            watched=watched,
            call=seen(call) | {"gaps": _begun(call["gaps"])},
            unheard=unheard,
            asked=asked,
            legs=legs_view(replayed) if replayed else [],
            courses=[] if unheard else course.of_call(call, now),
            said=_SAID.get(request.args.get("said", "")),
            running=[r for r in call["recordings"] if r["phase"] in RUNNING],
        )

    def _watched(self, view: Mapping[str, Any]) -> tuple[str, int] | None:
        """The stream of a page about this call or recording, and the size of the log that the page
        is made of; None where Redis has forgotten the call, so that nothing changes any more.
        """
        account, call_uuid = view["account"], view["call_uuid"]
        size = self._ledger.size(account, call_uuid)
        return (address("/now/live", call=f"{account}|{call_uuid}"), size) if size else None

    def _replayed(self, account: str, call_uuid: str) -> Call | None:
        """The call; None where Redis has forgotten it."""
        events = self._ledger.events(account, call_uuid)
        return replay(account, call_uuid, events) if events else None


def _begun(gaps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The gaps that have begun: before its pause is proven, a recording still records."""
    return [gap for gap in gaps if gap["from"]]


def _is_receipt(said: Any) -> bool:
    """Whether it has what the page shows of a receipt; `endtape verify` says whether it is ours."""
    parts = ("checks", "media", "fetch")
    if not isinstance(said, dict) or not all(isinstance(said.get(p), dict) for p in parts):
        return False
    return isinstance(said["fetch"].get("fetched_at"), str | None)


def _tried(
    read: Callable[[str], Response],
    recording_id: str,
    view: Mapping[str, Any],
    is_sound: Callable[[Any], bool],
) -> tuple[Any, str | None]:
    """A JSON file of the recording, or None and why there is none."""
    if view["phase"] == Phase.ERASED:
        return None, "It was erased with the recording."
    if not view["archive_key"]:
        return None, "The recording is not archived yet."
    said, why = _or_why(lambda: json.loads(read(recording_id).get_data()))
    if why is None and not is_sound(said):
        return None, _UNREADABLE
    return said, why


def _or_why(read: Callable[[], Any]) -> tuple[Any, str | None]:
    try:
        return read(), None
    except Problem as problem:
        return None, f"{problem.detail[:1].upper()}{problem.detail[1:]}."
    except (ValueError, RecursionError):
        return None, _UNREADABLE
