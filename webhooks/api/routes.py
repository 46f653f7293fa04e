"""Our own callers' door, `/v1`: its table of routes, and reading calls and recordings back. And the
probes.
"""

from __future__ import annotations

import base64
import mimetypes
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, request, send_file

from webhooks.api import metrics, openapi, request_bodies, response_shapes
from webhooks.api.handoffs import Handoffs
from webhooks.api.openapi import Route
from webhooks.api.orders import Orders
from webhooks.api.problems import Problem, need_key
from webhooks.api.reports import Telling
from worker import wire
from worker.calls.call import Call, Phase, Recording
from worker.calls.events import Fault
from worker.calls.replay import replay
from worker.calls.views import call_view, recording_view
from worker.errors import LedgerUnavailable
from worker.ledger.calls import SeenAt
from worker.ledger.client import Ledger
from worker.ledger.news import Waiting
from worker.settings import Settings

SEEN_WITHIN = timedelta(seconds=15)
_MOST, _LOOKED_AT, _LOOKED_FOR_S = (
    200,
    20_000,
    3.0,
)  # recordings on a page; read for one; and for how long
_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}(/[0-9]{2,4}){3}/[A-Za-z0-9_-]{1,128}\.[a-z0-9]{1,8}")


class Api:
    def __init__(self, ledger: Ledger, settings: Callable[[], Settings]) -> None:
        self.ledger, self.settings = ledger, settings

    # Reading
    # -------------------------------------------------------------------------------------------------------

    def index(self) -> Response:
        need_key(self.settings)
        return jsonify(
            {
                "service": "endtape",
                "openapi": "/v1/openapi.json",
                "recordings": "/v1/recordings",
                "metrics": "/metrics",
                "ready": "/readyz",
            }
        )

    def recordings(self) -> Response:
        settings, wanted = self.settings(), request.args
        phase, fault = _one_of(wanted, "phase", Phase), _one_of(wanted, "fault", Fault)
        accounts = (
            [self._account(wanted["account"])] if "account" in wanted else list(settings.accounts)
        )
        limit = _limit(wanted.get("limit"))
        found: list[tuple[SeenAt, dict[str, Any]]] = []
        until = time.monotonic() + _LOOKED_FOR_S
        end: SeenAt | None = None  # where the next page begins, if there is one
        for looked, (sight, call, recording) in enumerate(
            self._seen(accounts, _cursor(wanted.get("cursor")), wanted)
        ):
            view = (
                recording_view(call, recording, settings.rules, self.ledger.now())
                if recording
                else None
            )
            if view and phase in {None, view["phase"]} and fault in {None, view["fault"]}:
                found.append((sight, view))
            if len(found) > limit:
                end = found[limit - 1][0]
                break
            if looked + 1 == _LOOKED_AT or time.monotonic() > until:
                end = sight  # enough for one answer, whatever was found
                break
        cursor = (
            base64.urlsafe_b64encode("|".join(map(str, end)).encode()).decode() if end else None
        )
        return jsonify({"recordings": [view for _, view in found[:limit]], "cursor": cursor})

    def _seen(
        self, accounts: list[str], before: SeenAt | None, wanted: Any
    ) -> Iterator[tuple[SeenAt, Call, Recording | None]]:
        """Every recording that was ever seen, newest first; None where it is not one of those asked
        for.
        """
        only = wanted.get("call_uuid")
        since, until = (
            request_bodies.instant(wanted.get(name), name) for name in ("since", "until")
        )
        sights = self.ledger.recent(accounts, before=before, since=since, until=until)
        folded: dict[tuple[str, str], Call] = {}  # a call may have hundreds of recordings
        nobody = Call(account="", call_uuid="")
        for sight in sights:
            _, account, recording_id = sight
            call_uuid = self.ledger.call_of(account, recording_id)
            if call_uuid is None or only not in {None, call_uuid}:
                yield sight, nobody, None
                continue
            if (account, call_uuid) not in folded:
                folded = {
                    (account, call_uuid): replay(
                        account, call_uuid, self.ledger.events(account, call_uuid)
                    )
                }
            call = folded[account, call_uuid]
            yield sight, call, call.recordings.get(recording_id)

    def recording(self, recording_id: str) -> Response:
        call, recording = self._found(recording_id)
        return jsonify(recording_view(call, recording, self.settings().rules, self.ledger.now()))

    def _found(self, recording_id: str) -> tuple[Call, Recording]:
        """Raises Problem 404."""
        for account in self._accounts():
            call_uuid = (
                self.ledger.call_of(account, recording_id)
                if wire.identifier(recording_id)
                else None
            )
            call = (
                replay(account, call_uuid, self.ledger.events(account, call_uuid))
                if call_uuid
                else None
            )
            if call and recording_id in call.recordings:
                return call, call.recordings[recording_id]
        raise Problem(404, "no such recording")

    def audio(self, recording_id: str) -> Response:
        """The bytes; ranges work."""
        place = self._filed(recording_id)
        kind = mimetypes.types_map.get(place.suffix, "application/octet-stream")
        answer = send_file(place, mimetype=kind, conditional=True, etag=True)
        answer.headers["Content-Disposition"] = f'attachment; filename="{place.name}"'
        return answer

    def receipt(self, recording_id: str) -> Response:
        return Response(
            self._filed(recording_id).with_suffix(".json").read_bytes(), mimetype="application/json"
        )

    def _filed(self, recording_id: str) -> Path:
        """Where a recording lies in the archive. Raises Problem 404."""
        _, recording = self._found(recording_id)
        key = recording.archived.archive_key if recording.archived else None
        place = self.settings().archive / key if key and _KEY.fullmatch(key) else None
        if place is None:
            raise Problem(404, "not archived yet; the recording's `phase` says how far it is")
        if not place.is_file():
            raise Problem(404, f"the archive lacks {key}")
        return place.resolve()

    def call(self, call_uuid: str) -> Response:
        for account in self._accounts():
            if not wire.identifier(call_uuid):
                break
            a_leg = call_uuid
            events = self.ledger.events(account, call_uuid)
            if not events:  # known only as another call's leg
                a_leg = self.ledger.a_leg(account, call_uuid)
                events = self.ledger.events(account, a_leg)
            if events:
                return jsonify(
                    call_view(
                        replay(account, a_leg, events), self.settings().rules, self.ledger.now()
                    )
                )
        raise Problem(404, "no such call")

    def _accounts(self) -> list[str]:
        return (
            [self._account(request.args["account"])]
            if "account" in request.args
            else list(self.settings().accounts)
        )

    def _account(self, name: str) -> str:
        if name not in self.settings().accounts:
            raise Problem(400, "account: no such account here", field="account")
        return name

    # Probes
    # --------------------------------------------------------------------------------------------------------

    def healthz(self) -> Response:
        return Response("ok\n", mimetype="text/plain")

    def readyz(self) -> Response:
        """503 names what is missing; what does not work and keeps no stop from being sent is a line
        each, and 200.
        """
        missing, degraded = list[str](), dict[str, str]()
        try:
            self.ledger.check_write()
            seen = self.ledger.alive(SEEN_WITHIN)
            missing = [role for role in ("stops", "fetches", "clock") if role not in seen]
            # Not of which machine or account: anybody may ask. The alert says so.
            degraded = {what.partition("@")[0]: why for what, why in self.ledger.degraded().items()}
            halted = len(self.ledger.halted(self.settings().accounts))
            degraded |= (
                {
                    "credentials": f"the provider refuses those of {halted} of {len(self.settings().accounts)} accounts"
                }
                if halted
                else {}
            )
        except LedgerUnavailable:
            missing = ["redis"]
        lines = [
            f"missing: {', '.join(missing)}" if missing else "ready",
            *(f"degraded: {what}: {why}" for what, why in degraded.items()),
        ]
        return Response(
            "".join(f"{line}\n" for line in lines), 503 if missing else 200, mimetype="text/plain"
        )

    def metrics(self) -> Response:
        return Response(metrics.render(self.ledger), mimetype="text/plain; version=0.0.4")


