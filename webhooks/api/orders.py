"""What every order through `/v1` needs: whose call it is, its id, recording it, waiting for what
comes of it.

An order is one event in the ledger. The web process sends nothing to the provider: it records the
order and waits until a worker has carried it out. The worker does so whether or not the caller
still waits. Two requests with one `Idempotency-Key` are one order.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from flask import request

from webhooks.api.problems import Problem
from worker import wire
from worker.calls.call import Call
from worker.calls.events import Event
from worker.calls.replay import replay
from worker.calls.triggers import Act, acts
from worker.ledger.client import Ledger
from worker.ledger.news import Waiting
from worker.ledger.recording import Recorded
from worker.ledger.whose import find_call
from worker.settings import Settings


class Orders:
    """Calls `settings` for each request, so that a reload takes effect."""

    def __init__(self, ledger: Ledger, settings: Callable[[], Settings], waiting: Waiting) -> None:
        self.ledger, self.settings, self.waiting = ledger, settings, waiting

    def where(self, call_uuid: str, account: str | None) -> tuple[str, str]:
        """The account and the A-leg that a call's id means.

        A call that nobody knows yet belongs to the account that the request names, or to the only
        one there is. Raises Problem 400 if the id is malformed, the account is unknown, or the
        request has to name an account and does not.
        """
        if wire.identifier(call_uuid) != call_uuid:
            raise Problem(
                400,
                "call_uuid: must be an id of at most 128 letters, digits, `_` and `-`",
                field="call_uuid",
            )
        accounts = self.settings().accounts
        named = account or request.args.get("account") or None
        if named is not None and named not in accounts:
            raise Problem(400, "account: no such account here", field="account")
        known = find_call(self.ledger, [named] if named else accounts, call_uuid, a_leg_first=True)
        if known:
            return known
        if named is None and len(accounts) > 1:
            raise Problem(
                400,
                f"account: name one of {', '.join(accounts)}; none of them knows this call",
                field="account",
            )
        return named or next(iter(accounts)), call_uuid

    def record(self, account: str, event: Event) -> datetime:
        """Records an order; a repeat changes nothing. Returns the instant by Redis's clock.

        Raises Problem 422 if its Idempotency-Key came with another order before.
        """
        status, now = self.ledger.record(account, event)
        if status is not Recorded.REPEAT:
            return now
        before = next(e for e in self.ledger.events(account, event.call_uuid) if e.id == event.id)
        if before.digest != event.digest:
            raise Problem(
                422,
                "Idempotency-Key: it came with another request before; use a new one",
                field="Idempotency-Key",
            )
        return now

    def call(self, account: str, call_uuid: str) -> Call:
        return replay(account, call_uuid, self.ledger.events(account, call_uuid))

    def wait(self, account: str, call_uuid: str, wait_s: float, seen: Callable[[Call], Any]) -> Any:
        """The first value other than None that `seen` makes of the call within `wait_s`, else
        None.
        """
        return self.waiting.until(account, call_uuid, time.monotonic() + wait_s, seen)

    def act(self, call: Call, event_id: str) -> Act:
        """What the rules make of an order that is recorded."""
        return next(a for a in acts(call, self.settings().rules) if a.event.id == event_id)


def identity(letter: str) -> str:
    """The id of an order: the same for the same Idempotency-Key, a new one each time without a key.

    `letter` begins it, so that orders of two kinds never share an id. Raises Problem 400 for an
    impossible key.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return letter + secrets.token_hex(8)
    if not re.fullmatch(r"[!-~]{1,255}", key):
        raise Problem(
            400,
            "Idempotency-Key: must have 1 to 255 visible ASCII characters",
            field="Idempotency-Key",
        )
    digest = hashlib.sha256(f"{request.path}|{key}".encode("utf-8", "replace")).hexdigest()
    return f"{letter}k{digest[:24]}"


def digest_of(*parts: Any) -> str:
    """A short digest of what an order asks for, by which two orders are compared."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
