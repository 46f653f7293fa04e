"""Our callers' door, `/v1`: the table of its routes. Beside them the probes, which need no key."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from flask import Blueprint, Response, jsonify

from webhooks.api import openapi, request_bodies, response_shapes
from webhooks.api.derived import Derivations
from webhooks.api.governing import Governing
from webhooks.api.handoffs import Handoffs
from webhooks.api.keys import need_key
from webhooks.api.ledgers import Ledgers
from webhooks.api.openapi import Route
from webhooks.api.orders import Orders
from webhooks.api.probes import Probes
from webhooks.api.reading import Reader
from webhooks.api.reports import Reports
from webhooks.api.starts import Starts
from webhooks.api.stops import Stops
from worker.ledger.client import Ledger
from worker.ledger.news import Waiting
from worker.settings import Settings


class Api:
    """What the routes' views belong to. `settings` is called for each request, so that a reload
    takes effect.
    """

    def __init__(self, ledger: Ledger, settings: Callable[[], Settings], waiting: Waiting) -> None:
        orders = Orders(ledger, settings, waiting)
        self.settings = settings
        self.starts = Starts(orders)
        self.stops = Stops(orders)
        self.handoffs = Handoffs(orders, self.starts)
        self.reader = Reader(ledger, settings)
        self.reports = Reports(orders, self.reader)
        self.governing = Governing(ledger, settings, self.reader)
        self.derivations = Derivations(self.governing)
        self.ledgers = Ledgers(self.reader)
        self.probes = Probes(ledger, settings)


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/calls/<call_uuid>/recordings",
        name="start",
        view=lambda api: api.starts.start,
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
        view=lambda api: api.reports.announce,
        says="Makes a call known whose recording somebody else started",
        body=request_bodies.CallBody,
        answers={200: response_shapes.Call},
        app_key=True,
    ),
    Route(
        method="POST",
        path="/v1/calls/<call_uuid>/stop",
        name="stop",
        view=lambda api: api.stops.stop,
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
        view=lambda api: api.handoffs.handoff,
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
        view=lambda api: api.handoffs.handoff_failed,
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
        view=lambda api: api.stops.pause,
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
        view=lambda api: api.starts.resume,
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
        view=lambda api: api.reports.event,
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
        view=lambda api: api.reader.call,
        says="A call, its recordings and its timeline",
        query=("account",),
        answers={200: response_shapes.Call},
        app_key=True,
    ),
    Route(
        method="GET",
        path="/v1/recordings",
        name="recordings",
        view=lambda api: api.reader.recordings,
        says="Recordings, newest first",
        query=(
            *("phase", "stop", "fault", "rule", "number", "label", "call_uuid", "account", "held"),
            *("since", "until", "q", "limit", "cursor"),
        ),
        answers={200: response_shapes.RecordingsPage},
    ),
    Route(
        method="GET",
        path="/v1/recordings/<recording_id>",
        name="recording",
        view=lambda api: api.reader.recording,
        says="A recording",
        query=("account",),
        answers={200: response_shapes.Recording},
    ),
    Route(
        method="GET",
        path="/v1/recordings/<recording_id>/audio",
        name="audio",
        view=lambda api: api.reader.audio,
        says="Its bytes; ranges work",
        query=("account", "reason"),
        answers={200: None, 206: None},
        audio=True,
        refusals=(410, 412, 416),
    ),
    Route(
        method="GET",
        path="/v1/recordings/<recording_id>/receipt",
        name="receipt",
        view=lambda api: api.reader.receipt,
        says="Its receipt, as archived",
        query=("account",),
        answers={200: response_shapes.Receipt},
        refusals=(410,),
    ),
    Route(
        method="GET",
        path="/v1/recordings/<recording_id>/signature",
        name="signature",
        view=lambda api: api.reader.signature,
        says="The detached signature of its receipt",
        query=("account",),
        answers={200: None},
        refusals=(410,),
    ),
    Route(
        method="GET",
        path="/v1/recordings/<recording_id>/peaks",
        name="peaks",
        view=lambda api: api.reader.peaks,
        says="The outline of its audio for a waveform",
        query=("account",),
        answers={200: response_shapes.Peaks},
        refusals=(410,),
    ),
    Route(
        method="GET",
        path="/v1/ledger",
        name="ledger",
        view=lambda api: api.ledgers.ledger,
        says="A day's completeness: what should have been recorded, and what became of it",
        query=("day", "account"),
        answers={200: response_shapes.DayLedger},
        csv=True,
    ),
    Route(
        method="GET",
        path="/v1/keys",
        name="keys",
        view=lambda api: api.reader.keys,
        says="The public keys, as an `allowed_signers` file",
        answers={200: None},
        public=True,
    ),
    Route(
        method="POST",
        path="/v1/recordings/<recording_id>/retry",
        name="retry",
        view=lambda api: api.reports.retry,
        says="Tries an abandoned one again, always",
        body=request_bodies.RetryBody,
        answers={202: response_shapes.Recording},
        once=True,
        refusals=(409, 410),
    ),
    Route(
        method="PUT",
        path="/v1/recordings/<recording_id>/hold",
        name="hold",
        view=lambda api: api.governing.hold,
        says="Legal hold: neither copy is deleted",
        body=request_bodies.ReasonBody,
        query=("account", "reason"),
        answers={200: response_shapes.HeldRecording},
        refusals=(410,),
    ),
    Route(
        method="DELETE",
        path="/v1/recordings/<recording_id>/hold",
        name="release",
        view=lambda api: api.governing.release,
        says="Ends the legal hold",
        body=request_bodies.ReasonBody,
        query=("account", "reason"),
        answers={200: response_shapes.Recording},
        refusals=(410,),
    ),
    Route(
        method="POST",
        path="/v1/recordings/<recording_id>/erase",
        name="erase",
        view=lambda api: api.governing.erase,
        says="Deletes both copies and the receipt, leaves a signed tombstone",
        body=request_bodies.ReasonBody,
        query=("account", "reason"),
        answers={200: response_shapes.Recording, 202: response_shapes.Recording},
        refusals=(409, 410),
    ),
    Route(
        method="POST",
        path="/v1/recordings/<recording_id>/derived",
        name="derive",
        view=lambda api: api.derivations.link,
        says="Links a file that was made from it; the body is the file",
        raw=True,
        query=("kind", "account", "reason"),
        answers={200: response_shapes.LinkedFile, 201: response_shapes.LinkedFile},
        refusals=(409, 410),
    ),
    Route(
        method="GET",
        path="/v1/recordings/<recording_id>/derived/<name>",
        name="derived",
        view=lambda api: api.reader.derived,
        says="A file that was made from it; ranges work",
        query=("account", "reason"),
        answers={200: None, 206: None},
        audio=True,
        refusals=(410, 412, 416),
    ),
    Route(
        method="GET",
        path="/v1/recordings/<recording_id>/derived/<name>/receipt",
        name="derived_receipt",
        view=lambda api: api.reader.derived_receipt,
        says="The receipt of such a file, as archived",
        query=("account",),
        answers={200: response_shapes.Receipt},
        refusals=(410,),
    ),
    Route(
        method="GET",
        path="/v1/recordings/<recording_id>/derived/<name>/signature",
        name="derived_signature",
        view=lambda api: api.reader.derived_signature,
        says="The detached signature of that receipt",
        query=("account",),
        answers={200: None},
        refusals=(410,),
    ),
)


def blueprint(api: Api) -> Blueprint:
    """The routes of `/v1` and the probes. Every route of the table asks for its key first, unless
    it is public.
    """
    door = Blueprint("api", __name__)
    for route in ROUTES:
        door.add_url_rule(route.path, route.name, _guarded(api, route), methods=[route.method])
    for path, name, view in (
        ("/v1/openapi.json", "openapi", lambda: _openapi(api)),
        ("/healthz", "healthz", api.probes.healthz),
        ("/readyz", "readyz", api.probes.readyz),
        ("/metrics", "metrics", api.probes.metrics),
    ):
        door.add_url_rule(path, name, view, methods=["GET"])
    return door


def _guarded(api: Api, route: Route) -> Callable[..., Response]:
    view = route.view(api)

    @wraps(view)
    def guarded(**parts: str) -> Response:
        if not route.public:
            need_key(api.settings, app_key_too=route.app_key, view_key_too=route.view_key)
        return view(**parts)

    return guarded


def _openapi(api: Api) -> Response:
    # Without a key: it says nothing but what docs/api.md says.
    return jsonify(openapi.document(ROUTES, server=api.settings().public_url))
