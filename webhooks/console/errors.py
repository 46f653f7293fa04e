"""What a person is told in place of a page: what is wrong, and the ways on from here."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from flask import Response, g, render_template, request

from webhooks.api.problems import TITLES, Problem
from webhooks.console import sessions
from webhooks.console.page import HEADERS, MENU, local_path, rendered
from worker.settings import Settings

# Where programs ask: whatever they accept, they are answered as docs/api.md says.
_FOR_PROGRAMS = frozenset({"v1", "vobiz", "healthz", "readyz", "metrics"})
_THINGS = {
    "recordings": "the recording",
    "calls": "the call",
    "days": "the day",
    "bulk": "the order",
}
_NO_PAGE = {
    404: "There is nothing at this address",
    405: "This address shows nothing: a button of another page sends something to it",
}


class Errors:
    """`settings` is called for each page, so that a reload takes effect."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings

    def answer(self, problem: Problem) -> Response:
        """The problem as a page for a browser, and as RFC 9457 says it for all others."""
        if not _is_of_a_person():
            return problem.response()
        if problem.status == 404 and request.method == "GET" and request.path.endswith("/"):
            bare = local_path(request.full_path.rstrip("?").replace("/?", "?").rstrip("/"))
            if bare != "/":
                return Response(status=308, headers={"Location": bare})
        return self.page(problem.status, _NO_PAGE.get(problem.status, problem.detail))

    def page(self, status: int, detail: str) -> Response:
        """The page of an error, with the menu for who is logged in, and a link back."""
        settings = self._settings()
        if "session" not in g:  # no page was reached, so no guard was passed
            g.session, g.shows_numbers = sessions.current(settings, request), settings.shows_numbers
        show = rendered if g.session else render_template
        text = show(
            "error.html",
            status=status,
            title=TITLES[status],
            detail=detail[:1].upper() + detail[1:],
            back=_back(),
            about=_about(status),
            missing=status == 404,
        )
        answer = Response(text, status)
        answer.headers.update(HEADERS)
        if status == 503:
            answer.headers["Retry-After"] = "2"
        return answer


def _is_of_a_person() -> bool:
    """Whether a page is wanted: browsers name HTML before all, and programs hardly ever do."""
    if request.path.partition("/")[2].partition("/")[0] in _FOR_PROGRAMS:
        return False
    accepted = request.accept_mimetypes
    return accepted.quality("text/html") > max(
        accepted.quality("application/json"), accepted.quality("application/problem+json")
    )


def _about(status: int) -> tuple[str, str] | None:
    """What the request was about, and its words: a recording, a call, a day, or a list. None where
    there is no such page.
    """
    room, _, rest = request.path.strip("/").partition("/")
    name, _, deed = rest.partition("/")
    if deed and status != 404 and room in _THINGS:
        return f"/{room}/{name}", _THINGS[room]
    to = "/recordings" if room == "calls" else f"/{room}"
    name_of = {**dict(MENU[1:]), "/bulk": "the orders for many"}
    return (to, name_of[to]) if to in name_of else None


def _back() -> str | None:
    """The page of ours that led here; None where it was none, or this one."""
    try:
        came_from = urlsplit(request.referrer or "")
    except ValueError:  # `http://[`
        return None
    if came_from.netloc != request.host or came_from.path == request.path:
        return None
    return local_path(came_from._replace(scheme="", netloc="", fragment="").geturl())
