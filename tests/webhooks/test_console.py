"""The console: who gets in, what a view key may not, what other sites and strange texts cannot do."""

import csv
import io
import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.bad_days import ended, made_older
from tests.builders import obligation
from tests.constants import ACCOUNT, APP_KEY, ENV, KEY, VIEW_KEY
from webhooks.app import create_app
from webhooks.console import routes, sessions, words
from worker.calls.events import Event, Fault, Kind
from worker.calls.obligations import Duty
from worker.calls.rules import Mode, Rules, Terms
from worker.catalogue import last_hour
from worker.catalogue.database import Catalogue
from worker.catalogue.listing import Listing
from worker.catalogue.live import Live
from worker.ledger.notices import Failing
from worker.settings import Settings

HERE = Path(routes.__file__).parent
PAGES = ("/", "/recordings", "/not-home", "/notifications", "/rules", "/system")
NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
RULES = """
[defaults]
max_duration = "1h"

[[rules]]
name = "line <b onclick=alert(3)>"
match = { to = "9180*", labels = { team = "<i onfocus=x>" } }

[[notify]]
url = "https://hooks.example.com/veiled-path?key=veiled"
secret_env = "ENDTAPE_NOTIFY_SECRET"
events = ["recording.archived"]
"""
KEYS = {"ENDTAPE_API_KEY": f"anna:{KEY}", "ENDTAPE_VIEW_KEY": f"bert:{VIEW_KEY}"}
SECRET = {"ENDTAPE_NOTIFY_SECRET": "whsec_" + "QUJD" * 8}


class Console:
    """The application, and a browser without script."""

    def __init__(self, ledger, folder, **env):
        (folder / "endtape.toml").write_text(RULES)
        environ = {**ENV, "REDIS_URL": "redis://127.0.0.1:1", **KEYS, **SECRET, **env}
        self.ledger, self.folder, self.environ = ledger, folder, environ
        self.app = create_app(Settings.from_env(environ, folder=folder), ledger)
        self.browser = self.app.test_client()

    def log_in(self, key=KEY, **more):
        headers = more.pop("headers", {})
        return self.browser.post("/login", data={"password": key, **more}, headers=headers)

    def page(self, path, status=200):
        answer = self.browser.get(path)
        assert answer.status_code == status, answer.text
        return answer.text


@pytest.fixture
def console(ledger, tmp_path):
    return Console(ledger, tmp_path)


def runs(ledger, call="call-1", recording="rec-1", **more):
    """A live recording, every text of which a caller or the provider filled."""
    announced = Event(
        id=f"a.{call}",
        kind=Kind.CALL_ANNOUNCED,
        call_uuid=call,
        from_number="919840000001",
        to_number="918065550101",
        labels={"team": "<i onfocus=x>", NASTY: NASTY},
        direction="inbound",
        by="anna",
    )
    began = Event(
        id=f"r.{recording}",
        kind=Kind.RECORDING_STARTED,
        call_uuid=call,
        recording_id=recording,
        url=f"https://media.vobiz.ai/{recording}.mp3",
        by=NASTY,
        reason=NASTY,
        **more,
    )
    for event in (announced, began):
        ledger.record(ACCOUNT, event)


def fails(ledger, call="call-2", recording="rec-2"):
    """A recording that ended and does not come home."""
    runs(ledger, call, recording)
    for kind, more in (
        (Kind.RECORDING_FINALIZED, {"signed": True, "duration_s": 3.0}),
        (Kind.FETCH_FAILED, {"fault": Fault.STORAGE, "reason": NASTY}),
        (Kind.ABANDONED, {"fault": Fault.STORAGE, "reason": NASTY}),
    ):
        event = Event(id=f"{kind}.1", kind=kind, call_uuid=call, recording_id=recording, **more)
        ledger.record(ACCOUNT, event)


def entries(ledger):
    found = ledger.history(ACCOUNT, until=ledger.now() + timedelta(seconds=1))
    return [(e.said["what"], e.said["who"], e.said.get("claimed")) for e in found]


# Getting in
# ------------------------------------------------------------------------------------------------


