"""What an operator can do: stop a recording or a call, and try again what did not come home.

Each asks first, on a page of its own, with the command line that does the same. Holds and erasing
belong here, too.
"""

from __future__ import annotations

from typing import Any

from flask import redirect, request
from werkzeug.wrappers import Response as AnyResponse

from webhooks.api.problems import Problem
from webhooks.api.reading import Reader
from webhooks.api.reports import Reports
from webhooks.api.request_bodies import StopBody
from webhooks.api.stops import Stops
from webhooks.console.page import address, rendered, seen
from worker.calls.events import Kind

_LONGEST_REASON = 200


class Actions:
    def __init__(self, reader: Reader, stops: Stops, reports: Reports) -> None:
        self._reader, self._stops, self._reports = reader, stops, reports

    def ask_stop(self, call_uuid: str) -> str:
        """Asks whether to stop one recording, which the query names, or all of the call."""
        call = self._reader.whole_call(call_uuid)
        named = request.args.get("recording_id")
        meant = [r for r in call["recordings"] if named in {None, r["recording_id"]}]
        if named and not meant:
            raise Problem(404, "no such recording on this call", field="recording_id")
        running = [r for r in meant if r["phase"] in {"recording", "stopping"}]
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
            words=["endtape", "stop", call_uuid, *(["--recording", named] if named else [])],
        )

    def stop(self, call_uuid: str) -> AnyResponse:
        form = request.form
        body = StopBody(
            recording_id=form.get("recording_id") or None,
            account=form.get("account") or None,
            reason=_reason(),
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
            words=["endtape", "retry", recording_id],
        )

    def retry(self, recording_id: str) -> AnyResponse:
        self._reports.order_retry(recording_id, _reason())
        return redirect(address(f"/recordings/{recording_id}", said="retry"), 303)


def _reason() -> str | None:
    return request.form.get("reason", "").strip()[:_LONGEST_REASON] or None


def _stop_says(named: str | None, running: list[dict[str, Any]]) -> str:
    if not running:
        return (
            "Nothing of it is recording, as far as is known. The order is sent all the same, and "
            "covers what is first reported within 5 s."
        )
    what = "It is" if len(running) == 1 else f"{len(running)} recordings are"
    end = "" if named else " The stop is for the whole call."
    return f"{what} stopped at the provider at once, and the end is then proven.{end}"
