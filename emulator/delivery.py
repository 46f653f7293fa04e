"""Sends callbacks: encodes and signs them, repeats them as the provider does, and spoils them on
bad days.

A voice callback is tried up to four times and waits 3 s for an answer; only 200 is a success. A
trunk webhook is sent once, waits 10 s, and accepts any answer. Callbacks of one call leave in their
order, each after the first try of the one before.
"""

from __future__ import annotations

import codecs
import http.client
import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode, urlsplit

from emulator import signing
from emulator.accounts import Account
from emulator.bad_days import BadDays
from emulator.journal import Journal
from emulator.state import Call, Delivery, Recording, new_id
from emulator.timers import Busy, ThreadPool, Timers

RETRIES = 3
FORM = "application/x-www-form-urlencoded"
_BOUNDARY = "----callback-of-the-provider"
_TRUNK = Delivery(encoding="json")
_FORGED = "not-the-token-of-anybody"


@dataclass(frozen=True, slots=True)
class Callback:
    """One callback on its way. A repetition carries the same nonces."""

    event: str
    call: Call
    url: str
    fields: dict[str, Any]
    delivery: Delivery
    trunk: bool = False
    recording_id: str | None = None
    nonces: signing.Nonces = field(default_factory=signing.Nonces)

    def facts(self) -> dict[str, Any]:
        return {
            "event": self.event,
            "call_uuid": self.call.call_uuid,
            "account": self.call.account,
            "recording_id": self.recording_id,
        }


@dataclass(frozen=True, slots=True)
class Message:
    """An HTTP request, ready to be sent."""

    method: str
    url: str
    body: bytes
    headers: dict[str, str]


def encode(fields: Mapping[str, Any], url: str, delivery: Delivery) -> Message:
    """Builds the request, without its signature."""
    if delivery.encoding == "json":
        return Message(
            "POST", url, json.dumps(fields).encode(), {"Content-Type": "application/json"}
        )
    if delivery.encoding == "multipart":
        parts = [
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        body = "".join([*parts, f"--{_BOUNDARY}--\r\n"]).encode()
        return Message(
            "POST", url, body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        )
    if delivery.encoding == "wrapped":
        api_id = {"api_id": fields["api_id"]} if "api_id" in fields else {}
        fields = {**api_id, "response": json.dumps(fields, separators=(",", ":"))}
    if delivery.method == "GET":
        return Message(
            "GET", f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(fields)}", b"", {}
        )
    return Message("POST", url, urlencode(fields).encode(), {"Content-Type": FORM})