def test_without_a_session_there_is_a_form_with_one_password_field_and_nothing_else(console):
    runs(console.ledger)
    for path in (*PAGES, "/now", "/recordings/rec-1", "/calls/call-1", "/calls/call-1/stop"):
        page = console.page(path, 200 if path == "/" else 401)
        assert page.count('type="password"') == 1
        assert "rec-1" not in page.replace(f'value="{path}"', "")
    assert console.browser.post("/calls/call-1/stop").status_code == 401
    assert entries(console.ledger) == []


def test_the_cookie_is_http_only_strict_and_secure_wherever_the_browser_speaks_https(
    ledger, tmp_path
):
    def cookie(public_url, **headers):
        console = Console(ledger, tmp_path, ENDTAPE_PUBLIC_URL=public_url)
        return console.log_in(headers=headers).headers["Set-Cookie"]

    plain = cookie("http://10.0.0.5:8000")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(plain.split("; "))
    assert "Secure" not in plain
    assert "Secure" in cookie("https://rec.example.com")
    inside = {"Origin": "http://10.0.0.5:8000", "Sec-Fetch-Site": "same-origin"}
    assert "Secure" not in cookie("https://rec.example.com", **inside)
    assert "Secure" in cookie("http://10.0.0.5:8000", **{"X-Forwarded-Proto": "https"})


def test_a_session_is_good_in_every_process_and_ends_when_its_key_is_taken_away(ledger, tmp_path):
    first = Console(ledger, tmp_path, ENDTAPE_API_KEY=f"anna:{KEY},eve:eve-key-000000000001")
    assert first.log_in("eve-key-000000000001").status_code == 303
    cookie = first.browser.get_cookie(sessions.COOKIE).value

    def status(**env):  # another process, or this one after a restart or a reload
        other = Console(ledger, tmp_path, **env)
        other.browser.set_cookie(sessions.COOKIE, cookie)
        return other.browser.get("/system").status_code

    assert status(ENDTAPE_API_KEY=f"eve:eve-key-000000000001,anna:{KEY}") == 200
    assert status(ENDTAPE_API_KEY=f"anna:{KEY}") == 401
    assert status(ENDTAPE_API_KEY="eve:another-key-0000001") == 401


def test_a_session_ends_after_its_time_and_when_its_owner_logs_out(console, monkeypatch):
    console.log_in()
    console.page("/system")
    monkeypatch.setattr(sessions, "LASTS_S", -1)
    console.page("/system", 401)
    monkeypatch.undo()
    console.browser.post("/logout")
    console.page("/system", 401)


@pytest.mark.parametrize("key", ["", "wrong-key-0000000001", APP_KEY, f"bert:{KEY}", "\ud800"])
def test_another_key_opens_no_session_costs_a_guess_and_is_counted(ledger, tmp_path, key):
    console = Console(ledger, tmp_path, ENDTAPE_APP_KEY=APP_KEY)
    answer = console.log_in(key.encode("utf-8", "replace"))
    assert answer.status_code == 401
    assert "Set-Cookie" not in answer.headers
    assert 'type="password"' in answer.text
    assert ledger.refusals() == {"key": 1}


def test_wrong_guesses_are_slowed_down(ledger, tmp_path):
    held = []

    class Counting:
        def wait(self):
            held.append(1)

    app = create_app(
        Settings.from_env({**ENV, "REDIS_URL": "redis://127.0.0.1:1"}, folder=tmp_path),
        ledger,
        brake=Counting(),
    )
    for key in ("x" * 20, KEY):
        app.test_client().post("/login", data={"password": key})
    assert held == [1]


def test_a_session_that_was_there_before_is_not_taken_over(console):
    console.log_in(VIEW_KEY)
    planted = console.browser.get_cookie(sessions.COOKIE).value
    console.log_in(KEY)
    mine = console.browser.get_cookie(sessions.COOKIE).value
    assert mine != planted
    console.log_in(KEY)
    assert console.browser.get_cookie(sessions.COOKIE).value != mine
    # Not the last character: some of its bits mean nothing.
    turned = planted[:-10] + ("A" if planted[-10] != "A" else "B") + planted[-9:]
    for forged in ("", "x", "a.b.c", turned, mine[::-1], "x" * 3000):
        console.browser.set_cookie(sessions.COOKIE, forged)
        console.page("/system", 401)


