"""The console in a real browser, before every process and the emulator."""

import platform
import re
from datetime import UTC, datetime
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
import requests

from emulator import signing
from tests.browsing import CHROMIUM, IN_A_BROWSER, WITHIN_MS, Tab, serious
from tests.constants import KEY, TOKEN, VIEW_KEY
from tests.waiting import until
from worker.processes.supervisor import ROOT

pytestmark = IN_A_BROWSER
SERVICE_ENV = {"ENDTAPE_API_KEY": f"anna:{KEY}", "ENDTAPE_VIEW_KEY": f"bert:{VIEW_KEY}"}
SERVICE_RULES = """
[defaults]
max_duration = "30m"
confirm_within = "1s"
[[rules]]
name = "sales line"
match = { to = "91803*" }
max_duration = "10m"
on = { transfer = "keep" }
"""
IMAGES = ROOT / "docs" / "images"
LONG, OTHER = "918030000001", "918065550101"
BAD_DAYS = ("media-5xx", "html-media")  # of two recordings that do not come home
NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import expect, sync_playwright  # not wherever tests are collected

    expect.set_options(timeout=WITHIN_MS)
    with sync_playwright() as player:
        # Root, as in a container, has no sandbox.
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser, service):
    """Opens a tab, in a window of its own; at the end none has said what it should not."""
    tabs = []

    def opened(**how):
        tabs.append(Tab(browser, service.base, **how))
        return tabs[-1]

    yield opened
    for one in tabs:
        one.window.close()
    assert [fault for one in tabs for fault in one.faults] == []


@pytest.fixture
def picture(request, service):
    """Writes a picture of a tab into docs/images, if this run is to do that."""

    def picture(tab, name):
        if request.config.getoption("screenshots"):
            tab.picture(IMAGES / f"console-{name}.webp", str(service.folder), platform.platform())

    return picture


@pytest.fixture(scope="module")
def expect(browser):
    from playwright.sync_api import expect

    return expect


@pytest.fixture(scope="module")
def post(service):
    def post(path, body=None, method="POST", **headers):
        sent = {"Authorization": f"Bearer {KEY}", **headers}
        answer = requests.request(method, service.base + path, json=body, headers=sent, timeout=30)
        assert answer.status_code < 300, answer.text
        return answer.json()

    return post


@pytest.fixture(scope="module")
def known(service, post):
    """Recordings as a day leaves them: three live ones, a long one that a transfer was kept from,
    and two that do not come home.
    """

    def begun(to, team, **how):
        call = service.provider.call(to_number=to, from_number=f"91984000000{len(made)}").call_uuid
        post(f"/v1/calls/{call}", {"labels": {"team": team}}, "PUT")
        made.append(service.provider.record(call, **how).recording_id)
        return call, made[-1]

    made = []
    live = [begun(LONG, team) for team in ("billing", "sales", "billing")]
    long = begun(OTHER, "billing", age_s=45, channels=2, container="wav")
    lost = [begun(OTHER, "sales", age_s=25) for _ in BAD_DAYS]
    for (call, _), bad_day in zip(lost, BAD_DAYS, strict=True):
        service.provider.faults.switch_on(bad_day, call_uuid=call)
    for call, recording in (*live, long, *lost):
        service.reach(recording, "recording")
        if (call, recording) not in live:
            post(f"/v1/calls/{call}/stop", {"reason": "customer asked"})
    service.reach(long[1], "archived")
    until(lambda: all(service.recording(one)["fault"] for _, one in lost))
    return SimpleNamespace(live=live, long=long, lost=lost)


def pages(known):
    """Every page by the name of its picture."""
    (call, live), (long_call, long) = known.live[0], known.long
    return {
        "now": "/",
        "recordings": "/recordings",
        "recording": f"/recordings/{long}",
        "call": f"/calls/{long_call}",
        "days": "/days",
        "day": f"/days/{datetime.now(UTC):%Y-%m-%d}",
        "not-home": "/not-home",
        "notifications": "/notifications",
        "rules": f"/rules?call={call}",
        "system": "/system",
        "bulk": "/bulk",
        "question": f"/calls/{call}/stop?recording_id={live}",
        "history": f"/recordings/{long}/history",
    }


