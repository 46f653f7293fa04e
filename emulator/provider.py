"""The provider: its REST API and its media host on two ports of the loopback interface, and what
they know.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from emulator import control, media, rest
from emulator.accounts import Account, by_id, check_mode
from emulator.delivery import FORM, Message, Sender
from emulator.faults import Faults
from emulator.http import Server, handler
from emulator.journal import Journal
from emulator.signing import Nonces
from emulator.state import Book, Call, Recording
from emulator.switchboard import Switchboard
from emulator.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from emulator.http import Exchange


class Provider(Switchboard):
    """One stand-in provider. `callback_url` is where a call's callbacks go unless it says
    otherwise.

    `accounts` maps ids to tokens, or lists accounts. `keeps_s` is how long a finished recording is
    kept, `finalise_s` how long after its end its file is there; `seed` seeds the bad days;
    `callbacks=False` sends none.
    """

    def __init__(
        self,
        *,
        callback_url: str = "",
        accounts: Mapping[str, str] | Iterable[Account] | None = None,
        port: int = 0,
        seed: int = 0,
        retry_base_s: float = 1.0,
        keeps_s: float | None = None,
        finalise_s: float = 0.05,
        callbacks: bool = True,
    ) -> None:
        self.journal, self.keeps_s = Journal(), keeps_s
        known, faults, timers = (
            by_id(accounts or {"MA_EMULATOR": "emulator-token-0001"}),
            Faults(seed),
            Timers(self._trouble),
        )
        sender = Sender(
            known, faults, self.journal, timers, retry_base_s=retry_base_s, silent=not callbacks
        )
        super().__init__(known, faults, timers, sender, callback_url, finalise_s)
        self._closing = threading.Event()
        self._api = Server(
            ("127.0.0.1", port), handler(self._api_or_control, self.journal, self._trouble)
        )
        self._media = Server(
            ("127.0.0.1", 0),
            handler(lambda exchange: media.serve(self, exchange), self.journal, self._trouble),
        )
        root = f"http://127.0.0.1:{self._api.server_address[1]}"
        self.api_url, self.control_url = f"{root}/api/v1", f"{root}/_control"
        self.media_host = f"127.0.0.1:{self._media.server_address[1]}"

    def __enter__(self) -> Self:
        for server in (self._api, self._media):
            threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
            ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for server in (self._api, self._media):
            server.shutdown()
            server.server_close()
        self._timers.close()
        self._sender.close()

    def _api_or_control(self, exchange: Exchange) -> None:
        (control if exchange.url_path.startswith("/_control/") else rest).serve(self, exchange)

    def _trouble(self, error: Exception) -> None:
        """A fault of this stand-in itself: one line on the terminal, the same in the journal."""
        text = f"{type(error).__name__}: {error}"
        self.journal.write("trouble", {"error": text, "at": time.time()})
        sys.stderr.write(f"emulator: a step failed: {text}\n")

    # Time
    # ---------------------------------------------------------------------------------------------------------

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Does it `seconds` from now."""
        self._timers.after(seconds, act)

    def hold(self, seconds: float) -> bool:
        """Lets the time pass, or less of it: True if the stand-in is being closed."""
        return self._closing.wait(seconds)

    def wait_idle(self, timeout: float) -> bool:
        """True as soon as no callback is on its way, False if `timeout` seconds pass first."""
        return self._sender.wait_idle(timeout)

    # What can be asked
    # --------------------------------------------------------------------------------------------

    def authorised(self, account: str, headers: Any) -> bool:
        known = self.accounts.get(account)
        return (
            known is not None
            and headers.get("X-Auth-ID") == account
            and headers.get("X-Auth-Token") == known.token
        )

    def live(self, call_uuid: str) -> Call:
        """Raises KeyError unless the call is live."""
        return self.book.live(call_uuid)

    def live_of(self, account: str, call_uuid: str) -> Call | None:
        call = self.book.calls.get(call_uuid)
        return (
            call
            if call is not None
            and call.ended_at is None
            and not call.ringing
            and call.account == account
            else None
        )

    def is_ready(self, recording: Recording) -> bool:
        """Whether the file is there, and neither too young nor too old to be found."""
        if recording.listed_at is None:
            return False
        now = time.time()
        if self.keeps_s is not None and now > recording.listed_at + self.keeps_s:
            return False
        early = self.faults.hit(
            "early-404",
            call_uuid=recording.call_uuid,
            recording_id=recording.recording_id,
            account=recording.account,
        )
        return early is None or now >= (recording.ended_at or 0) + float(early["seconds"])

    def ready(self, account: str, recording_id: str) -> Recording | None:
        recording = self.book.recordings.get(recording_id)
        return (
            recording
            if recording is not None and recording.account == account and self.is_ready(recording)
            else None
        )

    @property
    def calls(self) -> dict[str, Call]:
        return self.book.calls

    @property
    def recordings(self) -> dict[str, Recording]:
        return self.book.recordings

    def state(self) -> dict[str, Any]:
        return {
            "calls": [
                {"call_uuid": c.call_uuid, "started_at": c.started_at, "ended_at": c.ended_at}
                for c in list(self.calls.values())
            ],
            "recordings": [
                {
                    "recording_id": r.recording_id,
                    "call_uuid": r.call_uuid,
                    "started_at": r.started_at,
                    "ended_at": r.ended_at,
                    "end_reason": r.end_reason,
                    "url": r.url,
                    "container": r.container,
                    "channels": r.channels,
                }
                for r in list(self.recordings.values())
            ],
        }

    # What only a test does
    # ----------------------------------------------------------------------------------------

    def raw(
        self,
        url: str,
        *,
        method: str = "POST",
        body: str = "",
        headers: Mapping[str, str] | None = None,
        account: str | None = None,
        signature: str = "none",
    ) -> tuple[int, str]:
        """Sends any request, once, and returns its answer's status and text. Raises OSError if none
        comes.
        """
        owner = self.accounts[account or next(iter(self.accounts))]
        check_mode(signature)
        signed = self._sender.signed(owner, signature, url, Nonces())
        message = Message(
            method,
            url,
            body.encode(),
            {"User-Agent": "Vobiz", "Content-Type": FORM, **signed, **(headers or {})},
        )
        at = time.time()
        status, answer = self._sender.exchange(message, 10)
        self.journal.write(
            "callback",
            {
                "event": "raw",
                "url": url,
                "method": method,
                "status": status,
                "at": at,
                "try": 1,
                "elapsed": time.time() - at,
                "call_uuid": None,
                "fields": {},
            },
        )
        return status, answer.decode("utf-8", "replace")

    def reset(self) -> None:
        """Forgets calls, recordings and bad days; the journal stays."""
        self.faults.clear()
        self.book = Book()