def test_after_logging_in_one_comes_to_a_page_of_ours_and_nowhere_else(console):
    for wanted, reached in (
        ("/recordings?stop=unknown&q=a", "/recordings?stop=unknown&q=a"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("", "/"),
    ):
        assert console.log_in(KEY, next=wanted).headers["Location"] == reached


def test_a_session_is_worth_nothing_at_the_api_and_a_bearer_key_nothing_here(console):
    console.log_in()
    assert console.browser.get("/v1/recordings").status_code == 401
    console.browser.delete_cookie(sessions.COOKIE)
    sent = {"Authorization": f"Bearer {KEY}"}
    assert console.browser.get("/system", headers=sent).status_code == 401


# What a view key, and another site, may not
# ------------------------------------------------------------------------------------------------


def test_a_view_key_reads_every_page_and_is_refused_each_action_at_the_server(console):
    runs(console.ledger)
    fails(console.ledger)
    console.log_in(VIEW_KEY)
    pages = [
        console.page(path)
        for path in (*PAGES, "/recordings/rec-1", "/recordings/rec-2", "/calls/call-1")
    ]
    assert not [page for page in pages if 'class="act' in page or "<audio" in page]
    deeds = ("stop", "retry", "hold", "release", "erase")
    acting = {f"console.{step}{deed}" for deed in deeds for step in ("ask_", "")}
    acting |= {"console.audio"}
    rules = [r for r in console.app.url_map.iter_rules() if r.endpoint in acting]
    assert {r.endpoint for r in rules} == acting
    for rule in rules:
        path = str(rule).replace("<call_uuid>", "call-1").replace("<recording_id>", "rec-2")
        (method,) = rule.methods - {"HEAD", "OPTIONS"}
        answer = console.browser.open(path, method=method)
        assert answer.status_code == 403, path
        assert "API key" in answer.text
    assert entries(console.ledger) == []
    assert Kind.STOP_ORDERED not in [e.kind for e in console.ledger.events(ACCOUNT, "call-1")]


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),  # no browser
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://elsewhere.example"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, False),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "https://rec.example.com"}, True),  # the public URL, behind a proxy
        ({"Origin": "http://localhost:8080"}, False),
        ({"Origin": "https://localhost.evil.example"}, False),
        ({"Origin": "http://["}, False),
        ({"Origin": "null"}, False),
    ],
)
def test_what_another_site_sends_is_refused(ledger, tmp_path, headers, passes):
    console = Console(ledger, tmp_path, ENDTAPE_PUBLIC_URL="https://rec.example.com")
    runs(ledger)
    console.browser.set_cookie(sessions.COOKIE, "")
    assert (console.log_in(headers=headers).status_code == 303) is passes
    console.browser = console.app.test_client()
    console.log_in()
    for rule in console.app.url_map.iter_rules():
        if rule.endpoint.startswith("console.") and "POST" in rule.methods and not passes:
            path = str(rule).replace("<call_uuid>", "call-1").replace("<recording_id>", "rec-1")
            assert console.browser.post(path, headers=headers).status_code == 403, path
    if not passes:
        assert entries(ledger) == []


def test_every_answer_of_the_console_tells_a_browser_to_load_and_send_nothing_elsewhere(console):
    console.log_in()
    for path in (*PAGES, "/now", "/recordings/none", "/console/console.css"):
        headers = console.browser.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert (headers["X-Frame-Options"], headers["X-Content-Type-Options"]) == (
            "DENY",
            "nosniff",
        )
        # With no-referrer, browsers would send `Origin: null` with our own forms.
        assert headers["Referrer-Policy"] == "same-origin"
    assert (
        console.browser.get("/healthz")
        .headers["Content-Security-Policy"]
        .startswith("default-src 'none'")
    )


class Strict(HTMLParser):
    """Fails on anything that could run, or load from elsewhere."""

    def __init__(self):
        super().__init__()
        self.tags, self.scripts = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            assert name != "style", tag
            if name in {"src", "href", "action"}:
                assert value.startswith(("/", "#")), value
                assert not value.startswith("//"), value
        if tag == "script":
            assert dict(attrs)["src"] == "/console/console.js"