# How it looks
# ------------------------------------------------------------------------------------------------


def test_axe_finds_nothing_serious_by_light_or_dark_and_no_page_scrolls_sideways(
    tab, known, picture
):
    from axe_playwright_python.sync_playwright import Axe

    here, axe, found = tab(), Axe(), []
    here.page.goto("/")
    for name, path in {"login": "/", **pages(known)}.items():
        if name != "login":
            here.page.goto(path)
        for width in (360, 1600, 1280):
            here.page.set_viewport_size({"width": width, "height": 900})
            if (wider := here.too_wide()) > 0:
                found.append(f"{path}: {wider} px wider than {width}")
        here.page.emulate_media(color_scheme="dark")
        found += serious(axe, here.page, "color-contrast")
        here.page.emulate_media(color_scheme="light")
        found += serious(axe, here.page)
        picture(here, name)
        if name == "login":
            here.enter(KEY)
    here.page.set_viewport_size({"width": 360, "height": 800})
    here.page.goto("/")
    picture(here, "phone")
    assert found == []


# What one does with it
# ------------------------------------------------------------------------------------------------


def test_a_countdown_ends_in_a_proven_stop_before_ones_eyes(tab, service, post, expect):
    here = tab()
    now = here.log_in()
    now.evaluate("window.isTheSame = true")
    call = service.provider.call(to_number=OTHER).call_uuid
    recording = post(f"/v1/calls/{call}/recordings", {"max_duration": "9s"})["recording_id"]
    row = now.locator("#rows tr", has_text=recording)
    expect(row.locator(".countdown")).to_have_text(re.compile("in 0:0[1-9]"))
    alone = here.opened()
    alone.goto(f"/recordings/{recording}")
    expect(alone.locator("main .s-recording").first).to_be_visible()
    expect(alone.locator("main .s-confirmed").first).to_be_visible()
    expect(row).to_have_count(0)
    assert now.evaluate("window.isTheSame")
    proven = service.recording(recording)["stop"]
    assert (proven["state"], proven["trigger"]) == ("confirmed", "max_duration")


def test_one_stops_a_recording_after_a_question_and_nothing_happens_before(
    tab, service, known, expect
):
    page = tab().log_in(name="Anna B.")
    call, recording = service.running(LONG)
    page.goto(f"/recordings/{recording}")
    page.get_by_role("link", name="Stop…").click()
    expect(page.get_by_role("heading", name="Stop this recording now?")).to_be_visible()
    assert f"endtape stop {call} --recording {recording}" in page.locator("pre").inner_text()
    page.get_by_role("link", name="No, go back").click()
    page.get_by_role("link", name="Stop…").click()
    assert service.stops_sent(call) == []
    page.get_by_label("Reason").fill("asked to")
    page.get_by_role("button", name="Stop now").click()
    expect(page.get_by_role("status")).to_be_visible()
    expect(page.locator("main")).to_contain_text("asked to")
    until(lambda: service.recording(recording)["stop"]["state"] == "confirmed")
    page.goto(f"/recordings/{recording}")
    expect(page.get_by_role("row").filter(has_text="asked to").last).to_contain_text("anna")


def test_one_hears_a_recording_and_seeks_in_it(tab, service, known):
    page = tab().log_in()
    page.goto(f"/recordings/{known.long[1]}")
    seconds = service.recording(known.long[1])["duration_ms"] / 1000

    def audio(what):
        return page.evaluate(f"document.querySelector('#audio').{what}")

    def at(low, high):
        return until(lambda: low <= audio("currentTime") <= high)

    page.keyboard.press("Space")
    at(0.3, 5)
    assert not audio("paused")
    assert abs(audio("duration") - seconds) < 0.2
    page.keyboard.press("ArrowRight")
    at(10.3, 15)
    page.keyboard.press("ArrowRight")
    at(20.3, 25)
    page.keyboard.press("ArrowLeft")
    at(10.3, 17)
    page.keyboard.press("Space")
    until(lambda: audio("paused"))
    here = audio("currentTime")
    page.get_by_role("button", name="+10 s").click()
    at(here + 9.9, here + 10.1)
    page.get_by_role("button", name="−10 s").click()
    at(here - 0.1, here + 0.1)
    wave = page.locator("#sound svg.wave")
    box, end = wave.bounding_box(), float(page.locator("#sound").get_attribute("data-end"))
    wave.click(position={"x": box["width"] * end / 2000, "y": box["height"] / 2})
    at(seconds / 2 - 0.5, seconds / 2 + 0.5)
    until(lambda: float(page.locator("#playhead").get_attribute("x1")) > 0.4 * end)
    page.get_by_label("Speed").select_option("1.5")
    assert audio("playbackRate") == 1.5
    page.reload()
    assert page.get_by_role("row").filter(has_text="anna").filter(has_text="play").count() == 1