ROUTES = (
    Route(
        method="POST",
        path="/v1/calls/<call_uuid>/recordings",
        name="start",
        says="Starts a recording",
        body=request_bodies.StartBody,
        answers={201: response_shapes.Recording},
        app_key=True,
        once=True,
        refusals=(409, 502, 504),
    ),
    Route(
        method="PUT",
        path="/v1/calls/<call_uuid>",
        name="announce",
        says="Makes a call known whose recording somebody else started",
        body=request_bodies.CallBody,
        answers={200: response_shapes.Call},
        app_key=True,
    ),
    Route(
        method="POST",
        path="/v1/calls/<call_uuid>/stop",
        name="stop",
        says="Stops one recording of a call, or all",
        body=request_bodies.StopBody,
        answers={200: response_shapes.Stops, 202: response_shapes.Stops},
        app_key=True,
        once=True,
    ),
    Route(
        method="POST",
        path="/v1/calls/<call_uuid>/handoff",
        name="handoff",
        says="About to transfer: go or hold",
        body=request_bodies.HandoffBody,
        answers={200: response_shapes.Handoff, 409: response_shapes.Handoff},
        app_key=True,
        once=True,
    ),
    Route(
        method="POST",
        path="/v1/calls/<call_uuid>/handoff/failed",
        name="handoff_failed",
        says="The transfer did not happen",
        body=request_bodies.FailedBody,
        answers={200: response_shapes.HandoffFailed},
        app_key=True,
        once=True,
    ),
    Route(
        method="POST",
        path="/v1/calls/<call_uuid>/pause",
        name="pause",
        says="Stops, to go on later with a further segment",
        body=request_bodies.StopBody,
        answers={200: response_shapes.Stops, 202: response_shapes.Stops},
        app_key=True,
        once=True,
    ),
    Route(
        method="POST",
        path="/v1/calls/<call_uuid>/resume",
        name="resume",
        says="Goes on with what was paused",
        body=request_bodies.ResumeBody,
        answers={201: response_shapes.Resumed},
        app_key=True,
        once=True,
        refusals=(409, 502, 504),
    ),
    Route(
        method="POST",
        path="/v1/events",
        name="event",
        says="A provider request as the application received it, or custom.NAME",
        body=request_bodies.EventBody,
        answers={200: response_shapes.EventRecorded},
        app_key=True,
        once=True,
        any_form=True,
    ),
    Route(
        method="GET",
        path="/v1/calls/<call_uuid>",
        name="call",
        says="A call, its recordings and its timeline",
        query=("account",),
        answers={200: response_shapes.Call},
        app_key=True,
    ),
    Route(
        method="GET",
        path="/v1/recordings",
        name="recordings",
        says="Recordings, newest first",
        query=("phase", "fault", "call_uuid", "account", "since", "until", "limit", "cursor"),
        answers={200: response_shapes.RecordingsPage},
    ),
    Route(
        method="GET",
        path="/v1/recordings/<recording_id>",
        name="recording",
        says="A recording",
        query=("account",),
        answers={200: response_shapes.Recording},
    ),
    Route(
        method="GET",
        path="/v1/recordings/<recording_id>/audio",
        name="audio",
        says="Its bytes; ranges work",
        query=("account",),
        answers={200: None, 206: None},
        refusals=(416,),
    ),
    Route(
        method="GET",
        path="/v1/recordings/<recording_id>/receipt",
        name="receipt",
        says="Its receipt, as archived",
        query=("account",),
        answers={200: response_shapes.Receipt},
    ),
    Route(
        method="POST",
        path="/v1/recordings/<recording_id>/retry",
        name="retry",
        says="Tries an abandoned one again, always",
        body=request_bodies.RetryBody,
        answers={202: response_shapes.Recording},
        once=True,
        refusals=(409,),
    ),
)