def strict(page):
    parser = Strict()
    parser.feed(page)
    assert parser.tags.count("script") <= 1
    assert not {"i", "img"} & set(parser.tags), "markup of a caller"
    return parser


def test_markup_in_any_field_that_a_caller_or_callback_fills_stays_text(console):
    runs(console.ledger)
    fails(console.ledger)
    console.log_in(KEY, name=NASTY)
    order = {"recording_id": "rec-1", "reason": NASTY}
    assert console.browser.post("/calls/call-1/stop", data=order).status_code == 303
    paths = [
        *PAGES,
        *("/now", "/recordings/rec-1", "/recordings/rec-2", "/calls/call-1", "/calls/call-2"),
        *("/calls/call-1/stop", "/calls/call-1/stop?recording_id=rec-1", "/recordings/rec-2/retry"),
    ]
    paths += [
        f"/recordings?{name}={NASTY.replace(' ', '%20')}" for name in ("q", "rule", "call_uuid")
    ]
    shown = ""
    for path in paths:
        page = console.page(path)
        strict(page)
        shown += page
    for hidden in (
        f"/recordings?phase={NASTY}",
        f"/recordings?number={NASTY}",
        f"/recordings/{NASTY}",
        f"/recordings?cursor={NASTY}",
    ):
        answer = console.browser.get(hidden)
        assert answer.status_code in {400, 404}
        strict(answer.text)
    assert "&lt;script&gt;alert(1)" in shown
    assert "line &lt;b onclick=alert(3)&gt;" in shown


# What it shows and does
# ------------------------------------------------------------------------------------------------


def test_numbers_are_masked_until_they_are_asked_for_in_every_form(console):
    runs(console.ledger)
    console.log_in()
    paths = (
        "/",
        "/recordings",
        "/recordings/rec-1",
        "/calls/call-1",
        "/recordings?as=json",
        "/recordings?as=csv",
        "/calls/call-1/stop",
    )
    for path in paths:
        assert "919840000001" not in console.page(path), path
        assert "91…01" in console.page(path).replace("\\u2026", "…"), path
    answer = console.browser.post("/numbers", data={"numbers": "shown", "next": "/recordings"})
    assert answer.headers["Location"] == "/recordings"
    assert all("919840000001" in console.page(path) for path in paths)
    console.browser.post("/logout")
    console.log_in()
    assert "919840000001" not in console.page("/recordings")


def test_the_filters_are_in_the_address_and_a_value_is_clicked_to_filter_by_it(console):
    runs(console.ledger)
    fails(console.ledger)
    console.log_in()
    # As the form sends it: what was left empty is not in the address that one sends to others.
    sent = console.browser.get("/recordings?q=&phase=abandoned&stop=")
    assert (sent.status_code, sent.headers["Location"]) == (303, "/recordings?phase=abandoned")
    page = console.page("/recordings?phase=abandoned")
    assert ("rec-2" in page, "rec-1" in page) == (True, False)
    assert "/recordings?phase=abandoned&amp;fault=storage" in page
    assert "limit" in console.page("/recordings?limit=0", 400)


def test_a_page_of_many_goes_on_where_it_ended(console):
    for i in range(5):
        runs(console.ledger, f"c{i}", f"rec-{i}")
    console.log_in()
    seen, path = [], "/recordings?limit=2"
    while path:
        page = console.page(path)
        seen += re.findall(r'class="id" href="/recordings/(rec-\d)"', page)
        older = re.search(r'href="([^"]+)" rel="next"', page)
        path = older and older[1].replace("&amp;", "&")
    assert sorted(seen) == [f"rec-{i}" for i in range(5)]


def test_what_is_shown_comes_as_json_and_csv_and_no_cell_is_a_formula(console):
    runs(console.ledger, recording="-rec")
    console.log_in()
    (row,) = csv.DictReader(io.StringIO(console.page("/recordings?as=csv")))
    assert (row["recording_id"], row["stop_state"], row["call_uuid"]) == ("'-rec", "none", "call-1")
    (view,) = console.browser.get("/recordings?as=json").json["recordings"]
    assert view["recording_id"] == "-rec"


