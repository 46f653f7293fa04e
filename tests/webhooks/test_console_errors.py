"""What a person is told where there is no page, and that programs are told as before."""

import re

import pytest

from tests.constants import KEY, VIEW_KEY
from tests.webhooks.test_console import NASTY, Console, runs, strict
from webhooks.console.page import HEADERS, MENU

OF_A_BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def console(ledger, tmp_path):
    return Console(ledger, tmp_path)


def told(console, path, method="GET", **headers):
    """The page of an error."""
    answer = console.browser.open(path, method=method, headers={**OF_A_BROWSER, **headers})
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8", answer.text
    assert HEADERS.items() <= dict(answer.headers).items()
    strict(answer.text)
    return answer


def has_menu(page):
    return all(re.search(f'<a href="{path}"[^>]*>{name}</a>', page) for path, name in MENU)


@pytest.mark.parametrize("path", ["/recording/rec-1", "/foo", "/bulk/x/y/z", "/" + NASTY])
def test_a_mistyped_address_is_answered_to_a_browser_by_a_page_with_the_menu(console, path):
    console.log_in()
    answer = told(console, path)
    assert answer.status_code == 404
    assert (has_menu(answer.text), 'href="/">To the first page' in answer.text) == (True, True)
    assert 'name="q"' in answer.text


def test_a_program_is_told_of_a_mistyped_address_as_before(console):
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json, text/html"}):
        answer = console.browser.get("/foo", headers=headers)
        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
        assert "/v1/openapi.json" in answer.json["detail"]
    for path in ("/v1/foo", "/v1", "/v1/recordings/nobody"):
        answer = console.browser.get(
            path, headers={**OF_A_BROWSER, "Authorization": f"Bearer {KEY}"}
        )
        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_every_error_has_the_menu_for_who_is_logged_in_and_the_way_to_the_form_for_others(console):
    runs(console.ledger)
    console.log_in(VIEW_KEY)
    refused = {
        ("GET", "/recordings/nobody"): 404,
        ("GET", "/recordings?phase=odd"): 400,
        ("POST", "/calls/call-1/stop"): 403,
        ("GET", "/recordings/rec-1/audio"): 403,
        ("GET", "/login"): 405,
        ("DELETE", "/recordings"): 405,
    }
    for (method, path), status in refused.items():
        answer = told(console, path, method)
        assert (answer.status_code, has_menu(answer.text)) == (status, True), path
    assert set(told(console, "/login").headers["Allow"].split(", ")) == {"OPTIONS", "POST"}
    console.log_in()
    assert told(console, "/recordings/rec-1/erase").status_code == 409
    foreign = told(console, "/bulk", "POST", **{"Sec-Fetch-Site": "cross-site"})
    assert (foreign.status_code, has_menu(foreign.text)) == (403, True)
    console.browser.post("/logout")
    answer = told(console, "/foo")
    assert (answer.status_code, has_menu(answer.text)) == (404, False)
    assert 'href="/">To the first page' in answer.text


@pytest.mark.parametrize("path", ["/login", "/rules/simulation"])
def test_a_form_that_is_too_large_is_told_so(console, path):
    console.log_in()
    declared = {"CONTENT_LENGTH": "70000"}  # the server keeps the body back then
    answer = console.browser.post(path, headers=OF_A_BROWSER, environ_overrides=declared)
    assert (answer.status_code, "A form has at most 64 KiB" in answer.text) == (413, True)


def test_an_error_leads_back_to_the_page_of_ours_that_led_to_it(console):
    console.log_in()

    def links(referer):
        return told(console, "/recordings/nobody?x=1", Referer=referer).text

    assert 'href="/recordings?phase=archived&amp;q=a">Back' in links(
        "http://localhost/recordings?phase=archived&q=a"
    )
    for elsewhere in (
        *("", "http://[", "https://evil.example/recordings", "http://localhost//evil.example/"),
        "http://localhost/recordings/nobody?x=1",
    ):
        assert "evil" not in links(elsewhere)
        assert ">Back" not in links(elsewhere) or 'href="/">Back' in links(elsewhere)


def test_an_error_leads_to_what_it_is_about_and_a_last_slash_to_the_page_without_it(console):
    runs(console.ledger)
    console.log_in()
    assert (
        'href="/recordings/rec-1">To the recording' in told(console, "/recordings/rec-1/erase").text
    )
    assert 'href="/recordings">To Recordings' in told(console, "/recordings/none").text
    assert 'href="/recordings">To Recordings' in told(console, "/calls/none").text
    assert 'href="/days">To Days' in told(console, "/days?month=x").text
    moved = console.browser.get("/recordings/rec-1/?said=stop", headers=OF_A_BROWSER)
    assert (moved.status_code, moved.headers["Location"]) == (308, "/recordings/rec-1?said=stop")
    page = console.page("/calls/call-1")
    assert '<a href="/recordings" aria-current="true">' in page
    assert 'href="/recordings?call_uuid=call-1"' in page


def test_a_key_that_a_page_does_not_know_is_refused_with_the_nearest_that_it_does(console):
    console.log_in()
    said = told(console, "/recordings?phse=erased").text
    assert "This page cannot be asked for `phse`; is `phase` meant?" in said
    for path in (
        "/recordings?call=c",
        "/not-home?phase=x",
        "/days?day=1",
        "/rules?rule=x",
        "/calls/c/stop?rec=r",
    ):
        assert told(console, path).status_code == 400, path
    form = {"what": "erase", "scope": "all", "page": "recordings", "query": "phse=erased"}
    assert console.browser.post("/bulk", data=form).status_code == 400


def test_a_filter_that_cannot_be_is_told_at_the_form_which_keeps_what_was_asked(console):
    console.log_in()
    page = told(console, "/recordings?label=foo&phase=erased")
    assert (page.status_code, "label: must be NAME=VALUE. Nothing is listed" in page.text) == (
        400,
        True,
    )
    assert '<input name="label" value="foo">' in page.text
    assert "<option selected>erased</option>" in page.text
    assert "All that match" not in page.text
    assert "is no day (UTC) like" in told(console, "/recordings?since=yesterday").text


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("since=2026-11-26", "since=2026-11-26T00%3A00%3A00.000Z"),
        ("until=2026-11-26", "until=2026-11-26T23%3A59%3A59.999Z"),
        ("since=2026-11-26+06:30", "since=2026-11-26T06%3A30%3A00.000Z"),
    ],
)
def test_a_day_or_a_minute_is_taken_as_an_instant(console, asked, meant):
    console.log_in()
    sent = console.browser.get(f"/recordings?phase=erased&{asked}")
    assert (sent.status_code, sent.headers["Location"]) == (
        303,
        f"/recordings?phase=erased&{meant}",
    )
    console.page(sent.headers["Location"])


def test_a_store_that_is_away_is_told_by_a_page_too(tmp_path):
    console = Console(None, tmp_path)  # its Redis is not there
    console.log_in()
    for path in ("/system", "/recordings"):
        answer = told(console, path)
        assert (answer.status_code, has_menu(answer.text)) == (503, True)
        assert answer.headers["Retry-After"] == "2"


def test_numbers_are_shown_from_an_error_without_going_to_what_a_form_was_sent_to(console):
    runs(console.ledger)
    console.log_in()
    page = told(console, "/recordings/rec-1/erase", "POST").text
    assert '<input type="hidden" name="next" value="/recordings/rec-1">' in page
