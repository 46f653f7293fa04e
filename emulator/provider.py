"""The provider: its REST API, its media host and its callbacks, on two ports of the loopback interface."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from http.server import ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlencode

import requests

from emulator import signing
from emulator.faults import Faults
from emulator.http import handler
from emulator.journal import Journal
from emulator.state import INDIA, Call, Recording, new_id
from emulator.timers import Busy, Crew, Timers

RETRIES = 3
FINALISE_S = 0.05


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


class Provider:
    """One stand-in provider. `accounts` maps ids to tokens; `callback_url` is where a call's callbacks go by default."""

    def __init__(self, *, callback_url: str = "", accounts: dict[str, str] | None = None, port: int = 0, seed: int = 0,
                 retry_base_s: float = 1.0) -> None:
        self.callback_url = callback_url
        self.accounts = accounts or {"MA_EMULATOR": "emulator-token-0001"}
        self.calls: dict[str, Call] = {}
        self.recordings: dict[str, Recording] = {}
        self.faults, self.journal = Faults(seed), Journal()
        self.retry_base_s = retry_base_s
        self.lock = threading.RLock()
        self._timers, self._crew, self._busy = Timers(), Crew(32), Busy()
        self._local = threading.local()
        self._api = _Server(("127.0.0.1", port), handler(self, media=False))
        self._media = _Server(("127.0.0.1", 0), handler(self, media=True))
        root = f"http://127.0.0.1:{self._api.server_address[1]}"
        self.api_url, self.control_url = f"{root}/api/v1", f"{root}/_control"
        self.media_host = f"127.0.0.1:{self._media.server_address[1]}"

    def __enter__(self) -> Self:
        for server in (self._api, self._media):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._api, self._media):
            server.shutdown()
            server.server_close()
        self._timers.close()
        self._crew.close()

    # What happens on calls ----------------------------------------------------------------------------------------

    def call(self, *, call_uuid: str | None = None, account: str | None = None, from_number: str = "919820055512",
             to_number: str = "918065550101", direction: str = "inbound", callback_url: str | None = None) -> Call:
        made = Call(call_uuid or new_id(), account or next(iter(self.accounts)), from_number, to_number, direction,
                    callback_url or self.callback_url)
        with self.lock:
            self.calls[made.call_uuid] = made
        return made

    def record(self, call_uuid: str, *, recording_id: str | None = None, container: str = "mp3", channels: int = 1,
               max_length_s: float = 3600, source: str = "xml", callback_url: str | None = None, announce: bool = True) -> Recording:
        """Starts a recording; one made by XML announces itself with `Event=Record`. Raises KeyError for no live call."""
        call = self.live(call_uuid)
        rid = recording_id or new_id()
        made = Recording(
            recording_id=rid, call_uuid=call_uuid, account=call.account, container=container, channels=channels, source=source,
            url=f"http://{self.media_host}/v1/Account/{call.account}/Recording/{rid}.{container}",
            callback_url=callback_url or call.callback_url, started_at=time.time(), max_length_s=max_length_s)
        with self.lock:
            self.recordings[rid] = made
        self._timers.after(max_length_s, lambda: self.end(rid, "maxLength"))
        if source == "xml" and announce:
            self.send(call, "Record", {
                "RecordingID": rid, "RecordUrl": made.url, "RecordFile": made.url, "RecordingDuration": "-1",
                "RecordingDurationMs": "-1", "RecordingStartMs": "-1", "RecordingEndMs": "-1"})
        return made

    def event(self, call_uuid: str, name: str, **fields: str) -> None:
        """Sends any voice event; `fields` go out as they are."""
        call = self.calls[call_uuid]
        extra: dict[str, str] = {}
        if name.startswith("Dial"):
            extra = {"DialAction": name.removeprefix("Dial").lower(), "DialALegUUID": call_uuid, "DialBLegUUID": new_id()}
        elif name.startswith("Conference"):
            extra = {"ConferenceAction": name.removeprefix("Conference").lower(), "ConferenceName": "room"}
        self.send(call, name, extra | fields)

    def hangup(self, call_uuid: str) -> None:
        """The call ends: `Hangup` first, then the end of each recording, as documented."""
        call = self.live(call_uuid)
        with self.lock:
            call.ended_at = time.time()
            running = [r for r in self.recordings.values() if r.call_uuid == call_uuid and r.ended_at is None]
        spelled = [datetime.fromtimestamp(t, INDIA).strftime("%Y-%m-%d %H:%M:%S") for t in (call.started_at, call.ended_at)]
        self.send(call, "Hangup", {
            "StartTime": spelled[0], "AnswerTime": spelled[0], "EndTime": spelled[1], "HangupCause": "NORMAL_CLEARING",
            "Duration": str(round(call.ended_at - call.started_at)), "HangupCauseCode": "4000", "HangupSource": "Caller"})
        for recording in running:
            self.end(recording.recording_id, "HungUp")

    def end(self, recording_id: str, reason: str) -> None:
        """Ends a recording, once; its file and its callback follow when it is finalised."""
        with self.lock:
            recording = self.recordings[recording_id]
            if recording.ended_at is not None:
                return
            recording.ended_at, recording.end_reason = time.time(), reason
        slow = self.faults.hit("slow-finalise", call_uuid=recording.call_uuid) or {}
        self._timers.after(float(slow.get("seconds", FINALISE_S)), lambda: self._finalise(recording))

    def _finalise(self, recording: Recording) -> None:
        recording.listed_at = time.time()
        assert recording.ended_at is not None
        call = self.calls[recording.call_uuid]
        ms = round(recording.duration_ms)
        start, end = round(recording.started_at * 1000), round(recording.ended_at * 1000)
        if recording.source == "rest":
            self.send(call, "", {
                "api_id": new_id(), "record_url": recording.url, "call_uuid": recording.call_uuid, "recording_id": recording.recording_id,
                "recording_duration": str(ms // 1000), "recording_duration_ms": str(ms), "recording_start_ms": str(start),
                "recording_end_ms": str(end)}, url=recording.callback_url)
        else:
            self.send(call, "RecordStop", {
                "RecordingID": recording.recording_id, "RecordFile": recording.url, "RecordUrl": recording.url,
                "RecordingDuration": str(ms // 1000), "RecordingDurationMs": str(ms), "RecordingStartMs": str(start),
                "RecordingEndMs": str(end), "RecordingEndReason": recording.end_reason or ""}, url=recording.callback_url)

    def live(self, call_uuid: str) -> Call:
        call = self.calls.get(call_uuid)
        if call is None or call.ended_at is not None:
            raise KeyError(call_uuid)
        return call

    def stop(self, call_uuid: str, url: str | None) -> None:
        """What a stop request does to a live call. An address that fits nothing stops nothing."""
        for recording in list(self.recordings.values()):
            if recording.call_uuid == call_uuid and recording.ended_at is None and url in {None, recording.url}:
                self.end(recording.recording_id, "StoppedByAPI")

    # Callbacks ----------------------------------------------------------------------------------------------------

    def send(self, call: Call, event: str, fields: dict[str, str], *, url: str | None = None) -> None:
        """Sends one callback from another thread, with retries; bad days may lose, double or delay it."""
        target = url or call.callback_url
        if not target:
            return
        facts = {"event": event or "rest", "call_uuid": call.call_uuid}
        body = {**call.common(), "Event": event, **fields} if event else fields
        if self.faults.hit("lost-callbacks", **facts):
            self.journal.write("callback", {"event": facts["event"], "url": target, "lost": True, "at": time.time()})
            return
        late = self.faults.hit("late-callbacks", **facts) or {}
        for _ in range(2 if self.faults.hit("doubled-callbacks", **facts) else 1):
            self._busy.begin()
            self._timers.after(float(late.get("seconds", 0)), lambda: self._crew.run(lambda: self._try(call, facts["event"], body, target, 0, signing.Nonces())))

    def _try(self, call: Call, event: str, body: dict[str, str], url: str, tries: int, nonces: signing.Nonces) -> None:
        token = self.accounts[call.account]
        if self.faults.hit("forged-callbacks", event=event, call_uuid=call.call_uuid):
            token = "not-the-token"  # noqa: S105
        mode = "none" if self.faults.hit("unsigned-callbacks", event=event, call_uuid=call.call_uuid) else "v3+v2"
        headers = {"User-Agent": "Vobiz", "Content-Type": "application/x-www-form-urlencoded",
                   **signing.signature_headers(mode, url, token, None, nonces)}
        at, status = time.time(), 0
        try:
            status = self._session().post(url, data=urlencode(body), headers=headers, timeout=3, allow_redirects=False).status_code
        except requests.RequestException as error:
            self.journal.write("trouble", {"url": url, "error": str(error)[:200]})
        self.journal.write("callback", {"event": event, "url": url, "status": status, "at": at, "try": tries + 1,
                                        "elapsed": time.time() - at, "call_uuid": call.call_uuid, "fields": body})
        if status != 200 and tries < RETRIES:
            again = lambda: self._crew.run(lambda: self._try(call, event, body, url, tries + 1, nonces))  # noqa: E731
            self._timers.after(self.retry_base_s * 2**tries, again)
        else:
            self._busy.end()

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False
        session: requests.Session = self._local.session
        return session

    def wait_idle(self, timeout: float) -> bool:
        return self._busy.wait(timeout)

    def state(self) -> dict[str, Any]:
        with self.lock:
            return {"calls": [{"call_uuid": c.call_uuid, "started_at": c.started_at, "ended_at": c.ended_at} for c in self.calls.values()],
                    "recordings": [{"recording_id": r.recording_id, "call_uuid": r.call_uuid, "started_at": r.started_at,
                                    "ended_at": r.ended_at, "end_reason": r.end_reason} for r in self.recordings.values()]}
