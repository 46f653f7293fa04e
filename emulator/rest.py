"""The provider's REST API. Paths are PascalCase and end with a slash; other spellings get a 401."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

from emulator import rest_calls, rest_recordings
from emulator.bad_days import deprecation
from emulator.http import Exchange
from emulator.switchboard import Switchboard

Answer = Callable[[Switchboard, Exchange, str, str], None]

# Requests that a client must not repeat blindly → the first word of their own bad days.
_ONCE = {"start-recording": "start", "transfer": "transfer"}
_ACCOUNT = re.compile(r"/api/v1/(Account|account)/([^/]+)/(.*)")


class Route(NamedTuple):
    """A method and a path below the account, with at most one group, and the function that answers
    it. `loose` matches the path in any case, with or without the slash.
    """

    name: str
    method: str
    path: re.Pattern[str]
    answer: Answer
    loose: re.Pattern[str]


def serve(provider: Switchboard, exchange: Exchange) -> None:
    path = exchange.url_path
    if path == "/api/v1/auth/me":
        _probe(provider, exchange)
        return
    match = _ACCOUNT.fullmatch(path)
    if match is None:
        # A path below an account is misspelled; any other is unknown.
        exchange.refuse() if path.lower().startswith("/api/v1/account/") else exchange.gateway_404()
    elif not provider.authorised(match[2], exchange.headers):
        exchange.refuse()
    else:
        _below(provider, exchange, match[1], match[2], match[3])


def _below(provider: Switchboard, exchange: Exchange, word: str, account: str, rest: str) -> None:
    for route in ROUTES:
        # Only CDRs are known to work below a lower-case `account`.
        if (
            route.method == exchange.command
            and (word == "Account" or route.name in {"get-cdr", "list-cdrs"})
            and (match := route.path.fullmatch(rest))
        ):
            subject = unquote(match[1]) if match.re.groups else ""
            exchange.further = deprecation(
                provider.faults.hit("deprecated", route=route.name, account=account)
            )
            if route.name == "stop-recording" or not _bad_day(
                provider, exchange, route.name, account, subject
            ):
                route.answer(provider, exchange, account, subject)
            return
    if any(route.loose.fullmatch(rest) for route in ROUTES if route.method == exchange.command):
        exchange.refuse()
    else:
        exchange.gateway_404()


def _bad_day(
    provider: Switchboard, exchange: Exchange, route: str, account: str, subject: str
) -> bool:
    faults = provider.faults
    facts: dict[str, Any] = {"route": route, "account": account}
    if "recording" in route and route not in {"list-recordings", "start-recording"}:
        facts["recording_id"] = subject
    else:
        facts["call_uuid"] = subject or exchange.query.get("call_uuid")
    once = _ONCE.get(route)
    if held := (once and faults.hit(f"{once}-timeout", **facts)) or faults.hit(
        "api-timeout", **facts
    ):
        provider.hold(float(held["seconds"]))
        exchange.drop()
    elif once and (failing := faults.hit(f"{once}-fails", **facts)):
        exchange.upstream(int(failing["status"]))
    elif limited := faults.hit("api-429", **facts):
        exchange.limited(limited["retry_after"])
    elif failing := faults.hit("api-5xx", **facts):
        exchange.upstream(int(failing["status"]))
    else:
        exchange.loses_answer = bool(once and faults.hit(f"{once}-lost-answer", **facts))
        return False
    return True


def _probe(provider: Switchboard, exchange: Exchange) -> None:
    refused = provider.faults.hit("refuse-auth", route="auth-me") or {}
    if provider.authorised(
        exchange.headers.get("X-Auth-ID") or "", exchange.headers
    ) and not refused.get("me"):
        exchange.answer(200, {"status": "ok"})
    else:
        exchange.refuse()


def _route(name: str, method: str, path: str, answer: Answer) -> Route:
    return Route(
        name,
        method,
        re.compile(path),
        answer,
        re.compile(path.removesuffix("/?").removesuffix("/") + "/?", re.IGNORECASE),
    )


# The busiest route stands first.
ROUTES = (
    _route("stop-recording", "DELETE", r"Call/([^/]+)/Record/", rest_recordings.stop),
    _route("start-recording", "POST", r"Call/([^/]+)/Record/", rest_recordings.start),
    _route("list-recordings", "GET", r"Recording/", rest_recordings.listing),
    _route("get-recording", "GET", r"Recording/([^/]+)/", rest_recordings.one),
    _route("delete-recording", "DELETE", r"Recording/([^/]+)/", rest_recordings.delete),
    # The vendor's OpenAPI file spells these two without the slash, and only these.
    _route("live-calls", "GET", r"Call/?", rest_calls.live_calls),
    _route("live-call", "GET", r"Call/([^/]+)/?", rest_calls.live_call),
    _route("make-call", "POST", r"Call/", rest_calls.make),
    _route("transfer", "POST", r"Call/([^/]+)/", rest_calls.transfer),
    _route("hang-up", "DELETE", r"Call/([^/]+)/", rest_calls.hang_up),
    _route("list-cdrs", "GET", r"cdr", rest_calls.cdrs),
    _route("get-cdr", "GET", r"cdr/([^/]+)", rest_calls.cdr),
    _route(
        "conference-record", "POST", r"Conference/([^/]+)/Record/", rest_calls.conference_record
    ),
    _route(
        "conference-record", "DELETE", r"Conference/([^/]+)/Record/", rest_calls.conference_record
    ),
    _route("conferences", "GET", r"Conference/", rest_calls.conferences),
    _route("conference", "GET", r"Conference/([^/]+)/", rest_calls.conferences),
)