def test_a_stop_asks_first_says_what_it_did_and_stands_in_the_history_with_who_did_it(console):
    runs(console.ledger)
    console.log_in(KEY, name="Asha")
    asked = console.page("/calls/call-1/stop?recording_id=rec-1")
    assert "endtape stop call-1 --recording rec-1" in asked
    assert entries(console.ledger) == []
    (action,) = re.findall(r'<form class="ask" method="post" action="([^"]+)"', asked)
    fields = dict(re.findall(r'type="hidden" name="(recording_id|account)" value="([^"]+)"', asked))
    assert fields == {"recording_id": "rec-1", "account": ACCOUNT}
    answer = console.browser.post(action, data={**fields, "reason": "as asked"})
    assert answer.headers["Location"] == "/calls/call-1?said=stop"
    said = console.page(answer.headers["Location"])
    assert "The stop is ordered" in said
    assert "StopOrdered" in said
    assert entries(console.ledger) == [("stop", "anna", "Asha")]
    (order,) = [e for e in console.ledger.events(ACCOUNT, "call-1") if e.kind is Kind.STOP_ORDERED]
    assert (order.by, order.recording_id, order.reason) == ("anna", "rec-1", "as asked")
    assert "Asha" in console.page("/recordings/rec-1")


def test_a_retry_asks_first_and_stands_in_the_history(console):
    fails(console.ledger)
    console.log_in()
    home = console.page("/not-home?fault=storage")
    assert "/recordings/rec-2/retry" in home
    assert "/recordings/rec-2/retry" not in console.page("/not-home?fault=media")
    assert "endtape retry rec-2" in console.page("/recordings/rec-2/retry")
    answer = console.browser.post("/recordings/rec-2/retry", data={"reason": ""})
    assert "Another try is ordered" in console.page(answer.headers["Location"])
    assert entries(console.ledger) == [("retry", "anna", None)]


def test_the_part_that_lives_differs_by_what_each_tabs_owner_may_do_and_see(console):
    runs(console.ledger)
    console.log_in()
    mine = console.page("/now")
    assert ("Stop…" in mine, "919840000001" in mine) == (True, False)
    console.browser.post("/numbers", data={"numbers": "shown"})
    assert "919840000001" in console.page("/now")
    console.log_in(VIEW_KEY)
    console.browser.post("/numbers", data={"numbers": "hidden"})
    theirs = console.page("/now")
    assert ("Stop…" in theirs, "919840000001" in theirs) == (False, False)


def test_notifications_that_do_not_arrive_are_listed_and_of_an_endpoint_its_host_alone(console):
    url = "https://hooks.example.com/veiled-path?key=veiled"
    failing = Failing(
        account=ACCOUNT,
        call_uuid="call-1",
        endpoint="e",
        notice="n",
        type="recording.archived",
        url=url,
        tries=3,
        why="answered 500",
        given_up=False,
    )
    console.ledger.note_failing(failing)
    console.log_in(VIEW_KEY)
    page = console.page("/notifications")
    assert page.count("hooks.example.com") == 2
    assert "veiled" not in page
    assert "answered 500" in page
    assert "1 notification does not arrive" in console.page("/now")


def test_not_home_says_how_often_each_was_tried_and_when_the_next_try_is(console):
    ledger = console.ledger
    fails(ledger)
    again = Event(
        id="again",
        kind=Kind.FETCH_FAILED,
        call_uuid="call-2",
        recording_id="rec-2",
        fault=Fault.STORAGE,
        reason="full",
    )
    ledger.record(ACCOUNT, again)
    console.log_in(VIEW_KEY)
    gone = '<td data-name="Tries">2</td><td data-name="Next try" class="tight"><span>not by itself'
    assert gone in console.page("/not-home")
    fetch = obligation(Duty.FETCH, "call-2", "rec-2")
    ledger.owe(fetch, ledger.now() + timedelta(minutes=14, seconds=50))
    assert ">in 15 min</span>" in console.page("/not-home")


def test_how_far_off_an_instant_is_is_said_in_the_unit_that_reads_best():
    now = datetime(2026, 9, 14, tzinfo=UTC)
    far = {-5: "now", 0.4: "now", 45: "in 45 s", 119: "in 119 s", 120: "in 2 min"}
    far |= {7000: "in 117 min", 21_600: "in 6 h", 259_200: "in 3 days"}
    assert {s: words.ahead(now + timedelta(seconds=s), now) for s in far} == far
    assert words.ahead(None, now) == "not by itself"


