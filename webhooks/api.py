"""Our own callers' door, `/v1`, as far as it is built: reading calls and recordings back. And the probes."""

from __future__ import annotations

import base64
import hmac
import itertools
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, Response, jsonify, request

from webhooks import metrics
from worker import wire
from worker.errors import LedgerUnavailable
from worker.fold import fold
from worker.ledger import Ledger, Sight
from worker.recording import Call, Phase, Recording
from worker.settings import Settings
from worker.views import call_view, recording_view

SEEN_WITHIN = timedelta(seconds=15)
_MOST = 200


class Problem(Exception):
    """An RFC 9457 answer."""

    def __init__(self, status: int, title: str, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.field = status, title, detail, field

    def response(self) -> Response:
        body = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        if self.field:
            body["field"] = self.field
        answer = jsonify(body)
        answer.status_code, answer.mimetype = self.status, "application/problem+json"
        if self.status == 401:
            answer.headers["WWW-Authenticate"] = "Bearer"
        return answer


class Api:
    def __init__(self, ledger: Ledger, settings: Callable[[], Settings]) -> None:
        self.ledger, self.settings = ledger, settings

    # Who asks ------------------------------------------------------------------------------------------------------

    def need_key(self, *, app_key_too: bool = False) -> None:
        """Raises Problem 401 without a good key, 403 where the lesser key is not enough."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        offered = given.strip().encode("utf-8", "replace") if scheme.lower() == "bearer" else b""
        settings = self.settings()
        if any([hmac.compare_digest(offered, k.encode()) for k in settings.api_keys]):  # noqa: C419 - all are compared
            return
        if settings.app_key and hmac.compare_digest(offered, settings.app_key.encode()):
            if app_key_too:
                return
            raise Problem(403, "Forbidden", "the application key may not do this; use ENDTAPE_API_KEY")
        raise Problem(401, "Unauthorized", "send `Authorization: Bearer` with ENDTAPE_API_KEY")

    # Reading -------------------------------------------------------------------------------------------------------

    def index(self) -> Response:
        self.need_key()
        return jsonify({"service": "endtape", "recordings": "/v1/recordings", "metrics": "/metrics", "ready": "/readyz"})

    def recordings(self) -> Response:
        self.need_key()
        settings, wanted = self.settings(), request.args
        phase = wanted.get("phase")
        if phase is not None and phase not in set(Phase):
            raise Problem(400, "Bad Request", f"phase: must be one of {', '.join(Phase)}", field="phase")
        accounts = [self._account(wanted["account"])] if "account" in wanted else list(settings.accounts)
        limit = _limit(wanted.get("limit"))
        found: list[tuple[Sight, dict[str, Any]]] = []
        for sight, call, recording in self._seen(accounts, _cursor(wanted.get("cursor")), wanted):
            view = recording_view(call, recording, settings.policy, self.ledger.now())
            if phase in {None, view["phase"]}:
                found.append((sight, view))
            if len(found) > limit:
                break
        page = found[:limit]
        cursor = base64.urlsafe_b64encode("|".join(map(str, page[-1][0])).encode()).decode() if len(found) > limit else None
        return jsonify({"recordings": [view for _, view in page], "cursor": cursor})

    def _seen(self, accounts: list[str], before: Sight | None, wanted: Any) -> Iterator[tuple[Sight, Call, Recording]]:
        only = wanted.get("call_uuid")
        sights = self.ledger.recent(accounts, before=before, since=_instant(wanted, "since"), until=_instant(wanted, "until"))
        folded: dict[tuple[str, str], Call] = {}     # a call may have hundreds of recordings
        for sight in itertools.islice(sights, 20_000):
            _, account, recording_id = sight
            call_uuid = self.ledger.call_of(account, recording_id)
            if call_uuid is None or only not in {None, call_uuid}:
                continue
            if (account, call_uuid) not in folded:
                folded = {(account, call_uuid): fold(account, call_uuid, self.ledger.events(account, call_uuid))}
            call = folded[account, call_uuid]
            if recording_id in call.recordings:
                yield sight, call, call.recordings[recording_id]

    def recording(self, recording_id: str) -> Response:
        self.need_key()
        for account in self._accounts():
            call_uuid = self.ledger.call_of(account, recording_id) if wire.identifier(recording_id) else None
            call = fold(account, call_uuid, self.ledger.events(account, call_uuid)) if call_uuid else None
            if call and recording_id in call.recordings:
                return jsonify(recording_view(call, call.recordings[recording_id], self.settings().policy, self.ledger.now()))
        raise Problem(404, "Not Found", "no such recording")

    def call(self, call_uuid: str) -> Response:
        self.need_key(app_key_too=True)
        for account in self._accounts():
            if not wire.identifier(call_uuid):
                break
            a_leg = call_uuid
            events = self.ledger.events(account, call_uuid)
            if not events:                # known only as another call's leg
                a_leg = self.ledger.a_leg(account, call_uuid)
                events = self.ledger.events(account, a_leg)
            if events:
                return jsonify(call_view(fold(account, a_leg, events), self.settings().policy, self.ledger.now()))
        raise Problem(404, "Not Found", "no such call")

    def _accounts(self) -> list[str]:
        return [self._account(request.args["account"])] if "account" in request.args else list(self.settings().accounts)

    def _account(self, name: str) -> str:
        if name not in self.settings().accounts:
            raise Problem(400, "Bad Request", "account: no such account here", field="account")
        return name

    # Probes --------------------------------------------------------------------------------------------------------

    def healthz(self) -> Response:
        return Response("ok\n", mimetype="text/plain")

    def readyz(self) -> Response:
        missing = []
        try:
            self.ledger.command("SET", self.ledger.key("probe"), 1, "EX", 60)
            seen = self.ledger.alive(SEEN_WITHIN)
            missing = [role for role in ("stops", "fetches", "clock") if role not in seen]
        except LedgerUnavailable:
            missing = ["redis"]
        return Response("ready\n" if not missing else f"missing: {', '.join(missing)}\n", 503 if missing else 200, mimetype="text/plain")

    def metrics(self) -> Response:
        return Response(metrics.render(self.ledger), mimetype="text/plain; version=0.0.4")


def blueprint(api: Api) -> Blueprint:
    door = Blueprint("api", __name__)
    for rule, view in (("/", api.index), ("/v1/recordings", api.recordings), ("/v1/recordings/<recording_id>", api.recording),
                       ("/v1/calls/<call_uuid>", api.call), ("/healthz", api.healthz), ("/readyz", api.readyz), ("/metrics", api.metrics)):
        door.add_url_rule(rule, view_func=view, methods=["GET"])
    return door


def _limit(text: str | None) -> int:
    if text is None:
        return 50
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= _MOST:
        raise Problem(400, "Bad Request", f"limit: must be a whole number from 1 to {_MOST}", field="limit")
    return int(text)


def _cursor(text: str | None) -> Sight | None:
    if text is None:
        return None
    try:
        at, account, recording_id = base64.urlsafe_b64decode(text.encode()).decode().split("|")
        return int(at), account, recording_id
    except ValueError:
        raise Problem(400, "Bad Request", "cursor: not one that we gave", field="cursor") from None


def _instant(wanted: Any, name: str) -> datetime | None:
    if name not in wanted:
        return None
    found = wire.instant(wanted[name])
    if found is None:
        raise Problem(400, "Bad Request", f"{name}: must be a time like 2026-09-14T06:30:00Z", field=name)
    return found