def blueprint(api: Api, waiting: Waiting) -> Blueprint:
    """All routes but the provider's door. Every route of the table asks for its key first."""
    door = Blueprint("api", __name__)
    orders = Orders(api.ledger, api.settings, waiting)
    owners = (api, orders, Handoffs(orders), Telling(orders))
    for route in ROUTES:
        view = next(getattr(o, route.name) for o in owners if hasattr(o, route.name))
        door.add_url_rule(
            route.path, route.name, _guarded(api, route, view), methods=[route.method]
        )
    door.add_url_rule("/v1/openapi.json", "openapi", lambda: _openapi(api), methods=["GET"])
    for rule, probe in (
        ("/", api.index),
        ("/healthz", api.healthz),
        ("/readyz", api.readyz),
        ("/metrics", api.metrics),
    ):
        door.add_url_rule(rule, view_func=probe, methods=["GET"])
    return door


def _guarded(api: Api, route: Route, view: Callable[..., Response]) -> Callable[..., Response]:
    @wraps(view)
    def guarded(**parts: str) -> Response:
        need_key(api.settings, app_key_too=route.app_key)
        return view(**parts)

    return guarded


def _openapi(api: Api) -> Response:
    # For everybody: it says nothing but what docs/api.md says.
    return jsonify(openapi.document(ROUTES, server=api.settings().public_url))


def _one_of(wanted: Any, name: str, words: type[StrEnum]) -> str | None:
    found: str | None = wanted.get(name)
    if found is not None and found not in set(words):
        raise Problem(400, f"{name}: must be one of {', '.join(words)}", field=name)
    return found


def _limit(text: str | None) -> int:
    if text is None:
        return 50
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= _MOST:
        raise Problem(400, f"limit: must be a whole number from 1 to {_MOST}", field="limit")
    return int(text)


def _cursor(text: str | None) -> SeenAt | None:
    if text is None:
        return None
    try:
        at, account, recording_id = base64.urlsafe_b64decode(text.encode()).decode().split("|")
        return int(at), account, recording_id
    except ValueError:
        raise Problem(400, "cursor: not one that we gave", field="cursor") from None