class Sender:
    """Owns the threads and connections that callbacks use."""

    def __init__(
        self,
        accounts: Mapping[str, Account],
        faults: BadDays,
        journal: Journal,
        timers: Timers,
        *,
        retry_base_s: float,
        silent: bool,
    ) -> None:
        self.accounts, self.faults, self.journal, self.timers = accounts, faults, journal, timers
        self._retry_base_s, self._silent = retry_base_s, silent
        self._threads, self._busy = ThreadPool(32, timers.trouble), Busy()
        self._of_thread = threading.local()
        # call → the callbacks that wait until the one before has had its first try
        self._lines: dict[str, deque[Callback]] = {}
        self._lock = threading.Lock()

    def tell(
        self,
        call: Call,
        fields: dict[str, Any],
        *,
        event: str = "",
        url: str | None = None,
        delivery: Delivery | None = None,
        recording: Recording | None = None,
    ) -> None:
        """Queues a callback about a call. Arguments that are left out follow from the fields, the
        recording and the call.
        """
        event = event or fields.get("Event") or "rest"
        if url is None:
            url = call.urls.get(event) or call.callback_url
        if call.trunk:
            delivery = _TRUNK
        elif delivery is None:
            delivery = recording.delivery if recording else call.delivery
        self.send(
            Callback(
                event,
                call,
                url,
                fields,
                delivery,
                trunk=bool(call.trunk),
                recording_id=recording.recording_id if recording else None,
            )
        )

    def send(self, callback: Callback) -> None:
        """Queues the callback and returns at once. Bad days may lose, double, delay or
        shuffle it.
        """
        if self._silent or not callback.url:
            return
        faults, facts = self.faults, callback.facts()
        if faults.hit("lost-callbacks", **facts):
            self.journal.write(
                "callback",
                {
                    "event": callback.event,
                    "url": callback.url,
                    "lost": True,
                    "at": time.time(),
                    "call_uuid": callback.call.call_uuid,
                    "fields": _text(callback.fields),
                },
            )
            return
        for _ in range(int((faults.hit("doubled-callbacks", **facts) or {"copies": 1})["copies"])):
            wait = float((faults.hit("late-callbacks", **facts) or {}).get("seconds", 0))
            if shuffled := faults.hit("shuffled-callbacks", **facts):
                wait += float(shuffled["seconds"]) * faults.chance.random()
            self._busy.begin()
            self.timers.after(wait, lambda: self._queue(callback))

    def _queue(self, callback: Callback) -> None:
        with self._lock:
            line = self._lines.get(callback.call.call_uuid)
            if line is not None:
                line.append(callback)
                return
            self._lines[callback.call.call_uuid] = deque()
        self._threads.run(lambda: self._first_try(callback))

    def _first_try(self, callback: Callback) -> None:
        try:
            self._try(callback, 0)
        finally:
            with self._lock:
                line = self._lines[callback.call.call_uuid]
                following = line.popleft() if line else None
                if following is None:
                    del self._lines[callback.call.call_uuid]
            if following is not None:
                self._threads.run(lambda: self._first_try(following))

    def wait_idle(self, timeout: float) -> bool:
        """Waits until no callback is under way or waiting for a repetition. False: `timeout`
        seconds passed first.
        """
        return self._busy.wait(timeout)

    def close(self) -> None:
        self._threads.close()

    def signed(
        self, account: Account, mode: str, url: str, nonces: signing.Nonces, *, forged: bool = False
    ) -> dict[str, str]:
        """The signature headers of a voice callback of this account."""
        parent = self.accounts[account.parent].token if account.parent else None
        return signing.signature_headers(
            mode, url, _FORGED if forged else account.token, _FORGED if forged else parent, nonces
        )

    def _headers(self, callback: Callback, body: bytes) -> dict[str, str]:
        facts, account = callback.facts(), self.accounts[callback.call.account]
        unsigned = self.faults.hit("unsigned-callbacks", **facts) is not None
        forged = self.faults.hit("forged-callbacks", **facts) is not None
        if callback.trunk:
            headers = {
                "User-Agent": "Vobiz-Vapor/1.0",
                "X-Vobiz-Event": callback.event,
                "X-Vobiz-Request-ID": callback.fields.get("RequestID") or new_id(),
            }
            if account.trunk_secret and not unsigned:
                headers["X-Vobiz-Signature"] = signing.trunk_signature(
                    _FORGED if forged else account.trunk_secret, body
                )
            return headers
        mode = "none" if unsigned else callback.call.signature or account.mode
        headers = {
            "User-Agent": "Vobiz",
            **self.signed(account, mode, callback.url, callback.nonces, forged=forged),
        }
        if self.faults.hit("leaked-tokens", **facts):
            headers["auth-token"] = account.token
            headers["parent-auth-token"] = self.accounts[account.parent or account.auth_id].token
        return headers

    def _try(self, callback: Callback, tries: int) -> None:
        at, status = time.time(), 0
        try:
            message = encode(callback.fields, callback.url, callback.delivery)
            if message.body and self.faults.hit("marked-callbacks", **callback.facts()):
                message = replace(message, body=codecs.BOM_UTF8 + message.body)
            message.headers.update(self._headers(callback, message.body))
            status, _ = self.exchange(message, 10 if callback.trunk else 3)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.journal.write(
                "trouble", {"url": callback.url, "error": f"{type(error).__name__}: {error}"[:200]}
            )
        self.journal.write(
            "callback",
            {
                "event": callback.event,
                "url": callback.url,
                "method": callback.delivery.method,
                "status": status,
                "at": at,
                "try": tries + 1,
                "elapsed": time.time() - at,
                "call_uuid": callback.call.call_uuid,
                "fields": _text(callback.fields),
            },
        )
        if status == 200 or callback.trunk or tries >= RETRIES:
            self._busy.end()
        else:
            again = lambda: self._threads.run(lambda: self._try(callback, tries + 1))  # noqa: E731
            self.timers.after(self._retry_base_s * 2**tries, again)

    def exchange(self, message: Message, timeout: float) -> tuple[int, bytes]:
        """Sends the request; returns status and body of the answer, without following redirects.
        Raises OSError, HTTPException, ValueError.
        """
        parts = urlsplit(message.url)
        where = (parts.scheme, parts.netloc)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        kept: dict[tuple[str, str], http.client.HTTPConnection] = (
            self._of_thread.__dict__.setdefault("kept", {})
        )
        connection = kept.pop(where, None)
        if connection is not None:
            try:
                answer = _ask(connection, message, target, timeout)
                kept[where] = connection
                return answer
            except (ConnectionError, http.client.BadStatusLine):
                # The receiver had closed the idle connection; it says nothing about this callback.
                connection.close()
        connection = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )(parts.netloc, timeout=timeout)
        try:
            answer = _ask(connection, message, target, timeout)
        except BaseException:
            connection.close()
            raise
        kept[where] = connection
        return answer


def _ask(
    connection: http.client.HTTPConnection, message: Message, target: str, timeout: float
) -> tuple[int, bytes]:
    if connection.sock is not None:
        connection.sock.settimeout(timeout)
    connection.request(message.method, target, message.body or None, message.headers)
    with connection.getresponse() as answer:
        body = answer.read(65_536)
        if not answer.isclosed():
            connection.close()
        return answer.status, body


def _text(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, bool) else str(value) for name, value in fields.items()
    }