def test_what_the_provider_does_not_list_for_minutes_is_not_home(console):
    runs(console.ledger)
    over = Event(id="over", kind=Kind.CALL_ENDED, call_uuid="call-1", signed=True)
    console.ledger.record(ACCOUNT, over)
    console.log_in()
    assert "rec-1" not in console.page("/not-home")
    made_older(console.ledger, "call-1", Kind.CALL_ENDED, timedelta(minutes=3))
    other = Console(console.ledger, console.folder)  # whose board is not computed yet
    other.log_in()
    assert "the provider does not list it yet" in other.page("/not-home?fault=provider")


def test_now_says_what_of_the_last_hour_is_to_be_explained_and_leads_to_the_days_ledger(console):
    runs(console.ledger)
    console.log_in()
    assert "today's ledger" in console.page("/")
    asked = console.ledger.now()
    for kind, more in (
        (Kind.STOP_ORDERED, {"by": "anna"}),
        (Kind.STOP_ACCEPTED, {"requested_at": asked, "recording_id": "rec-1"}),
        (
            Kind.RECORDING_FINALIZED,
            {"recording_id": "rec-1", "signed": True, "ended_at": asked + timedelta(minutes=7)},
        ),
    ):
        event = Event(id=f"{kind}.1", kind=kind, call_uuid="call-1", **more)
        console.ledger.record(ACCOUNT, event)
    page = Console(console.ledger, console.folder)
    page.log_in()
    said = page.page("/")
    assert "Of the last hour, 1 recording is to be explained" in said
    assert f'href="/days/{asked.date()}/unexplained"' in said
    assert 'id="stale"' in said


@pytest.mark.parametrize(("mode", "count"), [(Mode.ENFORCE, 1), (Mode.OBSERVE, 0)])
def test_a_rule_that_only_observes_leaves_no_tail_to_be_explained(ledger, tmp_path, mode, count):
    rules = Rules(defaults=Terms(mode=mode, max_duration=timedelta(minutes=1)))
    began = ledger.now() - timedelta(minutes=20)
    runs(ledger, started_at=began)
    over = {"signed": True, "ended_at": began + timedelta(minutes=9), "started_at": began}
    ended = {"kind": Kind.RECORDING_FINALIZED, "call_uuid": "call-1", "recording_id": "rec-1"}
    ledger.record(ACCOUNT, Event(id="over", **ended, **over))
    catalogue = Catalogue(f"sqlite:///{tmp_path}/c.db")
    listing = Listing(ledger, Live(ledger, lambda: rules), catalogue)
    found = last_hour.hour(listing, [ACCOUNT], rules, ledger.now())
    assert len(found.to_explain) == count


def test_the_tiles_of_now_lead_to_what_they_count(console):
    console.log_in()
    page = console.page("/")
    tiles = page.split('class="tiles"')[1].split("</ul>")[0]
    for to in re.findall(r'href="([^"#]+)"', tiles):
        console.page(to)
    assert 'id="recording"' in page
    links = set(re.findall(r'href="([^"]+)"', tiles))
    assert {"#recording", "/recordings?phase=stopping", "/system", "/not-home"} <= links


def test_a_fault_says_what_it_means_and_what_to_do(console):
    fails(console.ledger)
    console.log_in()
    means = words.fault_means(Fault.STORAGE)
    assert all(words.fault_means(fault).count(". ") for fault in Fault)
    assert f"<dd>{means}</dd>" in console.page("/not-home")
    for path in ("/not-home", "/recordings"):
        assert f'title="{means}' in console.page(path), path
    assert f"storage: {means}" in console.page("/recordings/rec-2")


def test_a_call_that_nobody_knows_but_for_our_failed_stop_is_drawn_as_none(console):
    for kind, more in (
        (Kind.STOP_ORDERED, {"by": "anna"}),
        (Kind.CALL_FOUND_OVER, {"requested_at": console.ledger.now(), "trigger": "api"}),
    ):
        console.ledger.record(ACCOUNT, Event(id=f"{kind}.1", kind=kind, call_uuid="typo", **more))
    console.log_in()
    page = console.page("/calls/typo")
    assert "Nothing is known of this call but our own stop of it, which failed" in page
    assert "DELETE answered 404: no such live call; for the whole call; try 1" in page
    assert ("To scale" in page, "Which rule applies" in page) == (False, False)
    tried = console.page("/rules?call=typo")
    assert ("nothing is known of it but our own stop" in tried, "</b> decides" in tried) == (
        True,
        False,
    )


