"""Which key a request of `/v1` needs, whether it has that, and who has it by that."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flask import g, request

from webhooks.api.problems import Problem
from worker.settings import Settings
from worker.variables.kinds import NamedKey

_LONGEST_ACTOR = 64


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request. `who`: the name of the key, else `api`, `app` or `view`. `claimed`: what
    the caller says of itself in `X-Endtape-Actor`, which nobody has checked.
    """

    who: str
    claimed: str | None


def caller() -> Caller:
    """Who sends the request at hand, once `need_key` has passed it."""
    found: Caller = g.caller
    return found


def need_key(
    settings: Callable[[], Settings], *, app_key_too: bool = False, view_key_too: bool = False
) -> None:
    """Raises Problem 401 without a good key, 403 for the application key unless `app_key_too`, for
    a view key unless `view_key_too`.
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    offered = given.strip().encode("utf-8", "replace") if scheme.lower() == "bearer" else b""
    now = settings()
    who = _who(now.api_keys, offered, "api")
    if who is None and now.app_key and hmac.compare_digest(offered, now.app_key.encode()):
        if not app_key_too:
            raise Problem(403, "the application key may not do this; use ENDTAPE_API_KEY")
        who = "app"
    if who is None and (who := _who(now.view_keys, offered, "view")) and not view_key_too:
        raise Problem(403, "a view key only reads, and hears no audio; use ENDTAPE_API_KEY")
    if who is None:
        raise Problem(401, "send `Authorization: Bearer` with ENDTAPE_API_KEY")
    g.caller = Caller(who, _claimed())


def matching(keys: Iterable[NamedKey], offered: bytes) -> NamedKey | None:
    """The key that is offered; None where it is none of these. All are compared, so that the time
    tells nothing.
    """
    found = [key for key in keys if hmac.compare_digest(offered, key.secret.encode())]
    return found[0] if found else None


def claim(text: str) -> str | None:
    """What a caller says of itself, as it may stand in the history: printable, and not too long."""
    printable = "".join(c for c in text if c.isprintable())
    return printable.strip()[:_LONGEST_ACTOR] or None


def _who(keys: Iterable[NamedKey], offered: bytes, unnamed: str) -> str | None:
    found = matching(keys, offered)
    return (found.name or unnamed) if found else None


def _claimed() -> str | None:
    raw = request.headers.get("X-Endtape-Actor", "").encode("latin-1", "replace")
    return claim(raw.decode("utf-8", "replace"))
