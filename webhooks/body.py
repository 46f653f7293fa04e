"""The body of a request, read up to a limit."""

from __future__ import annotations

from dataclasses import dataclass

from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

MAX_BODY = 64 * 1024  # bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """A body as the server collected it. `cut`: the sender went away before its end. `too_large`:
    it has more than MAX_BODY bytes, of which `content` holds the first ones or none.
    """

    content: bytes = b""
    cut: bool = False
    too_large: bool = False


def read_body() -> bytes:
    """The request's body as it was sent. Raises RequestEntityTooLarge above MAX_BODY,
    ClientDisconnected where the body broke off.
    """
    # Where no length is declared, the framework's own limit would cut the body silently. So read
    # one byte more than is allowed.
    if (request.content_length or 0) > MAX_BODY:
        raise RequestEntityTooLarge
    body: bytes = request.stream.read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        raise RequestEntityTooLarge
    if len(body) < (request.content_length or 0):
        raise ClientDisconnected
    return body