def test_a_click_on_a_value_filters_by_it_in_the_address(tab, known, expect):
    page = tab().log_in()
    page.goto("/recordings")
    rows = page.locator("main tbody tr")
    page.get_by_role("link", name="team=billing").first.click()
    assert page.url.endswith("/recordings?label=team%3Dbilling")
    expect(rows).to_have_count(3)
    page.locator("tbody").get_by_role("link", name="archived").click()
    assert page.url.endswith("/recordings?label=team%3Dbilling&phase=archived")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text(known.long[1])
    page.get_by_role("link", name="label: team=billing ×").click()
    assert page.url.endswith("/recordings?phase=archived")
    page.locator("select[name=stop]").select_option("unknown")
    page.get_by_role("button", name="Filter").click()
    assert page.url.endswith("/recordings?phase=archived&stop=unknown")
    expect(rows).to_contain_text("No recording fits these filters.")


def test_those_ticked_are_tried_again_in_bulk_after_a_plan(tab, service, known, expect, picture):
    here = tab()
    page = here.log_in()
    page.goto("/not-home")
    tried = [one for _, one in known.lost]
    orders = lambda: [  # noqa: E731
        ordered(service, call, "RetryOrdered") for call, _ in known.lost
    ]
    for one in tried:
        page.get_by_label(f"tick {one}").check()
    page.get_by_role("button", name="Those ticked…").click()
    expect(page.get_by_role("heading", name="Try 2 recordings again?")).to_be_visible()
    assert orders() == [[], []]
    picture(here, "bulk-plan")
    page.get_by_label("Reason").fill("the media are back")
    page.get_by_role("button", name="Try 2 recordings again").click()
    expect(page.locator("main")).to_contain_text("All of it is done.")
    expect(page.get_by_role("status")).to_contain_text("2 ordered, 0 refused, 0 left")
    assert orders() == [["anna"], ["anna"]]
    for bad_day in BAD_DAYS:  # not before: their own next try may come first
        service.provider.faults.switch_off(bad_day)
    for one in tried:
        service.reach(one, "archived")
    until(lambda: page.goto("/not-home") and page.get_by_text("None: whatever ended").count())