def test_a_recording_whose_callbacks_were_lost_says_who_told_of_it_and_how_late(console):
    now = console.ledger.now()
    runs(console.ledger)
    for kind, facts in (
        (Kind.CALL_SEEN, {}),
        (
            Kind.RECORDING_LISTED,
            {
                "recording_id": "rec-9",
                "started_at": now - timedelta(seconds=60),
                "ended_at": now - timedelta(seconds=30),
            },
        ),
    ):
        event = Event(id=f"{kind}.9", kind=kind, call_uuid="call-9", at=now, **facts)
        console.ledger.record(ACCOUNT, event)
    console.log_in()
    page = console.page("/recordings/rec-9")
    assert "No callback told of it; first known from the provider" in page
    assert "after its end." in page
    assert "told of it" not in console.page("/recordings/rec-1")


def test_a_handoff_says_when_and_by_whom_it_was_asked_and_a_pause_is_no_gap_before_it_began(
    console,
):
    runs(console.ledger)
    asked = {
        "order": "h1",
        "trigger": "transfer.blind",
        "wait_s": 3.0,
        "by": "desk",
        "claimed": "Jo",
    }
    decided = {"order": "h1", "verdict": "hold", "trigger": "transfer.blind", "rule": "defaults"}
    for kind, more in (
        (Kind.PAUSE_ORDERED, {"by": "anna"}),
        (Kind.HANDOFF_ASKED, asked),
        (Kind.HANDOFF_DECIDED, decided),
    ):
        event = Event(id=f"{kind}.1", kind=kind, call_uuid="call-1", **more)
        console.ledger.record(ACCOUNT, event)
    console.log_in()
    page = console.page("/calls/call-1")
    assert re.search(
        r'"tight">\d\d:\d\d:\d\d\.\d{3}</td><td data-name="By">desk, name given: Jo<', page
    )
    for path in ("/calls/call-1", "/recordings/rec-1"):
        assert "Gaps and pauses" not in console.page(path)


def test_now_says_in_words_what_is_wrong_and_what_to_do(console):
    runs(console.ledger, started_at=console.ledger.now() - timedelta(seconds=5))
    fails(console.ledger)
    console.ledger.halt(ACCOUNT)
    console.ledger.degrade("archive", "No space left on device")
    console.log_in()
    page = console.page("/now")
    for said in (
        "1 recording is abandoned",
        "Not seen for 15 s: stops, fetches, keep, clock. Start these processes",
        f"The provider refuses the credentials of {ACCOUNT}",
        "Degraded: archive: No space left on device",
        'class="countdown"',
    ):
        assert said in page


def test_what_is_not_there_and_a_store_that_is_away_are_told_as_a_page(console, tmp_path):
    console.log_in()
    for path in ("/recordings/none", "/calls/none", "/calls/none/stop", "/recordings/none/retry"):
        assert "404 Not Found" in console.page(path, 404)
    away = create_app(
        Settings.from_env(
            {**ENV, **KEYS, **SECRET, "REDIS_URL": "redis://127.0.0.1:1"}, folder=tmp_path
        )
    )
    browser = away.test_client()
    assert browser.post("/login", data={"password": KEY}).status_code == 303
    answer = browser.get("/")
    assert answer.status_code == 503
    assert "the state store does not answer" in answer.text.lower()


