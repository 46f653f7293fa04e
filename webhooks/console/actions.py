"""What an operator can do to one recording or call: stop, try again, hold, release, erase.

Each asks first, on a page of its own, with the command line that does the same.
"""

from __future__ import annotations

from typing import Any

from flask import redirect, request
from werkzeug.wrappers import Response as AnyResponse

from webhooks.api.governing import Governing, by_caller
from webhooks.api.problems import Problem
from webhooks.api.reading import Reader
from webhooks.api.reports import Reports
from webhooks.api.request_bodies import StopBody
from webhooks.api.stops import Stops
from webhooks.console.page import address, rendered, seen
from worker.archive.facts import Fact
from worker.calls.call import RUNNING, Phase
from worker.calls.events import Kind

_LONGEST_REASON = 200


class Actions:
    """For each action `ask_…` shows the question, and the method of its name does it. Both raise
    Problem where `/v1` would refuse it.
    """

    def __init__(
        self, reader: Reader, stops: Stops, reports: Reports, governing: Governing
    ) -> None:
        self._reader, self._stops, self._reports = reader, stops, reports
        self._governing = governing

    def ask_stop(self, call_uuid: str) -> str:
        """Asks whether to stop one recording, which the query names, or all of the call."""
        call = self._reader.whole_call(call_uuid)
        named = request.args.get("recording_id")
        meant = [r for r in call["recordings"] if named in {None, r["recording_id"]}]
        if named and not meant:
            raise Problem(404, "no such recording on this call", field="recording_id")
        running = [r for r in meant if r["phase"] in RUNNING]
        return rendered(
            "confirm.html",
            title="Stop this recording now?" if named else "Stop all recordings of this call now?",
            says=_stop_says(named, running),
            button="Stop now",
            danger=True,
            action=f"/calls/{call_uuid}/stop",
            fields={"recording_id": named, "account": call["account"]},
            views=[seen(r) for r in running],
            back=f"/recordings/{named}" if named else f"/calls/{call_uuid}",
            command_line=["endtape", "stop", call_uuid, *(["--recording", named] if named else [])],
        )

    def stop(self, call_uuid: str) -> AnyResponse:
        form = request.form
        body = StopBody(
            recording_id=form.get("recording_id") or None,
            account=form.get("account") or None,
            reason=reason_of_form(),
        )
        _, order = self._stops.give(call_uuid, Kind.STOP_ORDERED, body)
        return redirect(address(f"/calls/{order.call_uuid}", said="stop"), 303)

    def ask_retry(self, recording_id: str) -> str:
        view = self._reader.view(recording_id)
        if view["archive_key"]:
            raise Problem(409, "it is archived already")
        return rendered(
            "confirm.html",
            title="Try to bring this recording home once more?",
            says="It is fetched again now, whatever became of the tries before. Nothing is lost "
            "if this one fails, too.",
            button="Try again",
            action=f"/recordings/{recording_id}/retry",
            fields={},
            views=[seen(view)],
            back=f"/recordings/{recording_id}",
            command_line=["endtape", "retry", recording_id],
        )

    def retry(self, recording_id: str) -> AnyResponse:
        self._reports.order_retry(recording_id, reason_of_form())
        return _done(recording_id, "retry")

    def ask_hold(self, recording_id: str) -> str:
        view = self._there(recording_id)
        before = self._governing.standing_hold(recording_id, view["account"])
        return self._ask(
            view,
            "hold",
            title="Put this recording on legal hold?",
            says=_held_before(before)
            if before
            else "Until somebody releases it, Endtape deletes neither the copy in the archive nor "
            "the one at the provider, whatever a rule or a person asks for. That the provider "
            "itself deletes its copy after 30 days, no hold of ours prevents. The hold is written "
            "into the archive, signed.",
            button="Hold again" if before else "Hold",
        )

    def hold(self, recording_id: str) -> AnyResponse:
        by, account = by_caller(reason_of_form() or ""), _account()
        before = self._governing.standing_hold(recording_id, account)
        self._governing.put_hold(recording_id, by, account)
        return _done(recording_id, "held_again" if before else "hold")

    def ask_release(self, recording_id: str) -> str:
        view = self._there(recording_id)
        if not view["held"]:
            raise Problem(409, "it is not on hold")
        return self._ask(
            view,
            "release",
            title="End the legal hold of this recording?",
            says="From then on it may be deleted again. Where a rule wants it erased by now, or "
            "its copy at the provider deleted, that happens soon afterwards and cannot be "
            "undone. Where no rule does, nothing is deleted.",
            button="Release",
            danger=True,
        )

    def release(self, recording_id: str) -> AnyResponse:
        ended = self._governing.end_hold(
            recording_id, by_caller(reason_of_form() or ""), _account()
        )
        return _done(recording_id, "release" if ended else "not_held")

    def ask_erase(self, recording_id: str) -> str:
        view = self._there(recording_id)
        if view["held"]:
            raise Problem(409, "it is on hold; release it first")
        if view["phase"] in RUNNING:
            raise Problem(409, "it is still recording; stop it first")
        return self._ask(
            view,
            "erase",
            title="Erase this recording for good?",
            says="Both copies and the receipt are deleted, here and at the provider. A signed "
            "tombstone stays: ids, times, digest and your reason. Nobody can bring it back.",
            button="Erase for good",
            danger=True,
        )

    def erase(self, recording_id: str) -> AnyResponse:
        ordered = self._governing.order_erasure(
            recording_id, by_caller(reason_of_form() or ""), _account()
        )
        return _done(recording_id, "erase" if ordered else "erased")

    def _there(self, recording_id: str) -> dict[str, Any]:
        view = self._reader.view(recording_id)
        if view["phase"] == Phase.ERASED or view.get("erased"):
            raise Problem(410, "it is erased")
        return view

    def _ask(self, view: dict[str, Any], deed: str, **words: Any) -> str:
        """The question of a deed that needs a reason. `words`: title, what it says, its button."""
        path = f"/recordings/{view['recording_id']}"
        return rendered(
            "confirm.html",
            **words,
            needs_reason=True,
            action=f"{path}/{deed}",
            fields={"account": view["account"]},
            views=[seen(view)],
            back=path,
            command_line=["endtape", deed, view["recording_id"], "--reason", "WHY"],
        )


def _done(recording_id: str, said: str) -> AnyResponse:
    return redirect(address(f"/recordings/{recording_id}", said=said), 303)


def _account() -> str | None:
    return request.form.get("account") or None


def reason_of_form() -> str | None:
    """The reason that the form of a question brings; None where it was left empty."""
    return request.form.get("reason", "").strip()[:_LONGEST_REASON] or None


def _held_before(fact: Fact) -> str:
    reason = fact.written()["reason"] or "no reason"
    return (
        f"It is on hold already, since {fact.at:%Y-%m-%d %H:%M:%S} UTC by {fact.who}: {reason}. "
        "Holding it again adds a fact: both reasons stand, and files that came since are locked, "
        "too, where the bucket locks."
    )


def _stop_says(named: str | None, running: list[dict[str, Any]]) -> str:
    if not running:
        return (
            "Nothing of it is recording, as far as is known. The order is sent all the same, and "
            "covers what is first reported within 5 s."
        )
    what = "It is" if len(running) == 1 else f"{len(running)} recordings are"
    end = "" if named else " The stop is for the whole call."
    return f"{what} stopped at the provider at once, and the end is then proven.{end}"
