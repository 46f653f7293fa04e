"""The provider's two HTTP doors, and the control API under `/_control` (docs/emulator.md)."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from emulator.audio import CONTENT_TYPES
from emulator.state import Recording, new_id

if TYPE_CHECKING:
    from emulator.provider import Provider

_ACCOUNT = re.compile(r"/api/v1/Account/([^/]+)/(.*)")
_MEDIA = re.compile(r"/v1/Account/([^/]+)/Recording/([^/.]+)\.(\w+)")


def handler(provider: Provider, *, media: bool) -> type[BaseHTTPRequestHandler]:
    """A handler class bound to one provider, for its API or its media host."""

    class Handler(_Handler):
        owner = provider
        is_media = media

    return Handler


class _Handler(BaseHTTPRequestHandler):
    owner: Provider
    is_media: bool
    protocol_version = "HTTP/1.1"
    wbufsize = -1                   # head and body in one packet: two would wait for a delayed acknowledgement
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Requests are kept in the journal, not on the terminal."""

    def _go(self) -> None:
        self.arrived_at = time.time()
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        if self.is_media:
            self._media(parts.path)
        elif parts.path.startswith("/_control/"):
            self._control(parts.path.removeprefix("/_control/").strip("/").split("/"))
        else:
            self._api(parts.path)

    do_GET = do_POST = do_PUT = do_DELETE = _go

    def answer(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.owner.journal.write("request", {
            "method": self.command, "path": self.path, "body": self.body.decode("utf-8", "replace")[:2000], "status": status,
            "auth_id": self.headers.get("X-Auth-ID"), "at": self.arrived_at})
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def error(self, status: int, text: str) -> None:
        self.answer(status, {"api_id": new_id(), "error": text})

    # REST ---------------------------------------------------------------------------------------------------------

    def _authorised(self, account: str) -> bool:
        known = self.owner.accounts.get(account)
        return known is not None and self.headers.get("X-Auth-ID") == account and self.headers.get("X-Auth-Token") == known

    def _api(self, path: str) -> None:
        if path == "/api/v1/auth/me":
            refused = self.owner.faults.hit("refuse-auth") or {}
            fine = self._authorised(self.headers.get("X-Auth-ID") or "") and not refused.get("me")
            self.answer(200 if fine else 401, {"status": "ok"} if fine else {"error": "invalid credentials"})
            return
        match = _ACCOUNT.fullmatch(path)
        if match is None:
            self.answer(404, {"message": "Not Found"})
        elif not self._authorised(match[1]):
            self.answer(401, {"error": "invalid credentials"})
        else:
            self._account(match[1], match[2])

    def _account(self, account: str, rest: str) -> None:
        parts = rest.split("/")
        if parts[0] == "Recording" and self.command == "GET":
            self._recordings(account, parts)
        elif parts[0] == "Call" and len(parts) == 4 and parts[2:] == ["Record", ""]:
            self._record(parts[1])
        elif parts[0] == "Call" and self.command == "GET":
            self._live(account, parts[1] if len(parts) > 1 else "")
        elif parts[0] == "Call" and self.command == "POST" and len(parts) == 3:
            self._transfer(parts[1])
        else:
            self.answer(404, {"message": "Not Found"})

    def _record(self, call_uuid: str) -> None:
        provider = self.owner
        given = json.loads(self.body) if self.body else {}
        if self.command == "DELETE" and self._stop_fails(call_uuid):
            return
        try:
            call = provider.live(call_uuid)
        except KeyError:
            self.error(404, "call not found")
            return
        if self.command == "DELETE":
            if not provider.faults.hit("deaf-stop", call_uuid=call_uuid):
                provider.stop(call_uuid, given.get("URL"))
            self.answer(204)
        elif self.command == "POST":
            made = provider.record(call_uuid, container=given.get("file_format", "mp3"), source="rest",
                                   channels=2 if given.get("record_channel_type") == "stereo" else 1,
                                   max_length_s=float(given.get("time_limit", 60)), callback_url=given.get("callback_url") or call.callback_url)
            self.answer(200, {"api_id": new_id(), "message": "recording started", "recording_id": made.recording_id, "url": made.url})

    def _stop_fails(self, call_uuid: str) -> bool:
        faults = self.owner.faults
        if held := faults.hit("stop-timeout", call_uuid=call_uuid):
            time.sleep(float(held.get("seconds", 5)))
            self.close_connection = True
        elif failing := faults.hit("stop-fails-first", call_uuid=call_uuid):
            self.error(int(failing.get("status", 503)), "upstream trouble")
        elif limited := faults.hit("stop-429", call_uuid=call_uuid):
            self.answer(429, {"status": "error", "error": {"code": "RATE_LIMIT_EXCEEDED", "details": {"retryAfter": limited.get("retry_after", 1)}}},
                        {"Retry-After": str(limited.get("retry_after", 1))})
        elif faults.hit("gateway-404", call_uuid=call_uuid):
            self.answer(404, {"message": "Not Found"})
        elif refused := faults.hit("refuse-auth", call_uuid=call_uuid):
            self.answer(int(refused.get("status", 401)), {"error": "invalid credentials"})
        else:
            return False
        return True

    def _live(self, account: str, call_uuid: str) -> None:
        if self.owner.faults.hit("api-5xx"):
            self.error(503, "upstream trouble")
            return
        live = [c for c in self.owner.calls.values() if c.ended_at is None and c.account == account]
        if not call_uuid:
            self.answer(200, {"api_id": new_id(), "calls": [c.call_uuid for c in live]})
            return
        call = next((c for c in live if c.call_uuid == call_uuid), None)
        if call is None:
            self.error(404, "call not found")
            return
        self.answer(200, {"api_id": new_id(), "call_status": "in-progress", "call_uuid": call_uuid, "direction": call.direction,
                          "from": call.from_number, "to": call.to_number, "request_uuid": call_uuid})

    def _transfer(self, call_uuid: str) -> None:
        given = json.loads(self.body or b"{}")
        if call_uuid not in self.owner.calls or self.owner.calls[call_uuid].ended_at:
            self.error(404, "call not found")
        elif not given.get("aleg_url"):
            self.error(400, "aleg_url is required")
        else:
            self.answer(202, {"api_id": new_id(), "message": "call transferred", "call_uuid": call_uuid})
            self.owner.send(self.owner.calls[call_uuid], "Transfer", {}, url=given["aleg_url"])

    def _recordings(self, account: str, parts: list[str]) -> None:
        if self.owner.faults.hit("api-5xx"):
            self.error(503, "upstream trouble")
            return
        ready = [r for r in self.owner.recordings.values() if r.account == account and self._is_ready(r)]
        if len(parts) == 3 and parts[1]:
            found = next((r for r in ready if r.recording_id == parts[1]), None)
            self.error(404, "Recording not found") if found is None else self.answer(200, {**found.row(), "api_id": new_id()})
            return
        rows = sorted((r for r in ready if self.query.get("call_uuid") in {None, r.call_uuid}), key=lambda r: -r.started_at)
        limit, offset = min(int(self.query.get("limit", 20)), 100), int(self.query.get("offset", 0))
        more = f"/v1/Account/{account}/Recording/?limit={limit}&offset={offset + limit}" if offset + limit < len(rows) else None
        self.answer(200, {"api_id": new_id(), "meta": {"limit": limit, "offset": offset, "next": more, "previous": None, "total_count": len(rows)},
                          "objects": [r.row() for r in rows[offset:offset + limit]]})

    def _is_ready(self, recording: Recording) -> bool:
        early = self.owner.faults.hit("early-404", call_uuid=recording.call_uuid) or {}
        return recording.listed_at is not None and time.time() >= (recording.ended_at or 0) + float(early.get("seconds", 0))

    # Media --------------------------------------------------------------------------------------------------------

    def _media(self, path: str) -> None:
        match = _MEDIA.fullmatch(path)
        recording = self.owner.recordings.get(match[2]) if match else None
        if match is None or recording is None or not self._is_ready(recording):
            self.error(404, "not found")
            return
        if not self._authorised(match[1]):
            self.answer(401, {"error": "invalid credentials"})
            return
        faults, facts = self.owner.faults, {"call_uuid": recording.call_uuid}
        if faults.hit("media-5xx", **facts):
            self.error(503, "upstream trouble")
        elif sent := faults.hit("redirect-media", **facts):
            self.answer(302, None, {"Location": str(sent.get("location"))})
        else:
            self._send_audio(recording, facts)

    def _send_audio(self, recording: Recording, facts: dict[str, str]) -> None:
        faults, audio = self.owner.faults, recording.audio()
        if faults.hit("lying-container", **facts):
            audio = replace(audio, container={"mp3": "wav", "wav": "mp3"}[audio.container])
        blocks: list[bytes] | Any = audio.stream()
        size = audio.size
        if faults.hit("empty-media", **facts):
            blocks, size = [], 0
        elif faults.hit("html-media", **facts):
            page = b"<!doctype html><html><body>Please sign in</body></html>"
            blocks, size = [page], len(page)
        cut = faults.hit("truncated-media", **facts)
        left = int(size * float(cut.get("fraction", 0.5))) if cut else size
        self.owner.journal.write("media", {"path": self.path, "auth_id": self.headers.get("X-Auth-ID"), "at": self.arrived_at})
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPES[recording.container])
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for block in blocks:
            self.wfile.write(block[:left])
            left -= len(block)
            if left <= 0:
                break
        if cut:
            self.close_connection = True

    # Control ------------------------------------------------------------------------------------------------------

    def _control(self, parts: list[str]) -> None:
        provider = self.owner
        given = json.loads(self.body or b"{}")
        match (self.command, *parts):
            case ("POST", "calls"):
                self.answer(200, {"call_uuid": provider.call(**given).call_uuid})
            case ("POST", "calls", call_uuid, "record"):
                made = provider.record(call_uuid, **given)
                self.answer(200, {"recording_id": made.recording_id, "url": made.url})
            case ("POST", "calls", call_uuid, "event"):
                provider.event(call_uuid, given.pop("event"), **given)
                self.answer(200, {})
            case ("POST", "calls", call_uuid, "hangup"):
                provider.hangup(call_uuid)
                self.answer(200, {})
            case ("POST", "recordings", recording_id, "stop"):
                provider.end(recording_id, "FinishedOnKey")
                self.answer(200, {})
            case ("PUT", "faults", name):
                provider.faults.switch_on(name, **given)
                self.answer(200, {})
            case ("DELETE", "faults", name):
                provider.faults.switch_off(name)
                self.answer(200, {})
            case ("GET", "faults"):
                self.answer(200, provider.faults.listing())
            case ("GET", "log"):
                self.answer(200, {"log": provider.journal.since(int(self.query.get("since", 0)))})
            case ("GET", "state"):
                self.answer(200, provider.state())
            case _:
                self.error(404, "no such control")