def test_a_recordings_page_has_its_sound_its_checks_and_commands_that_verify_it(local, tmp_path):
    house = local(rules='[defaults]\nmax_duration = "1h"\n', **KEYS)
    _, recording = ended(house)
    recording_id = recording.recording_id
    house.reach(recording_id, "archived")
    browser = house.app.test_client()
    browser.post("/login", data={"password": KEY, "name": "Asha"})
    page = browser.get(f"/recordings/{recording_id}").text
    strict(page)
    assert len(re.findall(r'<li class="passed">', page)) >= 4
    assert f'src="/recordings/{recording_id}/audio"' in page
    assert '<path d="M' in page
    assert 'class="m-end"' in page
    ranged = browser.get(f"/recordings/{recording_id}/audio", headers={"Range": "bytes=0-9"})
    assert (ranged.status_code, len(ranged.data)) == (206, 10)
    assert ("play", "anna", "Asha") in entries(house.ledger)
    files = dict.fromkeys(
        re.findall(
            r'href="(/[^"]+)"[^>]*>([^<]+)</a>', page.split("With these files")[1].split("</p>")[0]
        )
    )
    assert len(files) == 4
    for address, name in files:
        (tmp_path / name).write_bytes(browser.get(address).data)
    if not shutil.which("ssh-keygen"):
        pytest.skip("no ssh-keygen: what the page tells a stranger to do is not tried")
    commands = re.search(r"<code>(ssh-keygen.*?)</code>", page, re.DOTALL)[1]
    for entity, char in (("&lt;", "<"), ("&#34;", '"'), ("&#39;", "'")):
        commands = commands.replace(entity, char)
    for line in commands.splitlines():
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 0, (shlex.split(line), done.stdout, done.stderr)


def test_what_somebody_altered_in_the_archive_is_left_out_of_the_page(local):
    house = local(rules='[defaults]\nmax_duration = "1h"\n', **KEYS)
    _, recording = ended(house)
    recording_id = recording.recording_id
    house.reach(recording_id, "archived")
    browser = house.app.test_client()
    browser.post("/login", data={"password": KEY})
    deep = b"[" * 100_000
    outline = b'{"bucket_ms":%s,"channels":%s}'
    parts = ((b"NaN", b"[[1]]"), (b'"x"', b"[]"), (b"0", b"[]"), (b"9", b'[["a"]]'), (b"9", b"5"))
    receipt = b'{"checks":{},"media":{},"fetch":{"fetched_at":1}}'
    for suffix, texts, drawn in (
        (".peaks", [b"1", deep, *(outline % part for part in parts)], '<path d="M'),
        (".json", [b"1", deep, b"{}", receipt], 'class="passed"'),
    ):
        file = next(house.settings.archive.rglob(f"{recording_id}{suffix}"))
        assert drawn in browser.get(f"/recordings/{recording_id}").text
        for text in texts:
            file.write_bytes(text)
            page = browser.get(f"/recordings/{recording_id}")
            assert (page.status_code, drawn in page.text) == (200, False), text[:50]


def test_the_files_are_few_and_small_and_run_and_load_nothing_from_elsewhere():
    static = {path.name: path for path in (HERE / "static").iterdir()}
    assert {name for name in static if name.endswith((".css", ".js"))} == {
        "console.css",
        "console.js",
    }
    assert static["console.css"].stat().st_size <= 20 * 1024
    assert static["console.js"].stat().st_size <= 15 * 1024
    templates = list((HERE / "templates").glob("*.html"))
    assert len(templates) >= 12
    for path in [*templates, *static.values()]:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(
            r"https?://|\sstyle=|\son[a-z]+=|<style|@import|url\(|\|\s*safe\b|autoescape|eval\(",
            text,
        ), path


def test_a_restricted_recording_asks_for_a_reason_before_it_is_played(local):
    rules = '[defaults]\nmax_duration = "1h"\nconsent = "required"\nconsent_within = "1s"\n'
    house = local(rules=rules, **KEYS)
    recording_id = house.provider.record(house.provider.call().call_uuid).recording_id
    house.reach(recording_id, "archived")
    browser = house.app.test_client()
    browser.post("/login", data={"password": KEY})
    path = f"/recordings/{recording_id}"
    page = browser.get(path).text
    assert "restricted: no_consent" in page
    assert "<audio" not in page
    assert browser.get(f"{path}/audio").status_code == 403
    page = browser.get(f"{path}?reason=complaint+17").text
    assert f'src="{path}/audio?reason=complaint+17"' in page
    assert browser.get(f"{path}/audio?reason=complaint+17").status_code == 200
    assert [entry for entry in entries(house.ledger) if entry[0] == "play"] == [
        ("play", "anna", None)
    ]
