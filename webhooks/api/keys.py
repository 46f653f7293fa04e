"""Which key a request of `/v1` needs, and whether it has that."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from flask import request

from webhooks.api.problems import Problem
from worker.settings import Settings


def need_key(settings: Callable[[], Settings], *, app_key_too: bool = False) -> None:
    """Raises Problem 401 without a good key, 403 for the application key unless `app_key_too`."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    offered = given.strip().encode("utf-8", "replace") if scheme.lower() == "bearer" else b""
    now = settings()
    if any([hmac.compare_digest(offered, k.encode()) for k in now.api_keys]):  # noqa: C419 - all are compared
        return
    if now.app_key and hmac.compare_digest(offered, now.app_key.encode()):
        if app_key_too:
            return
        raise Problem(403, "the application key may not do this; use ENDTAPE_API_KEY")
    raise Problem(401, "send `Authorization: Bearer` with ENDTAPE_API_KEY")
