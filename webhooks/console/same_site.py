"""Whether a request that changes something was sent by a page of ours.

By fetch metadata (Sec-Fetch-Site, which every current browser sends to https and to this machine),
else by `Origin`, which browsers send with each POST. What sends neither is no browser, and has our
cookie only if somebody gave it that on purpose.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Request


def is_ours(request: Request, public_url: str) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    try:
        sent_by = urlsplit(origin).netloc
    except ValueError:  # `http://[`
        return False
    # A proxy before us may end TLS, or pass another Host on.
    return sent_by in {request.host, urlsplit(public_url).netloc} - {""}