def test_a_hold_keeps_a_recording_from_erasure_which_asks_first_and_tells_afterwards(
    tab, service, post, expect
):
    call, recording = service.running(LONG)
    post(f"/v1/calls/{call}/stop")
    file = service.archive / service.reach(recording, "archived")["archive_key"]
    page = tab().log_in()
    page.goto(f"/recordings/{recording}")
    page.get_by_role("link", name="Hold…").click()
    page.get_by_role("button", name="Hold").click()  # which the browser refuses without a reason
    assert service.recording(recording)["held"] is False
    page.get_by_label("Reason").fill("case 7")
    page.get_by_role("button", name="Hold").click()
    expect(page.get_by_role("status")).to_be_visible()
    expect(page.get_by_text("on hold", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Erase…")).to_have_count(0)
    page.get_by_role("link", name="Release…").click()
    page.get_by_label("Reason").fill("case 7 is closed")
    page.get_by_role("button", name="Release").click()
    page.get_by_role("link", name="Erase…").click()
    expect(page.get_by_role("heading", name="Erase this recording for good?")).to_be_visible()
    assert file.exists()
    page.get_by_label("Reason").fill("they withdrew")
    page.get_by_role("button", name="Erase for good").click()
    expect(page.get_by_role("status")).to_be_visible()
    expect(page.locator("main")).to_contain_text(
        re.compile("Erased, ordered .* by .*they withdrew")
    )
    expect(page.locator("audio")).to_have_count(0)
    assert not file.exists()
    deeds = page.get_by_role("row").filter(has_text="anna").all_inner_texts()
    for said in ("case 7", "case 7 is closed", "they withdrew"):
        assert any(said in deed for deed in deeds), said


def test_without_script_one_sees_filters_stops_holds_and_orders_in_bulk(
    tab, service, known, expect
):
    here = tab(script=False)
    page = here.log_in()
    _, recording = service.running(LONG)
    row = page.locator("#rows tr", has_text=recording)
    until(lambda: page.reload() and row.count())  # the board is computed once a second
    expect(row.locator("time")).to_have_text(re.compile(r"\d{4}-\d\d-\d\d "))
    row.get_by_role("link", name="Stop…").click()
    page.get_by_role("button", name="Stop now").click()
    expect(page.get_by_role("status")).to_be_visible()
    service.reach(recording, "archived")
    page.get_by_role("navigation").get_by_role("link", name="Recordings").click()
    page.get_by_label("Any id, number or label").fill(recording)
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("main tbody tr")).to_have_count(1)
    page.get_by_label(f"tick {recording}").check()
    page.get_by_label("In bulk").select_option("hold")
    page.get_by_role("button", name="Those ticked…").click()
    page.get_by_label("Reason").fill("case 8")
    page.get_by_role("button", name="Put 1 recording on legal hold").click()
    while page.get_by_role("button", name="Go on").count():
        page.get_by_role("button", name="Go on").click()
    expect(page.locator("main")).to_contain_text("All of it is done.")
    assert service.recording(recording)["held"] is True
    page.goto(f"/recordings/{recording}")
    expect(page.locator("audio[controls]")).to_be_visible()
    page.get_by_role("button", name="Show numbers").click()
    expect(page.locator("main")).to_contain_text(LONG)


# Who may, and what others try
# ------------------------------------------------------------------------------------------------


def test_a_view_key_sees_no_button_hears_nothing_and_is_refused_each_action(tab, service, known):
    here = tab()
    page = here.log_in(VIEW_KEY)
    for name, path in pages(known).items():
        if name in {"question", "bulk"}:
            continue
        page.goto(path)
        assert (
            page.locator("main .act, audio, main form[method=post]:not([action^='/rules'])").count()
            == 0
        ), name
    (call, _), (_, long) = known.live[0], known.long
    asked = [f"/calls/{call}/stop", "/bulk", "/bulk/none"]
    asked += [
        f"/recordings/{long}/{deed}" for deed in ("retry", "hold", "release", "erase", "audio")
    ]
    assert {path: here.status("GET", path) for path in asked} == dict.fromkeys(asked, 403)
    sent = [f"/calls/{call}/stop", "/bulk"] + [
        f"/bulk/none/{step}" for step in ("confirm", "go", "cancel")
    ]
    sent += [f"/recordings/{long}/{deed}" for deed in ("retry", "hold", "release", "erase")]
    assert {path: here.status("POST", path) for path in sent} == dict.fromkeys(sent, 403)
    assert not ordered(service, call)
    refused = [fault for fault in here.faults if "403" in fault]
    assert len(refused) == len(asked) + len(sent)
    here.faults = [fault for fault in here.faults if fault not in refused]


def test_a_session_that_was_planted_is_replaced_and_no_script_reads_ones_own(tab):
    stranger, here = tab(), tab()
    stranger.log_in(VIEW_KEY)
    here.page.goto("/")
    here.window.add_cookies([stranger.cookie()])
    page = here.enter(KEY)
    assert "anna" in page.locator(".who").inner_text()
    mine = here.cookie()
    assert mine["value"] != stranger.cookie()["value"]
    assert (mine["httpOnly"], mine["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""
    stranger.page.reload()
    assert "bert" in stranger.page.locator(".who").inner_text()


def test_another_site_sends_nothing_in_ones_name(tab, service, known):
    here = tab()
    page = here.log_in()
    call = known.live[0][0]
    lure = service.base.replace("127.0.0.1", "localhost") + "/lure"
    form = "<form method=post action={}><input name=password value={}><button>Win</button></form>"
    page.route(
        lambda url: url.startswith(lure),
        lambda route: route.fulfill(
            content_type="text/html",
            body=form.format(service.base + route.request.url.partition("?")[2], KEY),
        ),
    )
    for path in (f"/calls/{call}/stop", "/login", "/logout", "/numbers", "/bulk"):
        before = here.cookie()
        page.goto(f"{lure}?{path}")
        with page.expect_response(service.base + path) as answer:
            page.get_by_role("button", name="Win").click()
        assert answer.value.status == 403, path
        assert answer.value.header_value("set-cookie") is None
        assert here.cookie() == before
    assert not ordered(service, call)
    page.goto("/")
    assert page.get_by_role("button", name="Log out").count() == 1
    here.faults = [fault for fault in here.faults if "403" not in fault]


def ordered(service, call, what="StopOrdered"):
    """Who ordered that of a call."""
    events = service.get(f"/v1/calls/{call}").json()["timeline"]
    return [event["by"] for event in events if event["event"] == what]


def signed(service, **fields):
    """A callback, as the provider would send it."""
    head = signing.signature_headers("v3+v2", service.callback, TOKEN, None, signing.Nonces())
    answer = requests.post(service.callback, data=fields, headers=head, timeout=5)
    assert answer.status_code == 200, answer.text


def test_markup_in_each_field_that_a_caller_or_callback_fills_is_shown_as_text(
    tab, service, post, expect
):
    here = tab()
    page = here.log_in(name=NASTY)  # and is on the first page while all of it comes
    call = service.provider.call(to_number=OTHER, from_number=NASTY)
    post(
        f"/v1/calls/{call.call_uuid}",
        {
            "labels": {"team": NASTY, "<b onclick=x>": "a"},
            "consent": {"kind": NASTY[:60], "by": NASTY, "evidence": NASTY},
        },
        "PUT",
    )
    recording = service.provider.record(call.call_uuid).recording_id
    service.reach(recording, "recording")
    ids = {"CallUUID": call.call_uuid, "From": NASTY, "To": NASTY}
    signed(service, Event="Dial", DialBLegUUID=NASTY, DialBLegHangupCause=NASTY, **ids)
    post("/v1/events", {"event": "custom.nasty", "call_uuid": call.call_uuid, "reason": NASTY})
    post(
        f"/v1/calls/{call.call_uuid}/handoff",
        {"to": NASTY, "reason": NASTY, "labels": {"a": NASTY}},
    )
    post(f"/v1/calls/{call.call_uuid}/stop", {"reason": NASTY}, **{"X-Endtape-Actor": NASTY})
    signed(
        service, Event="Hangup", HangupCause=NASTY, HangupCauseName=NASTY, HangupSource=NASTY, **ids
    )
    service.reach(recording, "archived")
    page.goto(f"/recordings/{recording}/hold")
    page.get_by_label("Reason").fill(NASTY)
    page.get_by_role("button", name="Hold").click()
    expect(page.get_by_role("status")).to_be_visible()
    page.get_by_role("button", name="Show numbers").click()
    told = [f"/calls/{call.call_uuid}", f"/recordings/{recording}"]
    told += [f"{told[1]}/history", f"/recordings?call_uuid={call.call_uuid}"]
    told += [f"/recordings?{urlencode(q)}" for q in ({"label": f"team={NASTY}"}, {"q": NASTY})]
    tried = dict.fromkeys(("from", "to", "label", "trigger"), f"a={NASTY}")
    others = ["/", f"{told[1]}/release", f"{told[0]}/stop", f"/rules?call={call.call_uuid}"]
    others += [f"/rules?{urlencode(tried)}", f"/days/{datetime.now(UTC):%Y-%m-%d}", "/system"]
    for path in (*told, *others):
        page.goto(path)
        assert page.locator("img, b[onclick], script:not([src='/console/console.js'])").count() == 0
        for width in (360, 1600):
            page.set_viewport_size({"width": width, "height": 800})
            assert here.too_wide() <= 0, (path, width)
        if path in told:
            assert "<script>alert(1)</script>" in page.locator("main").inner_text(), path
