"""The console's routes: logging in and out, and the table of its pages, each behind the guard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import structlog
from flask import Blueprint, Flask, Response, g, redirect, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from webhooks.api.problems import TITLES, Problem
from webhooks.api.reading import Reader
from webhooks.api.routes import Api
from webhooks.body import MAX_BODY
from webhooks.console import asked, same_site, sessions, words
from webhooks.console.actions import Actions
from webhooks.console.bulk import Bulks
from webhooks.console.days import Days
from webhooks.console.deeds import Deeds
from webhooks.console.details import Details
from webhooks.console.errors import Errors
from webhooks.console.feed import Feed, OneCall, Parts, Watched, parts_of_call
from webhooks.console.files import Files
from webhooks.console.first_page import FirstPages
from webhooks.console.lists import Lists
from webhooks.console.now import Now
from webhooks.console.page import HEADERS, NUMBERS_COOKIE, local_path
from webhooks.console.rules import RulesPage
from webhooks.console.streams import Streams
from webhooks.console.system import System
from worker import logs
from worker.errors import EndtapeError
from worker.settings import Settings

log = structlog.get_logger()
View = Callable[..., Any]


def install(app: Flask, api: Api) -> Streams:
    """All of the console. What it shows and does is what `/v1` shows and does. Returns the
    streams of its open pages, which are answered before the application.
    """
    settings, ledger = api.reader.settings, api.reader.ledger
    now = Now(ledger, settings, api.reader.live, api.reader.listing)
    first_pages = FirstPages(now, settings)
    app.register_blueprint(_blueprint(api, now, first_pages))

    def parts_of(page: Watched) -> Parts:
        if isinstance(page, OneCall):
            return parts_of_call(ledger, page)
        return first_pages.parts(app.jinja_env, page)

    return Streams(Feed(ledger, parts_of, now.due_in), settings)


def _blueprint(api: Api, now: Now, first_pages: FirstPages) -> Blueprint:
    reader, settings = api.reader, api.reader.settings
    door = Blueprint(
        "console",
        __name__,
        static_folder="static",
        static_url_path="/console",
        template_folder="templates",
    )
    details, lists = Details(reader), Lists(reader, now)
    actions = Actions(reader, api.stops, api.reports, api.governing)
    pages: tuple[tuple[str, str, View], ...] = (
        ("/", "now", first_pages.whole),
        ("/now", "board", first_pages.board),
        ("/recordings", "recordings", lists.recordings),
        ("/recordings/<recording_id>", "recording", details.recording),
        ("/calls/<call_uuid>", "call", details.call),
        ("/not-home", "not_home", lists.not_home),
        ("/notifications", "notifications", lists.notifications),
    )
    files = Files(reader, api.governing)
    for path, name, view in (*pages, *_files(files)):
        door.add_url_rule(path, name, _guarded(settings, view), methods=["GET"])
    bulks = Bulks(reader, now, api.reports, api.governing)
    for method, path, name, view in (*_actions(actions, reader, files), *_in_bulk(bulks)):
        door.add_url_rule(path, name, _guarded(settings, view, acts=True), methods=[method])
    for method, path, name, view in _days_rules_system(reader, now):
        door.add_url_rule(path, name, _guarded(settings, view), methods=[method])
    door.add_url_rule(
        "/numbers", "numbers", _guarded(settings, lambda: _numbers(settings())), methods=["POST"]
    )
    door.add_url_rule("/login", "login", lambda: _login(settings()), methods=["POST"])
    door.add_url_rule("/logout", "logout", _logout, methods=["POST"])
    for name, filter_ in words.FILTERS.items():
        door.add_app_template_filter(filter_, name)
    door.before_request(lambda: _refuse_foreign(settings()))
    door.before_request(_refuse_large)
    door.after_request(_with_headers)
    _refuse_with(door, Errors(settings))
    return door


def _days_rules_system(reader: Reader, now: Now) -> Iterator[tuple[str, str, str, View]]:
    """What was, what would be, and what it runs on: pages that only show."""
    days, rules = Days(reader), RulesPage(reader, now)
    yield "GET", "/days", "days", days.grid
    yield "GET", "/days/<day>", "day", days.day
    yield "GET", "/days/<day>/<figure>", "figure", days.figure
    yield "GET", "/recordings/<recording_id>/history", "history", Deeds(reader).shown
    yield "GET", "/rules", "rules", rules.shown
    yield "GET", "/system", "system", System(reader, now).shown
    yield "POST", "/rules/simulation", "simulate", rules.simulated


def _files(files: Files) -> Iterator[tuple[str, str, View]]:
    """What speaks about a recording, and tells nothing of what was said."""
    recording = "/recordings/<recording_id>"
    yield f"{recording}/receipt", "receipt", files.receipt
    yield f"{recording}/signature", "signature", files.signature
    yield f"{recording}/tombstone", "tombstone", files.tombstone
    yield f"{recording}/tombstone/signature", "tombstone_signature", files.tombstone_signature
    yield f"{recording}/derived/<name>/receipt", "derived_receipt", files.derived_receipt
    yield f"{recording}/derived/<name>/signature", "derived_signature", files.derived_signature


def _actions(
    actions: Actions, reader: Reader, files: Files
) -> Iterator[tuple[str, str, str, View]]:
    """What a view key may not: to hear, and to do. Each action asks first, at its own address."""
    recording = "/recordings/<recording_id>"
    yield "GET", f"{recording}/audio", "audio", reader.audio
    yield "GET", f"{recording}/derived/<name>", "derived", files.derived
    for path, name, ask, do in (
        ("/calls/<call_uuid>/stop", "stop", actions.ask_stop, actions.stop),
        (f"{recording}/retry", "retry", actions.ask_retry, actions.retry),
        (f"{recording}/hold", "hold", actions.ask_hold, actions.hold),
        (f"{recording}/release", "release", actions.ask_release, actions.release),
        (f"{recording}/erase", "erase", actions.ask_erase, actions.erase),
    ):
        yield "GET", path, f"ask_{name}", ask
        yield "POST", path, name, do


def _in_bulk(bulks: Bulks) -> Iterator[tuple[str, str, str, View]]:
    yield "GET", "/bulk", "bulks", bulks.recent
    yield "POST", "/bulk", "bulk_plan", bulks.plan
    yield "GET", "/bulk/<bulk_id>", "bulk", bulks.show
    yield "GET", "/bulk/<bulk_id>/ids", "bulk_ids", bulks.ids
    yield "POST", "/bulk/<bulk_id>/confirm", "bulk_confirm", bulks.confirm
    yield "POST", "/bulk/<bulk_id>/go", "bulk_go", bulks.go_on
    yield "POST", "/bulk/<bulk_id>/cancel", "bulk_cancel", bulks.cancel


def _guarded(settings: Callable[[], Settings], view: View, *, acts: bool = False) -> View:
    @wraps(view)
    def guarded(**parts: str) -> Any:
        now = settings()
        session = sessions.current(now, request)
        if session is None:
            # Only the first page is there for everybody: it is the way in.
            return _form(200 if request.path == "/" else 401)
        g.session, g.caller, g.shows_numbers = session, session.caller, now.shows_numbers
        if acts and not session.acts:
            raise Problem(403, "a view key only reads, and hears no audio; log in with an API key")
        asked.refuse_unknown(request.endpoint or "", request.args)
        return view(**parts)

    return guarded


def _refuse_foreign(settings: Settings) -> None:
    changes = request.method not in {"GET", "HEAD", "OPTIONS"}
    if changes and not same_site.is_ours(request, settings.public_url):
        raise Problem(
            403,
            "a page of another site sent this; if a proxy is before Endtape, ENDTAPE_PUBLIC_URL "
            "or the Host that it passes on must be the address that you see",
        )


def _refuse_large() -> None:
    # The server passes on no more than that, and the rest would look as if it had broken off.
    if (request.content_length or 0) > MAX_BODY:
        raise Problem(413, "a form has at most 64 KiB")


def _with_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    if request.endpoint == "console.static":
        response.headers["Cache-Control"] = "no-cache"
    return response


# Logging in and out
# ------------------------------------------------------------------------------------------------


def _form(status: int, wrong: str | None = None) -> AnyResponse:
    is_page = request.method == "GET"
    wanted = request.full_path.rstrip("?") if is_page else request.form.get("next")
    page = render_template("login.html", next=local_path(wanted), wrong=wrong)
    return Response(page, status)


def _login(settings: Settings) -> AnyResponse:
    """303 to where the person wanted to go, with a new cookie; 401 with the form again."""
    cookie = sessions.opened(
        settings, request.form.get("password", ""), request.form.get("name", "")
    )
    if cookie is None:
        return _form(401, "This is neither an API key nor a view key of this service.")
    answer = redirect(local_path(request.form.get("next")), 303)
    sessions.give(answer, request, settings.public_url, cookie)
    return answer


def _logout() -> AnyResponse:
    answer = redirect("/", 303)
    sessions.take_away(answer)
    answer.delete_cookie(NUMBERS_COOKIE)
    return answer


def _numbers(settings: Settings) -> AnyResponse:
    """Shows telephone numbers whole, or hides them again, for this browser."""
    answer = redirect(local_path(request.form.get("next")), 303)
    shown = "shown" if request.form.get("numbers") == "shown" else "hidden"
    sessions.set_cookie(answer, request, settings.public_url, NUMBERS_COOKIE, shown)
    return answer


# Refusing
# ------------------------------------------------------------------------------------------------


def _refuse_with(door: Blueprint, errors: Errors) -> None:
    """Answers every refusal of a page with a page, whatever its reader accepts."""

    def answer_http(error: HTTPException) -> AnyResponse:
        answer = errors.page(
            error.code if error.code in TITLES else 400,
            (error.description or error.name).rstrip("."),
        )
        for name, value in error.get_headers():
            if name in {"Allow", "Content-Range"}:
                answer.headers[name] = value
        return answer

    def answer_unavailable(error: EndtapeError) -> AnyResponse:
        if logs.seldom("unanswered", error):
            log.warning("a page could not be shown", error=str(error))
        return errors.page(503, "the state store does not answer; `endtape doctor` says more")

    door.register_error_handler(
        Problem, lambda problem: errors.page(problem.status, problem.detail)
    )
    door.register_error_handler(HTTPException, answer_http)
    door.register_error_handler(EndtapeError, answer_unavailable)
