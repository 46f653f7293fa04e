"""What every page has: who looks at it, whether numbers are shown, and how it is rendered."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

from flask import g, render_template, request
from werkzeug.datastructures import MultiDict

from webhooks.console import words
from webhooks.console.sessions import Session

NUMBERS_COOKIE = "endtape_numbers"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    # Not `no-referrer`: with that, browsers send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
}
# Where the pages are, in the order of the menu. A new page has its line here.
MENU = (
    ("/", "Now"),
    ("/recordings", "Recordings"),
    ("/days", "Days"),
    ("/not-home", "Not home"),
    ("/notifications", "Notifications"),
    ("/rules", "Rules"),
    ("/system", "System"),
)


def session() -> Session:
    """Whose request it is, once the guard of the routes has passed it."""
    found: Session = g.session
    return found


def shows_numbers() -> bool:
    """Whether this browser is shown numbers whole: as it asked for last, else by the setting."""
    by_default: bool = g.shows_numbers
    asked = request.cookies.get(NUMBERS_COOKIE)
    return asked == "shown" if asked else by_default


def seen(view: dict[str, Any]) -> dict[str, Any]:
    """A recording or call as this person may see it now: with numbers only when asked for."""
    return view if shows_numbers() else words.without_numbers(view)


def rendered(template: str, **values: Any) -> str:
    return render_template(
        template,
        menu=MENU,
        path=request.path,
        here=_here(),
        query_string=request.query_string.decode("ascii", "replace"),
        session=session(),
        numbers_shown=shows_numbers(),
        command=words.command,
        address=address,
        **values,
    )


def _here() -> str:
    """The address of the page that is shown. What a form was sent to is none; it lies below one."""
    if request.method == "GET":
        return request.full_path.rstrip("?")
    return request.path.rpartition("/")[0] or "/"


def address(path: str, query: MultiDict[str, str] | None = None, **changed: str | None) -> str:
    """An address with this query, in which some values are changed; None takes a value out."""
    values = {**(query.to_dict() if query else {}), **changed}
    kept = {name: value for name, value in values.items() if value not in {None, ""}}
    return f"{path}?{urlencode(kept)}" if kept else path


def query_of(text: str) -> MultiDict[str, str]:
    """The filters of an address, as a form of its page sends them: not the place in the list."""
    pairs = [
        (name, value) for name, value in parse_qsl(text) if name not in {"cursor", "limit", "as"}
    ]
    return MultiDict(pairs)


def local_path(text: str | None) -> str:
    """A place of ours to go to next; the first page for everything else."""
    is_ours = text and text.startswith("/") and not text.startswith(("//", "/\\"))
    return text if is_ours and text and text.isprintable() else "/"
