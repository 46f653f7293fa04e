"""Who is logged in. A session is a cookie, signed with the key that its owner logged in with.

Nothing is stored: every web process can check it, it survives a restart, and it is worth no more
than that key, and nothing once the key is taken away.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from flask import Request
from itsdangerous import BadData, URLSafeTimedSerializer
from werkzeug.wrappers import Response

from webhooks.api.keys import Caller, claim, matching
from worker.settings import Settings
from worker.variables.kinds import NamedKey

COOKIE = "endtape_session"
LASTS_S = 12 * 3600


@dataclass(frozen=True, slots=True)
class Session:
    """Who is logged in. `acts`: with an API key; a view key only reads, and hears nothing."""

    caller: Caller
    acts: bool


def opened(settings: Settings, password: str, name: str) -> str | None:
    """The cookie of a new session; None for a wrong password.

    `password`: an API key or a view key, alone or as it stands in the settings (`NAME:KEY`).
    `name`: what the person says of itself, which stands in the history as claimed.
    """
    owner, _, secret = password.strip().rpartition(":")
    offered = secret.encode("utf-8", "replace")
    found = matching((*settings.api_keys, *settings.view_keys), offered)
    if found is None or (owner and owner != found.name):
        return None
    said = {"claimed": claim(name), "nonce": secrets.token_hex(8)}
    return str(_signer(settings, found).dumps(said))


def current(settings: Settings, request: Request) -> Session | None:
    """The session of this request; None where there is none that is good."""
    return of_cookie(settings, request.cookies.get(COOKIE))


def of_cookie(settings: Settings, cookie: str | None) -> Session | None:
    """The session of this cookie; None where it is none that is good."""
    if not cookie or len(cookie) > 4096:
        return None
    for key, acts in _keys(settings):
        try:
            said = _signer(settings, key).loads(cookie, max_age=LASTS_S)
        except BadData:
            continue
        return Session(Caller(key.name or ("api" if acts else "view"), said["claimed"]), acts)
    return None


def give(response: Response, request: Request, public_url: str, cookie: str) -> None:
    """Sets the cookie of a session."""
    set_cookie(response, request, public_url, COOKIE, cookie)


def set_cookie(
    response: Response, request: Request, public_url: str, name: str, value: str
) -> None:
    """Sets a cookie for ours alone; secure wherever the browser speaks https, also to a proxy."""
    response.set_cookie(
        name,
        value,
        path="/",
        secure=is_https(request, public_url),
        httponly=True,
        samesite="Strict",
    )


def take_away(response: Response) -> None:
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="Strict")


def is_https(request: Request, public_url: str) -> bool:
    """Whether the browser speaks https, to us or to a proxy. Where neither says so, the browser's
    own word, `Origin`, counts; a program that sends none is believed to come by the public URL.
    """
    if request.is_secure or request.headers.get("X-Forwarded-Proto") == "https":
        return True
    origin = request.headers.get("Origin", "")
    return (origin if "://" in origin else public_url).startswith("https://")


def _keys(settings: Settings) -> Iterator[tuple[NamedKey, bool]]:
    yield from ((key, True) for key in settings.api_keys)
    yield from ((key, False) for key in settings.view_keys)


def _signer(settings: Settings, key: NamedKey) -> URLSafeTimedSerializer:
    # With the callback token, so that nobody can try short keys against a cookie that was stolen.
    secret = f"{settings.callback_token}\0{key.secret}"
    return URLSafeTimedSerializer(
        secret,
        salt="endtape.console.session",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )
